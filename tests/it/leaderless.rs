//! Commands while a cluster has no leaders: they wait for them, and then do what they were asked.

use std::time::Duration;

use crate::support::broker::DEAD_LETTERS;
use crate::support::connector::natshook_with;
use crate::support::{Broker, Config, free_port, letters, secs, until};

const WINDOW: Duration = Duration::from_secs(120);

/// Three servers that know each other.
async fn cluster() -> Vec<Broker> {
    let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let known =
        routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect::<Vec<_>>().join(", ");
    let prepared = routes.iter().enumerate().map(|(number, port)| {
        let more = format!(
            "server_name: s{number}\ncluster {{ name: three, listen: \"127.0.0.1:{port}\", routes: [{known}] }}\n"
        );
        Broker::prepare(&more, async_nats::ConnectOptions::new())
    });
    let mut servers: Vec<Broker> = prepared.collect();
    for server in &mut servers {
        server.restart().await;
    }
    servers
}

#[tokio::test]
async fn a_command_waits_for_a_cluster_that_has_no_leaders() {
    let mut servers = cluster().await;
    let context = servers[0].jetstream_context().await;
    until("the servers agree on a leader", secs(30), async || context.query_account().await.is_ok()).await;
    letters::own_streams(&context, WINDOW).await;
    letters::store(&context, "one", 0..3).await;
    let stream = context.get_stream(DEAD_LETTERS).await.unwrap();
    let holder = stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.as_deref()).unwrap();
    servers.swap(0, holder[1..].parse().unwrap());

    servers[1].kill9();
    servers[2].kill9();
    let context = servers[0].jetstream_context().await;
    until("the server that is left says that there are no leaders", secs(60), async || {
        context.query_account().await.is_err_and(|error| error.to_string().contains("unavailable"))
    })
    .await;
    let config = Config::on(&servers[0]).target("one", "a", "http://127.0.0.1:1/", "");
    let (listed, ()) = tokio::join!(natshook_with(&config, &["dead-letters", "list"]), async {
        tokio::time::sleep(secs(2)).await;
        servers[1].restart().await;
    });
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    assert_eq!(listed.stdout.lines().count(), 4, "{}", listed.stdout);
}

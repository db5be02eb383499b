//! Many messages, few requests; and what is counted of them.

use super::{all_numbers, batching, numbers};
use crate::support::{Answer, millis, secs, until};

const MESSAGES: usize = 10_000;

#[tokio::test]
async fn ten_thousand_messages_arrive_once_in_a_hundredth_of_the_requests() {
    let (broker, receiver, _, connector) =
        batching("{ max_messages = 100, max_wait = \"1s\" }", "concurrency = 8").await;
    receiver.always("/hook", Answer::ok().after(millis(20)));

    // The client waits for its acks after some thousands.
    for begin in (0..MESSAGES).step_by(1_000) {
        broker.publish_numbered("a", begin..begin + 1_000).await;
    }

    let all =
        async || receiver.at("/hook").iter().map(|request| numbers(request).len()).sum::<usize>() >= MESSAGES;
    until("all have come", secs(60), all).await;
    broker.wait_until_settled("policy").await;
    let seen = receiver.at("/hook");
    let expected: Vec<u64> = (0..u64::try_from(MESSAGES).unwrap()).collect();
    assert_eq!(all_numbers(&seen), expected);
    println!("{} requests", seen.len());
    assert!(seen.len() <= MESSAGES / 100 + 25, "{} requests", seen.len());
    assert!(receiver.most_in_flight("/hook") <= 8);

    let (_, metrics) = connector.get("/metrics").await;
    for line in [
        format!("natshook_batch_messages_sum{{target=\"policy\"}} {MESSAGES}"),
        format!("natshook_batch_messages_count{{target=\"policy\"}} {}", seen.len()),
        format!(
            "natshook_attempts_total{{target=\"policy\",outcome=\"delivered\",end=\"2xx\"}} {}",
            seen.len()
        ),
        format!("natshook_end_to_end_latency_seconds_count{{target=\"policy\"}} {MESSAGES}"),
    ] {
        assert!(
            metrics.lines().any(|l| l == line || l == format!("{line}.0")),
            "{line} is not in\n{metrics}"
        );
    }
}

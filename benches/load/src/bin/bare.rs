//! The bare loop: what one writes in half an hour with async-nats and reqwest. It neither signs,
//! retries, limits nor counts; a message whose delivery fails is simply not acked.
//! Usage: `bare NATS_URL STREAM WEBHOOK_URL CONCURRENCY`

use async_nats::jetstream::{self, consumer::pull};
use futures_util::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [nats, stream, webhook, concurrency] = args.as_slice() else {
        return Err("usage: bare NATS_URL STREAM WEBHOOK_URL CONCURRENCY".into());
    };
    let concurrency: usize = concurrency.parse()?;

    let jetstream = jetstream::new(async_nats::connect(nats).await?);
    let config = pull::Config { durable_name: Some("bare".into()), ..Default::default() };
    let consumer = jetstream.get_stream(stream).await?.get_or_create_consumer("bare", config).await?;
    let http = reqwest::Client::new();

    let deliver = async |message: jetstream::Message| {
        let request =
            http.post(webhook).header("content-type", "application/json").body(message.payload.clone());
        request.send().await?.error_for_status()?;
        message.ack().await
    };
    let messages = consumer.messages().await?;
    messages
        .for_each_concurrent(concurrency, async |message| match message {
            Ok(message) => deliver(message).await.unwrap_or_else(|error| eprintln!("not delivered: {error}")),
            Err(error) => eprintln!("not received: {error}"),
        })
        .await;
    Ok(())
}

// A complete receiver in Rust, with axum 0.8, standardwebhooks 1 and tokio 1 (features macros, net, rt):
// PORT=8080 WEBHOOK_SECRETS="whsec_…" cargo run

use std::{collections::HashSet, env, error::Error, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, sync::mpsc};

/// What natshook sends at most, unless max_payload_bytes says otherwise.
const BODY_MAX: usize = 1 << 20;

struct Receiver {
    /// Two while a secret is rotated.
    keys: Vec<Webhook>,
    work: mpsc::Sender<(String, Bytes)>,
}

/// `Bytes` is the raw body: what a JSON serializer writes again has other bytes. The library takes UTF-8 only.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !receiver.keys.iter().any(|key| key.verify(&body, &headers).is_ok()) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(id) = headers["webhook-id"].to_str() else { return StatusCode::UNAUTHORIZED };
    match receiver.work.try_send((id.to_owned(), body)) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE, // too much is waiting: be asked later
    }
}

/// What is accepted waits here, and is gone when the program ends. In a real one a table with the id as its key keeps both,
/// what waits and what was done, and the answer follows its commit (see server.py).
async fn work(mut waiting: mpsc::Receiver<(String, Bytes)>) {
    let mut done = HashSet::new();
    while let Some((id, body)) = waiting.recv().await {
        if done.insert(id.clone()) {
            println!("working on {id} {}", String::from_utf8_lossy(&body));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let secrets = env::var("WEBHOOK_SECRETS")?;
    // An empty secret must not let anybody in: 24 bytes at least, which are 32 characters of base64.
    let secrets = secrets.split(' ').filter(|secret| secret.trim_start_matches("whsec_").len() >= 32);
    let keys = secrets.map(Webhook::new).collect::<Result<_, _>>()?;
    let (sender, waiting) = mpsc::channel(1000);
    tokio::spawn(work(waiting));
    let app = Router::new()
        .route("/", post(receive))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::new(Receiver { keys, work: sender }));
    let listener = TcpListener::bind(("127.0.0.1", env::var("PORT")?.parse()?)).await?;
    Ok(axum::serve(listener, app).await?)
}

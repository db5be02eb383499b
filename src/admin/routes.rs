//! Which path leads where, and what every request passes on its way: the bounds of what is read, the headers of every
//! answer, the guard.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::time::timeout;

use super::{
    Admin,
    access::{self, Asker},
    assets, headers, health, letters, live, pages, replays, targets,
};

/// The largest form.
const FORM_BYTES_MAX: usize = 8 << 10;
/// How long a client may take to send one.
const FORM_LIMIT: Duration = Duration::from_secs(10);

/// All paths of the admin listener.
pub(super) fn routes(admin: &Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/login", get(access::form).post(access::log_in))
        .route("/logout", post(access::log_out))
        .route("/assets/{name}", get(assets::serve))
        .route("/", get(targets::overview))
        .route("/events", get(live::events))
        .route("/targets/{name}", get(targets::page))
        .route("/targets/{name}/pause", post(targets::pause))
        .route("/targets/{name}/resume", post(targets::resume))
        .route("/targets/{name}/test", post(targets::test))
        .route("/dead-letters", get(letters::list))
        .route("/dead-letters/replay", get(replays::confirm).post(replays::start))
        .route("/dead-letters/replay/stop", post(replays::stop))
        .route("/dead-letters/{id}", get(letters::page))
        .route("/dead-letters/{id}/body", get(letters::body))
        .route("/dead-letters/{id}/replay", post(letters::replay))
        .fallback(no_such_page)
        .layer(middleware::from_fn(read_form))
        .layer(middleware::from_fn_with_state(Arc::clone(admin), access::guard))
        .layer(middleware::from_fn(headers::protect))
        .with_state(Arc::clone(admin))
}

/// Has the whole of a form before anything is done with it.
async fn read_form(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match timeout(FORM_LIMIT, to_bytes(body, FORM_BYTES_MAX)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "that is too large for a form\n").into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time\n").into_response(),
    }
}

async fn no_such_page(Extension(asker): Extension<Asker>) -> Response {
    pages::failed(asker, StatusCode::NOT_FOUND, "There is no such page.").into_response()
}

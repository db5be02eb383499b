//! Health, readiness and metrics, for machines.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
};

use super::{Admin, access::Asker};
use crate::metrics::Format;

/// The process lives.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether natshook can deliver. What is missing names targets, so only those are told who may come in.
pub(super) async fn ready(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
) -> impl IntoResponse {
    let (ready, missing) = admin.control.readiness();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = match (ready, missing.is_empty()) {
        (false, _) => "not ready",
        (true, true) => "ready",
        (true, false) => "ready, but for",
    };
    if asker == Asker::Anybody {
        return (status, format!("{word}\n"));
    }
    let refused = admin.control.config().refused.map_or_else(String::new, |refusal| {
        format!(
            "config: a change was refused at {}, the one before is in use: {}\n",
            humantime::format_rfc3339_seconds(refusal.at),
            refusal.errors.join("; ")
        )
    });
    let colon = if missing.is_empty() { "" } else { ": " };
    (status, format!("{word}{colon}{}\n{refused}", missing.join(", ")))
}

/// All metrics, in the format that is asked for.
pub(super) async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    match admin.control.exposition(format) {
        Ok(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

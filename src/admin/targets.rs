//! The overview and the page of a target, and what can be done to one.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};

use super::{Admin, access::Asker, pages};
use crate::{
    connector::{Control, ControlError, TestReport},
    status::{Snapshot, TargetDetail},
};

/// The replica and all its targets.
pub(super) fn everything(control: &Control) -> (Snapshot, Vec<TargetDetail>) {
    let snapshot = control.snapshot();
    let details = snapshot.targets.iter().filter_map(|target| control.detail(&target.name).ok()).collect();
    (snapshot, details)
}

/// The first page.
pub(super) async fn overview(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
) -> Response {
    let (snapshot, targets) = everything(&admin.control);
    pages::overview(asker, &snapshot, &targets).into_response()
}

/// The page of a target.
pub(super) async fn page(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Response {
    show(asker, &admin, &name, None)
}

fn show(asker: Asker, admin: &Admin, name: &str, report: Option<&TestReport>) -> Response {
    match admin.control.detail(name) {
        Ok(detail) => pages::target(asker, &detail, report).into_response(),
        Err(error) => failed(asker, &error),
    }
}

/// Pauses a target for all replicas.
pub(super) async fn pause(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Response {
    done(asker, &name, async { admin.control.line_of(&name)?.pause(&name).await }.await)
}

/// Resumes a target for all replicas.
pub(super) async fn resume(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Response {
    done(asker, &name, async { admin.control.line_of(&name)?.resume(&name).await }.await)
}

/// Sends one test request.
pub(super) async fn test(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Response {
    match async { admin.control.line_of(&name)?.test(&name).await }.await {
        Ok(report) => show(asker, &admin, &name, Some(&report)),
        Err(error) => failed(asker, &error),
    }
}

fn done(asker: Asker, name: &str, outcome: Result<(), ControlError>) -> Response {
    match outcome {
        Ok(()) => Redirect::to(&format!("/targets/{}", pages::path_token(name))).into_response(),
        Err(error) => failed(asker, &error),
    }
}

fn failed(asker: Asker, error: &ControlError) -> Response {
    let status = match error {
        ControlError::UnknownTarget(_) | ControlError::UnknownConnection(_) => StatusCode::NOT_FOUND,
        ControlError::NotConnected => StatusCode::SERVICE_UNAVAILABLE,
        ControlError::Core => StatusCode::CONFLICT,
        ControlError::Broker(_) => StatusCode::BAD_GATEWAY,
        ControlError::Shape(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    pages::failed(asker, status, &error.to_string()).into_response()
}

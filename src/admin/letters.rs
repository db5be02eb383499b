//! The dead letters: looking through them, and sending one again.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Extension,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    Admin,
    access::Asker,
    pages::{self, Filter, Listing},
};
use crate::{
    config::SourceKind,
    connector::{Control, ControlError, Line},
    dead_letter::{DeadLetterOffice, OfficeError, Page, Selection},
    disposition::Reason,
    envelope::DeadLetter,
    target::TargetName,
};

/// The letters of a page.
const LETTERS_MAX: usize = 25;

/// How long natshook looks for them.
const LOOK_LIMIT: Duration = Duration::from_secs(15);

/// Why nothing can be shown or done.
#[derive(Debug, thiserror::Error)]
pub(super) enum LettersError {
    /// They are stored nowhere.
    #[error(
        "with source = \"core\" dead letters are published and stored nowhere, so there is nothing to show"
    )]
    Core,
    /// There is no connection yet.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// One replay of many letters goes on.
    #[error("another replay goes on; wait until it is over, or stop it")]
    Busy,
    /// There are many letters, and few that match.
    #[error("looking through all dead letters takes too long; choose a target, or a later time")]
    TooSlow,
    /// What is written does not say which letters are meant.
    #[error("{0:?} is not a {1}")]
    Filter(String, &'static str),
    /// The broker.
    #[error(transparent)]
    Office(#[from] OfficeError),
}

impl LettersError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Core | Self::Busy => StatusCode::CONFLICT,
            Self::Control(ControlError::UnknownConnection(_)) => StatusCode::NOT_FOUND,
            Self::Control(_) | Self::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            Self::Filter(..) => StatusCode::BAD_REQUEST,
            Self::Office(OfficeError::NoStream(_)) => StatusCode::NOT_FOUND,
            Self::Office(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The page that says so.
    pub(super) fn page(&self, asker: Asker) -> Response {
        pages::failed(asker, self.status(), &self.to_string()).into_response()
    }
}

/// Where the dead letters are looked up.
pub(super) fn office(line: &Line) -> Result<DeadLetterOffice, LettersError> {
    match line.source() {
        SourceKind::Core => Err(LettersError::Core),
        SourceKind::JetStream => Ok(DeadLetterOffice::new(line.broker()?, line.instance())),
    }
}

/// The targets of the connection.
pub(super) fn known(line: &Line) -> Vec<TargetName> {
    line.snapshot().targets.iter().filter_map(|target| TargetName::new(&target.name)).collect()
}

impl Filter {
    /// What it means at `now`.
    pub(super) fn selection(&self, now: SystemTime) -> Result<Selection, LettersError> {
        let wrong = |text: &str, what| LettersError::Filter(text.to_owned(), what);
        let target =
            written(&self.target, |name| TargetName::new(name).ok_or_else(|| wrong(name, "target's name")))?;
        let reason = written(&self.reason, |word| {
            let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == word);
            known.ok_or_else(|| wrong(word, "reason"))
        })?;
        let since = written(&self.since, |since| {
            let ago = || now.checked_sub(humantime::parse_duration(since).ok()?);
            let time = humantime::parse_rfc3339(since).ok().or_else(ago);
            time.ok_or_else(|| wrong(since, "time (RFC 3339) or how long ago (2h)"))
        })?;
        Ok(Selection { target, reason, since, before: None })
    }

    /// The same with a time instead of how long ago: what it selects does not change while somebody thinks.
    pub(super) fn fixed(&self, selection: &Selection) -> Self {
        let since = selection.since.map(|since| humantime::format_rfc3339_millis(since).to_string());
        Self { since: since.unwrap_or_default(), ..self.clone() }
    }
}

fn written<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, LettersError>,
) -> Result<Option<T>, LettersError> {
    (!text.is_empty()).then(|| read(text)).transpose()
}

/// From where on a page is shown.
#[derive(Debug, Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

/// A page of dead letters.
pub(super) async fn list(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Query(filter): Query<Filter>,
    Query(After { after }): Query<After>,
) -> Response {
    let line = match admin.control.line(&filter.connection) {
        Ok(line) => line,
        Err(error) => return LettersError::from(error).page(asker),
    };
    let (page, stored_for) = look(&line, &filter, after).await;
    let known = known(&line).iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut targets = [known, stored_for].concat();
    targets.sort();
    targets.dedup();
    let connections = connections(&admin.control);
    let page = page.map_err(|error| error.to_string());
    let listing = Listing { filter, connections, targets, page };
    pages::letters(asker, &listing, &admin.replays.run()).into_response()
}

/// The letters, and the targets that have some.
async fn look(line: &Line, filter: &Filter, after: u64) -> (Result<Page, LettersError>, Vec<String>) {
    let found = async {
        let selection = filter.selection(SystemTime::now())?;
        let office = office(line)?;
        let page = timeout(LOOK_LIMIT, office.page(&selection, after, LETTERS_MAX)).await;
        let page = page.map_err(|_| LettersError::TooSlow)??;
        Ok((
            page,
            office.targets().await?.into_keys().filter(|name| TargetName::new(name).is_some()).collect(),
        ))
    };
    match found.await {
        Ok((page, targets)) => (Ok(page), targets),
        Err(error) => (Err(error), Vec::new()),
    }
}

/// The connections that can be chosen: none where there is only one.
fn connections(control: &Control) -> Vec<String> {
    let names: Vec<String> = control.lines().iter().map(|line| line.connection().to_string()).collect();
    if names.len() > 1 { names } else { Vec::new() }
}

/// Of which connection a letter is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Of {
    #[serde(default)]
    connection: String,
}

/// A dead letter.
pub(super) async fn page(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Path(id): Path<u64>,
    Query(Of { connection }): Query<Of>,
) -> Response {
    match find(&admin.control, &connection, id).await {
        Ok(Some(letter)) => pages::letter(asker, &letter, &connection).into_response(),
        Ok(None) => missing(asker, id),
        Err(error) => error.page(asker),
    }
}

async fn find(control: &Control, connection: &str, id: u64) -> Result<Option<DeadLetter>, LettersError> {
    Ok(office(&control.line(connection)?)?.get(id).await?)
}

fn missing(asker: Asker, id: u64) -> Response {
    let text = format!("There is no dead letter {id} (any more).");
    pages::failed(asker, StatusCode::NOT_FOUND, &text).into_response()
}

/// The body of a dead letter, to be kept in a file: nothing that a browser would show.
pub(super) async fn body(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Path(id): Path<u64>,
    Query(Of { connection }): Query<Of>,
) -> Response {
    match find(&admin.control, &connection, id).await {
        Ok(Some(letter)) => {
            let name = format!("attachment; filename=\"dead-letter-{id}.bin\"");
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_DISPOSITION, name),
            ];
            (headers, letter.payload).into_response()
        }
        Ok(None) => missing(asker, id),
        Err(error) => error.page(asker),
    }
}

/// Sends a dead letter again.
pub(super) async fn replay(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Path(id): Path<u64>,
    Query(Of { connection }): Query<Of>,
) -> Response {
    let replayed = async {
        let line = admin.control.line(&connection)?;
        Ok(office(&line)?.replay(id, known(&line)).await?)
    };
    match replayed.await {
        Ok(replayed) => {
            tracing::info!(id, ?replayed, "a dead letter is replayed from the status page");
            pages::replayed(asker, id, &replayed).into_response()
        }
        Err(error) => LettersError::page(&error, asker),
    }
}

//! Decides about each request before anything else sees it.

use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Access, Rules, TokenError, origin, session};
use crate::admin::{Admin, pages, serve::Peer};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Asker {
    /// Nobody knows; gets only what everybody may have.
    Anybody,
    /// On this machine, where no token is asked for.
    Local,
    /// Knows the token.
    Token,
    /// Logged in.
    Session,
}

/// How much a path needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    /// Answers everybody, and those who may come in with more.
    Health,
    /// Metrics: open by choice.
    Metrics,
    /// What the login form needs.
    Lobby,
    /// Everything else.
    Inside,
}

/// Why a request is not answered.
#[derive(Debug)]
enum Refusal {
    ForeignHost,
    CrossSite,
    NoToken,
    Token(TokenError),
}

/// Lets a request pass with the [`Asker`] in its extensions, and the rules by which it was let in, or answers it with a
/// refusal.
pub(in crate::admin) async fn guard(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let rules = admin.access.rules();
    match judge(&admin.access, &rules, &parts) {
        Ok(asker) => {
            parts.extensions.insert(asker);
            parts.extensions.insert(rules);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => refused(&refusal, &parts),
    }
}

fn area(path: &str) -> Area {
    match path {
        "/healthz" | "/readyz" => Area::Health,
        "/metrics" => Area::Metrics,
        "/login" => Area::Lobby,
        path if path.starts_with("/assets/") => Area::Lobby,
        _ => Area::Inside,
    }
}

fn judge(access: &Access, rules: &Rules, parts: &Parts) -> Result<Asker, Refusal> {
    let area = area(parts.uri.path());
    if area != Area::Health && origin::is_cross_site(&parts.method, &parts.headers) {
        return Err(Refusal::CrossSite);
    }
    match (area, identify(access, rules, parts)) {
        (Area::Health | Area::Lobby, asker) => Ok(asker.unwrap_or(Asker::Anybody)),
        (Area::Metrics, Err(_)) if are_metrics_open(rules) => Ok(Asker::Anybody),
        (Area::Metrics | Area::Inside, asker) => asker,
    }
}

fn are_metrics_open(rules: &Rules) -> bool {
    match rules {
        Rules::Loopback => false,
        Rules::Token(token) => token.open_metrics,
    }
}

fn identify(access: &Access, rules: &Rules, parts: &Parts) -> Result<Asker, Refusal> {
    let token = match rules {
        Rules::Loopback if origin::is_for_loopback(&parts.uri, &parts.headers) => return Ok(Asker::Local),
        Rules::Loopback => return Err(Refusal::ForeignHost),
        Rules::Token(token) => token,
    };
    let now = SystemTime::now();
    if sessions(&parts.headers).any(|session| token.key.holds(session, now)) {
        return Ok(Asker::Session);
    }
    match (bearer(&parts.headers), parts.extensions.get::<Peer>()) {
        (Some(given), Some(Peer(peer))) => {
            access.try_token(token, *peer, given).map_err(Refusal::Token)?;
            Ok(Asker::Token)
        }
        _ => Err(Refusal::NoToken),
    }
}

/// Every cookie of ours; there may be several, of different paths.
fn sessions(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.filter(|(name, _)| *name == session::COOKIE).map(|(_, value)| value)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refused(refusal: &Refusal, parts: &Parts) -> Response {
    match refusal {
        Refusal::ForeignHost => answer(
            parts,
            StatusCode::MISDIRECTED_REQUEST,
            "natshook answers on this machine's own names only (localhost, 127.0.0.1, [::1]) unless admin.token is set",
        ),
        Refusal::CrossSite => {
            answer(parts, StatusCode::FORBIDDEN, "another site is behind this request; it is not answered")
        }
        Refusal::NoToken if origin::is_safe(&parts.method) && is_browser(&parts.headers) => {
            let asked = parts.uri.path_and_query().map_or("/", |asked| asked.as_str());
            Redirect::to(&login_path(asked)).into_response()
        }
        Refusal::NoToken => challenge(answer(
            parts,
            StatusCode::UNAUTHORIZED,
            "this needs admin.token: send it as Authorization: Bearer, or log in at /login",
        )),
        Refusal::Token(TokenError::Wrong) => {
            challenge(answer(parts, StatusCode::UNAUTHORIZED, "this is not the token"))
        }
        Refusal::Token(TokenError::TooMany(wait)) => {
            let text = "too many wrong tokens from this address; try again later";
            let mut response = answer(parts, StatusCode::TOO_MANY_REQUESTS, text);
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
            response
        }
    }
}

/// A page for a browser, a line for everybody else.
fn answer(parts: &Parts, status: StatusCode, text: &'static str) -> Response {
    if is_browser(&parts.headers) {
        (status, pages::plain(status, text)).into_response()
    } else {
        (status, format!("{text}\n")).into_response()
    }
}

fn challenge(mut response: Response) -> Response {
    let value = HeaderValue::from_static("Bearer realm=\"natshook\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    response
}

fn is_browser(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The login form that leads to `asked` afterwards.
fn login_path(asked: &str) -> String {
    match asked {
        "/" => "/login".to_owned(),
        asked => format!("/login?next={}", utf8_percent_encode(asked, NON_ALPHANUMERIC)),
    }
}

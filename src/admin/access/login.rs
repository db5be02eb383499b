//! The login form: a token in, a session out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Extension, Form,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use super::{
    Asker, Rules, TokenError,
    session::{COOKIE, LIFE, Nonce},
};
use crate::admin::{Admin, pages, serve::Peer};

/// Where the login leads.
#[derive(Debug, Deserialize)]
pub(in crate::admin) struct Next {
    #[serde(default)]
    next: String,
}

/// What the form sends.
#[derive(Deserialize)]
pub(in crate::admin) struct LoginForm {
    token: String,
    #[serde(default)]
    next: String,
}

/// The form, for those who need it.
pub(in crate::admin) async fn form(
    Extension(asker): Extension<Asker>,
    State(admin): State<Arc<Admin>>,
    Query(Next { next }): Query<Next>,
) -> Response {
    let next = local_path(&next);
    match (asker, &*admin.access.rules()) {
        (Asker::Anybody, Rules::Token(_)) => pages::login(next, None).into_response(),
        _ => Redirect::to(next).into_response(),
    }
}

/// Begins a session.
pub(in crate::admin) async fn log_in(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Response {
    let next = local_path(&form.next);
    let rules = admin.access.rules();
    let Rules::Token(token) = &*rules else { return Redirect::to(next).into_response() };
    let again = |status: StatusCode, text: &str| (status, pages::login(next, Some(text))).into_response();
    match admin.access.try_token(token, peer, form.token.trim()) {
        Err(TokenError::Wrong) => again(StatusCode::UNAUTHORIZED, "That is not the token."),
        Err(TokenError::TooMany(wait)) => {
            let seconds = wait.as_secs().max(1);
            let text = format!("Too many wrong tokens from your address. Try again in {seconds} seconds.");
            let mut response = again(StatusCode::TOO_MANY_REQUESTS, &text);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            response
        }
        Ok(()) => match nonce() {
            None => again(StatusCode::INTERNAL_SERVER_ERROR, "The system has no random numbers."),
            Some(nonce) => {
                tracing::info!(%peer, "somebody logged in to the status page");
                let session = token.key.begin(SystemTime::now(), nonce);
                ([(header::SET_COOKIE, cookie(&session, LIFE, &headers))], Redirect::to(next)).into_response()
            }
        },
    }
}

/// Takes the cookie back. The session in it would hold until its end: nothing is kept about it here.
pub(in crate::admin) async fn log_out(headers: HeaderMap) -> Response {
    ([(header::SET_COOKIE, cookie("", Duration::ZERO, &headers))], Redirect::to("/login")).into_response()
}

fn nonce() -> Option<Nonce> {
    let mut nonce = Nonce::default();
    SystemRandom::new().fill(&mut nonce).ok().map(|()| nonce)
}

fn cookie(value: &str, life: Duration, headers: &HeaderMap) -> String {
    let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    let secure = if proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https")) { "; Secure" } else { "" };
    let seconds = life.as_secs();
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// `next` if it leads to a path of this listener, whatever a browser makes of it, else the first page.
fn local_path(next: &str) -> &str {
    let graphic = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if graphic && next.starts_with('/') && !next.starts_with("//") { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn a_login_leads_nowhere_else() {
        for local in ["/", "/targets/a?b=c&d=%20", "/dead-letters/7"] {
            assert_eq!(local_path(local), local);
        }
        for foreign in [
            "",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            " //evil.example",
            "/é",
            "/\r\nSet-Cookie: a=b",
        ] {
            assert_eq!(local_path(foreign), "/", "{foreign:?}");
        }
    }
}

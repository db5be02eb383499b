//! What all pages have in common.

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::admin::{
    access::Asker,
    assets::{ICON, SCRIPT, STYLE},
};

/// What may stand in a path as it is.
const TOKEN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Where on the site a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Targets,
    DeadLetters,
    Elsewhere,
}

/// A page for `asker`. `live` is what it asks `/events` for, if anything of it changes by itself.
pub(super) fn page(asker: Asker, title: &str, place: Place, live: Option<&str>, content: Markup) -> Markup {
    let tab = |at: Place, path: &str, name: &str| {
        html! { a href=(path) aria-current=[(at == place).then_some("page")] { (name) } }
    };
    document(
        title,
        live,
        html! {
            header.top {
                a.brand href="/" { img src=(ICON.path) alt="" width="22" height="22"; "natshook" }
                nav aria-label="Pages" {
                    (tab(Place::Targets, "/", "Targets"))
                    (tab(Place::DeadLetters, "/dead-letters", "Dead letters"))
                }
                p #connection role="status" {}
                @if asker == Asker::Session {
                    form method="post" action="/logout" { button.quiet type="submit" { "Log out" } }
                }
            }
            main #main tabindex="-1" { (content) }
            footer.bottom {
                p { "natshook " (env!("CARGO_PKG_VERSION")) }
                @if live.is_some() {
                    noscript { p { "Without JavaScript this page shows how things were when it was loaded." } }
                }
            }
        },
    )
}

/// A page for those who are not let in (yet).
pub(super) fn outside(title: &str, content: Markup) -> Markup {
    document(title, None, html! { main.outside #main tabindex="-1" { (content) } })
}

fn document(title: &str, live: Option<&str>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – natshook" }
                link rel="icon" href=(ICON.path) type="image/svg+xml";
                link rel="stylesheet" href=(STYLE.path);
                script src=(SCRIPT.path) defer {}
            }
            body data-live=[live] {
                a.skip href="#main" { "Skip to the content" }
                (body)
            }
        }
    }
}

/// A page that says why natshook does not do what was asked.
pub(in crate::admin) fn failed(asker: Asker, status: StatusCode, text: &str) -> (StatusCode, Markup) {
    let content = html! {
        h1 { (status.canonical_reason().unwrap_or("Not done")) }
        p.notice.bad role="alert" { (super::text::block(text, 2_000)) }
        p { a href="/" { "Back to the targets" } }
    };
    let page = match asker {
        Asker::Anybody => outside("Not done", content),
        asker => page(asker, "Not done", Place::Elsewhere, None, content),
    };
    (status, page)
}

/// The same for somebody of whom nothing is known.
pub(in crate::admin) fn plain(status: StatusCode, text: &str) -> Markup {
    failed(Asker::Anybody, status, text).1
}

/// `text` as one token of a path or a query.
pub(in crate::admin) fn path_token(text: &str) -> String {
    utf8_percent_encode(text, TOKEN).to_string()
}

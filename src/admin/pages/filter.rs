//! Which dead letters are meant, as it stands in a query or a form.

use maud::{Markup, html};

use super::{frame::path_token, text};

/// Which letters are meant, as it was written: each part may be empty.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct Filter {
    /// Of this connection; empty where there is only one.
    #[serde(default)]
    pub(in crate::admin) connection: String,
    /// Of this target.
    #[serde(default)]
    pub(in crate::admin) target: String,
    /// Given up for this reason.
    #[serde(default)]
    pub(in crate::admin) reason: String,
    /// Stored since then: a time, or how long ago.
    #[serde(default)]
    pub(in crate::admin) since: String,
}

impl Filter {
    /// The query that says the same.
    pub(in crate::admin) fn query(&self) -> String {
        let written = self.parts().into_iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<_> = written.map(|(name, value)| format!("{name}={}", path_token(value))).collect();
        pairs.join("&")
    }

    /// The fields of a form that say the same, and are not seen.
    pub(super) fn hidden_fields(&self) -> Markup {
        html! { @for (name, value) in self.parts() { input type="hidden" name=(name) value=(value); } }
    }

    fn parts(&self) -> [(&'static str, &str); 4] {
        let Self { connection, target, reason, since } = self;
        [("connection", connection), ("target", target), ("reason", reason), ("since", since)]
    }

    /// In words, after "dead letters".
    pub(super) fn words(&self) -> Markup {
        html! {
            @if !self.connection.is_empty() { " of connection " strong { (text::line(&self.connection, 64)) } }
            @if !self.target.is_empty() { " of " strong { (text::line(&self.target, 64)) } }
            @if !self.reason.is_empty() { ", given up as " strong { (text::line(&self.reason, 40)) } }
            @if !self.since.is_empty() { ", stored since " strong { (text::line(&self.since, 40)) } }
        }
    }
}

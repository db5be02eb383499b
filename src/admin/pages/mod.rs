//! The pages, as HTML: plain functions from what is known to markup. `frame` is what all have in common, the others are one
//! page each; `text`, `words`, `sparkline` and `payload` are the pure parts. No page asks anything: what it shows is given
//! to it. Everything that a stranger wrote goes through `text`.

mod filter;
mod frame;
mod letter;
mod letters;
mod login;
mod overview;
mod payload;
mod replay;
mod sparkline;
mod target;
mod text;
mod words;

pub(super) use filter::Filter;
pub(super) use frame::{failed, path_token, plain};
pub(super) use letter::{letter, replayed};
pub(super) use letters::{Listing, letters};
pub(super) use login::login;
pub(super) use overview::{fragments as overview_fragments, overview};
pub(super) use replay::{Confirmation, confirm, fragments as letters_fragments};
pub(super) use target::{fragments as target_fragments, target};

use std::sync::Arc;

use maud::Markup;

/// A part of a page that changes while somebody looks at it.
#[derive(Clone, Debug)]
pub(super) struct Fragment {
    /// The `id` of its element.
    pub(super) id: String,
    /// The element. Another text means that it changed.
    pub(super) html: Arc<str>,
}

impl Fragment {
    fn new(id: impl Into<String>, markup: Markup) -> Self {
        Self { id: id.into(), html: markup.into_string().into() }
    }
}

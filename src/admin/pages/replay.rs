//! The step before many dead letters are replayed, and how far it is.

use maud::{Markup, html};

use super::{
    Filter, Fragment,
    frame::{Place, page},
    overview::badge,
    text, words,
};
use crate::{
    admin::{
        access::Asker,
        replays::{Counted, End, Run},
    },
    dead_letter::Tally,
};

/// What is asked before many letters are replayed.
#[derive(Debug)]
pub(in crate::admin) struct Confirmation {
    /// Which letters: `since` is a time here, not how long ago.
    pub(in crate::admin) filter: Filter,
    /// How many those are.
    pub(in crate::admin) counted: Counted,
}

/// The step before many letters are replayed.
pub(in crate::admin) fn confirm(asker: Asker, confirmation: &Confirmation) -> Markup {
    let Confirmation { filter, counted } = confirmation;
    let letters = if *counted == Counted::Exactly(1) { "dead letter" } else { "dead letters" };
    let many = match counted {
        Counted::Exactly(many) => words::count(*many),
        Counted::AtLeast(0) => "an unknown number of".to_owned(),
        Counted::AtLeast(many) => format!("at least {}", words::count(*many)),
    };
    let content = html! {
        p.crumb { a href="/dead-letters" { "Dead letters" } }
        h1 { "Replay" }
        div.card {
            p #many { "This replays " strong { (many) } " " (letters) (filter.words()) "." }
            p.sub {
                "Each goes to the retry queue, due now, with its attempts counted anew and the same webhook-id, and is no \
                 dead letter any more. What is given up again becomes a new one."
            }
            form.buttons method="post" action="/dead-letters/replay" {
                (filter.hidden_fields())
                button.primary type="submit" disabled[*counted == Counted::Exactly(0)] { "Replay" }
                a.button href=(format!("/dead-letters?{}", filter.query())) { "Cancel" }
            }
        }
    };
    page(asker, "Replay", Place::DeadLetters, None, content)
}

/// The parts that change.
pub(in crate::admin) fn fragments(run: &Run) -> Vec<Fragment> {
    vec![Fragment::new("replays", replay_state(run))]
}

/// How the replay of many letters stands.
pub(super) fn replay_state(run: &Run) -> Markup {
    html! {
        div #replays role="status" {
            @match run {
                Run::None => {}
                Run::Going { filter, tally } => {
                    div.notice {
                        p {
                            (badge("wait", "Replaying")) " " strong { (words::count(tally.total())) }
                            " dead letters" (filter.words()) " so far."
                        }
                        form method="post" action="/dead-letters/replay/stop" { button type="submit" { "Stop" } }
                    }
                }
                Run::Over { filter, tally, end } => { (over(filter, tally, end)) }
            }
        }
    }
}

fn over(filter: &Filter, tally: &Tally, end: &End) -> Markup {
    let (class, word) = match end {
        End::Done => ("good", "Replayed"),
        End::Stopped => ("bad", "Stopped"),
        End::Failed(_) => ("bad", "Not all could be replayed"),
    };
    let others = [
        (tally.already_waiting, "were there already"),
        (tally.missing, "were gone"),
        (tally.refused, "cannot be replayed; tried one by one, they say why"),
    ];
    html! {
        div.notice.(class) {
            p {
                strong { (word) } ": dead letters" (filter.words()) ". "
                (words::count(tally.stored)) " put on the retry queue"
                @for (count, what) in others { @if count > 0 { ", " (words::count(count)) " " (what) } }
                "."
            }
            @if let End::Failed(why) = end { p { (text::line(why, 500)) } }
        }
    }
}

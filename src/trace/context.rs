//! W3C trace context: read from a message's headers, written into a request's. Knows no span that is under way.

use std::{
    borrow::Cow,
    num::{NonZeroU64, NonZeroU128},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::{message::Message, trace_parent::TraceParent};

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
const TRACEPARENT: HeaderName = HeaderName::from_static(PARENT);
const TRACESTATE: HeaderName = HeaderName::from_static(STATE);
/// The longest `tracestate` that is passed on, in bytes; W3C Trace Context (3.3.1.5) asks for 512 at least.
const TRACESTATE_MAX: usize = 2048;

/// What a delivery's span follows: the span under which it was first worked on, else the one that the message names.
/// Without either a trace begins here.
pub(super) fn parent(message: &Message, first: Option<TraceParent>) -> Context {
    let own = of_message(message);
    match (first.map(|first| remote(first, TraceState::default())), own) {
        (None, None) => Context::new(),
        (None, Some(own)) => Context::new().with_remote_span_context(own),
        (Some(first), Some(own)) if first.trace_id() == own.trace_id() => {
            let state = own.trace_state().clone();
            let first = SpanContext::new(first.trace_id(), first.span_id(), first.trace_flags(), true, state);
            Context::new().with_remote_span_context(first)
        }
        (Some(first), _) => Context::new().with_remote_span_context(first),
    }
}

/// What a message says about its trace; `None` if that is nothing, or nothing that can be read.
fn of_message(message: &Message) -> Option<SpanContext> {
    let all = |wanted: &'static str| {
        let named = move |(name, _): &(&str, &str)| name.eq_ignore_ascii_case(wanted);
        message.headers.iter().filter(named).map(|(_, value)| value)
    };
    // Several are an error (W3C Trace Context, 3.2); several `tracestate` are one list.
    let mut parents = all(PARENT);
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let states: Vec<&str> = all(STATE).collect();
    let state = match *states {
        [] => None,
        [one] => Some(Cow::Borrowed(one)),
        _ => Some(Cow::Owned(states.join(","))),
    };
    let state = state.filter(|state| state.len() <= TRACESTATE_MAX && state.is_ascii());
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Carried { parent, state });
    let found = context.span().span_context().clone();
    found.is_valid().then_some(found)
}

fn remote(parent: TraceParent, state: TraceState) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(parent.sampled);
    let (trace_id, span_id) = (TraceId::from(parent.trace_id.get()), SpanId::from(parent.span_id.get()));
    SpanContext::new(trace_id, span_id, flags, true, state)
}

/// How others name this span; `None` for one that is no span.
pub(super) fn trace_parent(span: &SpanContext) -> Option<TraceParent> {
    Some(TraceParent {
        trace_id: NonZeroU128::new(u128::from_be_bytes(span.trace_id().to_bytes()))?,
        span_id: NonZeroU64::new(u64::from_be_bytes(span.span_id().to_bytes()))?,
        sampled: span.is_sampled(),
    })
}

/// Makes whoever gets these headers follow `span`, and nothing else.
pub(super) fn write(span: &SpanContext, headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
    let Some(parent) = trace_parent(span) else { return };
    if let Ok(value) = HeaderValue::try_from(parent.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    let state = span.trace_state().header();
    if let (false, Ok(value)) = (state.is_empty(), HeaderValue::try_from(state)) {
        headers.insert(TRACESTATE, value);
    }
}

/// The two headers, as the propagator asks for them.
struct Carried<'a> {
    parent: &'a str,
    state: Option<Cow<'a, str>>,
}

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => Some(self.parent),
            STATE => self.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::message::{Headers, Origin};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::time::SystemTime;

    const OWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const FIRST: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01";
    const OTHER: &str = "00-22222222222222222222222222222222-1111111111111111-00";

    fn message(headers: &[(&str, &str)]) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Message {
            subject: "a".into(),
            payload: Bytes::new(),
            headers: Headers(headers),
            origin: Origin::Passing { id: "1".into(), reply: None },
            published: SystemTime::UNIX_EPOCH,
        }
    }

    /// `traceparent` and `tracestate` of what a delivery follows.
    fn followed(headers: &[(&str, &str)], first: Option<&str>) -> (String, String) {
        let first = first.map(|text| text.parse().unwrap());
        let mut written = HeaderMap::new();
        write(parent(&message(headers), first).span().span_context(), &mut written);
        let text =
            |name| written.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap()).to_owned();
        (text(&TRACEPARENT), text(&TRACESTATE))
    }

    fn pair(parent: &str, state: &str) -> (String, String) {
        (parent.to_owned(), state.to_owned())
    }

    #[test]
    fn a_delivery_follows_its_first_span_else_the_message_else_nothing() {
        assert_eq!(followed(&[], None), pair("", ""));
        assert_eq!(followed(&[("Traceparent", OWN), ("TraceState", "a=1")], None), pair(OWN, "a=1"));
        assert_eq!(followed(&[("traceparent", OWN), ("tracestate", "a=1")], Some(FIRST)), pair(FIRST, "a=1"));
        assert_eq!(followed(&[("traceparent", OWN), ("tracestate", "a=1")], Some(OTHER)), pair(OTHER, ""));
        assert_eq!(followed(&[], Some(FIRST)), pair(FIRST, ""));
    }

    #[test]
    fn several_states_are_one_list_and_several_parents_none() {
        let states = [("traceparent", OWN), ("tracestate", "a=1"), ("tracestate", "b=2")];
        assert_eq!(followed(&states, None), pair(OWN, "a=1,b=2"));
        assert_eq!(followed(&[("traceparent", OWN), ("traceparent", FIRST)], None), pair("", ""));
    }

    #[test]
    fn a_state_that_is_too_long_is_left_out() {
        let state = format!("a={}", "x".repeat(TRACESTATE_MAX));
        assert_eq!(followed(&[("traceparent", OWN), ("tracestate", &state)], None), pair(OWN, ""));
    }

    proptest! {
        #[test]
        fn whatever_a_message_says_the_request_carries_what_it_says_or_nothing(
            parent in "\\PC{0,60}|0[01]-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
            state in "\\PC{0,20}|[a-z]=[0-9]",
        ) {
            let (written, _) = followed(&[("traceparent", &parent), ("tracestate", &state)], None);
            prop_assert!(written.is_empty() || parent.contains(&written[3..52]), "{written}");
        }
    }
}

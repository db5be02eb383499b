//! Where in a trace a delivery belongs, as the `traceparent` of W3C Trace Context writes it. Pure data: spans are the
//! business of `trace`.

use std::{fmt, num::NonZeroU64, num::NonZeroU128, str::FromStr};

/// A span that others follow: its trace, its own id, and whether the trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id.
    pub trace_id: NonZeroU128,
    /// The span's id.
    pub span_id: NonZeroU64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// A text is no `traceparent` of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent of version 00")]
pub struct NoTraceParentError;

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParentError;

    /// Reads what [`fmt::Display`] writes (W3C Trace Context, 3.2.2); flags beyond the first are ignored.
    fn from_str(text: &str) -> Result<Self, NoTraceParentError> {
        let mut parts = text.split('-');
        let mut next = || parts.next().unwrap_or_default();
        let (version, trace_id, span_id, flags) = (next(), next(), next(), next());
        let wrong = version != "00" || !is_hex(trace_id, 32) || !is_hex(span_id, 16) || !is_hex(flags, 2);
        if wrong || parts.next().is_some() {
            return Err(NoTraceParentError);
        }
        let parent = || {
            Some(Self {
                trace_id: NonZeroU128::new(u128::from_str_radix(trace_id, 16).ok()?)?,
                span_id: NonZeroU64::new(u64::from_str_radix(span_id, 16).ok()?)?,
                sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
            })
        };
        parent().ok_or(NoTraceParentError)
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceParent = text.parse().unwrap();
        assert_eq!(parent.to_string(), text);
        assert!(parent.sampled);
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for text in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParentError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace_id in 1_u128.., span_id in 1_u64.., sampled: bool) {
            let parent = TraceParent {
                trace_id: NonZeroU128::new(trace_id).unwrap(),
                span_id: NonZeroU64::new(span_id).unwrap(),
                sampled,
            };
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
        }

        #[test]
        fn nothing_a_stranger_writes_ends_it(text in "\\PC{0,60}|[0-9a-f-]{50,60}") {
            let _ = text.parse::<TraceParent>();
        }
    }
}

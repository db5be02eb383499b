//! The source streams as they were when natshook looked: what each target has in them, and what of their limits it should
//! mind, without asking the broker again for each of a thousand targets. Asks nothing itself.

use std::{collections::BTreeMap, sync::Arc};

use async_nats::jetstream::stream::{Config, DiscardPolicy};

use super::streams::TargetStream;
use crate::{
    subject::{Pattern, PatternSet, disjoint},
    target::Target,
};

/// Streams, with their subjects and settings.
#[derive(Clone, Debug, Default)]
pub struct KnownStreams(Vec<KnownStream>);

#[derive(Clone, Debug)]
struct KnownStream {
    stream: Arc<str>,
    subjects: PatternSet,
    config: Config,
    /// See [`TargetStream`].
    extended_at: Option<u64>,
}

impl KnownStreams {
    pub(super) fn has(&self, stream: &str) -> bool {
        self.get(stream).is_some()
    }

    pub(super) fn add(&mut self, stream: Arc<str>, config: Config) {
        let subjects = config.subjects.iter().filter_map(|subject| Pattern::new(subject).ok()).collect();
        self.0.push(KnownStream { stream, subjects, config, extended_at: None });
    }

    /// `stream` has just been made or extended: what it stores from this sequence on is new.
    pub(super) fn extended(&mut self, stream: &str, first_new: u64) {
        for known in self.0.iter_mut().filter(|known| *known.stream == *stream) {
            known.extended_at = Some(first_new);
        }
    }

    /// The stream that holds all that `pattern` matches. No other one holds any of it: the streams of an account do not
    /// overlap.
    pub(super) fn holder(&self, pattern: &Pattern) -> Option<Arc<str>> {
        self.0.iter().find(|known| known.subjects.contains(pattern)).map(|known| Arc::clone(&known.stream))
    }

    fn get(&self, stream: &str) -> Option<&KnownStream> {
        self.0.iter().find(|known| *known.stream == *stream)
    }

    /// What a target with `patterns` receives; `None` where these streams do not hold all of it.
    #[must_use]
    pub fn of(&self, patterns: &[Pattern]) -> Option<Vec<TargetStream>> {
        let mut held: BTreeMap<Arc<str>, Vec<Pattern>> = BTreeMap::new();
        for pattern in patterns {
            held.entry(self.holder(pattern)?).or_default().push(pattern.clone());
        }
        let streams = held.into_iter().map(|(stream, patterns)| {
            let extended_at = self.get(&stream).and_then(|known| known.extended_at);
            TargetStream { stream, filters: disjoint(&patterns), extended_at }
        });
        Some(streams.collect())
    }

    /// Warns where a stream of `target` forgets messages sooner than the target may need to get them: they would be lost
    /// without a trace.
    pub fn warn_of_limits(&self, target: &Target, streams: &[TargetStream]) {
        let known = streams.iter().filter_map(|stream| self.get(&stream.stream));
        known.for_each(|known| warn_of_limits(&known.stream, &known.config, target));
    }
}

fn warn_of_limits(stream: &str, config: &Config, target: &Target) {
    if !config.max_age.is_zero() && config.max_age < target.retry.max_age {
        tracing::warn!(
            target = %target.name, stream, max_age = %humantime::format_duration(config.max_age),
            "the stream drops messages by max_age sooner than the target's retries would give up: what a target \
             that is down has not been sent by then is lost"
        );
    }
    let bounded = config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0;
    if bounded && config.discard == DiscardPolicy::Old {
        tracing::warn!(
            target = %target.name, stream, max_bytes = config.max_bytes, max_messages = config.max_messages,
            max_messages_per_subject = config.max_messages_per_subject,
            "the stream drops its oldest messages when it is full, also ones that the target was not sent yet"
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    fn known(streams: &[(&str, &[&str])]) -> KnownStreams {
        let mut known = KnownStreams::default();
        for (name, subjects) in streams {
            let subjects = subjects.iter().map(ToString::to_string).collect();
            known.add((*name).into(), Config { subjects, ..Default::default() });
        }
        known
    }

    #[test]
    fn a_target_has_of_each_stream_what_the_stream_holds() {
        let mut streams = known(&[("B", &["b.>"]), ("A", &["a", "c.*"])]);
        streams.extended("A", 7);
        let of = streams.of(&patterns(&["c.d", "b.x.y", "a"])).unwrap();
        let told: Vec<_> = of.iter().map(|s| (&*s.stream, s.filters.clone(), s.extended_at)).collect();
        assert_eq!(told, [("A", patterns(&["c.d", "a"]), Some(7)), ("B", patterns(&["b.x.y"]), None)]);
    }

    #[test]
    fn what_is_held_in_part_or_not_at_all_is_not_known() {
        let streams = known(&[("A", &["a", "b.c"])]);
        assert_eq!(streams.of(&patterns(&["a", "b.*"])), None);
        assert_eq!(streams.of(&patterns(&["d"])), None);
    }
}

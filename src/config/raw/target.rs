//! A target and its policy as written, but for its authentication.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Auth, Batch, CloudEvents, Reply, Signing, TargetTest, TargetTls};
use crate::{
    backoff::Jitter,
    config::{
        field::{Field, Section},
        limits::*,
        value::{Concurrency, OneOrMore, Preset, Private, Rate, Size, Span, Start, Text},
        words::{Format, Handshake, OnFilterError, Order},
    },
};

/// A webhook with its policy.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["name", "subjects", "url"]))]
pub(in crate::config) struct Target {
    /// The target's own name, in its consumer, in metrics and commands: letters, digits, "_" and "-", at most 64. A
    /// renamed target is a new one.
    #[schemars(extend("examples" = ["policy"]))]
    pub(in crate::config) name: Field<Text>,
    /// Which messages it receives: subjects, with * for one token and > for all the rest; a text or a list.
    #[schemars(extend("examples" = [["PolicyUpdated", "policies.>"]]))]
    pub(in crate::config) subjects: Field<OneOrMore<Text>>,
    /// Where it receives: an https address (http with egress.allow_http), without user info and fragment. Path and query
    /// may be templates, such as "https://thirdparty.example/{{ subject[1] }}"; the values are percent-encoded.
    #[schemars(extend("examples" = ["https://thirdparty.example/webhook/policy"]))]
    pub(in crate::config) url: Field<Private>,
    /// Messages, and what the target makes of them; natshook check --tests runs them.
    pub(in crate::config) tests: Field<Vec<Section<TargetTest>>>,
    #[serde(flatten)]
    pub(in crate::config) policy: Policy,
}

/// How a target is served.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Policy {
    /// The method of its requests, in capitals; not GET, HEAD, CONNECT or TRACE.
    #[schemars(extend("default" = METHOD))]
    pub(in crate::config) method: Field<Text>,
    /// Headers sent with every request. Values may be templates, such as "{{ subject[1] }}", "{{ headers[\"X-Tenant\"] }}"
    /// or "{{ payload.id | default(\"none\") }}".
    #[schemars(extend("default" = {}, "examples" = [{ "X-Source": "hms" }]))]
    pub(in crate::config) headers: Field<BTreeMap<String, Field<Private>>>,
    /// Headers of the message that are passed on, beside Content-Type, traceparent, tracestate and ce-*.
    #[schemars(extend("default" = [], "examples" = [["X-Tenant"]]))]
    pub(in crate::config) pass_headers: Field<OneOrMore<Text>>,
    /// How requests prove who sends them: exactly one of bearer, basic, header, oauth2, sigv4. Default: not at all.
    pub(in crate::config) auth: Section<Auth>,
    /// What requests are signed with: Standard Webhooks 1.0 (secrets), HTTP Message Signatures (message_signatures), or
    /// both. Default: unsigned.
    pub(in crate::config) signing: Section<Signing>,
    /// Authorities to trust and the certificate to show. Default: the system's authorities, and none.
    pub(in crate::config) tls: Section<TargetTls>,
    /// The longest that an attempt takes, the answer's body included.
    #[schemars(extend("default" = span(TIMEOUT_DEFAULT), "x-range" = span_range(&TIMEOUT)))]
    pub(in crate::config) timeout: Field<Span>,
    /// The most requests in flight to the target from one natshook process. As { max = 64, adaptive = true } it begins
    /// with 4, and follows what the receiver can take.
    #[schemars(extend("default" = CONCURRENCY_DEFAULT, "x-range" = int_range(&CONCURRENCY)))]
    pub(in crate::config) concurrency: Field<Concurrency>,
    /// The most requests to the target from one natshook process in a second (s), minute (m) or hour (h). Default: no
    /// limit.
    pub(in crate::config) rate: Field<Rate>,
    /// As what messages are sent: "raw" (as they came), "cloudevents-binary" or "cloudevents-structured" (CloudEvents 1.0.2).
    /// One that is an event keeps its attributes; any other becomes one.
    #[schemars(extend("default" = FORMAT))]
    pub(in crate::config) format: Field<Format>,
    /// What messages that are no CloudEvents become; needs a format of CloudEvents.
    pub(in crate::config) cloudevents: Section<CloudEvents>,
    /// Whether the receiver is asked for its consent before anything is delivered (CloudEvents webhooks): true, false, or a
    /// table with the name under which it is asked. Nothing is delivered to one that does not consent; the rate that it
    /// grants bounds the target's own.
    #[schemars(extend("default" = false))]
    pub(in crate::config) handshake: Field<Handshake>,
    /// What is published of the receiver's answers. Default: nothing.
    pub(in crate::config) reply: Section<Reply>,
    /// What follows failures. The schedule is one of delays, initial + factor + max + attempts, or preset.
    pub(in crate::config) retry: Section<Retry>,
    /// Statuses that are judged otherwise than natshook's table says. A 2xx is always a success.
    pub(in crate::config) outcomes: Section<Outcomes>,
    /// Which messages are delivered one after the other: "none"; "target" (all of the target's); "subject" (those of one
    /// subject); { token = 2 } (those whose subjects have the same second token); { header = "Key" } (those with the same
    /// value of that header of the message). One replica at a time then serves the target. Not with source = "core".
    #[schemars(extend("default" = ORDER))]
    pub(in crate::config) order: Field<Order>,
    /// Where a new target begins: "new" (what is published from then on), "all" that its streams hold, a time (RFC
    /// 3339), or a sequence of the stream. It says nothing about a target that has its consumer already. Not with
    /// source = "core".
    #[schemars(extend("default" = START))]
    pub(in crate::config) start: Field<Start>,
    /// The largest payload that is sent; a larger one becomes a dead letter (message_too_large).
    #[schemars(extend("default" = size(PAYLOAD_DEFAULT), "x-range" = format!("1 to {}", size(*PAYLOAD.end()))))]
    pub(in crate::config) max_payload_bytes: Field<Size>,
    /// Which messages are delivered: a CEL expression over payload (the parsed JSON), headers, subject and tokens (of the
    /// subject). Messages for which it is false are acked and counted. Default: all are delivered.
    #[schemars(extend("examples" = ["payload.total > 100 && tokens[1] == 'eu'"]))]
    pub(in crate::config) filter: Field<Text>,
    /// What is done with a message that the filter cannot judge: "dead_letter" (filter_error), "deliver" or "skip".
    #[schemars(extend("default" = "dead_letter"))]
    pub(in crate::config) on_filter_error: Field<OnFilterError>,
    /// What makes the body: a jq program that is given the payload (JSON), with $subject, $tokens and $headers. What takes
    /// longer than 100 ms of CPU time, or makes more than max_payload_bytes, becomes a dead letter (transform_error).
    /// Default: the payload as it is.
    #[schemars(extend("examples" = ["{id: .order.id, total: .order.total}"]))]
    pub(in crate::config) transform: Field<Text>,
    /// Several messages in one request. Default: one message in each.
    pub(in crate::config) batch: Section<Batch>,
}

/// The most requests in flight, and whether fewer are where the receiver can take fewer.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, deny_unknown_fields)]
pub(in crate::config) struct ConcurrencyTable {
    /// The most requests in flight.
    #[schemars(extend("default" = CONCURRENCY_DEFAULT, "minimum" = CONCURRENCY.start(), "maximum" = CONCURRENCY.end()))]
    pub(in crate::config) max: Field<u64>,
    /// Whether to begin with 4 and follow what the receiver can take: one more with each round of answers whose latency
    /// holds, half as many after a 429 or a timeout.
    #[schemars(extend("default" = false))]
    pub(in crate::config) adaptive: Field<bool>,
}

/// By what messages are told apart that are delivered one after the other: exactly one of token, header.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, deny_unknown_fields)]
pub(in crate::config) struct OrderTable {
    /// By which token of the subject, from 1. Subjects that are shorter belong together.
    #[schemars(extend("examples" = [2], "minimum" = ORDER_TOKEN.start(), "maximum" = ORDER_TOKEN.end()))]
    pub(in crate::config) token: Field<u64>,
    /// By which header of the message. Messages without it belong together.
    #[schemars(extend("examples" = ["Key"]))]
    pub(in crate::config) header: Field<Text>,
}

/// What follows failures. The schedule is one of delays, initial + factor + max + attempts, or preset.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Retry {
    /// How long to wait after each failed attempt; one attempt more than waits. At most 100, each 0s to 30d.
    #[schemars(extend("default" = spans(&DELAYS_DEFAULT)))]
    pub(in crate::config) delays: Field<Vec<Field<Span>>>,
    /// The first wait of a schedule that grows; needs max and attempts.
    #[schemars(extend("examples" = ["1s"], "x-range" = span_range(&GROWING_WAIT)))]
    pub(in crate::config) initial: Field<Span>,
    /// What each wait of a growing schedule is multiplied by for the next.
    #[schemars(extend("default" = FACTOR_DEFAULT, "minimum" = FACTOR.start(), "maximum" = FACTOR.end()))]
    pub(in crate::config) factor: Field<f64>,
    /// The longest wait of a growing schedule.
    #[schemars(extend("examples" = ["1h"], "x-range" = span_range(&GROWING_WAIT)))]
    pub(in crate::config) max: Field<Span>,
    /// All attempts of a growing schedule, the first one included.
    #[schemars(extend("examples" = [12], "minimum" = ATTEMPTS.start(), "maximum" = ATTEMPTS.end()))]
    pub(in crate::config) attempts: Field<u64>,
    /// A schedule by name. "standard-webhooks" waits 5s 5m 30m 2h 5h 10h 14h 20h 24h, and brings max_age = "4d".
    #[schemars(extend("examples" = ["standard-webhooks"]))]
    pub(in crate::config) preset: Field<Preset>,
    /// By which share each wait is made longer or shorter, at random.
    #[schemars(extend("default" = Jitter::DEFAULT.share(), "minimum" = SHARE.start(), "maximum" = SHARE.end()))]
    pub(in crate::config) jitter: Field<f64>,
    /// How long after a message was published a retry may still be made. The first attempt is made however old it is.
    #[schemars(extend("default" = span(RETRY_AGE_DEFAULT), "x-range" = span_range(&RETRY_AGE)))]
    pub(in crate::config) max_age: Field<Span>,
    /// The least wait after a 429 or a timeout. Under any schedule but the default delays it is 0s unless set.
    #[schemars(extend("default" = span(OVERLOAD_WAIT_DEFAULT), "x-range" = span_range(&OVERLOAD_WAIT)))]
    pub(in crate::config) overload_wait: Field<Span>,
}

/// Statuses judged otherwise than natshook's table says, each 300 to 599.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Outcomes {
    /// Statuses that are retried, each 300 to 599.
    #[schemars(extend("default" = [], "examples" = [[422]]))]
    pub(in crate::config) transient: Field<Vec<Field<u64>>>,
    /// Statuses after which natshook gives up at once, each 300 to 599.
    #[schemars(extend("default" = [], "examples" = [[404]]))]
    pub(in crate::config) permanent: Field<Vec<Field<u64>>>,
}

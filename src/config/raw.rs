//! The config as written. Every key that exists stands here once: reading, the JSON Schema, and the list of known
//! keys all come from these structs, and their comments are the schema's descriptions. Nothing is judged here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    field::{Field, Section},
    secret::Secret,
    value::{Concurrency, OneOrMore, Preset, Private, Rate, Size, Source, Span, Start, Text},
};

/// The config of natshook: which NATS subjects go to which webhooks.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, title = "natshook", extend("required" = ["targets"]))]
pub(super) struct Root {
    /// The prefix of natshook's streams, consumers and subjects: letters, digits, "_" and "-". Default "natshook".
    pub(super) name: Field<Text>,
    /// "jetstream" (default: nothing is lost) or "core" (for brokers without JetStream).
    pub(super) source: Field<Source>,
    /// How natshook ends.
    pub(super) shutdown: Section<Shutdown>,
    /// The broker.
    pub(super) nats: Section<Nats>,
    /// The stream that natshook makes for subjects that no stream holds.
    pub(super) stream: Section<Stream>,
    /// The stream of deliveries that wait for their next attempt.
    pub(super) retry_queue: Section<RetryQueue>,
    /// The stream of messages that natshook gave up on.
    pub(super) dead_letter: Section<DeadLetter>,
    /// The listener for health and metrics.
    pub(super) admin: Section<Admin>,
    /// What targets may be reached: by default public addresses over https, on ports 443 and 8443.
    pub(super) egress: Section<Egress>,
    /// What holds for every target that does not say otherwise: any key of a target except name, subjects and url.
    pub(super) defaults: Section<Policy>,
    /// The webhooks; at least one.
    pub(super) targets: Field<Vec<Section<Target>>>,
}

/// How natshook ends.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Shutdown {
    /// The longest that deliveries in flight may take to end, 0s to 1h. Default "35s".
    pub(super) grace_period: Field<Span>,
}

/// The broker, and who natshook is there: at most one of credentials_file, nkey_seed, token, user + password.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Nats {
    /// Addresses, as nats:// or tls:// URLs: a list, or one text with commas. Default "nats://127.0.0.1:4222".
    pub(super) servers: Field<OneOrMore<Private>>,
    /// A .creds file (JWT and seed).
    pub(super) credentials_file: Field<Text>,
    /// An nkey seed of a user.
    pub(super) nkey_seed: Field<Secret>,
    /// A token.
    pub(super) token: Field<Secret>,
    /// A user; needs password.
    pub(super) user: Field<Text>,
    /// The user's password.
    pub(super) password: Field<Secret>,
    /// The prefix of reply subjects, for accounts that may not subscribe to _INBOX.>. Default "_INBOX".
    pub(super) inbox_prefix: Field<Text>,
    /// How the connection is protected.
    pub(super) tls: Section<Tls>,
}

/// How the broker's connection is protected. Any file, or first = true, makes TLS required.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Tls {
    /// A CA certificate (PEM) to trust beside the system's.
    pub(super) ca_file: Field<Text>,
    /// A client certificate (PEM); needs key_file.
    pub(super) cert_file: Field<Text>,
    /// The client certificate's private key (PEM).
    pub(super) key_file: Field<Text>,
    /// Whether TLS begins before the server's first line (the server's handshake_first). Default false.
    pub(super) first: Field<bool>,
}

/// The stream that natshook makes for subjects that no stream holds.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Stream {
    /// Its name. Default "EVENTS".
    pub(super) name: Field<Text>,
    /// Whether natshook may make it. Default true.
    pub(super) create: Field<bool>,
    /// On how many servers it is kept, 1 to 5. Default 1.
    pub(super) replicas: Field<u64>,
}

/// The stream of deliveries that wait for their next attempt.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct RetryQueue {
    /// On how many servers it is kept, 1 to 5. Default 1.
    pub(super) replicas: Field<u64>,
    /// The most bytes it holds; when full it refuses more and deliveries stay in the source. Default: no limit.
    pub(super) max_bytes: Field<Size>,
}

/// The stream of messages that natshook gave up on.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct DeadLetter {
    /// How long it keeps a message, 1s to 10 years. Default "30d".
    pub(super) max_age: Field<Span>,
    /// The most bytes it holds; when full it refuses more and nothing is given up. Default: no limit.
    pub(super) max_bytes: Field<Size>,
    /// On how many servers it is kept, 1 to 5. Default 1.
    pub(super) replicas: Field<u64>,
}

/// The listener for health and metrics.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Admin {
    /// Address and port; port 0 takes a free one. Default "127.0.0.1:8822".
    pub(super) listen: Field<Text>,
}

/// What targets may be reached: by default public addresses over https, on ports 443 and 8443.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Egress {
    /// Ranges or addresses that may be dialled although they are not public, on any port, such as "10.0.0.0/8".
    /// Default none.
    pub(super) allow: Field<OneOrMore<Text>>,
    /// Whether plain http may be used; opens its port, 80, as well. Default false.
    pub(super) allow_http: Field<bool>,
    /// The ports on which public addresses may be dialled. Default [443, 8443].
    pub(super) ports: Field<Vec<Field<u64>>>,
}

/// A webhook with its policy.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["name", "subjects", "url"]))]
pub(super) struct Target {
    /// A name of its own: letters, digits, "_" and "-", at most 64.
    pub(super) name: Field<Text>,
    /// What it receives: subjects, with * for one token and > for the rest; a text or a list.
    pub(super) subjects: Field<OneOrMore<Text>>,
    /// Where it receives.
    pub(super) url: Field<Private>,
    #[serde(flatten)]
    pub(super) policy: Policy,
}

/// How a target is served.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Policy {
    /// The request's method. Default "POST".
    pub(super) method: Field<Text>,
    /// Headers sent with every request.
    pub(super) headers: Field<BTreeMap<String, Field<Private>>>,
    /// Message headers passed on, beyond Content-Type, traceparent, tracestate and ce-*. Default none.
    pub(super) pass_headers: Field<OneOrMore<Text>>,
    /// How requests prove who sends them: exactly one of bearer, basic, header.
    pub(super) auth: Section<Auth>,
    /// What requests are signed with (Standard Webhooks 1.0). Default: unsigned.
    pub(super) signing: Section<Signing>,
    /// The longest an attempt takes, the answer's body included, 10ms to 5m. Default "30s".
    pub(super) timeout: Field<Span>,
    /// The most requests in flight, 1 to 10000; { max = 64, adaptive = true } begins low and follows what the receiver
    /// can take. Default 64.
    pub(super) concurrency: Field<Concurrency>,
    /// The most requests in a second, minute or hour, such as "100/s". Default: no limit.
    pub(super) rate: Field<Rate>,
    /// What follows failures.
    pub(super) retry: Section<Retry>,
    /// Statuses judged otherwise than natshook's table says.
    pub(super) outcomes: Section<Outcomes>,
    /// Where a new consumer begins: "new" (default), "all", a time (RFC 3339), or a sequence of the stream.
    pub(super) start: Field<Start>,
    /// The largest payload that is sent, 1 to 64MiB; larger ones become dead letters. Default "1MiB".
    pub(super) max_payload_bytes: Field<Size>,
}

/// The most requests in flight, and whether fewer are where the receiver can take fewer.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, deny_unknown_fields)]
pub(super) struct ConcurrencyTable {
    /// The most, 1 to 10000. Default 64.
    pub(super) max: Field<u64>,
    /// Whether to begin low and follow what the receiver can take. Default false.
    pub(super) adaptive: Field<bool>,
}

/// How requests prove who sends them: exactly one of these.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Auth {
    /// Authorization: Bearer …
    pub(super) bearer: Field<Secret>,
    /// Authorization: Basic …
    pub(super) basic: Section<Basic>,
    /// A header of the receiver's choice.
    pub(super) header: Section<AuthHeader>,
}

/// User and password of basic authentication.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["user", "password"]))]
pub(super) struct Basic {
    /// The user.
    pub(super) user: Field<Text>,
    /// The password.
    pub(super) password: Field<Secret>,
}

/// A header that holds a secret.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["name", "value"]))]
pub(super) struct AuthHeader {
    /// The header's name.
    pub(super) name: Field<Text>,
    /// Its value.
    pub(super) value: Field<Secret>,
}

/// What requests are signed with.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["secrets"]))]
pub(super) struct Signing {
    /// One or more secrets, "whsec_…" (HMAC-SHA256) or "whsk_…" (ed25519); several while a secret is rotated.
    pub(super) secrets: Field<Vec<Field<Secret>>>,
}

/// What follows failures. The schedule is one of delays, initial + factor + max + attempts, or preset.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Retry {
    /// A wait for each retry, in order, at most 100 of 0s to 30d each. Default 5s 30s 2m 10m 30m 2h 5h 10h.
    pub(super) delays: Field<Vec<Field<Span>>>,
    /// The first wait of an exponential schedule, 1ms to 30d.
    pub(super) initial: Field<Span>,
    /// What each wait is multiplied by for the next, 1 to 1000. Default 2.
    pub(super) factor: Field<f64>,
    /// The longest wait of an exponential schedule, 1ms to 30d.
    pub(super) max: Field<Span>,
    /// All attempts of an exponential schedule, the first one included, 1 to 1000.
    pub(super) attempts: Field<u64>,
    /// A schedule known by name: "standard-webhooks" (5s 5m 30m 2h 5h 10h 14h 20h 24h, with max_age "4d").
    pub(super) preset: Field<Preset>,
    /// By which share each wait is spread, 0 to 1. Default 0.2.
    pub(super) jitter: Field<f64>,
    /// How long after a message was published a retry may be made, 1s to 365d. Default "24h".
    pub(super) max_age: Field<Span>,
    /// The least wait after a 429 or a timeout, 0s to 1h. Default "60s" under the default delays, else "0s".
    pub(super) overload_wait: Field<Span>,
}

/// Statuses judged otherwise than natshook's table says, each 300 to 599.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Outcomes {
    /// Statuses that are retried.
    pub(super) transient: Field<Vec<Field<u64>>>,
    /// Statuses after which natshook gives up at once.
    pub(super) permanent: Field<Vec<Field<u64>>>,
}

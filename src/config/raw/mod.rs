//! The config as written. Every key that exists stands here once: reading, the JSON Schema, and the list of known
//! keys all come from these structs, and their comments are the schema's descriptions. Defaults and bounds come from
//! `limits`; the schema's `x-range` is a range in words, for types that JSON Schema knows none for. Nothing is judged here.

mod answers;
mod auth;
mod batch;
mod format;
mod target;
mod target_test;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    field::{Field, Section},
    limits::*,
    secret::Secret,
    value::{OneOrMore, Private, Size, Source, Span, Text},
};
use crate::egress::DEFAULT_PORTS;
pub(super) use answers::{HandshakeTable, Reply};
pub(super) use auth::{Auth, AuthHeader, Basic, MessageSignatures, OAuth2, SigV4, Signing, TargetTls};
pub(super) use batch::{Batch, BatchFailedList};
pub(super) use format::CloudEvents;
pub(super) use target::{ConcurrencyTable, OrderTable, Outcomes, Policy, Retry, Target};
pub(super) use target_test::{ExpectedRequest, TargetTest};

/// The config of natshook: which NATS subjects go to which webhooks.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, title = "natshook", extend(
    "if" = {
        "anyOf": [
            { "required": ["connections"] },
            {
                "required": ["registry"],
                "properties": { "registry": { "required": ["enabled"], "properties": { "enabled": { "const": true } } } }
            }
        ]
    },
    "else" = { "required": ["targets"] }
))]
pub(super) struct Root {
    /// The prefix of natshook's streams, consumers and subjects: letters, digits, "_" and "-", at most 64. Two
    /// natshooks on one account need different names; replicas that share the work have the same.
    #[schemars(extend("default" = NAME))]
    pub(super) name: Field<Text>,
    /// Where messages come from. "jetstream": every message that a stream has stored ends delivered or as a dead
    /// letter, through any crash. "core": for brokers without JetStream; what is not delivered when natshook ends, or
    /// is published while it is away, is lost.
    #[schemars(extend("default" = SOURCE))]
    pub(super) source: Field<Source>,
    /// How natshook ends, at SIGTERM or SIGINT.
    pub(super) shutdown: Section<Shutdown>,
    /// The broker, and who natshook is there: at most one of credentials_file, nkey_seed, token, user + password.
    pub(super) nats: Section<Nats>,
    /// The stream that natshook makes for subjects that no stream holds: file storage, limits retention, no limits. A
    /// stream that is there is used as it is.
    pub(super) stream: Section<Stream>,
    /// The stream <NAME>_RETRY of deliveries that wait for their next attempt.
    pub(super) retry_queue: Section<RetryQueue>,
    /// The stream <NAME>_DEAD_LETTER of messages that natshook gave up on.
    pub(super) dead_letter: Section<DeadLetter>,
    /// The key-value bucket <NAME>_STATE of what operators decided while natshook runs, such as paused targets.
    pub(super) state: Section<State>,
    /// Targets that register while natshook runs, in the key-value bucket <NAME>_TARGETS. Not with source = "core".
    pub(super) registry: Section<Registry>,
    /// The listener for health, metrics and the status page.
    pub(super) admin: Section<Admin>,
    /// Where traces go. A change takes effect at the next start.
    pub(super) telemetry: Section<Telemetry>,
    /// How a changed config is noticed.
    pub(super) reload: Section<Reload>,
    /// What targets may be reached. By default public addresses over https, on ports 443 and 8443; checked on the
    /// address in the URL and on every address that a name leads to.
    pub(super) egress: Section<Egress>,
    /// What holds for every target that does not say otherwise: any key of a target except name, subjects, url
    /// and tests. A target's own key replaces the one here as a whole; only inside retry, the schedule, jitter, max_age and
    /// overload_wait are replaced singly.
    pub(super) defaults: Section<Policy>,
    /// The webhooks, at least one unless registry.enabled.
    pub(super) targets: Field<Vec<Section<Target>>>,
    /// Several accounts, of one broker or of several, each with its own servers, credentials, streams and targets; one that is
    /// down does not touch the others. Then source, nats, stream, retry_queue, dead_letter, state, registry and targets stand in
    /// each of them, and not above.
    pub(super) connections: Field<Vec<Section<Connection>>>,
}

/// An account of a broker, and what is delivered from it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["name"]))]
pub(super) struct Connection {
    /// What it is called in the log, in metrics and by --connection: letters, digits, "_" and "-", at most 64.
    #[schemars(extend("examples" = ["eu"]))]
    pub(super) name: Field<Text>,
    /// Where its messages come from: "jetstream" or "core".
    #[schemars(extend("default" = SOURCE))]
    pub(super) source: Field<Source>,
    /// Its broker, and who natshook is there.
    pub(super) nats: Section<Nats>,
    /// The stream that natshook makes there for subjects that no stream holds.
    pub(super) stream: Section<Stream>,
    /// The stream of deliveries that wait there for their next attempt.
    pub(super) retry_queue: Section<RetryQueue>,
    /// The stream of messages from there that natshook gave up on.
    pub(super) dead_letter: Section<DeadLetter>,
    /// The bucket there of what operators decided.
    pub(super) state: Section<State>,
    /// How targets register there while natshook runs; in one of the connections at most.
    pub(super) registry: Section<Registry>,
    /// The webhooks that get its messages, at least one unless registry.enabled. Their names differ from those of all other connections.
    pub(super) targets: Field<Vec<Section<Target>>>,
}

/// How natshook ends.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Shutdown {
    /// The longest that deliveries in flight may take to end after SIGTERM or SIGINT. What has not ended by then is
    /// delivered again later.
    #[schemars(extend("default" = span(GRACE_PERIOD_DEFAULT), "x-range" = span_range(&GRACE_PERIOD)))]
    pub(super) grace_period: Field<Span>,
}

/// The broker, and who natshook is there: at most one of credentials_file, nkey_seed, token, user + password.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Nats {
    /// Addresses of the broker, as nats:// or tls:// URLs: a list, or one text with commas. The servers of a cluster
    /// tell of each other; two or three are enough.
    #[schemars(extend("default" = [SERVER], "examples" = [["nats://a.internal:4222", "nats://b.internal:4222"]]))]
    pub(super) servers: Field<OneOrMore<Private>>,
    /// A .creds file (JWT and nkey seed) that says who natshook is. It is read again when it changes.
    #[schemars(extend("examples" = ["/etc/natshook/natshook.creds"]))]
    pub(super) credentials_file: Field<Text>,
    /// The nkey seed of a user ("SU…").
    #[schemars(extend("examples" = [{ "file": "/run/secrets/natshook.nk" }]))]
    pub(super) nkey_seed: Field<Secret>,
    /// A token that the broker asks for.
    #[schemars(extend("examples" = [{ "env": "NATS_TOKEN" }]))]
    pub(super) token: Field<Secret>,
    /// A user; needs password.
    #[schemars(extend("examples" = ["natshook"]))]
    pub(super) user: Field<Text>,
    /// The password of user.
    #[schemars(extend("examples" = [{ "env": "NATS_PASSWORD" }]))]
    pub(super) password: Field<Secret>,
    /// The prefix of the subjects on which natshook gets answers, for accounts that may not subscribe to _INBOX.>. A
    /// subject without wildcards.
    #[schemars(extend("default" = INBOX_PREFIX, "examples" = ["_INBOX_natshook"]))]
    pub(super) inbox_prefix: Field<Text>,
    /// How the connection is protected. Any file, or first = true, makes TLS required.
    pub(super) tls: Section<Tls>,
}

/// How the broker's connection is protected. Any file, or first = true, makes TLS required.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Tls {
    /// A CA certificate (PEM) to trust beside the system's.
    #[schemars(extend("examples" = ["/etc/natshook/ca.pem"]))]
    pub(super) ca_file: Field<Text>,
    /// A client certificate (PEM), for brokers that ask for one; needs key_file.
    #[schemars(extend("examples" = ["/etc/natshook/client.pem"]))]
    pub(super) cert_file: Field<Text>,
    /// The private key (PEM) of cert_file.
    #[schemars(extend("examples" = ["/etc/natshook/client.key"]))]
    pub(super) key_file: Field<Text>,
    /// Whether TLS begins before the server's first line; the server needs handshake_first.
    #[schemars(extend("default" = false))]
    pub(super) first: Field<bool>,
}

/// The stream that natshook makes for subjects that no stream holds.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Stream {
    /// The name of the stream that natshook makes.
    #[schemars(extend("default" = STREAM))]
    pub(super) name: Field<Text>,
    /// Whether natshook may make the stream, and extend it by subjects that targets name later. If not, a target whose
    /// subjects no stream holds gets nothing, and an ERROR says so.
    #[schemars(extend("default" = true))]
    pub(super) create: Field<bool>,
    /// On how many servers the stream is kept when natshook makes it. Three or more survive the loss of a server.
    #[schemars(extend("default" = REPLICAS_DEFAULT, "minimum" = REPLICAS.start(), "maximum" = REPLICAS.end()))]
    pub(super) replicas: Field<u64>,
}

/// The stream of deliveries that wait for their next attempt.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct RetryQueue {
    /// On how many servers the retry queue is kept. Deliveries that wait in it are nowhere else: use 3 in a cluster.
    #[schemars(extend("default" = REPLICAS_DEFAULT, "minimum" = REPLICAS.start(), "maximum" = REPLICAS.end()))]
    pub(super) replicas: Field<u64>,
    /// The most bytes the retry queue holds. When it is full nothing is lost: a failed delivery stays unacked in its
    /// source stream and is tried again. Default: no limit.
    #[schemars(extend("examples" = ["1GiB"]))]
    pub(super) max_bytes: Field<Size>,
}

/// The stream of messages that natshook gave up on.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct DeadLetter {
    /// How long a dead letter is kept.
    #[schemars(extend("default" = span(DEAD_LETTER_AGE_DEFAULT), "x-range" = span_range(&DEAD_LETTER_AGE)))]
    pub(super) max_age: Field<Span>,
    /// The most bytes of dead letters. When it is full nothing is given up: what would become a dead letter stays
    /// unacked and is tried again. Default: no limit.
    #[schemars(extend("examples" = ["1GiB"]))]
    pub(super) max_bytes: Field<Size>,
    /// On how many servers dead letters are kept.
    #[schemars(extend("default" = REPLICAS_DEFAULT, "minimum" = REPLICAS.start(), "maximum" = REPLICAS.end()))]
    pub(super) replicas: Field<u64>,
}

/// The bucket of what operators decided while natshook runs, such as paused targets.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct State {
    /// On how many servers the bucket <NAME>_STATE is kept.
    #[schemars(extend("default" = REPLICAS_DEFAULT, "minimum" = REPLICAS.start(), "maximum" = REPLICAS.end()))]
    pub(super) replicas: Field<u64>,
}

/// Targets that register while natshook runs. What they may be is what the file's targets may be, with [defaults] and
/// [egress], but they may name neither environment variables nor files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Registry {
    /// Whether targets can be registered: with "natshook target put", or by any service with one NATS request to
    /// <name>.targets.put. Who may is said by the broker's permissions on <name>.targets.*.
    #[schemars(extend("default" = false))]
    pub(super) enabled: Field<bool>,
    /// What secrets of registered targets are sealed with before they are stored: 32 bytes as base64 or in hexadecimal
    /// digits (openssl rand -base64 32). The same on all replicas. Without it a secret cannot be registered.
    #[schemars(extend("examples" = [{ "env": "NATSHOOK_REGISTRY_KEY" }]))]
    pub(super) key: Field<Secret>,
    /// Keys that key has replaced: what was sealed with them can still be opened.
    #[schemars(extend("examples" = [[{ "env": "NATSHOOK_REGISTRY_KEY_BEFORE" }]]))]
    pub(super) former_keys: Field<Vec<Field<Secret>>>,
    /// On how many servers the bucket <NAME>_TARGETS is kept.
    #[schemars(extend("default" = REPLICAS_DEFAULT, "minimum" = REPLICAS.start(), "maximum" = REPLICAS.end()))]
    pub(super) replicas: Field<u64>,
}

/// The listener for health, metrics and the status page.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Admin {
    /// Where the status page, /metrics, /healthz and /readyz are: an IP address and a port; port 0 takes a free one.
    /// Any address that is not loopback needs token. In a container: "0.0.0.0:8822".
    #[schemars(extend("default" = LISTEN.to_string()))]
    pub(super) listen: Field<Text>,
    /// What whoever reads or acts must know, 16 characters or more: typed into the login form, or sent as
    /// "Authorization: Bearer …". /healthz and /readyz stay open. Default: none, for loopback addresses only.
    #[schemars(extend("examples" = [{ "file": "/run/secrets/natshook_admin_token" }]))]
    pub(super) token: Field<Secret>,
    /// Whether /metrics is open to everybody although there is a token.
    #[schemars(extend("default" = false))]
    pub(super) open_metrics: Field<bool>,
}

/// Where traces go.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// The base address of an OpenTelemetry collector that takes OTLP over HTTP; traces go to
    /// <otlp_endpoint>/v1/traces. Default: no traces.
    #[schemars(extend("examples" = ["http://127.0.0.1:4318"]))]
    pub(super) otlp_endpoint: Field<Private>,
    /// Headers for the collector, such as its key; the values are secrets.
    #[schemars(extend("examples" = [{ "x-api-key": { "env": "OTLP_KEY" } }]))]
    pub(super) otlp_headers: Field<BTreeMap<String, Field<Secret>>>,
    /// Which share of the traces that begin here is recorded. A trace that a message brings along (traceparent) is
    /// recorded as that says.
    #[schemars(extend("default" = SAMPLE_RATIO_DEFAULT, "minimum" = SHARE.start(), "maximum" = SHARE.end()))]
    pub(super) sample_ratio: Field<f64>,
}

/// How a changed config is noticed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Reload {
    /// Whether a change of the config file, or of a secret's file, takes effect at once. SIGHUP always does. A config
    /// that is not valid changes nothing.
    #[schemars(extend("default" = true))]
    pub(super) on_change: Field<bool>,
}

/// What targets may be reached: by default public addresses over https, on ports 443 and 8443.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Egress {
    /// Ranges or addresses that may be dialled although they are not public, on any port.
    #[schemars(extend("default" = [], "examples" = [["10.0.0.0/8", "fd00::/8", "192.168.7.4"]]))]
    pub(super) allow: Field<OneOrMore<Text>>,
    /// Whether plain http may be used; opens its port, 80, as well.
    #[schemars(extend("default" = false))]
    pub(super) allow_http: Field<bool>,
    /// The ports on which public addresses may be dialled, each 1 to 65535.
    #[schemars(extend("default" = DEFAULT_PORTS))]
    pub(super) ports: Field<Vec<Field<u64>>>,
}

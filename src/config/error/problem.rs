//! What can be wrong with a key. Every text says what was found and what is allowed; none holds a secret.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    config::secret::SecretError, egress, http_signature, reply::ReplySubjectError, shape::Misread, signature,
    subject::PatternError, tls,
};

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A key that has to be there.
    #[error("is missing; expected {allowed}")]
    Missing {
        /// What is allowed.
        allowed: &'static str,
    },
    /// A value of the wrong kind.
    #[error("found {found}, expected {allowed}")]
    Unexpected {
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A key that no table of this kind has.
    #[error("unknown key; {}", suggestion(.nearest.as_deref(), .known))]
    UnknownKey {
        /// The known key that looks most like it.
        nearest: Option<String>,
        /// All that are known there.
        known: Vec<String>,
    },
    /// An environment variable that is not UTF-8.
    #[error("the environment variable {variable} is not valid UTF-8")]
    NotUtf8 {
        /// The variable.
        variable: String,
    },
    /// An environment variable that names no place.
    #[error(
        "the environment variable {variable} names no key of the config; write for example NATSHOOK__NATS__SERVERS"
    )]
    NoPlace {
        /// The variable.
        variable: String,
    },
    /// A duration outside its bounds.
    #[error("found {}, expected {} to {}", human(.found), human(.least), human(.most))]
    DurationRange {
        /// What was found.
        found: Duration,
        /// The least.
        least: Duration,
        /// The most.
        most: Duration,
    },
    /// A number outside its bounds.
    #[error("found {found}, expected {least} to {most}")]
    NumberRange {
        /// What was found.
        found: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A number with a fraction outside its bounds.
    #[error("found {found}, expected {least} to {most}")]
    ShareRange {
        /// What was found.
        found: f64,
        /// The least.
        least: f64,
        /// The most.
        most: f64,
    },
    /// A list with too many entries.
    #[error("found {found} entries, expected at most {most}")]
    TooMany {
        /// How many there are.
        found: usize,
        /// The most.
        most: usize,
    },
    /// A list that is empty.
    #[error("is empty, expected at least one entry")]
    Empty,
    /// Keys that exclude each other.
    #[error("found {}, expected only one of them", .found.join(" and "))]
    Exclusive {
        /// Those that are there.
        found: Vec<&'static str>,
    },
    /// A table in which one of several keys has to be.
    #[error("has none of {}; expected exactly one", .allowed.join(", "))]
    NoneOf {
        /// Those that are possible.
        allowed: &'static [&'static str],
    },
    /// A key that makes no sense without another.
    #[error("needs {other} beside it")]
    Needs {
        /// The other.
        other: &'static str,
    },
    /// A name that does not fit into subjects and consumer names.
    #[error("found {found:?}, expected letters, digits, \"_\" and \"-\", at most 64 of them")]
    Name {
        /// What was found.
        found: String,
    },
    /// Two targets, or two connections, of one name.
    #[error("found {found:?}, which is the name of {first} already; expected a name of its own")]
    DuplicateName {
        /// The name.
        found: String,
        /// Where the first one is.
        first: String,
    },
    /// Two connections where targets may register.
    #[error(
        "is a second registry; targets of all connections are known by their names, which two registries could give twice: \
         expected it in one of the connections"
    )]
    SecondRegistry,
    /// A key above all tables that each connection has for itself.
    #[error("stands beside [[connections]], where each connection has its own; move it into one of them")]
    OfConnection,
    /// Not a subject.
    #[error("{found:?} {cause}")]
    Subject {
        /// What was found.
        found: String,
        /// Which rule it breaks.
        cause: PatternError,
    },
    /// A subject with wildcards where none may be.
    #[error("found {found:?}, expected a subject without wildcards")]
    Wildcard {
        /// What was found.
        found: String,
    },
    /// A subject that natshook itself publishes to.
    #[error(
        "found {found:?}, which natshook itself publishes to: a delivery would cause the next one; expected a subject that does not reach {own:?}"
    )]
    Loop {
        /// What was found.
        found: String,
        /// Where natshook publishes.
        own: String,
    },
    /// Not a subject for answers.
    #[error("{found:?} {cause}; expected a subject such as \"answers\" or \"answers.{{{{ subject }}}}\"")]
    ReplySubject {
        /// What was found.
        found: String,
        /// Which rule it breaks.
        cause: ReplySubjectError,
    },
    /// Answers that would be delivered, or steer natshook or the server.
    #[error(
        "found {found:?}, which reaches {reached:?}: {why}; expected a subject that reaches neither the target's own subjects \
         nor natshook's nor the server's"
    )]
    ReplyLoop {
        /// What was found.
        found: String,
        /// What is reached.
        reached: String,
        /// What would come of it.
        why: &'static str,
    },
    /// A required attribute of nothing.
    #[error("is empty, which no attribute of an event may be; leave it out for the default")]
    EmptyAttribute,
    /// A content type of the target's own for events that have theirs.
    #[error(
        "sets Content-Type, which format = \"cloudevents-structured\" sets itself; leave it out, or use \
         \"cloudevents-binary\""
    )]
    StructuredContentType,
    /// Not the name of a system.
    #[error("found {found:?}, expected a DNS name such as \"events.example.com\"")]
    Origin {
        /// What was found.
        found: String,
    },
    /// A stream's name that the server does not take.
    #[error(
        "found {found:?}, expected a name of at most 255 bytes, without white space and without . * > / \\"
    )]
    StreamName {
        /// What was found.
        found: String,
    },
    /// The name of one of natshook's own streams.
    #[error("found {found:?}, which is natshook's own stream; expected another name")]
    OwnStream {
        /// What was found.
        found: String,
    },
    /// A subject on which natshook is asked things.
    #[error(
        "found {found:?}, which reaches {own:?}, where targets are registered: what is asked there, secrets included, would \
         be stored and sent on; expected a subject that does not"
    )]
    Registry {
        /// What was found.
        found: String,
        /// Where natshook is asked, or keeps what it is told.
        own: String,
    },
    /// A registry without JetStream.
    #[error("cannot be true with source = \"core\": registered targets are kept in JetStream")]
    RegistryInCore,
    /// Not a key to seal with.
    #[error(
        "is not 32 bytes as base64 or in hexadecimal digits; expected a key such as the output of `openssl rand -base64 32`"
    )]
    SealKey,
    /// A secret of a registered target that is not given by its value.
    #[error(
        "found {found}, expected the secret itself as a text: a registered target may name no environment variable and \
         no file of natshook's"
    )]
    NotByValue {
        /// What was found.
        found: &'static str,
    },
    /// A file in a registered target.
    #[error(
        "names a file of natshook's, which a registered target may not; such a target belongs in natshook's own config"
    )]
    FileOfOurs,
    /// Not a URL.
    #[error("found {found:?}, expected {allowed} ({cause})")]
    Url {
        /// What was found, without user info and query.
        found: String,
        /// What is allowed.
        allowed: &'static str,
        /// What the parser says.
        cause: url::ParseError,
    },
    /// A URL of another kind.
    #[error("found {found:?}, expected {allowed}")]
    UrlKind {
        /// What was found, without user info and query.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// User info in a URL.
    #[error(
        "has a user or a password in the URL, where it is easily printed; expected auth = {{ basic = {{ user = …, password = … }} }}"
    )]
    UserInfo,
    /// A fragment, which is never sent.
    #[error("has a fragment (#…), which is never sent; expected a URL without one")]
    Fragment,
    /// The egress guard does not allow it.
    #[error(transparent)]
    Egress(#[from] egress::Refusal),
    /// Not an HTTP method that carries a body.
    #[error("found {found:?}, expected POST, PUT, PATCH or another method with a body, in capitals")]
    Method {
        /// What was found.
        found: String,
    },
    /// Not a header's name.
    #[error("{found:?} is not a header name; expected letters, digits and \"-\"")]
    HeaderName {
        /// What was found.
        found: String,
    },
    /// A header that natshook or the connection sets.
    #[error("the header {found:?} is reserved: {}", reserved_reason(found))]
    ReservedHeader {
        /// The header.
        found: String,
    },
    /// A value that no header can carry. Never shown, as it may be secret.
    #[error("has a character that no header can carry; expected visible ASCII")]
    HeaderValue,
    /// A filter or a transform that cannot be read, or names what is not there.
    #[error(transparent)]
    Program(#[from] Misread),
    /// A template that cannot be read. The text is not shown, as it may hold secrets.
    #[error("cannot be read as a template: {problem}; a literal {{{{ is written {{{{ \"{{{{\" }}}}")]
    Template {
        /// What is wrong, and where.
        problem: String,
    },
    /// A template where the egress guard has to know what is dialled.
    #[error(
        "has a template before its path; scheme, host and port are checked once and for all: expected templates in path \
         and query only"
    )]
    TemplateInHost,
    /// A template that is lost when the URL is read.
    #[error(
        "has a template that is no part of path or query, as before \"..\" or after \"#\"; expected it to stay"
    )]
    TemplateLost,
    /// A user name that basic authentication cannot carry.
    #[error("has a colon or a control character, which no user of basic authentication can have")]
    BasicUser,
    /// A secret that cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A secret that is no signing key.
    #[error("the secret {0}")]
    SigningKey(#[from] signature::KeyError),
    /// Not an nkey seed.
    #[error("the secret is not an nkey seed; expected one of a user, which begins with \"SU\"")]
    NkeySeed,
    /// A file that cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Not an address or a range.
    #[error("found {found:?}, expected an address or a range such as \"10.0.0.0/8\" or \"fd00::/8\"")]
    Range {
        /// What was found.
        found: String,
    },
    /// Not an address to listen on.
    #[error("found {found:?}, expected an address and a port such as \"127.0.0.1:8822\"")]
    Listen {
        /// What was found.
        found: String,
    },
    /// An address that others can reach, without a token.
    #[error(
        "found {found}, which others can reach; expected a loopback address, or admin.token beside it so that only who \
         knows it reads and acts"
    )]
    OpenAdmin {
        /// What was found.
        found: SocketAddr,
    },
    /// A token that could be guessed.
    #[error(
        "is too short; expected at least {least} characters, such as the output of `openssl rand -hex 32`"
    )]
    ShortToken {
        /// The least.
        least: usize,
    },
    /// A status in both lists.
    #[error("found {status} in transient and in permanent, expected it in one of them")]
    BothOutcomes {
        /// The status.
        status: u16,
    },
    /// An exponential schedule whose first wait is longer than its longest.
    #[error("found {}, which is longer than max = {}; expected initial to be at most max", human(.initial), human(.max))]
    InitialOverMax {
        /// The first wait.
        initial: Duration,
        /// The longest.
        max: Duration,
    },
    /// Not a JSON pointer.
    #[error(
        "found {found:?}, expected a JSON pointer (RFC 6901) such as \"/failed\", or an empty text for the whole body"
    )]
    Pointer {
        /// What was found.
        found: String,
    },
    /// What belongs to one message, at a target that takes batches.
    #[error("cannot be set beside batch: {why}")]
    BesideBatch {
        /// Why not.
        why: &'static str,
    },
    /// A token endpoint that would differ from message to message.
    #[error("has a template; expected an address without one, since a token is for all messages")]
    TemplateInTokenUrl,
    /// A file that is of no use for TLS.
    #[error("{file} {cause}")]
    TlsFile {
        /// The file.
        file: String,
        /// Why.
        cause: tls::TlsFileError,
    },
    /// A table in which one of several keys has to be, or more.
    #[error("has none of {}; expected at least one", .allowed.join(", "))]
    NeitherOf {
        /// Those that are possible.
        allowed: &'static [&'static str],
    },
    /// Not a scope of OAuth 2.0.
    #[error("found {found:?}, expected visible ASCII without quotation marks and backslashes")]
    Scope {
        /// What was found.
        found: String,
    },
    /// A parameter that natshook sets itself.
    #[error("natshook sets this parameter itself, from a key of auth.oauth2 beside this table")]
    OwnParameter,
    /// Not a region or service of AWS.
    #[error(
        "found {found:?}, expected letters, digits and \"-\", such as \"eu-central-1\" or \"execute-api\""
    )]
    AwsName {
        /// What was found.
        found: String,
    },
    /// A service of AWS that signs in another way.
    #[error(
        "found \"s3\", whose signatures differ and are not supported; expected a service such as \"execute-api\""
    )]
    S3,
    /// A secret that is no key for message signatures.
    #[error("the secret {0}")]
    MessageKey(#[from] http_signature::KeyError),
    /// Not the name of a message signature.
    #[error(
        "found {found:?}, expected lower-case letters, digits, \"_\", \"-\", \".\" and \"*\", first a letter"
    )]
    Label {
        /// What was found.
        found: String,
    },
    /// A parameter that a message signature cannot carry.
    #[error("is empty, or has a character that the header cannot carry; expected printable ASCII")]
    SignatureParameter,
    /// Something that cannot be signed.
    #[error("found {found:?}, {cause}")]
    Component {
        /// What was found.
        found: String,
        /// Why not.
        cause: http_signature::ComponentError,
    },
    /// Something that is signed twice.
    #[error("found {found:?} a second time, expected each once")]
    ComponentTwice {
        /// What was found.
        found: String,
    },
    /// A header that is signed before it is set.
    #[error("found \"authorization\", which auth.{auth} sets after signing; expected a list without it")]
    SignedTooEarly {
        /// What sets it.
        auth: &'static str,
    },
    /// A start position without a stream.
    #[error(
        "cannot be set with source = \"core\": core NATS keeps no messages, so there is only what comes from now on"
    )]
    StartInCore,
    /// An order without a stream.
    #[error(
        "cannot be set with source = \"core\": core NATS keeps no messages, so there is no order to keep"
    )]
    OrderInCore,
}

fn human(duration: &Duration) -> String {
    humantime::format_duration(*duration).to_string()
}

fn suggestion(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("expected one of {}", known.join(", ")),
    }
}

fn reserved_reason(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "authorization" | "proxy-authorization" => "credentials belong in auth",
        "webhook-id"
        | "webhook-timestamp"
        | "webhook-signature"
        | "natshook-subject"
        | "natshook-attempt"
        | "natshook-batch-size"
        | "natshook-batch-ids" => "natshook sets it itself",
        name if name.starts_with("nats-") || name.starts_with("natshook-") => {
            "it would steer the broker or natshook"
        }
        _ => "it belongs to the HTTP connection",
    }
}

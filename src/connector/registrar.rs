//! Whom targets register with: a NATS service, of which one replica answers each request. It judges as the config is
//! judged, seals secrets, and writes into the bucket, which all replicas follow; nothing is started here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    START_WAIT_MAX,
    answers::STATUS,
    control::ControlError,
    line::Line,
    registry::{Page, Registered},
};
use crate::{
    config::{InstanceName, shown_url},
    registry::{
        Deleted, Deletion, Found, Incoming, Judge, ListAnswer, ListQuestion, Listed, NONCE_BYTES, Named,
        Paused, Put, PutAnswer, Refused, VERBS, Verdict, Wrong, is_of_former_key, shown, unsealed,
    },
    source::{
        self, Audience, Broker, BrokerError, Endpoint, Entry, KeepError, Request, Service, ServiceError,
        TARGET_BYTES_MAX,
    },
    status::Snapshot,
    subject::Pattern,
    target::TargetName,
};

/// How long natshook may take to answer: three questions to the broker, each with its own limit.
pub const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// The most requests that are worked on at a time.
const OPEN_MAX: usize = 16;
/// How often a change is tried that nobody tied to a revision and that somebody else was faster with.
const TRIES_MAX: usize = 5;
/// The most errors of a target that an answer or a list holds.
const ERRORS_MAX: usize = 100;
/// The most targets in an answer, unless fewer are asked for or fit.
const LIST_MAX: usize = 1_000;
/// What an answer has beside the targets in it, at most.
const LIST_MARGIN: usize = 1_024;
/// How long replicas may take to let go of a target that was removed, before its consumers go all the same.
const LET_GO_WITHIN: Duration = Duration::from_secs(15);
/// How long they may take to say which targets they have.
const STATUS_WAIT: Duration = Duration::from_secs(2);

const BAD_REQUEST: u16 = 400;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;
const TOO_LARGE: u16 = 413;
const UNAVAILABLE: u16 = 503;

/// Whom targets register with.
#[derive(Clone, Debug)]
pub(super) struct Registrar {
    broker: Arc<Broker>,
    name: InstanceName,
    line: Line,
    registered: Registered,
}

impl Registrar {
    pub(super) fn new(broker: Arc<Broker>, name: &InstanceName, line: Line, registered: Registered) -> Self {
        Self { broker, name: name.clone(), line, registered }
    }

    /// Answers for as long as natshook runs.
    pub(super) async fn serve(self) {
        let mut service = self.offer().await;
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                request = service.next(), if open.len() < OPEN_MAX => {
                    let registrar = self.clone();
                    open.spawn(async move { registrar.answer(request).await });
                }
                Some(_) = open.join_next() => {}
            }
        }
    }

    async fn offer(&self) -> Service {
        let endpoints = VERBS.map(|(verb, about)| Endpoint { verb, about });
        loop {
            let (name, group) = (self.name.as_str(), self.name.registry_group());
            match Service::offer(&self.broker, name, &group, &endpoints).await {
                Ok(service) => return service,
                Err(error) => tracing::warn!(%error, "cannot offer the registry; trying again"),
            }
            sleep(START_WAIT_MAX).await;
        }
    }

    async fn answer(&self, request: Request) {
        let payload = request.payload.clone();
        let answer = match request.verb {
            "put" => self.put(&payload).await.and_then(json),
            "get" => self.get(&payload).await.and_then(json),
            "list" => self.list(&payload).and_then(json),
            "delete" => self.delete(&payload).await.and_then(json),
            "pause" => self.pause(&payload, true).await.and_then(json),
            "resume" => self.pause(&payload, false).await.and_then(json),
            _ => self.test(&payload).await.and_then(json),
        };
        self.line.metrics().registry_asked(request.verb, answer.as_ref().err().map(|refused| refused.code));
        request.answer(answer.map_err(service_error)).await;
    }

    async fn put(&self, payload: &[u8]) -> Result<PutAnswer, Refused> {
        let Put { target, revision: expected } = read(payload)?;
        let judge = self.registered.judge();
        let Some(name) =
            target.get("name").and_then(Value::as_str).filter(|name| TargetName::new(name).is_some())
        else {
            return Err(invalid(judge.check(target).err().unwrap_or_default()));
        };
        let name = name.to_owned();
        not_own(&judge, &name)?;
        for _ in 0..TRIES_MAX {
            let before = self.kept(&name).await?;
            is_expected(&before, expected)?;
            let stored: Option<Value> = before.value.as_ref().and_then(|v| serde_json::from_slice(v).ok());
            let (incoming, sealed) = prepare(&judge, &name, target.clone(), stored.as_ref())?;
            if stored.is_some_and(|stored| is_same(&judge, &name, &stored, &incoming)) {
                return Ok(PutAnswer { name, revision: before.revision, changed: false });
            }
            match self.registered.bucket().replace(&name, bytes(&sealed)?, before.revision).await {
                Ok(revision) => return Ok(PutAnswer { name, revision, changed: true }),
                Err(KeepError::Changed) => {}
                Err(KeepError::Broker(error)) => return Err(unavailable(&error)),
            }
        }
        Err(refused(CONFLICT, &KeepError::Changed.to_string()))
    }

    async fn get(&self, payload: &[u8]) -> Result<Found, Refused> {
        let Named { name } = read(payload)?;
        let judge = self.registered.judge();
        let entry = self.there(&judge, &name).await?;
        let stored = serde_json::from_slice(&entry.value.unwrap_or_default()).unwrap_or(Value::Null);
        let verdict = judge.judge(&name, &stored);
        let (state, errors) = (verdict.state(), few(verdict.errors()));
        Ok(Found { name, revision: entry.revision, state, errors, target: shown(stored) })
    }

    fn list(&self, payload: &[u8]) -> Result<ListAnswer, Refused> {
        let ListQuestion { after, limit } =
            if payload.is_empty() { ListQuestion::default() } else { read(payload)? };
        if !*self.registered.known().borrow() {
            return Err(refused(
                UNAVAILABLE,
                "natshook has not read yet which targets have registered; ask again",
            ));
        }
        let most = limit.unwrap_or(LIST_MAX).clamp(1, LIST_MAX);
        let pages = self.registered.pages(after.as_deref().unwrap_or_default(), most);
        let mut room = self.broker.max_payload().saturating_sub(LIST_MARGIN);
        let (mut targets, mut more) = (Vec::new(), false);
        for (name, page) in pages {
            let listed = listed(name, &page);
            let size = serde_json::to_vec(&listed).map_or(usize::MAX, |json| json.len() + 1);
            if targets.len() == most || size > room {
                more = true;
                break;
            }
            room -= size;
            targets.push(listed);
        }
        Ok(ListAnswer { targets, more })
    }

    async fn delete(&self, payload: &[u8]) -> Result<Deleted, Refused> {
        let Deletion { name, revision: expected, keep_position } = read(payload)?;
        let judge = self.registered.judge();
        for _ in 0..TRIES_MAX {
            let entry = self.there(&judge, &name).await?;
            is_expected(&entry, expected)?;
            match self.registered.bucket().remove(&name, entry.revision).await {
                Ok(()) => {
                    // A target of the config that has its name has its consumer too.
                    if !keep_position && !judge.is_own(&name) {
                        tokio::spawn(self.clone().forget_position(name.clone(), entry));
                    }
                    return Ok(Deleted { name });
                }
                Err(KeepError::Changed) => {}
                Err(KeepError::Broker(error)) => return Err(unavailable(&error)),
            }
        }
        Err(refused(CONFLICT, &KeepError::Changed.to_string()))
    }

    /// Removes the consumers of a target that was removed, once no replica takes from them: one that does would make them
    /// again.
    async fn forget_position(self, name: String, removed: Entry) {
        let stored: Value = serde_json::from_slice(&removed.value.unwrap_or_default()).unwrap_or(Value::Null);
        let deadline = Instant::now() + LET_GO_WITHIN;
        while Instant::now() < deadline && self.is_held(&name).await {
            sleep(STATUS_WAIT / 4).await;
        }
        let removed = async {
            // Somebody may have registered it again.
            if self.registered.bucket().get(&name).await?.value.is_some() {
                return Ok(());
            }
            for stream in source::find_source_streams(&self.broker, &self.name, &subjects(&stored)).await? {
                source::remove_consumer(&self.broker, &stream.stream, &self.name.consumer(&name)).await?;
            }
            Ok::<(), BrokerError>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(
                target = name, %error,
                "the consumer of a target that was removed is still there; one that registers under its name goes on where it was"
            );
        }
    }

    /// Whether a replica still has `target`.
    async fn is_held(&self, target: &str) -> bool {
        let subject = self.name.control_subject(STATUS);
        let asked = source::ask(&self.broker, subject, Bytes::new(), Audience::All, STATUS_WAIT).await;
        let replicas = asked.unwrap_or_default();
        let has = |answer: &Bytes| {
            let replica = serde_json::from_slice::<Snapshot>(answer).ok();
            replica.is_some_and(|replica| replica.targets.iter().any(|t| t.name == target))
        };
        replicas.iter().any(has)
    }

    async fn pause(&self, payload: &[u8], paused: bool) -> Result<Paused, Refused> {
        let Named { name } = read(payload)?;
        let done = if paused { self.line.pause(&name).await } else { self.line.resume(&name).await };
        done.map(|()| Paused { name, paused }).map_err(not_done)
    }

    async fn test(&self, payload: &[u8]) -> Result<super::TestReport, Refused> {
        let Named { name } = read(payload)?;
        self.line.test(&name).await.map_err(not_done)
    }

    /// What is kept under `name`, and that there is something.
    async fn there(&self, judge: &Judge, name: &str) -> Result<Entry, Refused> {
        if TargetName::new(name).is_none() {
            return Err(refused(NOT_FOUND, &format!("no target {name:?} has registered")));
        }
        let entry = self.kept(name).await?;
        match &entry.value {
            Some(_) => Ok(entry),
            None if judge.is_own(name) => Err(own(name)),
            None => Err(refused(NOT_FOUND, &format!("no target {name:?} has registered"))),
        }
    }

    async fn kept(&self, name: &str) -> Result<Entry, Refused> {
        self.registered.bucket().get(name).await.map_err(|error| unavailable(&error))
    }
}

/// What is asked for with the secrets that it keeps, and how it is stored; or everything that is wrong with it.
fn prepare(
    judge: &Judge,
    name: &str,
    target: Value,
    stored: Option<&Value>,
) -> Result<(Incoming, Value), Refused> {
    let incoming = Incoming::new(judge.vault(), name, target, stored);
    let mut wrong = incoming.wrong.clone();
    let checked = judge.check(incoming.written.clone()).err().unwrap_or_default();
    let is_new = |error: &Wrong| incoming.wrong.iter().all(|known| known.key != error.key);
    wrong.extend(checked.into_iter().filter(is_new));
    let random = SystemRandom::new();
    let mut failed = false;
    let nonce = || {
        let mut nonce = [0; NONCE_BYTES];
        failed |= random.fill(&mut nonce).is_err();
        nonce
    };
    let sealed = match incoming.sealed(judge.vault(), name, nonce) {
        Ok(sealed) => sealed,
        Err(more) => {
            wrong.extend(more);
            Value::Null
        }
    };
    if failed {
        return Err(refused(
            UNAVAILABLE,
            "the system gives no random numbers, without which no secret is sealed",
        ));
    }
    if wrong.is_empty() { Ok((incoming, sealed)) } else { Err(invalid(wrong)) }
}

/// Whether to store it would change nothing.
fn is_same(judge: &Judge, name: &str, stored: &Value, incoming: &Incoming) -> bool {
    let same = unsealed(judge.vault(), name, stored.clone()).is_ok_and(|stored| stored == incoming.written);
    same && !is_of_former_key(judge.vault(), stored)
}

fn bytes(sealed: &Value) -> Result<Bytes, Refused> {
    let bytes = Bytes::from(sealed.to_string());
    match usize::try_from(TARGET_BYTES_MAX) {
        Ok(most) if bytes.len() > most => {
            let text = format!("the target has {} bytes as JSON, expected at most {most}", bytes.len());
            Err(refused(TOO_LARGE, &text))
        }
        _ => Ok(bytes),
    }
}

fn listed(name: String, page: &Page) -> Listed {
    Listed {
        name,
        revision: page.revision,
        state: page.verdict.state(),
        errors: few(page.verdict.errors()),
        subjects: match &page.verdict {
            Verdict::Active(target) => target.subjects.iter().map(ToString::to_string).collect(),
            Verdict::Overridden | Verdict::Invalid(_) => {
                subjects(&page.stored).iter().map(ToString::to_string).collect()
            }
        },
        url: page.stored.get("url").and_then(Value::as_str).map(shown_url).unwrap_or_default(),
    }
}

/// The subjects that a stored target names, as far as they are any.
fn subjects(stored: &Value) -> Vec<Pattern> {
    let texts = match stored.get("subjects") {
        Some(Value::String(text)) => vec![text.as_str()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().filter_map(|text| Pattern::new(text).ok()).collect()
}

fn is_expected(entry: &Entry, expected: Option<u64>) -> Result<(), Refused> {
    let there = if entry.value.is_some() { entry.revision } else { 0 };
    match expected {
        Some(expected) if expected != there => Err(refused(
            CONFLICT,
            &format!("found revision {there}, expected {expected}: somebody else changed it"),
        )),
        _ => Ok(()),
    }
}

fn not_own(judge: &Judge, name: &str) -> Result<(), Refused> {
    if judge.is_own(name) { Err(own(name)) } else { Ok(()) }
}

fn own(name: &str) -> Refused {
    let text = format!("{name:?} is a target of natshook's config, which can be changed there alone");
    refused(CONFLICT, &text)
}

fn not_done(error: ControlError) -> Refused {
    let code = match &error {
        ControlError::UnknownTarget(_) | ControlError::UnknownConnection(_) => NOT_FOUND,
        ControlError::Core => BAD_REQUEST,
        ControlError::NotConnected | ControlError::Broker(_) | ControlError::Shape(_) => UNAVAILABLE,
    };
    refused(code, &error.to_string())
}

fn invalid(mut errors: Vec<Wrong>) -> Refused {
    let error = match errors.len() {
        1 => "the target is not valid: 1 error".to_owned(),
        count => format!("the target is not valid: {count} errors"),
    };
    errors.truncate(ERRORS_MAX);
    Refused { code: BAD_REQUEST, error, errors }
}

fn few(errors: &[Wrong]) -> Vec<Wrong> {
    errors.iter().take(ERRORS_MAX).cloned().collect()
}

fn unavailable(error: &BrokerError) -> Refused {
    refused(UNAVAILABLE, &error.to_string())
}

fn refused(code: u16, error: &str) -> Refused {
    Refused { code, error: error.to_owned(), errors: Vec::new() }
}

/// What is asked; an error says where it cannot be read, and nothing of what stands there.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(payload)
        .map_err(|error| refused(BAD_REQUEST, &format!("the request cannot be read as JSON: {error}")))
}

fn json<T: Serialize>(answer: T) -> Result<Bytes, Refused> {
    let json = serde_json::to_vec(&answer).map_err(|error| refused(UNAVAILABLE, &error.to_string()))?;
    Ok(json.into())
}

fn service_error(refused: Refused) -> ServiceError {
    let body = serde_json::to_vec(&refused).unwrap_or_default().into();
    ServiceError { code: refused.code, error: refused.error, body }
}

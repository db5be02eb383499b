//! Wires the parts, watches over them, and drains. Decides nothing about any delivery: that is `delivery`.

mod open;
mod pump;
mod readiness;
mod retries;

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

pub use readiness::Readiness;

use crate::{
    admin,
    config::{Config, SourceKind, Storage},
    dead_letter::DeadLetters,
    delivery::{Courier, Ending},
    lane::Lane,
    metrics::Metrics,
    request::Template,
    retry_queue::RetryQueue,
    sender::{HttpClient, HttpClientError, Sender},
    source::{self, Broker, ConnectError, OwnStream, StreamRole, ensure_source_streams},
    subject::{Pattern, reduce},
};

const START_WAIT_MIN: Duration = Duration::from_millis(250);
const START_WAIT_MAX: Duration = Duration::from_secs(10);
/// What is left for handing back and flushing after the grace period.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why natshook does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin listener cannot listen.
    #[error("admin.listen: cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error(transparent)]
    HttpClient(#[from] HttpClientError),
    /// The broker cannot be reached in a way that waiting would not mend.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server is too old.
    #[error("nats-server {0} is too old: consumers with several subjects need 2.10 or newer")]
    OldServer(String),
    /// The broker or the account has no JetStream.
    #[error(
        "the broker has no JetStream for this account ({0}); enable it there, or set source = \"core\" and accept that \
         messages are lost while natshook is away"
    )]
    NoJetStream(String),
    /// A part of natshook ended by itself.
    #[error("a task ended unexpectedly: {0}; this is a defect of natshook, please report it")]
    Defect(String),
}

/// Runs until `shutdown` resolves, then drains within the grace period.
///
/// # Errors
/// natshook could not start; what goes wrong later is reported and mended.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::default());
    let readiness = Arc::new(Readiness::default());
    let admin = admin::listen(config.admin.listen, Arc::clone(&readiness), Arc::clone(&metrics)).await?;
    let mut shutdown = std::pin::pin!(shutdown);
    let http = HttpClient::new(config.egress.clone())?;
    let prepared = async {
        let broker = Arc::new(connected(&config, &readiness).await?);
        let own = OwnStreams::new(&broker, &config);
        let extended = prepare(&broker, &config, &own).await?;
        readiness.started();
        Ok::<_, RunError>((broker, own, extended))
    };
    let (broker, own, extended) = tokio::select! {
        prepared = prepared => prepared?,
        () = &mut shutdown => return Ok(()),
    };
    let ending = Ending::default();
    let mut tasks = start(Parts {
        config: &config,
        broker: &broker,
        own: &own,
        extended,
        http: &http,
        metrics: &metrics,
        readiness: &readiness,
        ending: &ending,
    });
    tracing::info!(targets = config.targets.len(), server = broker.version(), "natshook runs");
    let end = tokio::select! {
        () = &mut shutdown => Ok(()),
        error = defect(&mut tasks) => Err(error),
    };
    readiness.draining();
    drain(tasks, &broker, &ending, config.shutdown.grace_period).await;
    drop(admin);
    end
}

/// Waits for the broker, however long it takes.
async fn connected(config: &Config, readiness: &Readiness) -> Result<Broker, RunError> {
    let mut wait = START_WAIT_MIN;
    loop {
        match source::connect(&config.nats, &config.name).await {
            Ok(broker) => {
                tracing::info!(server = broker.version(), "connected to the broker");
                readiness.connected(broker.connected());
                return Ok(broker);
            }
            Err(error) if error.may_pass() => tracing::warn!(
                %error, retry_in = %humantime::format_duration(wait), "waiting for the broker"
            ),
            Err(error) => return Err(error.into()),
        }
        sleep(wait).await;
        wait = (wait * 2).min(START_WAIT_MAX);
    }
}

/// natshook's own streams.
#[derive(Clone, Debug)]
struct OwnStreams {
    retry_queue: OwnStream,
    dead_letters: OwnStream,
}

impl OwnStreams {
    fn new(broker: &Arc<Broker>, config: &Config) -> Self {
        let own = |role, storage: &Storage| {
            OwnStream::new(Arc::clone(broker), role, config.name.clone(), storage.clone())
        };
        Self {
            retry_queue: own(StreamRole::RetryQueue, &config.retry_queue),
            dead_letters: own(StreamRole::DeadLetters, &config.dead_letter),
        }
    }
}

/// Checks what the broker can do, and makes the streams. Returns the stream that was made or extended for the
/// targets, and the first sequence after that.
async fn prepare(
    broker: &Broker,
    config: &Config,
    own: &OwnStreams,
) -> Result<Option<(Arc<str>, u64)>, RunError> {
    if config.source == SourceKind::Core {
        return Ok(None);
    }
    if !broker.is_at_least(2, 10) {
        return Err(RunError::OldServer(broker.version()));
    }
    let mut wait = START_WAIT_MIN;
    let mut tries_left = 3;
    while let Err(error) = broker.check_jetstream().await {
        // A broker that has just started may not have its JetStream up yet.
        tries_left -= 1;
        if tries_left == 0 && broker.is_connected() {
            return Err(RunError::NoJetStream(error.to_string()));
        }
        sleep(wait).await;
    }
    for stream in [&own.retry_queue, &own.dead_letters] {
        while let Err(error) = stream.ensure().await {
            tracing::error!(
                %error, stream = stream.name(), retry_in = %humantime::format_duration(wait),
                "cannot make natshook's own stream; nothing is delivered without it"
            );
            sleep(wait).await;
            wait = (wait * 2).min(START_WAIT_MAX);
        }
    }
    // Once for all targets, so that the stream is made with all its subjects. Each target looks for its own again
    // and reports what is wrong.
    let subjects: Vec<Pattern> =
        config.targets.iter().flat_map(|target| target.subjects.iter().cloned()).collect();
    match ensure_source_streams(broker, &config.name, &config.stream, &reduce(&subjects)).await {
        Ok(streams) => Ok(streams.into_iter().find_map(|found| Some((found.stream, found.extended_at?)))),
        Err(error) => {
            tracing::debug!(%error, "the targets' subjects have no streams yet");
            Ok(None)
        }
    }
}

/// What the targets' tasks are made of.
struct Parts<'a> {
    config: &'a Config,
    broker: &'a Arc<Broker>,
    own: &'a OwnStreams,
    extended: Option<(Arc<str>, u64)>,
    http: &'a HttpClient,
    metrics: &'a Metrics,
    readiness: &'a Arc<Readiness>,
    ending: &'a Ending,
}

fn start(parts: Parts<'_>) -> JoinSet<()> {
    let Parts { config, broker, own, extended, http, metrics, readiness, ending } = parts;
    let mut tasks = JoinSet::new();
    let mut couriers = HashMap::new();
    let setup = pump::Setup {
        name: config.name.clone(),
        stream: config.stream.clone(),
        extended,
        turn: Arc::default(),
    };
    for target in &config.targets {
        let (retry_queue, dead_letters) = match config.source {
            SourceKind::JetStream => {
                (RetryQueue::Stream(own.retry_queue.clone()), DeadLetters::Stream(own.dead_letters.clone()))
            }
            SourceKind::Core => (
                RetryQueue::Memory,
                DeadLetters::Plain { broker: Arc::clone(broker), name: config.name.clone() },
            ),
        };
        let courier = Arc::new(Courier {
            template: Template::new(target),
            sender: Sender::new(http, target),
            lane: Lane::new(target),
            retry_queue,
            dead_letters,
            metrics: metrics.target(&target.name),
            ending: ending.clone(),
            target: target.clone(),
        });
        couriers.insert(target.name.to_string(), Arc::clone(&courier));
        let (broker, readiness) = (Arc::clone(broker), Arc::clone(readiness));
        match config.source {
            SourceKind::JetStream => {
                tasks.spawn(pump::from_streams(broker, setup.clone(), courier, readiness));
            }
            SourceKind::Core => {
                tasks.spawn(pump::from_core(broker, config.name.clone(), courier, readiness));
            }
        }
    }
    if config.source == SourceKind::JetStream {
        let retries = retries::Retries::new(Arc::clone(broker), config, own, couriers, ending.clone());
        readiness.follow("retry queue", retries.attached());
        tasks.spawn(retries.run());
    }
    tasks
}

/// No task ends while natshook runs; one that does has a defect, and natshook ends rather than run without it:
/// whoever started it starts it again.
async fn defect(tasks: &mut JoinSet<()>) -> RunError {
    let cause = match tasks.join_next().await {
        Some(Err(error)) => error.to_string(),
        Some(Ok(())) | None => "it returned".to_owned(),
    };
    tracing::error!(cause, "a task of natshook ended");
    RunError::Defect(cause)
}

async fn drain(mut tasks: JoinSet<()>, broker: &Broker, ending: &Ending, grace_period: Duration) {
    tracing::info!(grace_period = %humantime::format_duration(grace_period), "draining");
    ending.drain.cancel();
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(grace_period, ended).await.is_err() {
        tracing::warn!("the grace period is over; handing back what is left");
        ending.abandon.cancel();
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, ended).await.is_err() {
            tracing::warn!("not everything could be handed back; the broker hands it out again");
        }
    }
    if let Err(error) = broker.flush().await {
        tracing::warn!(%error, "the last acks may not have reached the broker; some messages may come again");
    }
    tracing::info!("drained");
}

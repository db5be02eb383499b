//! `natshook target`: targets that register while natshook runs. A running natshook is asked over NATS, so that what is put
//! is judged by the config that is in use. `edit` is how one is changed in an editor, `shown` how they are shown.

mod edit;
mod shown;

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Failure, Global, print, process};
use crate::{
    config::{InstanceName, Reach, read_target},
    connector::REGISTRY_WAIT,
    registry::{Deleted, Deletion, Found, ListAnswer, ListQuestion, Listed, Named, Put, PutAnswer, Refused},
    source::{self, Audience, Broker},
    target::TargetName,
};

/// Register targets while natshook runs, list, change and remove them
///
/// Needs `registry.enabled` in the config of the natshooks that run, one of which is asked over NATS: what is put is judged
/// as its config is. Needs only `name`, `source` and `[nats]` of a config here. `natshook targets` (plural) shows how all
/// targets stand, those of the config included.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  natshook target put policy.toml          register a target, or change it
  natshook target put - < policy.json
  natshook target list
  natshook target get policy               as JSON, its secrets left out
  natshook target edit policy              in $VISUAL or $EDITOR
  natshook target delete policy")]
pub(super) struct Target {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a target, or change one that has registered
    ///
    /// The file holds the keys of one target as TOML, YAML or JSON: what stands below [[targets]] in a config, without that
    /// line. Every replica takes it over within a second. Exits 78 when it is not valid, with every error.
    Put {
        /// The file, or - for stdin, as JSON or TOML
        file: PathBuf,
        /// The target's name, if it is not that in the file
        #[arg(long)]
        name: Option<String>,
        /// Only if the target is at this revision; 0: only if there is none
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Print a target that has registered as JSON
    ///
    /// { "sealed": true } stands for each secret; put back, it keeps the secret.
    Get {
        /// The target's name
        target: String,
        /// With its revision, and what becomes of it
        #[arg(long)]
        json: bool,
    },
    /// List the targets that have registered, and what becomes of each
    List {
        /// One JSON object for each target, a line each
        #[arg(long)]
        json: bool,
    },
    /// Remove a target that has registered
    ///
    /// With it goes its consumer: what it has not been sent is not kept for it. What waits in the retry queue for it becomes
    /// dead letters within a few minutes.
    Delete {
        /// The target's name
        target: String,
        /// Only if the target is at this revision
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
        /// Keep its consumer: a target that registers under this name goes on where this one was
        #[arg(long)]
        keep_position: bool,
    },
    /// Change a target that has registered in $VISUAL or $EDITOR
    ///
    /// A target that is not valid is shown again with its errors. Nothing is done when it is left as it was, or when
    /// somebody else has changed it meanwhile.
    Edit {
        /// The target's name
        target: String,
    },
}

/// The way to a running natshook.
struct Registrar {
    name: InstanceName,
    broker: Arc<Broker>,
}

impl Target {
    pub(super) fn execute(&self, global: &Global) -> Result<(), Failure> {
        let Reach { name, nats, .. } = global.reach(None)?;
        process::block_on(async {
            let broker = Arc::new(source::connect(&nats, &name).await?);
            let registrar = Registrar { name, broker };
            match &self.action {
                Action::Put { file, name, revision } => {
                    let target = renamed(read(file)?, name.as_deref());
                    let put = registrar.put(&Put { target, revision: *revision }).await?;
                    print(&shown::put(&put))
                }
                Action::Get { target, json } => {
                    let found = registrar.get(target).await?;
                    let shown = if *json { serde_json::to_value(&found) } else { Ok(found.target) };
                    print(&format!("{:#}\n", shown.unwrap_or_default()))
                }
                Action::List { json } => {
                    let targets = registrar.list().await?;
                    print(&if *json { shown::lines(&targets) } else { shown::table(&targets) })
                }
                Action::Delete { target: name, revision, keep_position } => {
                    let (name, revision) = (name.clone(), *revision);
                    let deletion = Deletion { name, revision, keep_position: *keep_position };
                    let deleted: Deleted = registrar.ask("delete", &deletion).await?;
                    print(&format!("{}: removed\n", deleted.name))
                }
                Action::Edit { target } => edit::edit(&registrar, target).await,
            }
        })
    }
}

/// The names of the targets that have registered; none when no running natshook answers.
pub(super) async fn registered(
    broker: &Arc<Broker>,
    name: &InstanceName,
) -> Result<Vec<TargetName>, Failure> {
    let registrar = Registrar { name: name.clone(), broker: Arc::clone(broker) };
    match registrar.list().await {
        Ok(targets) => Ok(targets.iter().filter_map(|target| TargetName::new(&target.name)).collect()),
        Err(Failure::NoRegistry { .. }) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

impl Registrar {
    async fn put(&self, put: &Put) -> Result<PutAnswer, Failure> {
        self.ask("put", put).await
    }

    async fn get(&self, name: &str) -> Result<Found, Failure> {
        self.ask("get", &Named { name: name.to_owned() }).await
    }

    /// All of them, some at a time.
    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let mut targets: Vec<Listed> = Vec::new();
        loop {
            let after = targets.last().map(|target| target.name.clone());
            let ListAnswer { targets: next, more } =
                self.ask("list", &ListQuestion { after, limit: None }).await?;
            let end = next.is_empty() || !more;
            targets.extend(next);
            if end {
                return Ok(targets);
            }
        }
    }

    async fn ask<T: DeserializeOwned>(&self, verb: &str, question: &impl Serialize) -> Result<T, Failure> {
        let subject = self.name.registry_subject(verb);
        let question = Bytes::from(serde_json::to_vec(question).unwrap_or_default());
        let answers = source::ask(&self.broker, subject, question, Audience::Any, REGISTRY_WAIT).await?;
        let Some(answer) = answers.first() else {
            return Err(Failure::NoRegistry { name: self.name.as_str().to_owned() });
        };
        if let Ok(refused) = serde_json::from_slice::<Refused>(answer) {
            return Err(Failure::Refused(refused));
        }
        serde_json::from_slice(answer).map_err(|error| Failure::Answer(error.to_string()))
    }
}

fn read(file: &PathBuf) -> Result<Value, Failure> {
    let name = file.display().to_string();
    let unreadable = |cause| Failure::Body { name: name.clone(), cause };
    if file.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        let ending = if text.trim_start().starts_with('{') { "json" } else { "toml" };
        return Ok(read_target(&text, ending, "stdin")?);
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let ending = file.extension().unwrap_or_default().to_string_lossy();
    Ok(read_target(&text, &ending, &name)?)
}

fn renamed(mut target: Value, name: Option<&str>) -> Value {
    if let (Some(name), Value::Object(table)) = (name, &mut target) {
        table.insert("name".to_owned(), name.into());
    }
    target
}

//! A changed config: noticing it, reading it, and telling what it changes. What is done about it is for the parent.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::mpsc, task, time::sleep};

use crate::{
    config::{Config, Connection, ConnectionName, FileWatch, LoadError},
    target::{Target, TargetName},
};

/// Editors and orchestrators write a file in several steps: after the first one natshook waits for the others.
const SETTLE: Duration = Duration::from_millis(300);

/// Where news of a changed config comes from.
#[derive(Debug)]
pub(super) struct Reloads {
    hangups: mpsc::Receiver<()>,
    watch: Watching,
    /// Something changed that was not looked at yet, or may have before the watch was made.
    look_again: bool,
    path: Option<PathBuf>,
}

/// Whether files are watched.
#[derive(Debug)]
enum Watching {
    Files(FileWatch),
    Nothing,
}

/// What a new config changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The admin listener.
    pub(super) admin: bool,
    /// What targets may be reached.
    pub(super) egress: bool,
    /// What is looked up when it is needed.
    pub(super) others: bool,
    /// The connections that are there no more.
    pub(super) removed: Vec<ConnectionName>,
    /// Those that are new or not as they were.
    pub(super) connections: Vec<(ConnectionName, ConnectionChange)>,
}

/// What a new config changes in a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConnectionChange {
    /// It was not there.
    Added,
    /// Something that everything of it rests on: all of it is started anew.
    Replaced,
    /// Only targets.
    Targets(TargetChanges),
}

/// Targets that a new config adds, changes or removes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TargetChanges {
    pub(super) added: Vec<TargetName>,
    pub(super) changed: Vec<TargetName>,
    pub(super) removed: Vec<TargetName>,
}

impl Reloads {
    pub(super) fn new(config: &Config, hangups: mpsc::Receiver<()>) -> Self {
        let path = config.reload.files.first().cloned();
        Self { hangups, watch: watch(config), look_again: false, path }
    }

    /// Watches the files that `config` names from now on, if they are others than those of `before`.
    pub(super) fn follow(&mut self, before: &Config, config: &Config) {
        if before.reload != config.reload {
            self.watch = watch(config);
            self.look_again = true;
        }
    }

    /// The config as it is after the next change or SIGHUP. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Config, LoadError> {
        loop {
            if !self.look_again {
                self.news().await;
                self.look_again = true;
            }
            sleep(SETTLE).await;
            let read = match &self.path {
                Some(path) => Some(read(path).await),
                None => None,
            };
            self.look_again = false;
            match read {
                Some(read) => return read,
                None => tracing::warn!("this config came from no file; there is nothing to read again"),
            }
        }
    }

    /// Resolves at a SIGHUP, and when one of the files may have changed.
    async fn news(&mut self) {
        let changed = async {
            match &mut self.watch {
                Watching::Files(watch) => watch.changed().await,
                Watching::Nothing => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = self.hangups.recv() => {}
            () = changed => {}
        }
    }
}

fn watch(config: &Config) -> Watching {
    if !config.reload.on_change {
        return Watching::Nothing;
    }
    match FileWatch::new(&config.reload.files) {
        Ok(watch) => Watching::Files(watch),
        Err(error) => {
            tracing::warn!(%error, "cannot watch the config's files; a change takes effect with SIGHUP");
            Watching::Nothing
        }
    }
}

/// Reading waits for the disk, which the runtime's one thread must not.
async fn read(path: &Path) -> Result<Config, LoadError> {
    let owned = path.to_owned();
    let read = task::spawn_blocking(move || Config::load(&owned)).await;
    read.unwrap_or_else(|error| {
        let cause = std::io::Error::other(error);
        Err(LoadError::Unreadable { path: path.to_owned(), cause })
    })
}

/// What `new` changes in `old`.
pub(super) fn changes(old: &Config, new: &Config) -> Changes {
    let egress = old.egress != new.egress;
    let before = |name: &ConnectionName| old.connections.iter().find(|connection| connection.name == *name);
    let changed = new.connections.iter().filter_map(|connection| {
        let Some(before) = before(&connection.name) else {
            return Some((connection.name.clone(), ConnectionChange::Added));
        };
        if egress || !same_ground(before, connection) {
            return Some((connection.name.clone(), ConnectionChange::Replaced));
        }
        let targets = target_changes(&before.targets, &connection.targets);
        (targets != TargetChanges::default())
            .then(|| (connection.name.clone(), ConnectionChange::Targets(targets)))
    });
    let connections = changed.collect();
    let is_gone = |name: &ConnectionName| new.connections.iter().all(|connection| connection.name != *name);
    Changes {
        admin: old.admin != new.admin,
        egress,
        others: old.shutdown != new.shutdown || old.reload != new.reload || old.otlp != new.otlp,
        removed: old.connections.iter().map(|connection| connection.name.clone()).filter(is_gone).collect(),
        connections,
    }
}

/// Whether all but the targets is the same.
fn same_ground(old: &Connection, new: &Connection) -> bool {
    old.instance == new.instance
        && old.source == new.source
        && old.nats == new.nats
        && old.stream == new.stream
        && old.retry_queue == new.retry_queue
        && old.dead_letter == new.dead_letter
        && old.state_replicas == new.state_replicas
        && old.registry == new.registry
}

/// How the targets `new` differ from `old`.
pub(super) fn target_changes(old: &[Target], new: &[Target]) -> TargetChanges {
    let mut changes = TargetChanges::default();
    let mut before: HashMap<&TargetName, &Target> = old.iter().map(|target| (&target.name, target)).collect();
    for target in new {
        match before.remove(&target.name) {
            None => changes.added.push(target.name.clone()),
            Some(before) if before != target => changes.changed.push(target.name.clone()),
            Some(_) => {}
        }
    }
    let is_gone = |target: &&Target| before.contains_key(&target.name);
    changes.removed = old.iter().filter(is_gone).map(|target| target.name.clone()).collect();
    changes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BASE: &str = "[admin]\nlisten = \"127.0.0.1:1\"\n[[targets]]\nname = \"a\"\nsubjects = \"a\"\nurl = \
                        \"https://hooks.example/a\"\n[[targets]]\nname = \"b\"\nsubjects = \"b\"\nurl = \
                        \"https://hooks.example/b\"\n";

    fn change(from: &str, to: &str) -> Changes {
        let new = BASE.replacen(from, to, 1);
        assert_ne!(new, BASE);
        changes(&Config::from_toml(BASE, "old").unwrap(), &Config::from_toml(&new, "new").unwrap())
    }

    fn names(names: &[&str]) -> Vec<TargetName> {
        names.iter().map(|name| TargetName::new(name).unwrap()).collect()
    }

    fn of_main(change: ConnectionChange) -> Changes {
        Changes { connections: vec![(ConnectionName::default(), change)], ..Changes::default() }
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let targets = |added: &[&str], changed: &[&str], removed: &[&str]| {
            let targets =
                TargetChanges { added: names(added), changed: names(changed), removed: names(removed) };
            of_main(ConnectionChange::Targets(targets))
        };
        assert_eq!(change("[admin]", "# a comment\n[admin]"), Changes::default());
        assert_eq!(change("/a\"", "/other\""), targets(&[], &["a"], &[]));
        assert_eq!(change("name = \"a\"", "name = \"c\""), targets(&["c"], &[], &["a"]));
        assert_eq!(
            change("/b\"\n", "/b\"\nsigning = { secrets = [\"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"] }"),
            targets(&[], &["b"], &[])
        );
        let admin = Changes { admin: true, ..Changes::default() };
        assert_eq!(change("127.0.0.1:1", "127.0.0.1:2"), admin);
        let others = Changes { others: true, ..Changes::default() };
        assert_eq!(change("[admin]", "[shutdown]\ngrace_period = \"1s\"\n[admin]"), others);
        for (from, to) in
            [("[admin]", "name = \"other\"\n[admin]"), ("[admin]", "[nats]\ntoken = \"t\"\n[admin]")]
        {
            assert_eq!(change(from, to), of_main(ConnectionChange::Replaced), "{to}");
        }
        let egress = Changes { egress: true, ..of_main(ConnectionChange::Replaced) };
        assert_eq!(change("[admin]", "[egress]\nallow_http = true\n[admin]"), egress);
    }

    #[test]
    fn a_connection_that_changes_leaves_the_others_alone() {
        let config = |connections: &[(&str, &str)]| {
            let table = |(name, target): &(&str, &str)| {
                format!(
                    "[[connections]]\nname = {name:?}\n[[connections.targets]]\nname = {target:?}\nsubjects = \"a\"\nurl = \
                     \"https://hooks.example/\"\n"
                )
            };
            let text: String = connections.iter().map(table).collect();
            Config::from_toml(&text, "test").unwrap()
        };
        let name = |text| ConnectionName::new(text).unwrap();
        let old = config(&[("eu", "a"), ("us", "b")]);
        assert_eq!(changes(&old, &config(&[("us", "b"), ("eu", "a")])), Changes::default());
        let targets = TargetChanges { added: names(&["c"]), changed: vec![], removed: names(&["b"]) };
        let connections =
            vec![(name("us"), ConnectionChange::Targets(targets)), (name("as"), ConnectionChange::Added)];
        let expected = Changes { connections, removed: vec![name("eu")], ..Changes::default() };
        assert_eq!(changes(&old, &config(&[("us", "c"), ("as", "d")])), expected);
    }
}

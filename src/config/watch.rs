//! Noticing that a file changed. Only that: reading it again, and what follows, is decided elsewhere.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Watches files, also ones that are replaced as a whole: what is watched is the folder that each is in, and the one
/// that a link leads to (Kubernetes swaps a link in a mounted folder).
pub struct FileWatch {
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWatch").finish_non_exhaustive()
    }
}

impl FileWatch {
    /// Watches `files` until it is dropped.
    ///
    /// # Errors
    /// The system does not let us, such as when it has no watches left.
    pub fn new(files: &[PathBuf]) -> Result<Self, notify::Error> {
        // One word is enough however much happens.
        let (sender, changes) = mpsc::channel(1);
        let names: BTreeSet<OsString> = files.iter().flat_map(|file| names(file)).collect();
        let mut watcher = notify::recommended_watcher(move |event: Result<Event, notify::Error>| {
            let concerns = |event: &Event| event.paths.iter().any(|path| is_ours(path, &names));
            if event.is_ok_and(|event| changes_something(&event.kind) && concerns(&event)) {
                let _ = sender.try_send(());
            }
        })?;
        for folder in files.iter().flat_map(|file| folders(file)).collect::<BTreeSet<_>>() {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { changes, _watcher: watcher })
    }

    /// Resolves when one of the files may have changed since.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn changes_something(kind: &EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Other => false,
    }
}

/// Whether what changed at `path` can change one of the files: its name is one of theirs, or is hidden by two dots, as
/// the link is that Kubernetes swaps (`..data`).
fn is_ours(path: &Path, names: &BTreeSet<OsString>) -> bool {
    path.file_name().is_some_and(|name| names.contains(name) || name.as_encoded_bytes().starts_with(b".."))
}

/// The name of `file`, and that of what it links to.
fn names(file: &Path) -> Vec<OsString> {
    let behind_links = file.canonicalize().ok();
    let names = [file.file_name(), behind_links.as_deref().and_then(Path::file_name)];
    names.into_iter().flatten().map(ToOwned::to_owned).collect()
}

/// The folder of `file`, and the one of what it links to.
fn folders(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let behind_links = file.canonicalize().ok();
    [parent(file), behind_links.as_deref().and_then(parent)].into_iter().flatten().collect()
}

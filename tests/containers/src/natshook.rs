//! natshook in a container, as a careful operator runs it: read-only, without capabilities, with its config and secrets
//! mounted or in its environment.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;
use testcontainers::{core::Mount, ContainerRequest, GenericImage, ImageExt};

use crate::{engine::NATSHOOK, until, wait::secs, Container, Network};

/// A config and its secrets, in a folder that containers mount as `/etc/natshook`.
pub struct Folder(TempDir);

impl Folder {
    /// A folder with these files. Readable for user 65532, which is nobody on this machine.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file in it");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A running natshook.
pub struct Natshook(Container);

impl Natshook {
    /// Starts one with a mounted config, and waits until it is ready.
    pub async fn start(network: &Network, name: &str, folder: &Folder) -> Self {
        let natshook = Self::start_unready(network, name, folder).await;
        natshook.wait_until_ready().await;
        natshook
    }

    /// The same without the wait.
    pub async fn start_unready(network: &Network, name: &str, folder: &Folder) -> Self {
        let mount = Mount::bind_mount(folder.path().display().to_string(), "/etc/natshook");
        Self(Container::start(network, name, hardened().with_mount(mount)).await)
    }

    /// Starts one that is configured by its environment alone, and waits until it is ready.
    pub async fn start_with(network: &Network, name: &str, environment: &[(&str, &str)]) -> Self {
        let request =
            environment.iter().fold(hardened(), |request, (name, value)| request.with_env_var(*name, *value));
        let natshook = Self(Container::start(network, name, request).await);
        natshook.wait_until_ready().await;
        natshook
    }

    /// Its container.
    pub fn container(&self) -> &Container {
        &self.0
    }

    /// Waits until its targets take messages.
    pub async fn wait_until_ready(&self) {
        until("natshook is ready", secs(40), async || {
            assert!(
                self.0.inspect().await.state.and_then(|state| state.running) == Some(true),
                "{}",
                self.0.stderr().await
            );
            self.0.exec(&["/natshook", "health", "--ready"]).await.0 == 0
        })
        .await;
    }
}

fn hardened() -> ContainerRequest<GenericImage> {
    GenericImage::new(NATSHOOK.0, NATSHOOK.1)
        .with_readonly_rootfs(true)
        .with_cap_drop("ALL")
        .with_security_opt("no-new-privileges")
}

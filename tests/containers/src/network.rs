//! A private network of containers, without a way out. Containers are cut off from it and come back.

use std::{
    sync::{
        atomic::{AtomicU32, Ordering},
        Mutex,
    },
    thread,
};

use testcontainers::bollard::{
    self,
    models::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest},
    query_parameters::RemoveVolumeOptions,
    Docker,
};

use crate::{Container, Engine};

/// A network that goes with this value, and with it the volumes of its containers. They have to be gone by then: what is
/// declared first is dropped last.
#[derive(Debug)]
pub struct Network {
    engine: Engine,
    name: String,
    volumes: Mutex<Vec<String>>,
}

impl Network {
    /// A new network of its own.
    pub async fn new(engine: &Engine) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("natshook-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let request = NetworkCreateRequest { name: name.clone(), internal: Some(true), ..Default::default() };
        engine.docker.create_network(request).await.expect("a network");
        Self { engine: engine.clone(), name, volumes: Mutex::default() }
    }

    /// Its name, which is also unique enough to begin other names with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of a volume that is removed with the network.
    pub(crate) fn volume(&self, name: &str) -> String {
        let volume = format!("{}-{name}", self.name);
        let mut volumes = self.volumes.lock().expect("lock");
        if !volumes.contains(&volume) {
            volumes.push(volume.clone());
        }
        volume
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Pulls the container's cable.
    pub async fn cut_off(&self, container: &Container) {
        let request = NetworkDisconnectRequest { container: container.id().to_owned(), force: Some(true) };
        self.engine.docker.disconnect_network(&self.name, request).await.expect("it is cut off");
    }

    /// Puts the cable back. The container's address may be another one then.
    pub async fn bring_back(&self, container: &Container) {
        let request = NetworkConnectRequest { container: container.id().to_owned(), endpoint_config: None };
        self.engine.docker.connect_network(&self.name, request).await.expect("it comes back");
    }
}

impl Drop for Network {
    /// With a client of its own, since the test's may live in a runtime that waits for this.
    fn drop(&mut self) {
        let (name, volumes) = (self.name.clone(), std::mem::take(&mut *self.volumes.lock().expect("lock")));
        let ended = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(remove(&name, &volumes))
        });
        if let Err(error) = ended.join().expect("no panic") {
            eprintln!("{}: {error}", self.name);
        }
    }
}

async fn remove(network: &str, volumes: &[String]) -> Result<(), bollard::errors::Error> {
    let docker = Docker::connect_with_defaults()?;
    docker.remove_network(network).await?;
    for volume in volumes {
        docker.remove_volume(volume, None::<RemoveVolumeOptions>).await?;
    }
    Ok(())
}

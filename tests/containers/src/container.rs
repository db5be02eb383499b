//! One container: started and ended by the test that it belongs to, and removed with it.

use std::{net::IpAddr, time::Duration};

use futures_util::StreamExt;
use testcontainers::{
    bollard::{
        models::{ContainerInspectResponse, HealthStatusEnum},
        query_parameters::{
            InspectContainerOptions, KillContainerOptions, StartContainerOptions, StopContainerOptions,
            TopOptions,
        },
    },
    core::ExecCommand,
    runners::AsyncRunner,
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
};

use crate::{until_some, wait::secs, Network};

/// A container on a private network.
pub struct Container {
    inner: ContainerAsync<GenericImage>,
    engine: crate::Engine,
    name: String,
    network: String,
}

impl Container {
    /// Starts what is requested on `network`, without a port on the host. `name` is put behind the network's, since names
    /// are the engine's, not the network's.
    pub async fn start(network: &Network, name: &str, request: ContainerRequest<GenericImage>) -> Self {
        let name = format!("{}-{name}", network.name());
        let request = request
            .with_container_name(name.clone())
            .with_network(network.name())
            .with_startup_timeout(secs(60))
            .with_host_config_modifier(|host| host.publish_all_ports = Some(false));
        let inner = request.start().await.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { inner, engine: network.engine().clone(), name, network: network.name().to_owned() }
    }

    /// The engine's id of it.
    pub fn id(&self) -> &str {
        self.inner.id()
    }

    /// Its name, by which the others on the network find it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the engine knows of it.
    pub async fn inspect(&self) -> ContainerInspectResponse {
        let asked = self.engine.docker.inspect_container(self.id(), None::<InspectContainerOptions>).await;
        asked.expect("the engine knows its containers")
    }

    /// Its address on the network; it may be another one after it was cut off.
    pub async fn address(&self) -> IpAddr {
        until_some("it has an address", secs(10), async || self.address_now().await).await
    }

    /// The same, if it has one just now: what is ended or cut off has none.
    pub async fn address_now(&self) -> Option<IpAddr> {
        let networks = self.inspect().await.network_settings?.networks?;
        networks.get(&self.network)?.ip_address.as_ref()?.parse().ok()
    }

    /// How the engine's own check finds it.
    pub async fn health(&self) -> Option<HealthStatusEnum> {
        self.inspect().await.state?.health?.status
    }

    /// `docker stop` with this grace period; the exit code.
    pub async fn stop(&self, grace: Duration) -> i64 {
        let seconds = i32::try_from(grace.as_secs()).expect("a few seconds");
        let options = StopContainerOptions { t: Some(seconds), ..Default::default() };
        self.engine.docker.stop_container(self.id(), Some(options)).await.expect("it stops");
        self.exit_code().await
    }

    /// `docker kill`: SIGKILL.
    pub async fn kill(&self) {
        let kill = self.engine.docker.kill_container(self.id(), None::<KillContainerOptions>);
        kill.await.expect("it is killed");
    }

    /// `docker start`, after it was ended.
    pub async fn start_again(&self) {
        let start = self.engine.docker.start_container(self.id(), None::<StartContainerOptions>);
        start.await.expect("it starts again");
    }

    /// The exit code, once it has ended.
    pub async fn exit_code(&self) -> i64 {
        until_some("it ends", secs(60), async || self.inner.exit_code().await.expect("a state")).await
    }

    /// The user ids of its processes, as the machine sees them.
    pub async fn uids(&self) -> Vec<String> {
        let options = TopOptions { ps_args: "-eo uid,pid".to_owned() };
        let top = self.engine.docker.top_processes(self.id(), Some(options)).await.expect("its processes");
        let mut uids: Vec<String> =
            top.processes.unwrap_or_default().into_iter().filter_map(|row| row.into_iter().next()).collect();
        assert!(!uids.is_empty(), "it has a process");
        uids.dedup();
        uids
    }

    /// The first parts of the paths of all files in it; folders end in `/`.
    pub async fn files(&self) -> Vec<String> {
        let mut archive = Vec::new();
        let mut export = std::pin::pin!(self.engine.docker.export_container(self.id()));
        while let Some(chunk) = export.next().await {
            archive.extend_from_slice(&chunk.expect("its files"));
        }
        let mut archive = tar::Archive::new(archive.as_slice());
        let entries = archive.entries().expect("an archive");
        let paths = entries.map(|entry| entry.expect("a file").path().expect("a path").display().to_string());
        let mut tops: Vec<String> =
            paths.filter_map(|path| path.split_inclusive('/').next().map(str::to_owned)).collect();
        tops.sort();
        tops.dedup();
        tops
    }

    /// Runs a command in it: exit code, stdout, stderr.
    pub async fn exec(&self, command: &[&str]) -> (i64, String, String) {
        let mut result =
            self.inner.exec(ExecCommand::new(command.iter().copied())).await.expect("the engine executes");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let out = text(result.stdout_to_vec().await.expect("stdout"));
        let error = text(result.stderr_to_vec().await.expect("stderr"));
        (result.exit_code().await.expect("a state").expect("it has ended"), out, error)
    }

    /// All that it wrote to stdout, over all its starts.
    pub async fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.inner.stdout_to_vec().await.expect("its log")).into_owned()
    }

    /// All that it wrote to stderr, over all its starts.
    pub async fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.inner.stderr_to_vec().await.expect("its log")).into_owned()
    }

    /// Removes it now rather than with the test.
    pub async fn remove(self) {
        self.inner.rm().await.expect("it is removed");
    }
}

//! The Docker engine, if there is one.

use std::path::Path;

use testcontainers::{
    bollard::{models::ImageInspect, Docker},
    core::client::docker_client_instance,
};

use crate::older_engine;

/// The image under test, built from the Dockerfile (`make image`).
pub const NATSHOOK: (&str, &str) = ("natshook", "dev");
const SOCKET: &str = "/var/run/docker.sock";

/// A Docker engine that answers.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) docker: Docker,
}

impl Engine {
    /// The engine of this machine. `None` where there is none: the test then says so and ends.
    ///
    /// # Panics
    /// There is one, and it does not answer, or does not have the image.
    pub async fn find() -> Option<Self> {
        if std::env::var_os("DOCKER_HOST").is_none() {
            if !Path::new(SOCKET).exists() {
                println!("skipped: no Docker engine");
                return None;
            }
            older_engine::stand_between(SOCKET);
        }
        let docker = docker_client_instance().await.expect("a client for the Docker engine");
        docker.ping().await.expect("the Docker engine answers");
        let engine = Self { docker };
        engine.image(&format!("{}:{}", NATSHOOK.0, NATSHOOK.1)).await;
        Some(engine)
    }

    /// What the engine knows of an image.
    ///
    /// # Panics
    /// It is not there.
    pub async fn image(&self, name: &str) -> ImageInspect {
        let found = self.docker.inspect_image(name).await;
        found.unwrap_or_else(|error| panic!("{name}: {error}; `make image` builds it"))
    }
}

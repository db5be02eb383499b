//! The admin listener: health and metrics for machines, and the status page for people, who can also pause, resume and
//! test a target here and replay dead letters. `access` says who may do what, `serve` bounds what clients can take,
//! `pages` writes HTML, `live` keeps it fresh. What is shown and done goes through `connector::Control` and
//! `dead_letter`: nothing here delivers or decides anything.

mod access;
mod assets;
mod headers;
mod health;
mod letters;
mod live;
mod pages;
mod replays;
mod routes;
mod serve;
mod targets;

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    config,
    connector::{Control, RunError},
};
use access::{Access, Rules};
use live::Live;
use replays::Replays;

/// The running listener; it ends when this is dropped.
#[derive(Debug)]
pub struct Listener {
    serving: AbortHandle,
    /// As the config says it; the port may be 0 there.
    asked: SocketAddr,
    admin: Arc<Admin>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What every page and action can reach.
#[derive(Debug)]
struct Admin {
    control: Control,
    access: Access,
    live: Live,
    replays: Replays,
}

impl Listener {
    /// Listens as `admin` says instead. Where the address stays the same only the rules change, and whoever came in by
    /// another token has to log in again.
    ///
    /// # Errors
    /// The address cannot be listened on; then everything stays as it was.
    pub async fn change(&mut self, admin: &config::Admin, control: Control) -> Result<(), RunError> {
        if admin.listen == self.asked {
            self.admin.access.change(Rules::new(admin));
        } else {
            *self = listen(admin, control).await?;
        }
        Ok(())
    }
}

/// Listens as `admin` says.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(admin: &config::Admin, control: Control) -> Result<Listener, RunError> {
    let asked = admin.listen;
    let refused = |cause| RunError::Listen { address: asked, cause };
    let listener = TcpListener::bind(asked).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    tracing::info!(address = %bound, "admin listener");
    let admin = Arc::new(Admin {
        control,
        access: Access::new(Rules::new(admin)),
        live: Live::default(),
        replays: Replays::default(),
    });
    let serving = tokio::spawn(serve::serve(listener, routes::routes(&admin)));
    Ok(Listener { serving: serving.abort_handle(), asked, admin })
}

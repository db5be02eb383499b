//! Shapes messages for a target: asks its shape, and has workers run what could take long or fill the memory. A worker is a
//! process of its own with bounds on both, so that whatever a program does costs one message and holds up nobody else.

mod frame;
mod pool;
mod process;
mod watch;
mod work;

use std::{io, sync::Arc};

use bytes::Bytes;

pub use work::work;

use crate::{
    message::Message,
    shape::{Failed, Filter, Shape, Verdict},
};
use frame::{Answer, Setup, Stage};
use pool::Pool;

/// Why a message could not be shaped, which is not the message's fault.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// A worker cannot be started.
    #[error("cannot start a worker: {0}")]
    Start(io::Error),
    /// A worker was started and does not work.
    #[error("a worker does not work: {0}")]
    Unfit(String),
}

/// Shapes the messages of one target.
#[derive(Debug)]
pub struct Shaper {
    shape: Arc<Shape>,
    /// For what could take long, if the shape has any.
    pool: Option<Pool>,
}

impl Shaper {
    /// Shapes as `shape` says. No worker is started before the first message that needs one.
    #[must_use]
    pub fn new(shape: Arc<Shape>) -> Self {
        let looping = shape.filter.as_ref().filter(|filter| filter.loops());
        let transform = shape.transform.as_ref();
        let pool = (looping.is_some() || transform.is_some()).then(|| {
            Pool::new(Setup {
                filter: looping.map(|filter| filter.text().to_owned()),
                transform: transform.map(|transform| transform.text().to_owned()),
                max_payload_bytes: shape.max_payload_bytes,
            })
        });
        Self { shape, pool }
    }

    /// What is sent of `message`, if anything is.
    ///
    /// # Errors
    /// It cannot be told now; another time it can.
    pub async fn shape(&self, message: &Message) -> Result<Verdict, ShapeError> {
        if let Some(filter) = &self.shape.filter
            && let Some(verdict) = self.shape.judged(self.wants(filter, message).await?)
        {
            return Ok(verdict);
        }
        Ok(self.shape.sent(message, self.body(message).await?))
    }

    /// A filter without loops is evaluated here: it costs less than asking a worker.
    async fn wants(&self, filter: &Filter, message: &Message) -> Result<Result<bool, String>, ShapeError> {
        match &self.pool {
            Some(pool) if filter.loops() => Ok(match pool.ask(Stage::Filter, message).await? {
                Ok(answer) => Ok(answer == Answer::Wanted),
                Err(failed) => Err(failed.error),
            }),
            Some(_) | None => Ok(filter.wants(message)),
        }
    }

    /// What the transform makes of the payload, if there is one.
    async fn body(&self, message: &Message) -> Result<Option<Result<Bytes, Failed>>, ShapeError> {
        match &self.pool {
            Some(pool) if self.shape.transform.is_some() => {
                Ok(Some(pool.ask(Stage::Transform, message).await?.map(Answer::into_body)))
            }
            Some(_) | None => Ok(None),
        }
    }
}

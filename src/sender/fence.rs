//! Until when requests may be written. The connection asks its request's body just before it writes, in a step of its own:
//! a process that stood still since the request was handed over does not write it then.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

/// Until when requests may be written; no limit at first. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

impl Fence {
    /// From now on requests may be written until then, or without limit.
    pub fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn is_passed(&self) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until <= Instant::now())
    }
}

/// A request's body, which breaks the request off when the fence is passed.
pub(super) struct Outgoing {
    body: Full<Bytes>,
    fence: Option<Fence>,
}

impl Outgoing {
    pub(super) fn new(body: Bytes, fence: Option<Fence>) -> Self {
        Self { body: Full::new(body), fence }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.fence.as_ref().is_some_and(Fence::is_passed) {
            return Poll::Ready(Some(Err(io::Error::other("the right to send has ended"))));
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {}))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.fence.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

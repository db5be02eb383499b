//! The end of a delivery: does what was decided about it, again and again until that is done. Decides nothing.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::{Courier, Settled};
use crate::{
    disposition::Disposition,
    failpoint::Failpoint,
    message::Delivery,
    replies::{Replies, ReplyError},
    retry_queue::RetryQueue,
    source::{Receipt, StoreError},
};

const STORE_WAIT_MIN: Duration = Duration::from_secs(1);
const STORE_WAIT_MAX: Duration = Duration::from_secs(30);

impl Courier {
    /// Does what was decided, again and again until it is done. The message stays unacked meanwhile, so that
    /// whatever happens it is not lost.
    pub(super) async fn settle(
        &self,
        delivery: Delivery,
        disposition: Disposition,
        receipt: &Receipt,
        queue: &RetryQueue,
    ) -> Settled {
        if let Some(replies) = self.replies.as_ref().filter(|_| delivery.answer.is_some())
            && !Box::pin(self.reply(replies, &delivery)).await
        {
            receipt.hand_back(Duration::ZERO).await;
            return Settled::HandedBack;
        }
        match disposition {
            Disposition::Ack | Disposition::Skip => {
                receipt.ack().await;
                Settled::Ended
            }
            // Boxed, so that the common case does not carry this one's size around.
            Disposition::Retry { .. } | Disposition::DeadLetter(_) => {
                let settled = Box::pin(self.settle_elsewhere(&delivery, disposition, receipt, queue)).await;
                if settled != Settled::HandedBack {
                    self.journal.failed(&delivery, disposition);
                }
                settled
            }
        }
    }

    /// Publishes the answer, again and again until that is done; false when natshook ends before it is.
    async fn reply(&self, replies: &Replies, delivery: &Delivery) -> bool {
        let mut wait = STORE_WAIT_MIN;
        while let Err(error) = replies.publish(delivery, &self.target).await {
            self.metrics.reply_failed();
            let lost = matches!(error, ReplyError::Place { .. });
            self.journal.not_replied(&delivery.message, &error, (!lost).then_some(wait));
            if lost {
                return true;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = replies.reconnected() => {}
                () = self.ending.drain.cancelled() => return false,
            }
            wait = (wait * 2).min(STORE_WAIT_MAX);
        }
        true
    }

    pub(super) async fn settle_elsewhere(
        &self,
        delivery: &Delivery,
        disposition: Disposition,
        receipt: &Receipt,
        queue: &RetryQueue,
    ) -> Settled {
        let mut wait = STORE_WAIT_MIN;
        let settled = loop {
            let error = match self.store(delivery, disposition, queue).await {
                Ok(settled) => break settled,
                Err(error) => error,
            };
            self.metrics.store_failed(disposition);
            let too_large = matches!(error, StoreError::TooLarge { .. } | StoreError::TooManyHeaders { .. });
            if let (true, Disposition::Retry { at }) = (too_large, disposition) {
                self.journal.failed(delivery, disposition);
                receipt.hand_back(at.duration_since(SystemTime::now()).unwrap_or_default()).await;
                return Settled::HandedBack;
            }
            self.journal.not_stored(delivery, disposition, &self.place(disposition, queue), &error, wait);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.dead_letters.reconnected() => {}
                () = self.ending.drain.cancelled() => {
                    receipt.hand_back(Duration::ZERO).await;
                    return Settled::HandedBack;
                }
            }
            wait = (wait * 2).min(STORE_WAIT_MAX);
        };
        receipt.ack().await;
        settled
    }

    async fn store(
        &self,
        delivery: &Delivery,
        disposition: Disposition,
        queue: &RetryQueue,
    ) -> Result<Settled, StoreError> {
        let target = self.target.name.as_str();
        match disposition {
            Disposition::Ack | Disposition::Skip => Ok(Settled::Ended),
            Disposition::Retry { at } => {
                Failpoint::BeforeRetryPublish.pass();
                let copy = queue.put(delivery, target, at).await?;
                Failpoint::AfterRetryPublish.pass();
                Ok(Settled::Waits { copy, attempts: delivery.attempts(), due: at })
            }
            Disposition::DeadLetter(reason) => {
                Failpoint::BeforeDeadLetterPublish.pass();
                let omitted = self.dead_letters.put(delivery, target, reason).await?;
                Failpoint::AfterDeadLetterPublish.pass();
                self.journal.incomplete(&delivery.message, omitted);
                self.metrics.dead_lettered(reason);
                Ok(Settled::Ended)
            }
        }
    }

    fn place(&self, disposition: Disposition, queue: &RetryQueue) -> String {
        match disposition {
            Disposition::Ack | Disposition::Skip => String::new(),
            Disposition::Retry { .. } => queue.place(),
            Disposition::DeadLetter(_) => self.dead_letters.place(),
        }
    }
}

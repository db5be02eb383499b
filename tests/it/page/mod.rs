//! The status page in a real browser.

mod events;
mod letters;
mod login;
mod looks;
mod strangers;
mod targets;

use crate::support::browser::Browser;
use crate::support::{Broker, Config, Connector, Receiver};

/// A broker, a receiver, a running natshook and a browser.
struct Rig {
    broker: Broker,
    receiver: Receiver,
    connector: Connector,
    browser: Browser,
}

impl Rig {
    /// `None` where there is no browser.
    async fn start(config: impl FnOnce(&Receiver, Config) -> Config) -> Option<Self> {
        let browser = Browser::start().await?;
        let broker = Broker::start().await;
        let receiver = Receiver::start().await;
        let connector = Connector::start(&config(&receiver, Config::on(&broker))).await;
        Some(Self { broker, receiver, connector, browser })
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.connector.admin_port)
    }

    async fn open(&self, path: &str) {
        self.browser.open(&self.url(path)).await;
    }

    /// Nothing went wrong in the browser, and no security policy had to step in.
    async fn assert_calm(&self) {
        let complaints = self.browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

//! The configuration of the connector under test, as TOML text.

use super::{Broker, free_port};

/// What every test needs; a test adds its targets and sections as text.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) admin_port: u16,
    top: String,
    nats: String,
    stream: String,
    egress: String,
    admin: String,
    rest: String,
}

impl Config {
    /// A connector on `broker` that may deliver to receivers on this machine and creates its stream.
    pub(crate) fn on(broker: &Broker) -> Self {
        Self {
            admin_port: free_port(),
            top: String::new(),
            nats: format!("servers = [{:?}]", broker.url()),
            stream: "name = \"EVENTS\"\ncreate = true".to_owned(),
            egress: "allow = [\"127.0.0.0/8\"]\nallow_http = true".to_owned(),
            admin: String::new(),
            rest: String::new(),
        }
    }

    /// A configuration whose broker nobody will ask.
    pub(crate) fn offline() -> Self {
        Self {
            admin_port: free_port(),
            top: String::new(),
            nats: "servers = [\"nats://127.0.0.1:4222\"]".to_owned(),
            stream: "name = \"EVENTS\"\ncreate = true".to_owned(),
            egress: "allow = [\"127.0.0.0/8\"]\nallow_http = true".to_owned(),
            admin: String::new(),
            rest: String::new(),
        }
    }

    /// A connector that has several connections; [`Self::connection`] adds them.
    pub(crate) fn of_connections() -> Self {
        Self { nats: String::new(), stream: String::new(), ..Self::offline() }
    }

    /// A connection to `broker` with one target; `more` holds further lines of the connection.
    pub(crate) fn connection(
        self,
        name: &str,
        broker: &Broker,
        more: &str,
        target: (&str, &str, &str),
    ) -> Self {
        let (target, subject, url) = target;
        self.and(&format!(
            "[[connections]]\nname = {name:?}\nnats = {{ servers = [{:?}] }}\n{more}\n[[connections.targets]]\nname = \
             {target:?}\nsubjects = {subject:?}\nurl = {url:?}",
            broker.url()
        ))
    }

    /// The same for another replica, with an admin address of its own.
    pub(crate) fn another(&self) -> Self {
        Self { admin_port: free_port(), ..self.clone() }
    }

    /// The same with the admin address of `other`.
    pub(crate) fn in_place_of(&self, other: &Self) -> Self {
        Self { admin_port: other.admin_port, ..self.clone() }
    }

    /// A line before the first section.
    pub(crate) fn top(mut self, line: &str) -> Self {
        self.top = format!("{}{line}\n", self.top);
        self
    }

    /// Lines of the section `[nats]`, beside `servers`.
    pub(crate) fn nats(mut self, lines: &str) -> Self {
        self.nats = format!("{}\n{lines}", self.nats);
        self
    }

    /// Lines of the section `[admin]`, beside `listen`.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        self.admin = lines.to_owned();
        self
    }

    /// The whole section `[nats]`.
    pub(crate) fn nats_instead(mut self, lines: &str) -> Self {
        self.nats = lines.to_owned();
        self
    }

    /// The whole section `[stream]`.
    pub(crate) fn stream_instead(mut self, lines: &str) -> Self {
        self.stream = lines.to_owned();
        self
    }

    /// The whole section `[egress]`.
    pub(crate) fn egress_instead(mut self, lines: &str) -> Self {
        self.egress = lines.to_owned();
        self
    }

    /// A target; `subjects` as in `"a, b.>"`, `more` holds further lines of it.
    pub(crate) fn target(mut self, name: &str, subjects: &str, url: &str, more: &str) -> Self {
        let subjects: Vec<_> = subjects.split(", ").collect();
        self.rest.push_str(&format!(
            "\n[[targets]]\nname = {name:?}\nsubjects = {subjects:?}\nurl = {url:?}\n{more}\n"
        ));
        self
    }

    /// Any other text.
    pub(crate) fn and(mut self, text: &str) -> Self {
        self.rest = format!("{}\n{text}\n", self.rest);
        self
    }

    pub(crate) fn text(&self) -> String {
        let Self { admin_port, top, nats, stream, egress, admin, rest } = self;
        let table = |name: &str, lines: &str| match lines {
            "" => String::new(),
            lines => format!("[{name}]\n{lines}\n\n"),
        };
        let (nats, stream) = (table("nats", nats), table("stream", stream));
        format!(
            "{top}\n{nats}{stream}[admin]\nlisten = \"127.0.0.1:{admin_port}\"\n{admin}\n\n\
             [egress]\n{egress}\n{rest}"
        )
    }
}

//! Targets that register while natshook runs: by one NATS request, on every replica, within a second.

mod clients;
mod commands;
mod crashes;
mod files;
mod permissions;
mod secrets;
mod service;

use serde_json::{Value, json};

use crate::support::{Broker, Config, Receiver};

/// The bucket's stream.
const BUCKET: &str = "KV_NATSHOOK_TARGETS";
/// 32 bytes.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

/// A natshook that knows no target, and lets them register.
fn open(broker: &Broker) -> Config {
    Config::on(broker).and(&format!("[registry]\nenabled = true\nkey = \"{KEY}\""))
}

/// What was answered: the error's code, if it is one, and the body.
#[derive(Debug)]
struct Answered {
    code: Option<String>,
    error: Option<String>,
    body: Value,
}

impl Answered {
    fn done(self) -> Value {
        assert_eq!(self.code, None, "{}", self.body);
        self.body
    }

    /// The keys that are wrong.
    fn wrong(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors.filter_map(|error| error["key"].as_str()).collect()
    }
}

/// Asks natshook's registry, as any client of NATS may.
async fn ask(broker: &Broker, verb: &str, question: Value) -> Answered {
    ask_with(&broker.client().await, verb, question).await
}

async fn ask_with(client: &async_nats::Client, verb: &str, question: Value) -> Answered {
    let answer = client.request(format!("natshook.targets.{verb}"), question.to_string().into()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{verb}: {error}"));
    let header = |name| answer.headers.as_ref()?.get(name).map(ToString::to_string);
    Answered {
        code: header("Nats-Service-Error-Code"),
        error: header("Nats-Service-Error"),
        body: serde_json::from_slice(&answer.payload).unwrap(),
    }
}

async fn put(broker: &Broker, target: Value) -> Answered {
    ask(broker, "put", json!({ "target": target })).await
}

/// A target of `subject` at `path`.
fn target(name: &str, subject: &str, receiver: &Receiver, path: &str) -> Value {
    json!({ "name": name, "subjects": [subject], "url": receiver.url(path) })
}

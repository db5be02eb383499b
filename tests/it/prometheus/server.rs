//! A real Prometheus for one test: own port, own store, ended with the test. What it scrapes can change.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{free_port, http, secs, signal, until};

/// Every job reads its targets from a file of its name. Short intervals: what is waited for is seen at once.
const CONFIG: &str = "
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms }
rule_files: [alerts.yml]
scrape_configs:
  - { job_name: natshook, file_sd_configs: [{ files: [natshook.json] }] }
  - { job_name: natshook-text, file_sd_configs: [{ files: [natshook-text.json] }] }
";

/// A running Prometheus.
#[derive(Debug)]
pub(super) struct Prometheus {
    port: u16,
    child: Child,
    dir: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- prometheus {}\n{log}", self.port);
        }
    }
}

impl Prometheus {
    /// Starts `program` with a port of this machine for each job, and without rules, and waits until it is ready.
    pub(super) async fn start(program: &Path, jobs: &[(&str, u16)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).expect("written");
        write("prometheus.yml", CONFIG);
        for (job, port) in jobs {
            scrape(dir.path(), job, &[*port]);
        }
        let port = free_port();
        let child = Command::new(program)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=store")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).expect("a log file"))
            .spawn()
            .expect("prometheus starts");
        let prometheus = Self { port, child, dir };
        until("Prometheus is ready", secs(20), async || {
            http::get(port, "/-/ready").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
        prometheus
    }

    /// Evaluates these rules from now on.
    pub(super) fn rules(&self, rules: &str) {
        std::fs::write(self.dir.path().join("alerts.yml"), rules).expect("written");
        signal(self.child.id(), "HUP");
    }

    /// From now on `job` scrapes these ports of this machine.
    pub(super) fn scrape(&self, job: &str, ports: &[u16]) {
        scrape(self.dir.path(), job, ports);
    }

    /// The rows of an instant query: labels and value.
    pub(super) async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        let (status, body) = http::get(self.port, &path).await.expect("Prometheus answers");
        assert_eq!(status, 200, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let rows = answer["data"]["result"].as_array().expect("an instant vector").iter();
        let value = |row: &Value| row["value"][1].as_str().and_then(|text| text.parse().ok());
        rows.map(|row| (row["metric"].clone(), value(row).expect("a number"))).collect()
    }

    /// The one value of a query; `None` without a row.
    pub(super) async fn value(&self, query: &str) -> Option<f64> {
        let rows = self.query(query).await;
        assert!(rows.len() <= 1, "{query} has {rows:?}");
        rows.first().map(|(_, value)| *value)
    }

    /// How often the rules were evaluated.
    pub(super) async fn evaluated(&self) -> f64 {
        let (_, own) = http::get(self.port, "/metrics").await.expect("Prometheus answers");
        let count = own.lines().find(|line| line.starts_with("prometheus_rule_group_iterations_total{"));
        count.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
    }

    /// The alerts that have fired since the start.
    pub(super) async fn fired(&self) -> BTreeSet<String> {
        let query = "count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[1h]))";
        let rows = self.query(query).await.into_iter();
        rows.filter_map(|(labels, _)| Some(labels["alertname"].as_str()?.to_owned())).collect()
    }
}

fn scrape(folder: &Path, job: &str, ports: &[u16]) {
    let targets: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let beside = folder.join("targets.new");
    std::fs::write(&beside, serde_json::json!([{ "targets": targets }]).to_string()).expect("written");
    std::fs::rename(beside, folder.join(format!("{job}.json"))).expect("renamed");
}

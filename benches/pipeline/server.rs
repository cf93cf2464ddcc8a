//! The server under test, as a process of its own.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::process;

const START_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(120);
const LOG_TAIL_BYTES: usize = 4096;

/// A running server; killed if dropped.
pub(crate) struct Server {
    child: Child,
    pid: u32,
    /// Kept open: a server that prints to a closed pipe would fail.
    _stdout: Lines<BufReader<ChildStdout>>,
    otlp_url: String,
    http_url: String,
}

impl Server {
    /// Starts the release binary with the defaults (and the `DRIFTWATT_*` of this environment) and waits until it is ready.
    ///
    /// # Errors
    /// If it ends or says nothing for a minute.
    pub(crate) async fn start(data_dir: &Path, log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftwatt"));
        command.args(["serve", "--no-self-metrics", "--http", "127.0.0.1:0", "--postgres", "127.0.0.1:0"]);
        command
            .args(["--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--flight", "127.0.0.1:0", "--data"])
            .arg(data_dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(log)?).kill_on_drop(true);
        let mut child = command.spawn().context("start the server")?;
        let pid = child.id().context("the server has ended")?;
        let mut stdout = BufReader::new(child.stdout.take().context("standard output")?).lines();
        let line = timeout(START_TIME_MAX, stdout.next_line()).await.context("the server is not ready")??;
        let line = line.context("the server ended before it was ready")?;
        let address = |name: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_owned).with_context(|| format!("no {name} in {line:?}"))
        };
        ensure!(line.starts_with("ready "), "unexpected first line {line:?}");
        let otlp_url = format!("http://{}/v1/metrics", address("otlp-http")?);
        let http_url = format!("http://{}", address("http")?);
        Ok(Self { child, pid, _stdout: stdout, otlp_url, http_url })
    }

    /// Where OTLP requests go.
    pub(crate) fn otlp_url(&self) -> &str {
        &self.otlp_url
    }

    /// Where questions go and own metrics are, such as `http://127.0.0.1:4320`.
    pub(crate) fn http_url(&self) -> &str {
        &self.http_url
    }

    /// CPU time of the server so far.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        process::cpu_seconds(self.pid)
    }

    /// Largest resident set of the server so far.
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        process::peak_rss_bytes(self.pid)
    }

    /// Brings everything acknowledged to the tables.
    ///
    /// # Errors
    /// Any answer but success.
    pub(crate) async fn flush(&self) -> anyhow::Result<()> {
        let http = reqwest::Client::builder().timeout(STOP_TIME_MAX).no_proxy().build()?;
        http.post(format!("{}/api/v1/admin/flush", self.http_url()))
            .send()
            .await?
            .error_for_status()
            .context("flush")?;
        Ok(())
    }

    /// CPU seconds by stage, as the server's own metrics tell them.
    ///
    /// # Errors
    /// If the metrics cannot be read.
    pub(crate) async fn stages(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let text = reqwest::get(format!("{}/metrics", self.http_url())).await?.error_for_status()?.text().await?;
        let lines = text.lines().filter(|line| line.starts_with("driftwatt_") && line.contains("_stage_cpu_seconds"));
        lines
            .map(|line| {
                let stage = line.split("stage=\"").nth(1).and_then(|rest| rest.split('"').next());
                let value = line.rsplit(' ').next().and_then(|value| value.parse().ok());
                Ok((stage.context("no stage")?.to_owned(), value.context("no value")?))
            })
            .collect()
    }

    /// Ends the server as a service manager would.
    ///
    /// # Errors
    /// If it does not end, or not with exit status 0.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let kill = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await.context("kill")?;
        ensure!(kill.success(), "the server cannot be signalled");
        let status = timeout(STOP_TIME_MAX, self.child.wait()).await.context("the server does not stop")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// The end of the server's log.
pub(crate) fn log_tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
}

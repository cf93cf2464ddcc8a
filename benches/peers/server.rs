//! A server under test, as a process of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    process,
    product::{Addresses, Product},
};

const START_TIME_MAX: Duration = Duration::from_secs(120);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(180);
const POLL_EVERY: Duration = Duration::from_millis(50);

/// A running server; killed if dropped.
pub(crate) struct Server {
    product: Product,
    child: Child,
    pid: u32,
    http: Client,
    at: Addresses,
    data_dir: PathBuf,
}

/// An address of this machine that nobody listens at.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Server {
    /// Starts `program` with its data, and what it logs, in `dir`, and waits until it is ready.
    ///
    /// # Errors
    /// If it ends, or is not ready in two minutes.
    pub(crate) async fn start(product: Product, program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let at = Addresses { http: free_address()?, otlp_http: free_address()?, otlp_grpc: free_address()? };
        let log = fs::File::options().create(true).append(true).open(dir.join("server.log"))?;
        let mut command = Command::new(program);
        command.args(product.arguments(dir, &at)?).current_dir(dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let pid = child.id().context("the server has ended")?;
        let http = Client::builder().timeout(ANSWER_TIME_MAX).no_proxy().build()?;
        let ready_url = format!("http://{}{}", at.http, product.ready_path());
        let started = Instant::now();
        while !http.get(&ready_url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let ended = child.try_wait()?;
            ensure!(ended.is_none(), "the server ended before it was ready: {ended:?}");
            ensure!(started.elapsed() < START_TIME_MAX, "the server is not ready after {START_TIME_MAX:?}");
            tokio::time::sleep(POLL_EVERY).await;
        }
        Ok(Self { product, child, pid, http, at, data_dir: dir.join("data") })
    }

    /// What it is.
    pub(crate) fn product(&self) -> Product {
        self.product
    }

    /// Where it keeps its data.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where OTLP requests go.
    pub(crate) fn otlp_url(&self) -> String {
        self.product.otlp_url(&self.at)
    }

    /// CPU time so far.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        process::cpu_seconds(self.pid)
    }

    /// Largest resident set so far.
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        process::peak_rss_bytes(self.pid)
    }

    /// A GET of `path`.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("http://{}{path}", self.at.http))
    }

    /// A POST to `path`.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("http://{}{path}", self.at.http))
    }

    /// Ends it as a crash would: at once, with nothing written that is not written yet.
    ///
    /// # Errors
    /// If it has ended before.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the server has ended by itself: {ended:?}");
        self.child.kill().await.context("kill the server")
    }
}

/// The body of a successful answer.
///
/// # Errors
/// Any other answer, with what it says.
pub(crate) async fn text(request: RequestBuilder) -> anyhow::Result<String> {
    let answer = request.send().await.context("ask the server")?;
    let status = answer.status();
    let text = answer.text().await.context("read the answer")?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(text)
}

/// The same as JSON.
///
/// # Errors
/// As for [`text`], and if it is none.
pub(crate) async fn json(request: RequestBuilder) -> anyhow::Result<Value> {
    let text = text(request).await?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

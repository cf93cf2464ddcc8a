//! The real server as a child process on free loopback ports.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const START_LIMIT: Duration = Duration::from_secs(60);
/// A port that the system chooses.
const FREE: &str = "127.0.0.1:0";

pub(crate) struct Server {
    child: Child,
    pub(crate) http: String,
    pub(crate) otlp_grpc: String,
    pub(crate) otlp_http: String,
    pub(crate) postgres: String,
    pub(crate) flight: String,
    data: PathBuf,
}

/// The binary under test.
pub(crate) fn driftwatt() -> Command {
    Command::new(env!("CARGO_BIN_EXE_driftwatt"))
}

/// A server with a directory of its own.
pub(crate) fn start() -> (tempfile::TempDir, Server) {
    start_with(&[])
}

/// The same with extra environment variables.
pub(crate) fn start_with(variables: &[(&str, &str)]) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&dir.path().join("data"), variables);
    (dir, server)
}

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts with the address for OTLP/gRPC that an earlier server had.
    pub(crate) fn start_at(data: &Path, otlp_grpc: &str) -> Self {
        Self::try_start_command(driftwatt(), data, &[], otlp_grpc).unwrap_or_else(|status| panic!("{status}"))
    }

    /// Starts with extra environment variables and waits for the `ready` line.
    pub(crate) fn start_with(data: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_command(driftwatt(), data, variables)
    }

    /// Starts the binary by a command of the test's own, which passes its arguments on.
    pub(crate) fn start_command(command: Command, data: &Path, variables: &[(&str, &str)]) -> Self {
        Self::try_start_command(command, data, variables, FREE).unwrap_or_else(|status| {
            panic!("{status}; log:\n{}", std::fs::read_to_string(data.with_extension("log")).unwrap())
        })
    }

    /// Starts a server that may end before it is ready.
    pub(crate) fn try_start_with(data: &Path, variables: &[(&str, &str)]) -> Result<Self, ExitStatus> {
        Self::try_start_command(driftwatt(), data, variables, FREE)
    }

    /// Starts with the configuration file `config`.
    pub(crate) fn start_configured(data: &Path, config: &str) -> Self {
        let started = Self::try_start(driftwatt(), data, &[], FREE, &["--config", config]);
        started.unwrap_or_else(|status| {
            panic!("{status}; log:\n{}", std::fs::read_to_string(data.with_extension("log")).unwrap())
        })
    }

    fn try_start_command(
        command: Command,
        data: &Path,
        variables: &[(&str, &str)],
        otlp_grpc: &str,
    ) -> Result<Self, ExitStatus> {
        Self::try_start(command, data, variables, otlp_grpc, &[])
    }

    fn try_start(
        mut command: Command,
        data: &Path,
        variables: &[(&str, &str)],
        otlp_grpc: &str,
        more: &[&str],
    ) -> Result<Self, ExitStatus> {
        std::fs::create_dir_all(data).unwrap();
        let log = File::options().create(true).append(true).open(data.with_extension("log")).unwrap();
        let mut child = command
            .args([
                "serve",
                "--no-self-metrics",
                "--http",
                FREE,
                "--otlp-grpc",
                otlp_grpc,
                "--otlp-http",
                FREE,
                "--postgres",
                FREE,
                "--flight",
                FREE,
                "--data",
            ])
            .arg(data)
            .args(more)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (ready_tx, ready_rx) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if line.starts_with("ready ") && ready_tx.send(line).is_err() {
                    return;
                }
            }
        });
        let ready = match ready_rx.recv_timeout(START_LIMIT) {
            Ok(ready) => ready,
            Err(RecvTimeoutError::Disconnected) => return Err(child.wait().unwrap()),
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("no ready line; log:\n{}", std::fs::read_to_string(data.with_extension("log")).unwrap());
            }
        };
        let address = |name: &str| {
            let field = ready.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            field.unwrap_or_else(|| panic!("no {name} in {ready:?}")).to_owned()
        };
        Ok(Self {
            http: address("http"),
            otlp_grpc: address("otlp-grpc"),
            otlp_http: address("otlp-http"),
            postgres: address("postgres"),
            flight: address("flight"),
            child,
            data: data.to_owned(),
        })
    }

    /// How a server ended that ends by itself.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}; log:\n{}", self.log());
    }

    /// A memory figure of the process in bytes, such as `VmRSS` or `VmHWM`. Linux only.
    pub(crate) fn memory_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// The status and body of `POST /api/v1/sql`.
    pub(crate) async fn ask(&self, body: Value) -> (u16, Value) {
        let url = format!("http://{}/api/v1/sql", self.http);
        let response = reqwest::Client::new().post(url).body(body.to_string()).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The rows of a query that must succeed.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let (status, body) = self.ask(json!({ "query": sql })).await;
        assert_eq!(status, 200, "{sql}: {body}\n{}", self.log());
        assert_eq!(body["truncated"], false, "{sql}");
        serde_json::from_value(body["rows"].clone()).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.http)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn flush(&self) {
        let (status, body) = self.try_flush().await.unwrap();
        assert_eq!(status, 200, "{body}; log:\n{}", self.log());
    }

    /// Status and body of a flush, or the failure of a connection to a server that is gone.
    pub(crate) async fn try_flush(&self) -> Result<(u16, String), reqwest::Error> {
        let url = format!("http://{}/api/v1/admin/flush", self.http);
        let response = reqwest::Client::new().post(url).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `kill` and `terminate`.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// The rows of a query once they are as expected; the table may not be there yet.
pub(crate) async fn eventually(
    server: &Server,
    sql: &str,
    is_expected: impl Fn(&[Vec<Value>]) -> bool,
) -> Vec<Vec<Value>> {
    let end = Instant::now() + START_LIMIT;
    loop {
        let (status, body) = server.ask(json!({ "query": sql })).await;
        let rows: Vec<Vec<Value>> = serde_json::from_value(body["rows"].clone()).unwrap_or_default();
        if status == 200 && is_expected(&rows) {
            return rows;
        }
        assert!(Instant::now() < end, "{sql}: {body}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The server's own metrics once they have `name`.
pub(crate) async fn eventually_measured(server: &Server, name: &str) -> String {
    let end = Instant::now() + START_LIMIT;
    loop {
        let (_, metrics) = server.get("/metrics").await;
        if metrics.contains(name) {
            return metrics;
        }
        assert!(Instant::now() < end, "{name}: {metrics}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

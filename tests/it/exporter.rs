//! Exporters of the tests' own, and the real collector that scrapes them.

use std::{
    collections::HashMap,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::server::{Server, driftwatt};

/// Gives out pages by path; what is not there is 404.
#[derive(Clone, Default)]
pub(crate) struct Exporter {
    pages: Arc<Mutex<HashMap<String, String>>>,
    pub(crate) address: String,
}

impl Exporter {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let exporter = Self { address: listener.local_addr().unwrap().to_string(), ..Self::default() };
        let pages = Arc::clone(&exporter.pages);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap();
                    let page = pages.lock().unwrap().get(path).cloned();
                    if let Some(answer) = page.as_ref().filter(|page| page.starts_with("HTTP/")) {
                        let _sent = stream.write_all(answer.as_bytes()).await;
                        return;
                    }
                    let (status, page) = page.map_or(("404 Not Found", String::new()), |page| ("200 OK", page));
                    let is_open = path.contains("openmetrics") && head.contains("application/openmetrics-text");
                    let content_type = if is_open {
                        "application/openmetrics-text; version=1.0.0; charset=utf-8"
                    } else {
                        "text/plain; version=0.0.4"
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                        page.len()
                    );
                    // The collector may have gone away meanwhile.
                    let _sent = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        exporter
    }

    /// Gives out a page from now on; a text that begins with `HTTP/` is the whole answer, after which the connection ends.
    pub(crate) fn put(&self, path: &str, page: impl Into<String>) {
        self.pages.lock().unwrap().insert(path.to_owned(), page.into());
    }

    /// From now on no path is there.
    pub(crate) fn clear(&self) {
        self.pages.lock().unwrap().clear();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A collector that is killed when the test ends.
pub(crate) struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Collects by a configuration until the end of the test.
pub(crate) fn collect(dir: &tempfile::TempDir, server: &Server, scrape: &str) -> Collector {
    let config = dir.path().join("collect.toml");
    let text =
        format!("[collector]\nendpoint = \"http://{}\"\ngpu = false\ninterval = \"1s\"\n{scrape}", server.otlp_grpc);
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::create(dir.path().join("collect.log")).unwrap();
    let mut command = driftwatt();
    command.arg("collect").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log);
    Collector(command.spawn().unwrap())
}

/// Waits until a query answers with `expected`.
pub(crate) async fn until(server: &Server, sql: &str, expected: &[Vec<Value>]) {
    let mut rows = Vec::new();
    for _ in 0..300 {
        rows = server.rows(sql).await;
        if rows == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rows, expected, "{sql}");
}

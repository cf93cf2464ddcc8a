//! `driftwatt collect --scrape` against pages that a server of the test's own gives out, into the real server.

use std::{
    collections::HashMap,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::server::{Server, driftwatt};

const DCGM: &str = include_str!("../../collector/src/scrape/testdata/dcgm.txt");
const VLLM: &str = include_str!("../../collector/src/scrape/testdata/vllm.txt");
const OPEN_METRICS: &str = include_str!("../../collector/src/scrape/testdata/openmetrics.txt");

/// Gives out pages by path; what is not there is 404.
#[derive(Clone, Default)]
struct Exporter {
    pages: Arc<Mutex<HashMap<String, String>>>,
    address: String,
}

impl Exporter {
    async fn start() -> Self {
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

    fn put(&self, path: &str, page: impl Into<String>) {
        self.pages.lock().unwrap().insert(path.to_owned(), page.into());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A collector that is killed when the test ends.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    (dir, server)
}

/// Collects by a configuration until the end of the test.
fn collect(dir: &tempfile::TempDir, server: &Server, scrape: &str) -> Collector {
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
async fn until(server: &Server, sql: &str, expected: &[Vec<Value>]) {
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

fn once(server: &Server, protocol: &str, urls: &[String]) -> std::process::Output {
    let endpoint = if protocol == "grpc" { &server.otlp_grpc } else { &server.otlp_http };
    let mut command = driftwatt();
    command.args(["collect", "--once", "--endpoint", &format!("http://{endpoint}")]);
    urls.iter().for_each(|url| _ = command.args(["--scrape", url]));
    command.env("DRIFTWATT_COLLECTOR__GPU", "false").env("DRIFTWATT_COLLECTOR__PROTOCOL", protocol).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_exporters_become_points_with_the_names_of_their_pages() {
    let (_dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/dcgm", DCGM);
    exporter.put("/vllm", VLLM);
    exporter.put("/openmetrics", OPEN_METRICS);
    let urls = ["/dcgm", "/vllm", "/openmetrics", "/not-there"].map(|path| exporter.url(path));
    for protocol in ["grpc", "http"] {
        let output = once(&server, protocol, &urls);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let used = "SELECT DISTINCT value, kind, gpu_id, gpu_model, host_name, k8s_pod, service_name, service_instance_id \
                FROM metrics WHERE metric = 'DCGM_FI_DEV_FB_USED'";
    let texts = ["GPU-aaaa", "NVIDIA H100 80GB HBM3", "node-1", "resnet-0", "scrape", exporter.address.as_str()];
    let mut expected = vec![json!(40960.0), json!("gauge")];
    expected.extend(texts.map(|text| json!(text)));
    assert_eq!(server.rows(used).await, [expected]);
    let counters = "SELECT DISTINCT metric, value FROM metrics WHERE kind = 'sum' AND metric IN \
                    ('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', 'vllm:prompt_tokens_total', 'app_requests_total') ORDER BY 1";
    let row = |name: &str, value: f64| vec![json!(name), json!(value)];
    let expected = [
        row("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 123_456_789.0),
        row("app_requests_total", 12.0),
        row("vllm:prompt_tokens_total", 12000.0),
    ];
    assert_eq!(server.rows(counters).await, expected);
    let latency =
        "SELECT DISTINCT count, sum, bounds, bucket_counts, unit FROM histograms WHERE metric = 'app_latency_seconds'";
    let expected = [json!(10), json!(4.5), json!([0.1, 1.0]), json!([3, 6, 1]), json!("s")];
    assert_eq!(server.rows(latency).await, [expected]);
    let start = "SELECT DISTINCT CAST(start_time AS VARCHAR) FROM raw.samples WHERE metric = 'app_requests_total'";
    assert_eq!(server.rows(start).await, [[json!("2023-11-14T22:13:20Z")]]);
    // Four targets of one job and instance, told apart by nothing but what they show: three of each run are up.
    let up = "SELECT value, count(*) FROM raw.samples WHERE metric = 'up' GROUP BY value ORDER BY value";
    let up = server.rows(up).await;
    assert!(up.iter().any(|row| row[0] == json!(1.0)), "{up:?}");
    assert_eq!(server.rows("SELECT count(*) FROM rejections").await, [[json!(0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_that_vanishes_and_a_target_that_fails_leave_markers() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/metrics", "# TYPE kept gauge\nkept 1\n# TYPE goes gauge\ngoes 2\n");
    let scrape = format!("[[collector.scrape]]\njob = \"ns/app\"\ntargets = [\"{}\"]\n", exporter.url("/metrics"));
    let _collector = collect(&dir, &server, &scrape);
    until(
        &server,
        "SELECT count(DISTINCT metric) FROM raw.samples WHERE metric IN ('kept', 'goes')",
        &[vec![json!(2)]],
    )
    .await;
    exporter.put("/metrics", "# TYPE kept gauge\nkept 1\nnot a line\n");
    let markers = "SELECT metric, count(*) FROM raw.samples WHERE value IS NULL GROUP BY metric ORDER BY metric";
    until(&server, markers, &[vec![json!("goes"), json!(1)]]).await;
    let errors = "SELECT max(value) FROM raw.samples WHERE metric = 'driftwatt.collector.scrape.page.errors'";
    until(&server, errors, &[vec![json!(1.0)]]).await;
    exporter.pages.lock().unwrap().clear();
    until(&server, markers, &[vec![json!("goes"), json!(1)], vec![json!("kept"), json!(1)]]).await;
    let up = "SELECT value, service_name FROM metrics WHERE metric = 'up' ORDER BY time DESC LIMIT 1";
    until(&server, up, &[vec![json!(0.0), json!("app")]]).await;
    let log = std::fs::read_to_string(dir.path().join("collect.log")).unwrap();
    assert!(log.contains("target cannot be scraped") && log.contains("404"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_page_is_not_used() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/openmetrics", OPEN_METRICS.strip_suffix("# EOF\n").unwrap());
    let scrape = format!("[[collector.scrape]]\ntargets = [\"{}\"]\n", exporter.url("/openmetrics"));
    let _collector = collect(&dir, &server, &scrape);
    until(&server, "SELECT DISTINCT value FROM raw.samples WHERE metric = 'up'", &[vec![json!(0.0)]]).await;
    assert_eq!(server.rows("SELECT count(*) FROM raw.series WHERE metric LIKE 'app_%'").await, [[json!(0)]]);
    exporter.put("/openmetrics", OPEN_METRICS);
    until(&server, "SELECT max(value) FROM raw.samples WHERE metric = 'up'", &[vec![json!(1.0)]]).await;
    until(&server, "SELECT DISTINCT value FROM raw.samples WHERE metric = 'app_build_info'", &[vec![json!(1.0)]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_come_and_go_with_their_file() {
    let (dir, server) = start();
    let exporter = Exporter::start().await;
    exporter.put("/metrics", "found 1\n");
    let file = dir.path().join("targets.json");
    std::fs::write(&file, "[]").unwrap();
    let scrape = format!("[[collector.scrape]]\njob = \"files\"\nfiles = [\"{}\"]\n", file.display());
    let _collector = collect(&dir, &server, &scrape);
    let groups = json!([{ "targets": [exporter.address], "labels": { "rack": "7", "job": "renamed" } }]);
    std::fs::write(&file, groups.to_string()).unwrap();
    let found = "SELECT DISTINCT service_name, attributes['rack'] FROM metrics WHERE metric = 'found'";
    until(&server, found, &[vec![json!("renamed"), json!("7")]]).await;
    std::fs::write(&file, "[ ]").unwrap();
    until(&server, "SELECT count(*) FROM raw.samples WHERE metric = 'found' AND value IS NULL", &[vec![json!(1)]])
        .await;
}

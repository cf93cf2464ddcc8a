//! `driftwatt collect --buffer` while the server is away, refuses, or comes back.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{metric::Data, number_data_point::Value as Number},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::server::{Server, driftwatt};

/// The body of an HTTP request; none if the client is gone.
async fn body(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let length = text.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    // The collector may have been killed meanwhile.
    let _sent = stream.write_all(format!("{head}{text}").as_bytes()).await;
}

/// Gives out a page that says how often it was read, with so many other series.
struct Exporter {
    address: String,
    reads: Arc<AtomicUsize>,
}

impl Exporter {
    async fn start(other_series: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let others: String = (0..other_series).map(|index| format!("other{{index=\"{index}\"}} {index}\n")).collect();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if body(&mut stream).await.is_some() {
                    let read = counted.fetch_add(1, Ordering::SeqCst) + 1;
                    answer(&mut stream, "200 OK", &format!("# TYPE reads gauge\nreads {read}\n{others}")).await;
                }
            }
        });
        Self { address, reads }
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// Waits for so many more reads; how many there are then.
    async fn more(&self, count: usize) -> usize {
        let enough = self.reads() + count;
        for _ in 0..1200 {
            if self.reads() >= enough {
                return self.reads();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} of {enough} reads", self.reads());
    }
}

/// A collector that is killed when the test ends.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        // Already gone after a test of its end.
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

/// What the collectors of one test have in common.
struct Setting {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Setting {
    fn new(endpoint: &str, exporter: &Exporter, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("collect.toml");
        let text = format!(
            "[collector]\nendpoint = \"http://{endpoint}\"\ngpu = false\ninterval = \"1s\"\nbuffer_dir = {:?}\n{more}\n\
             [[collector.scrape]]\ntargets = [\"http://{}/metrics\"]\n",
            dir.path().join("buffer"),
            exporter.address
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, config }
    }

    fn collect(&self) -> Collector {
        let log = self.dir.path().join("collect.log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = driftwatt();
        command.env("RUST_LOG", "info");
        command.arg("collect").arg("--config").arg(&self.config).stdout(Stdio::null()).stderr(log);
        Collector(command.spawn().unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("collect.log")).unwrap()
    }
}

/// The values of `reads` that are stored, in the order of their times, once `until` is there.
async fn stored(server: &Server, until: usize) -> Vec<usize> {
    let sql =
        "SELECT CAST(value AS BIGINT) FROM raw.samples WHERE metric = 'reads' AND value IS NOT NULL ORDER BY time";
    let mut values = Vec::new();
    for _ in 0..1200 {
        let rows = server.rows(sql).await;
        values = rows.iter().map(|row| row[0].as_u64().unwrap() as usize).collect();
        if values.iter().any(|value| *value >= until) {
            return values;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no {until} in {values:?}; log:\n{}", server.log());
}

fn missing(values: &[usize]) -> Vec<usize> {
    let last = values.iter().max().copied().unwrap_or(0);
    (1..=last).filter(|value| !values.contains(value)).collect()
}

async fn number(server: &Server, sql: &str) -> f64 {
    server.rows(sql).await[0][0].as_f64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_a_killed_collector_lose_nothing_and_store_nothing_twice() {
    let exporter = Exporter::start(0).await;
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(&data.path().join("data"));
    let address = server.otlp_grpc.clone();
    let setting = Setting::new(&address, &exporter, "");
    let collector = setting.collect();
    stored(&server, 2).await;

    server.kill();
    exporter.more(4).await;
    let other = driftwatt().arg("collect").arg("--once").arg("--config").arg(&setting.config).output().unwrap();
    assert!(!other.status.success());
    let message = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(message.contains("another collector uses the buffer"), "{message}");
    drop(collector);
    let read_at_kill = exporter.reads();
    let _collector = setting.collect();
    let read_while_away = exporter.more(3).await;

    let server = Server::start_at(&data.path().join("data"), &address);
    let values = stored(&server, read_while_away + 2).await;
    assert!(values.is_sorted_by(|earlier, later| earlier < later), "twice, or not in order: {values:?}");
    // A page that was given out while the collector was being killed may not have been on its disk yet.
    assert!(missing(&values).iter().all(|value| *value == read_at_kill), "killed at {read_at_kill}: {values:?}");

    // Own readings begin one interval after the start of each of the two processes.
    let own = "SELECT count(*), count(DISTINCT time) FROM raw.samples WHERE metric = 'system.memory.limit'";
    let own = server.rows(own).await.remove(0);
    assert_eq!(own[0], own[1]);
    assert!(own[0].as_u64().unwrap() as usize + 4 >= values.len(), "{own:?} of {}", values.len());
    let age = "SELECT max(value) FROM raw.samples WHERE metric = 'driftwatt.collector.buffer.age'";
    assert!(number(&server, age).await > 2.0);
    let usage = "SELECT max(value) FROM raw.samples WHERE metric = 'driftwatt.collector.buffer.usage'";
    assert!(number(&server, usage).await >= 4.0 * 4096.0);
    let dropped = "SELECT max(value) FROM raw.samples WHERE metric = 'driftwatt.collector.buffer.dropped'";
    assert_eq!(number(&server, dropped).await, 0.0);
    assert_eq!(server.rows("SELECT count(*) FROM rejections").await, [[json!(0)]]);
    let log = setting.log();
    assert!(log.contains("stay in the buffer") && log.contains("the server takes requests again"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_make_room_in_a_full_buffer_and_are_counted() {
    let exporter = Exporter::start(4000).await;
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(&data.path().join("data"));
    let address = server.otlp_grpc.clone();
    let setting = Setting::new(&address, &exporter, "buffer_size_max = \"1MiB\"");
    let _collector = setting.collect();
    stored(&server, 2).await;

    server.kill();
    let read_while_away = exporter.more(14).await;
    let files = std::fs::read_dir(setting.dir.path().join("buffer")).unwrap();
    let bytes: u64 = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
    assert!(bytes > 1 << 18 && bytes <= 1 << 20, "{bytes}");
    let server = Server::start_at(&data.path().join("data"), &address);
    let values = stored(&server, read_while_away + 2).await;
    assert!(values.is_sorted_by(|earlier, later| earlier < later), "{values:?}");
    let missing = missing(&values);
    let (first, last) = (missing[0], missing[missing.len() - 1]);
    assert_eq!(missing.len(), last - first + 1, "only the oldest are gone: {values:?}");
    assert!(first > 1 && last < read_while_away, "{values:?}");
    let dropped = "SELECT max(value) FROM metrics WHERE metric = 'driftwatt.collector.buffer.dropped' \
                   AND attributes['error.type'] = 'full'";
    // Own readings make room too.
    assert!(number(&server, dropped).await >= missing.len() as f64);
    assert!(setting.log().contains("the buffer is full"), "{}", setting.log());
}

/// An OTLP/HTTP server that answers with one status after the other, and then with 200; what it got, with its answers.
async fn picky(statuses: &'static [&'static str]) -> (String, Arc<Mutex<Vec<(&'static str, Vec<u8>)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let got = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&got);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(body) = body(&mut stream).await else { continue };
            let status = {
                let mut log = log.lock().unwrap();
                let status = statuses.get(log.len()).copied().unwrap_or("200 OK");
                log.push((status, body));
                status
            };
            answer(&mut stream, status, "").await;
        }
    });
    (address, got)
}

/// The value of `reads` in a request, if it has one.
fn read_in(body: &[u8]) -> Option<usize> {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let reads = scopes.flat_map(|scope| scope.metrics).find(|metric| metric.name == "reads")?;
    match reads.data? {
        Data::Gauge(gauge) => match gauge.data_points.first()?.value? {
            Number::AsDouble(value) => Some(value as usize),
            Number::AsInt(_) => None,
        },
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_server_is_tried_again_in_order_and_a_refused_request_is_dropped() {
    const STATUSES: &[&str] =
        &["503 Service Unavailable", "429 Too Many Requests", "502 Bad Gateway", "200 OK", "400 Bad Request"];
    let exporter = Exporter::start(0).await;
    let (address, got) = picky(STATUSES).await;
    let setting = Setting::new(&address, &exporter, "protocol = \"http\"");
    let mut collector = setting.collect();
    exporter.more(5).await;
    let pid = collector.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(collector.0.wait().unwrap().success(), "{}", setting.log());
    assert_eq!(requests_in(&setting.dir.path().join("buffer")), 0, "the rest is sent before the end");

    let got = got.lock().unwrap();
    assert!(got[1..4].iter().all(|(_, body)| *body == got[0].1), "the same request until it is taken");
    assert_eq!(got.iter().filter(|(_, body)| *body == got[4].1).count(), 1, "a refused request is not sent again");
    let taken: Vec<usize> = got[3..].iter().filter_map(|(_, body)| read_in(body)).collect();
    assert!(taken.len() >= 5, "{taken:?}");
    assert!(taken.iter().copied().eq(1..=taken.len()), "{taken:?}");
    assert!(setting.log().contains("the server refused a request"), "{}", setting.log());
}

fn requests_in(buffer: &Path) -> usize {
    let files = std::fs::read_dir(buffer).unwrap();
    files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "request")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn once_fails_with_a_server_that_is_away_and_the_next_run_delivers() {
    let data = tempfile::tempdir().unwrap();
    let buffer = data.path().join("buffer");
    let once = |endpoint: &str| {
        let mut command = driftwatt();
        command.args(["collect", "--once", "--endpoint", &format!("http://{endpoint}"), "--buffer"]).arg(&buffer);
        let variables = [("DRIFTWATT_COLLECTOR__GPU", "false"), ("DRIFTWATT_COLLECTOR__EXPORT_TIMEOUT", "1s")];
        command.envs(variables).output().unwrap()
    };
    // Bound, so that no other has it, and never accepted from.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let failed = once(&silent.local_addr().unwrap().to_string());
    let message = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && message.contains("requests are still in the buffer"), "{message}");
    let kept = requests_in(&buffer);
    assert!(kept > 0);

    let server = Server::start(&data.path().join("data"));
    let delivered = once(&server.otlp_grpc);
    assert!(delivered.status.success(), "{}", String::from_utf8_lossy(&delivered.stderr));
    assert_eq!(requests_in(&buffer), 0);
    let times = "SELECT count(DISTINCT time) FROM raw.samples WHERE metric = 'system.memory.limit'";
    let times = server.rows(times).await;
    assert!(matches!(&times[0][0], Value::Number(count) if count.as_u64().unwrap() as usize > kept), "{times:?}");
}

//! The real binary at work, and an OTLP/HTTP server that writes down what it sends.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point},
};
use prost::Message;

use crate::stand_in::StandIn;

/// One point of an export.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) metric: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) value: f64,
    pub(crate) start_time_unix_nano: u64,
    pub(crate) time_unix_nano: u64,
}

/// Attributes that tell series of one GPU apart.
const PARTS: [&str; 10] = [
    "driftwatt.gpu.mig.id",
    "process.pid",
    "driftwatt.gpu.clock.domain",
    "driftwatt.gpu.throttle.reason",
    "hw.gpu.task",
    "driftwatt.gpu.xid",
    "driftwatt.gpu.nvlink",
    "network.io.direction",
    "error.type",
    "driftwatt.collector.process",
];

/// All points of one export.
#[derive(Debug, Clone)]
pub(crate) struct Export(pub(crate) Vec<Point>);

impl Export {
    /// The value of the series with these attributes among its own.
    pub(crate) fn value(&self, metric: &str, attributes: &[(&str, &str)]) -> Option<f64> {
        self.point(metric, attributes).map(|point| point.value)
    }

    pub(crate) fn point(&self, metric: &str, attributes: &[(&str, &str)]) -> Option<&Point> {
        let has = |point: &&Point| attributes.iter().all(|(k, v)| point.attributes.get(*k).is_some_and(|own| own == v));
        self.0.iter().filter(|point| point.metric == metric).find(has)
    }

    /// The points of one GPU: metric, its attributes of [`PARTS`], value.
    pub(crate) fn of_gpu(&self, id: &str) -> BTreeMap<String, f64> {
        let name = |point: &Point| {
            let parts = PARTS.iter().filter_map(|key| point.attributes.get(*key));
            parts.fold(point.metric.clone(), |name, part| format!("{name} {part}"))
        };
        let of = self.0.iter().filter(|point| point.attributes.get("hw.id").is_some_and(|own| own == id));
        of.map(|point| (name(point), point.value)).collect()
    }

    pub(crate) fn stuck(&self) -> Option<f64> {
        self.value("driftwatt.collector.gpu.stuck", &[])
    }
}

/// The running collector; killed when dropped.
pub(crate) struct Collector {
    process: Child,
    exports: Receiver<Export>,
    is_away: Arc<AtomicBool>,
}

impl Collector {
    /// Starts it with the library of the stand-in, an interval of one second and 300 ms for the GPUs.
    pub(crate) fn start(stand_in: &StandIn) -> Self {
        Self::start_with(stand_in, "")
    }

    /// The same with further settings.
    pub(crate) fn start_with(stand_in: &StandIn, settings: &str) -> Self {
        let library = stand_in.library().display().to_string();
        let settings = format!("interval = \"1s\"\ngpu_timeout = \"300ms\"\nnvml_library = {library:?}\n{settings}");
        Self::start_in(stand_in.folder(), &settings)
    }

    /// Starts it with these settings alone; `folder` is for their file.
    pub(crate) fn start_in(folder: &Path, settings: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (sender, exports) = channel();
        let is_away = Arc::new(AtomicBool::new(false));
        let away = Arc::clone(&is_away);
        thread::spawn(move || serve(listener, &away, &sender));
        let config = folder.join("collector.toml");
        let settings = format!("[collector]\nendpoint = \"{endpoint}\"\nprotocol = \"http\"\n{settings}");
        std::fs::write(&config, settings).expect("the settings are written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftwatt-collector"));
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.arg("--config").arg(config).spawn().expect("the collector starts");
        Self { process, exports, is_away }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Takes the server away, so that nobody listens, or brings it back.
    pub(crate) fn take_server_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// What arrived and was not looked at.
    pub(crate) fn arrived(&self) -> Vec<Export> {
        self.exports.try_iter().collect()
    }

    /// Every export up to the first that fulfils the condition, that one last.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Export) -> bool) -> Vec<Export> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        while let Ok(export) = self.exports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let last = condition(&export);
            seen.push(export);
            if last {
                return seen;
            }
        }
        panic!("{what}: not among {} exports, of which the last is {:#?}", seen.len(), seen.last());
    }

    /// Signals every process of the collector, as a service manager does, and returns what was sent meanwhile.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Vec<Export>) {
        let group = format!("-{}", self.process.id());
        let signalled = Command::new("kill").args(["-s", "TERM", "--", &group]).status();
        assert!(signalled.is_ok_and(|status| status.success()));
        let status = self.process.wait().expect("it ends");
        (status, self.exports.try_iter().collect())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Takes requests until the test is over; while the server is away its port is closed.
fn serve(mut listener: TcpListener, is_away: &AtomicBool, exports: &Sender<Export>) {
    let address = listener.local_addr().expect("it is bound");
    loop {
        if is_away.load(Ordering::SeqCst) {
            drop(listener);
            while is_away.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            listener = TcpListener::bind(address).expect("the port is still free");
        }
        listener.set_nonblocking(true).expect("a socket");
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a socket");
                if receive(stream, exports).is_none() {
                    return;
                }
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Takes one request; `None` when the test is over.
fn receive(stream: TcpStream, exports: &Sender<Export>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).expect("a header") > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let request = ExportMetricsServiceRequest::decode(body.as_slice()).expect("an OTLP request");
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let sent = exports.send(Export(scopes.flat_map(|scope| scope.metrics).flat_map(points).collect()));
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(answer.as_bytes()).ok();
    sent.ok()
}

fn points(metric: Metric) -> Vec<Point> {
    let points = match metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points,
        Some(Data::Sum(sum)) => sum.data_points,
        other => panic!("{}: {other:?}", metric.name),
    };
    let point = |point: NumberDataPoint| Point {
        metric: metric.name.clone(),
        value: match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            None => panic!("{}: a point without a value", metric.name),
        },
        start_time_unix_nano: point.start_time_unix_nano,
        time_unix_nano: point.time_unix_nano,
        attributes: point.attributes.into_iter().map(attribute).collect(),
    };
    points.into_iter().map(point).collect()
}

fn attribute(attribute: KeyValue) -> (String, String) {
    let text = match attribute.value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{}: {other:?}", attribute.key),
    };
    (attribute.key, text)
}

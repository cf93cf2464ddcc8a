//! SIGKILL at every failpoint of the store, three times each: what was acknowledged is there exactly once, what was not is
//! there whole or absent and can be sent again, and a second reader of the tables finds the same.
//!
//! `cargo test --test it crash_matrix -- --nocapture` prints the table in `docs/reliability.md`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use driftwatt_store::Failpoint;
use futures::future::join_all;
use serde_json::json;
use tokio::{
    sync::{OnceCell, Semaphore},
    task::JoinSet,
};

use crate::{
    crash_ledger::{Ledger, Requests, check},
    damage::{copy, segments},
    delta,
    otlp::post,
    server::Server,
};

const ROUNDS: u64 = 3;
const LANES: usize = 2;
const SIGKILL: i32 = 9;
/// Requests on the way at once, so that a group of the log has several records.
const SENDERS: u64 = 2;
/// Every failpoint is passed three times well before this many pairs of a send and a flush.
const STEPS_MAX: u64 = 20;
/// The version at which the store writes a checkpoint.
const CHECKPOINT_VERSION: u64 = 100;
/// A segment for every request or two. Nothing is flushed but on request.
const SETTINGS: &[(&str, &str)] = &[("DRIFTWATT_STORE__WAL_SEGMENT_SIZE", "2KiB")];

/// What has to happen for a failpoint to be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Requests and flushes.
    Load,
    /// A flush that brings the tables to a version with a checkpoint.
    Checkpoint,
    /// A start on a log whose end is torn.
    TornEnd,
    /// A start on a log with damaged segments.
    Damage,
    /// Ten minutes: the time that replaced files stay.
    Grace,
}

fn way(point: Failpoint) -> Way {
    use Failpoint as F;
    match point {
        F::WalBeforeCreate | F::WalCreated | F::WalHeaderWritten => Way::Load,
        F::WalBeforeWrite | F::WalMidWrite | F::WalBeforeSync | F::WalAfterSync => Way::Load,
        F::WalBeforeRotate | F::WalAfterRotate | F::WalBeforeRemove | F::WalAfterRemove => Way::Load,
        F::WalBeforeCut | F::WalAfterCut => Way::TornEnd,
        F::WalBeforeQuarantine | F::WalQuarantineWritten => Way::Damage,
        F::WalRewriteWritten | F::WalBeforeRename | F::WalAfterRename => Way::Damage,
        F::ParquetBeforeCreate | F::ParquetMidWrite | F::ParquetBeforeSync | F::ParquetAfterSync => Way::Load,
        F::FlushAfterCommit => Way::Load,
        F::DeltaBeforeCreate | F::DeltaTemporaryWritten | F::DeltaBeforeLink => Way::Load,
        F::DeltaAfterLink | F::DeltaBeforeSync | F::DeltaAfterSync => Way::Load,
        F::DeltaBeforeCheckpoint | F::DeltaCheckpointWritten => Way::Checkpoint,
        F::DeltaBeforeDelete => Way::Grace,
    }
}

/// A data directory, and what was sent to it.
#[derive(Clone)]
struct Case {
    data: PathBuf,
    requests: Requests,
    ledger: Ledger,
}

/// What the rounds of one failpoint saw.
#[derive(Debug, Default)]
struct Row {
    /// Rounds by what the server was doing when it died.
    during: BTreeMap<&'static str, u64>,
    acknowledged: u64,
    /// Requests without an answer that were found whole.
    whole: u64,
    /// Requests without an answer that were not found.
    absent: u64,
}

impl Case {
    fn new(data: PathBuf) -> Self {
        Self { data, requests: Requests::new(), ledger: Ledger::default() }
    }

    fn start(&self) -> Server {
        Server::start_with(&self.data, SETTINGS)
    }

    /// Sends `requests` at once; true if the server is gone.
    async fn send(&mut self, server: &Server, requests: impl Iterator<Item = u64>) -> bool {
        let client = reqwest::Client::new();
        let requests: Vec<u64> = requests.collect();
        self.ledger.sent.extend(&requests);
        let answers = requests.iter().map(|k| post(&client, &server.otlp_http, self.requests.body(*k), &[]));
        let mut gone = false;
        for (k, answer) in requests.iter().zip(join_all(answers).await) {
            match answer {
                Ok((200, body)) => {
                    assert!(body.is_empty(), "request {k} was refused in part");
                    self.ledger.acknowledged.insert(*k);
                }
                Ok((status, body)) => panic!("request {k}: {status} {}", String::from_utf8_lossy(&body)),
                Err(_gone) => gone = true,
            }
        }
        gone
    }

    fn next(&self) -> u64 {
        self.ledger.sent.len() as u64
    }

    /// Sends new requests; true if the server is gone.
    async fn send_new(&mut self, server: &Server, count: u64) -> bool {
        let next = self.next();
        self.send(server, next..next + count).await
    }

    /// Runs the server with `failpoint` set until it dies there; what it was doing.
    async fn run_until_killed(&mut self, failpoint: &str) -> &'static str {
        let variables = [SETTINGS, &[("DRIFTWATT_FAILPOINT", failpoint)]].concat();
        let server = match Server::try_start_with(&self.data, &variables) {
            Ok(server) => server,
            Err(status) => {
                assert_eq!(status.signal(), Some(SIGKILL), "{failpoint}: {status}\n{}", self.log());
                return "start";
            }
        };
        let mut during = None;
        for _ in 0..STEPS_MAX {
            if self.send_new(&server, SENDERS).await {
                during = Some("ingest");
                break;
            }
            match server.try_flush().await {
                Ok((200, _)) => {}
                Ok((status, body)) => panic!("{failpoint}: flush {status} {body}"),
                Err(_gone) => {
                    during = Some("flush");
                    break;
                }
            }
        }
        let during = during.unwrap_or_else(|| panic!("{failpoint} was not reached"));
        let status = server.ended();
        assert_eq!(status.signal(), Some(SIGKILL), "{failpoint}: {status}\n{}", self.log());
        during
    }

    fn log(&self) -> String {
        fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// Starts as usual: the promises hold, the clients send again what was not answered, and everything is in the tables
    /// once, for us and for a second reader.
    async fn recover(&mut self, row: &mut Row) {
        let server = self.start();
        let stored = check(&server, &self.ledger).await;
        let unanswered: Vec<u64> = self.ledger.sent.difference(&self.ledger.acknowledged).copied().collect();
        row.acknowledged += self.ledger.acknowledged.len() as u64;
        let whole = unanswered.iter().filter(|k| stored.contains(k)).count() as u64;
        row.whole += whole;
        row.absent += unanswered.len() as u64 - whole;
        if !unanswered.is_empty() {
            assert!(!self.send(&server, unanswered.into_iter()).await, "{}", self.log());
            check(&server, &self.ledger).await;
        }
        server.flush().await;
        check(&server, &self.ledger).await;
        self.check_with_second_reader(&server).await;
        server.kill();
        assert!(!self.log().contains("missing from the log"), "{}", self.log());
    }

    async fn check_with_second_reader(&self, server: &Server) {
        for (table, column) in [("samples", "value"), ("histograms", "sum"), ("series", "none")] {
            let (rows, sum, series) = delta::read(&self.data.join("tables").join(table), column).await;
            let sum_of = if column == "none" { "0.0" } else { column };
            let sql =
                format!("SELECT count(*), coalesce(sum({sum_of}), 0.0), count(DISTINCT series_id) FROM raw.{table}");
            assert_eq!(json!([rows, sum, series]), json!(server.rows(&sql).await[0]), "{table}");
        }
    }

    /// Leaves a log of several segments behind, with bytes at the end that are no record.
    async fn tear(&mut self, junk_bytes: usize) {
        let newest = self.unflushed().await.pop().unwrap();
        let mut bytes = fs::read(&newest).unwrap();
        bytes.resize(bytes.len() + junk_bytes, 0x5a);
        fs::write(newest, bytes).unwrap();
    }

    /// Leaves a log of several segments behind, each with bytes between its records that are no record.
    async fn damage(&mut self, junk_bytes: usize) {
        let segments = self.unflushed().await;
        assert!(segments.len() as u64 >= ROUNDS, "{segments:?}");
        for path in segments {
            let bytes = fs::read(&path).unwrap();
            let (header, frames) = bytes.split_at(24);
            fs::write(path, [header, &vec![0x5a; junk_bytes], frames].concat()).unwrap();
        }
    }

    async fn unflushed(&mut self) -> Vec<PathBuf> {
        let server = self.start();
        for _ in 0..4 * ROUNDS {
            assert!(!self.send_new(&server, 1).await);
        }
        server.kill();
        segments(&self.data)
    }
}

/// A directory shortly before its first checkpoint, made once.
async fn before_checkpoint(temp: &Path) -> &'static Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    let make = async || {
        let mut case = Case::new(temp.join("before-checkpoint"));
        let server = case.start();
        for _ in 0..CHECKPOINT_VERSION - 2 {
            assert!(!case.send_new(&server, 1).await);
            server.flush().await;
        }
        server.kill();
        case
    };
    CASE.get_or_init(make).await
}

async fn rounds(point: Failpoint, temp: Arc<tempfile::TempDir>) -> Row {
    let mut row = Row::default();
    // Without the dot, after which the name of the log would begin.
    let name = point.name().replace('.', "-");
    let mut case = Case::new(temp.path().join(&name));
    for round in 1..=ROUNDS {
        let mut nth = round;
        match way(point) {
            Way::Load | Way::Grace => {}
            Way::TornEnd => {
                case.tear([1, 100, 5000][round as usize - 1]).await;
                nth = 1;
            }
            Way::Damage => case.damage(7 * round as usize).await,
            // The tables write their checkpoints one after the other, at the same version.
            Way::Checkpoint => {
                let data = temp.path().join(format!("{name}-{round}"));
                case = before_checkpoint(temp.path()).await.clone();
                copy(&case.data, &data);
                case.data = data;
            }
        }
        let during = case.run_until_killed(&format!("{}:{nth}", point.name())).await;
        *row.during.entry(during).or_default() += 1;
        case.recover(&mut row).await;
    }
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_failpoint_loses_nothing_acknowledged() {
    let started = Instant::now();
    let temp = Arc::new(tempfile::tempdir().unwrap());
    let lanes = Arc::new(Semaphore::new(LANES));
    let mut running = JoinSet::new();
    // The checkpoints first: their preparation takes longest.
    let mut points: Vec<_> = Failpoint::ALL.iter().copied().filter(|point| way(*point) != Way::Grace).collect();
    points.sort_by_key(|point| way(*point) != Way::Checkpoint);
    for point in points {
        let (lanes, temp) = (Arc::clone(&lanes), Arc::clone(&temp));
        running.spawn(async move {
            let _lane = lanes.acquire_owned().await.unwrap();
            let row = tokio::spawn(rounds(point, temp)).await;
            (point, row.unwrap_or_else(|error| panic!("{}: {error}", point.name())))
        });
    }
    let mut rows = BTreeMap::new();
    let mut failed = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((point, row)) => drop(rows.insert(point.name(), row)),
            Err(error) => failed.push(error.to_string()),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    println!("| failpoint | kills | while | acknowledged, all found | unanswered: found whole | unanswered: absent |");
    println!("|---|---|---|---|---|---|");
    for point in Failpoint::ALL {
        let Some(row) = rows.get(point.name()) else { continue };
        let during: Vec<_> = row.during.iter().map(|(during, count)| format!("{during} {count}")).collect();
        let (name, during) = (point.name(), during.join(", "));
        println!("| `{name}` | {ROUNDS} | {during} | {} | {} | {} |", row.acknowledged, row.whole, row.absent);
    }
    println!("{} failpoints in {:.0?}", rows.len(), started.elapsed());
}

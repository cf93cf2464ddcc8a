//! SIGKILL at every failpoint of the store, three times each: what was acknowledged is there exactly once, what was not is
//! there whole or absent and can be sent again, and a second reader of the tables finds the same.
//!
//! `cargo test --test it crash_matrix -- --nocapture` prints the table in `docs/reliability.md`.

use std::{collections::BTreeMap, fs, os::unix::process::ExitStatusExt as _, path::PathBuf, sync::Arc, time::Instant};

use driftwatt_store::{Config, Failpoint, verify};
use futures::future::join_all;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    crash_ledger::{Ledger, Requests, check},
    damage::segments,
    delta,
    otlp::{export, gauge, now_nanos, point, post},
    server::Server,
};

const ROUNDS: u64 = 3;
const LANES: usize = 2;
const SIGKILL: i32 = 9;
const DAY_NANOS: u64 = 86_400_000_000_000;
/// Requests on the way at once, so that a group of the log has several records.
const SENDERS: u64 = 2;
/// Every failpoint is passed three times well before this many pairs of a send and a flush.
const STEPS_MAX: u64 = 20;
/// A segment for every request or two. Nothing is flushed but on request.
const SETTINGS: &[(&str, &str)] = &[("DRIFTWATT_STORE__WAL_SEGMENT_SIZE", "2KiB")];

/// What has to happen for a failpoint to be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Requests and flushes.
    Load,
    /// The same, with a checkpoint of every second version.
    Checkpoint,
    /// A log write that finds no space.
    FullLog,
    /// A start on a log whose end is torn.
    TornEnd,
    /// A start on a log with damaged segments.
    Damage,
    /// A start on a table with a damaged file.
    DamagedFile,
    /// A start on a directory that does not say its format: a new one, then old ones.
    NoFormat,
    /// A start on a table with a file that no version refers to.
    Orphan,
}

fn way(point: Failpoint) -> Way {
    use Failpoint as F;
    match point {
        F::WalBeforeCreate | F::WalCreated | F::WalHeaderWritten => Way::Load,
        F::WalBeforeWrite | F::WalMidWrite | F::WalBeforeSync | F::WalAfterSync => Way::Load,
        F::WalBeforeCutBack | F::WalAfterCutBack => Way::FullLog,
        F::WalBeforeRotate | F::WalAfterRotate | F::WalBeforeRemove | F::WalAfterRemove => Way::Load,
        F::WalBeforeCut | F::WalAfterCut => Way::TornEnd,
        F::WalBeforeQuarantine | F::WalQuarantineWritten => Way::Damage,
        F::WalRewriteWritten | F::WalBeforeRename | F::WalAfterRename => Way::Damage,
        F::ParquetBeforeCreate | F::ParquetMidWrite | F::ParquetBeforeSync | F::ParquetAfterSync => Way::Load,
        F::FlushAfterCommit => Way::Load,
        F::DeltaBeforeCreate | F::DeltaTemporaryWritten | F::DeltaBeforeLink => Way::Load,
        F::DeltaAfterLink | F::DeltaBeforeSync | F::DeltaAfterSync => Way::Load,
        F::DeltaBeforeCheckpoint | F::DeltaCheckpointWritten | F::DeltaCheckpointSynced => Way::Checkpoint,
        F::DeltaBeforeShorten => Way::Checkpoint,
        F::DeltaBeforeDelete => Way::Orphan,
        F::QuarantineBeforeLink | F::QuarantineAfterLink => Way::DamagedFile,
        F::QuarantineNoteWritten | F::QuarantineBeforeDelete => Way::DamagedFile,
        F::SmallFileWritten | F::SmallFileBeforeRename | F::SmallFileAfterRename => Way::NoFormat,
    }
}

impl Way {
    /// What `DRIFTWATT_FAILPOINT` says for a kill at the `nth` passage of `point`.
    fn failpoint(self, point: Failpoint, nth: u64) -> String {
        let name = point.name();
        match self {
            Self::Load | Self::Damage => format!("{name}:{nth}"),
            // The tables write their checkpoints one after the other, at the same version.
            Self::Checkpoint => format!("checkpoint_interval=2,{name}:{nth}"),
            Self::FullLog => format!("wal.mid_write:{nth}=enospc,{name}"),
            Self::TornEnd | Self::DamagedFile | Self::NoFormat | Self::Orphan => name.to_owned(),
        }
    }
}

/// A data directory, and what was sent to it.
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
    async fn run_until_killed(&mut self, failpoint: &str, row: &mut Row) -> &'static str {
        let variables = [SETTINGS, &[("DRIFTWATT_FAILPOINT", failpoint)]].concat();
        let server = match Server::try_start_with(&self.data, &variables) {
            Ok(server) => server,
            Err(status) => {
                assert_eq!(status.signal(), Some(SIGKILL), "{failpoint}: {status}\n{}", self.log());
                return "start";
            }
        };
        let mut during = self.resume(&server, row).await.then_some("ingest");
        for _ in 0..STEPS_MAX {
            if during.is_some() {
                break;
            }
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

    /// After a kill the promises hold, and the clients send again what was not answered; true if the server is gone.
    async fn resume(&mut self, server: &Server, row: &mut Row) -> bool {
        if self.ledger.sent.is_empty() {
            return false;
        }
        let stored = check(server, &self.ledger).await;
        let unanswered: Vec<u64> = self.ledger.sent.difference(&self.ledger.acknowledged).copied().collect();
        row.acknowledged += self.ledger.acknowledged.len() as u64;
        let whole = unanswered.iter().filter(|k| stored.contains(k)).count() as u64;
        row.whole += whole;
        row.absent += unanswered.len() as u64 - whole;
        self.send(server, unanswered.into_iter()).await
    }

    /// Starts as usual and flushes; after the last kill everything is in the tables once, for us and for a second reader.
    async fn recover(&mut self, row: &mut Row, last: bool) {
        let server = self.start();
        assert!(!self.resume(&server, row).await, "{}", self.log());
        server.flush().await;
        if !last {
            return server.kill();
        }
        assert_eq!(check(&server, &self.ledger).await, self.ledger.sent);
        self.check_with_second_reader(&server).await;
        server.kill();
        let report = verify(&Config::new(&self.data), &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.faults);
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

    /// The damaged files of `count` rounds are kept with a note each.
    fn check_quarantine(&self, count: u64) {
        let kept = fs::read_dir(self.data.join("quarantine/rejections")).unwrap();
        let names: Vec<_> = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let notes = names.iter().filter(|name| name.ends_with(".parquet.json")).count() as u64;
        let files = names.iter().filter(|name| name.ends_with(".parquet")).count() as u64;
        assert_eq!((files, notes), (count, count), "{names:?}");
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

    /// Leaves a table behind that has one file, which is cut.
    async fn damage_table(&mut self) {
        let server = self.start();
        assert!(!self.send_new(&server, 1).await);
        // No request of the ledger has rows in this table.
        let tomorrow = point(now_nanos() + 2 * DAY_NANOS, 1.0, vec![]);
        assert_eq!(export(&server, vec![gauge("refused", vec![tomorrow])]).await.0, 1);
        server.flush().await;
        server.kill();
        let days = fs::read_dir(self.data.join("tables/rejections")).unwrap().map(|entry| entry.unwrap().path());
        let files = days.filter(|day| !day.ends_with("_delta_log")).flat_map(|day| fs::read_dir(day).unwrap());
        for path in files.map(|entry| entry.unwrap().path()) {
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 9]).unwrap();
        }
    }

    /// Leaves an old directory behind, with a log and no word of its format.
    async fn forget_format(&mut self) {
        self.unflushed().await;
        fs::remove_file(self.data.join("FORMAT")).unwrap();
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

async fn rounds(point: Failpoint, temp: Arc<tempfile::TempDir>) -> Row {
    let mut row = Row::default();
    // Without the dot, after which the name of the log would begin.
    let name = point.name().replace('.', "-");
    let mut case = Case::new(temp.path().join(&name));
    for round in 1..=ROUNDS {
        match way(point) {
            Way::Load | Way::Checkpoint | Way::FullLog => {}
            Way::Orphan => drop(case.run_until_killed(Failpoint::ParquetAfterSync.name(), &mut Row::default()).await),
            Way::TornEnd => case.tear([1, 100, 5000][round as usize - 1]).await,
            Way::Damage => case.damage(7 * round as usize).await,
            Way::DamagedFile => case.damage_table().await,
            Way::NoFormat if round == 1 => {}
            Way::NoFormat => case.forget_format().await,
        }
        let during = case.run_until_killed(&way(point).failpoint(point, round), &mut row).await;
        *row.during.entry(during).or_default() += 1;
        // After a kill during ingest the next server, with its failpoint, finds what this one left. What a flush left the
        // next server flushes by itself, which may pass the failpoint at any moment.
        if during != "ingest" || round == ROUNDS {
            case.recover(&mut row, round == ROUNDS).await;
        }
        if way(point) == Way::DamagedFile {
            case.check_quarantine(round);
        }
    }
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_failpoint_loses_nothing_acknowledged() {
    let started = Instant::now();
    let temp = Arc::new(tempfile::tempdir().unwrap());
    let lanes = Arc::new(Semaphore::new(LANES));
    let mut running = JoinSet::new();
    for point in Failpoint::ALL.iter().copied() {
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

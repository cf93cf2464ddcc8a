//! Seeded schedules of appends, flushes, merges, retention, failures, power cuts and restarts against an in-memory model:
//! acknowledged points are there as last written until they are too old, nothing else is, before and after every flush and
//! restart.
//!
//! 50 seeds by default. `DRIFTWATT_SIM_SEEDS=500` runs more, `DRIFTWATT_SIM_SEED=17` runs one again; both with
//! `cargo test -p driftwatt-store --lib simulation`. The clock of the store is that of the points, so a schedule needs none.

mod load;
mod model;
mod rng;

use std::{
    collections::BTreeSet,
    fs,
    future::{Future, poll_fn},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::TimestampMicrosecondType,
    },
    common::ScalarValue,
    logical_expr::Expr,
    prelude::{SessionConfig, SessionContext, col, lit},
};
use tokio::task::JoinSet;

use self::{
    load::{Load, MIDNIGHT, Request, marker_series},
    model::Model,
    rng::Rng,
};
use crate::{
    Compaction, Config, Error, Expiry, Keep, MetricRule, Retention, SampleColumns, Store, WriteBatch, failpoint,
    failpoint::Failpoint,
    memtable::{DAY_US, day_of},
    retention::expire,
};

const SEEDS_DEFAULT: u64 = 50;
const STEPS: u64 = 18;
const LANES: usize = 2;
/// Steps shown when a schedule fails.
const STEPS_SHOWN: usize = 15;

/// A store under test, and what it must hold.
struct Simulation {
    dir: PathBuf,
    context: SessionContext,
    store: Option<Arc<Store>>,
    rng: Rng,
    load: Load,
    model: Model,
    /// Requests that were not answered: whole or absent.
    in_doubt: Vec<Request>,
    steps: Arc<Mutex<Vec<String>>>,
}

type Outcome = Result<(), String>;

/// Polls `future` `count` times, then drops it.
async fn cancelled_after<F: Future>(future: F, count: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = count;
    poll_fn(|context| match left {
        0 => Poll::Ready(None),
        _ => {
            left -= 1;
            future.as_mut().poll(context).map(Some)
        }
    })
    .await
}

/// Polls `future` once and drops it.
async fn abandoned<F: Future>(future: F) {
    let mut future = pin!(future);
    let _unfinished = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await;
}

/// Where a flush or a merge can fail: neither at checkpoints nor at deletions, which are logged and tried again later.
fn failing_tables() -> impl Iterator<Item = Failpoint> {
    let fails = |point: &Failpoint| {
        let name = point.name();
        ["parquet.", "flush.", "delta."].iter().any(|area| name.starts_with(area))
            && !["checkpoint", "delete", "shorten"].iter().any(|kind| name.contains(kind))
    };
    Failpoint::ALL.iter().copied().filter(fails)
}

fn failed(what: &'static str) -> impl Fn(Error) -> String {
    move |error| format!("{what}: {error:?}")
}

impl Simulation {
    fn new(dir: &Path, seed: u64, steps: Arc<Mutex<Vec<String>>>) -> Self {
        Self {
            dir: dir.to_owned(),
            context: SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1)),
            store: None,
            rng: Rng(seed),
            load: Load::new(),
            model: Model::default(),
            in_doubt: Vec::new(),
            steps,
        }
    }

    fn note(&self, step: String) {
        self.steps.lock().unwrap().push(step);
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    async fn run(&mut self) -> Outcome {
        self.open().await?;
        for _ in 0..STEPS {
            // A table may show too little only until its next commit, so everything is read after whatever flushes.
            if self.step().await? {
                self.check_all().await?;
            } else {
                self.check_some().await?;
            }
        }
        self.check_all().await?;
        self.restart(true).await?;
        self.check_all().await?;
        self.store().close().await.map_err(failed("close"))?;
        self.store = None;
        self.verify().await
    }

    /// What `driftwatt verify` says of the directory.
    async fn verify(&self) -> Outcome {
        for _ in 0..500 {
            match crate::verify(&Config::new(&self.dir), &mut |_, _| {}) {
                Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => return Err(format!("verify: {error:?}")),
                Ok(report) if report.is_sound() => return Ok(()),
                Ok(report) => return Err(format!("verify: {:?}", report.faults)),
            }
        }
        Err("the directory stays locked".into())
    }

    /// One random step; true if it flushes.
    async fn step(&mut self) -> Result<bool, String> {
        let step = self.rng.below(100);
        match step {
            0..36 => self.append_new().await,
            36..44 => self.append_again().await,
            44..56 => self.flush().await,
            56..64 => self.append_while_flushing().await,
            64..68 => self.compact().await,
            68..70 => self.expire().await,
            70..80 => self.failing_flush().await,
            80..84 => self.cancelled_flush().await,
            84..87 => self.abandoned_append().await,
            87..90 => self.failing_log().await,
            90..92 => self.full_log().await,
            92..96 => self.restart(true).await,
            _ => self.restart(false).await,
        }?;
        Ok((44..84).contains(&step) || (90..92).contains(&step))
    }

    async fn open(&mut self) -> Outcome {
        let mut config = Config::new(&self.dir);
        // Small, so that segments change, and no flush but those of the schedule.
        config.wal_segment_size_bytes = 2048;
        config.flush_interval = Duration::from_secs(3600);
        for _ in 0..500 {
            match Store::open(config.clone()).await {
                // Tasks of the store that was dropped end a little later.
                Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => return Err(format!("open: {error:?}")),
                Ok(store) => {
                    self.store = Some(store);
                    return Ok(());
                }
            }
        }
        Err("the directory stays locked".into())
    }

    async fn append_new(&mut self) -> Outcome {
        let request = self.load.request(&mut self.rng);
        self.note(format!("append {} points", request.batch.point_count()));
        self.append(request.batch).await
    }

    async fn append(&mut self, batch: WriteBatch) -> Outcome {
        let appended = self.store().append(batch.clone()).await.map_err(failed("append"))?;
        self.model.insert(&batch, appended.duplicate_count);
        Ok(())
    }

    /// A request whose answer got lost, or one that corrects the values of an earlier one.
    async fn append_again(&mut self) -> Outcome {
        let recent = self.load.sent.len().saturating_sub(6);
        if self.load.sent.is_empty() {
            return Ok(());
        }
        let request = self.rng.pick(&self.load.sent[recent..]).clone();
        let corrects = self.rng.percent(40);
        let what = if corrects { "correct" } else { "resend" };
        self.note(format!("{what} {} points of {}", request.batch.point_count(), request.marker_time));
        let batch = if corrects { self.load.corrected(&mut self.rng, &request) } else { request.batch };
        self.append(batch).await
    }

    async fn flush(&mut self) -> Outcome {
        self.note("flush".into());
        self.store().flush().await.map_err(failed("flush"))?;
        Ok(())
    }

    async fn compact(&mut self) -> Outcome {
        let compaction = *self.rng.pick(&[Compaction::Due, Compaction::Full]);
        if self.rng.percent(60) {
            self.note(format!("compact: {compaction:?}"));
            return self.store().compact(compaction).await.map(drop).map_err(failed("compact"));
        }
        let points: Vec<_> = failing_tables().collect();
        let (point, nth) = (*self.rng.pick(&points), 1 + self.rng.below(4));
        self.note(format!("compact: {compaction:?}, failing at {}:{nth}", point.name()));
        let armed = failpoint::fail_below(&self.dir, point, nth);
        match (self.store().compact(compaction).await, armed.has_acted()) {
            (Ok(_), _) | (Err(Error::Io { .. }), true) => Ok(()),
            (outcome, acted) => Err(format!("failpoint acted: {acted}, but the merge ended with {outcome:?}")),
        }
    }

    /// Metrics of a pattern become too old, which may fail on the way and is then done again.
    async fn expire(&mut self) -> Outcome {
        let pattern = (*self.rng.pick(&["gauge.*", "gauge.1", "sum.*", "histogram.0", "h*", "summary.2"])).to_owned();
        let keep = Keep::For(Duration::from_secs((1 + self.rng.below(2)) * 86_400));
        let now = MIDNIGHT + DAY_US + self.rng.below(DAY_US as u64) as i64;
        let rule = MetricRule { pattern: pattern.clone(), keep };
        let retention = Retention { metrics: vec![rule], ..Retention::FOREVER };
        // With points on fewer than three days, also after half a pass, nothing goes.
        let mut batch = WriteBatch { series: vec![marker_series()], ..WriteBatch::default() };
        for day in 0..3 {
            batch.samples.push(0, 0, MIDNIGHT - day * DAY_US, 1, SampleColumns::INT);
        }
        self.append(batch).await?;
        // What no file holds stays.
        self.flush().await?;
        let points: Vec<_> = failing_tables().collect();
        let fails = self.rng.percent(50).then(|| (*self.rng.pick(&points), 1 + self.rng.below(6)));
        self.note(format!("expire {pattern} at {keep} of {now}, failing at {fails:?}"));
        let armed = fails.map(|(point, nth)| failpoint::fail_below(&self.dir, point, nth));
        let store = self.store();
        let outcome = expire(store.inner(), &retention, now, Expiry::Apply).await;
        if outcome.is_err() && !armed.as_ref().is_some_and(failpoint::Armed::has_acted) {
            return Err(format!("a pass ended with {outcome:?}"));
        }
        drop(armed);
        let report = expire(store.inner(), &retention, now, Expiry::Apply).await.map_err(failed("expire"))?;
        if report.counted_from_us != Some(now) {
            return Err(format!("ages are counted from {:?}", report.counted_from_us));
        }
        self.model.expire(&pattern, day_of(now.saturating_sub(keep.as_micros())));
        Ok(())
    }

    /// What was acknowledged before stays visible while a flush runs; what comes during it may land on either side.
    async fn append_while_flushing(&mut self) -> Outcome {
        let batches: Vec<_> = (0..3).map(|_| self.load.request(&mut self.rng).batch).collect();
        self.note("append three requests, flush and read at once".into());
        let marker = marker_series().id.to_column();
        let known = self.count_markers(marker).await?;
        let store = self.store();
        let appends = futures::future::join_all(batches.iter().map(|batch| store.append(batch.clone())));
        let (appended, flushed, seen) = tokio::join!(appends, store.flush(), self.count_markers(marker));
        flushed.map_err(failed("flush"))?;
        if !(known..=known + batches.len()).contains(&seen?) {
            return Err(format!("a reader during a flush sees {known} markers as another number"));
        }
        let mut ordered = Vec::new();
        for (batch, appended) in batches.iter().zip(appended) {
            let appended = appended.map_err(failed("append"))?;
            ordered.push((appended.sequence, batch, appended.duplicate_count));
        }
        ordered.sort_by_key(|(sequence, ..)| *sequence);
        for (_, batch, duplicate_count) in ordered {
            self.model.insert(batch, duplicate_count);
        }
        Ok(())
    }

    async fn failing_flush(&mut self) -> Outcome {
        let points: Vec<_> = failing_tables().collect();
        let (point, nth) = (*self.rng.pick(&points), 1 + self.rng.below(5));
        self.note(format!("flush, failing at {}:{nth}", point.name()));
        let armed = failpoint::fail_below(&self.dir, point, nth);
        let flushed = self.store().flush().await;
        match (flushed, armed.has_acted()) {
            // A merge in the background may have met it.
            (Ok(_), _) | (Err(Error::Io { .. }), true) => Ok(()),
            (outcome, acted) => Err(format!("failpoint acted: {acted}, but the flush ended with {outcome:?}")),
        }
    }

    async fn cancelled_flush(&mut self) -> Outcome {
        let polls = 1 + self.rng.below(12);
        self.note(format!("flush, cancelled after {polls} polls"));
        let flushed = cancelled_after(self.store().flush(), polls).await;
        flushed.map_or(Ok(()), |flushed| flushed.map(drop).map_err(failed("flush")))
    }

    /// A client that goes away: its request is stored whole or not at all.
    async fn abandoned_append(&mut self) -> Outcome {
        let request = self.load.request(&mut self.rng);
        self.note(format!("append {} points and go away", request.batch.point_count()));
        abandoned(self.store().append(request.batch.clone())).await;
        self.in_doubt.push(request);
        // Answered after everything before it is applied.
        self.append(WriteBatch::default()).await?;
        self.resolve().await
    }

    /// The log fails once: the append is refused, so are all others, and a power cut takes what was not synced.
    async fn failing_log(&mut self) -> Outcome {
        let points = [
            Failpoint::WalBeforeCreate,
            Failpoint::WalCreated,
            Failpoint::WalHeaderWritten,
            Failpoint::WalBeforeWrite,
            Failpoint::WalMidWrite,
            Failpoint::WalBeforeSync,
            Failpoint::WalAfterSync,
        ];
        let point = *self.rng.pick(&points);
        let request = self.load.request(&mut self.rng);
        self.note(format!("append, failing at {}", point.name()));
        let synced = self.newest_segment();
        let armed = failpoint::fail_below(&self.dir, point, 1);
        let appended = self.store().append(request.batch.clone()).await;
        match (appended, armed.has_acted()) {
            (Ok(appended), false) => {
                self.model.insert(&request.batch, appended.duplicate_count);
                return Ok(());
            }
            (Err(Error::WalPoisoned), true) => {}
            (outcome, acted) => return Err(format!("failpoint acted: {acted}, but the append ended with {outcome:?}")),
        }
        let refused = self.load.request(&mut self.rng);
        match self.store().append(refused.batch).await {
            Err(Error::WalPoisoned) => self.load.sent.truncate(self.load.sent.len() - 1),
            other => return Err(format!("a poisoned log answers {other:?}")),
        }
        // Reads go on.
        self.check_some().await?;
        self.in_doubt.push(request);
        self.store = None;
        if point != Failpoint::WalAfterSync {
            self.cut_power(synced);
        }
        self.open().await?;
        self.resolve().await
    }

    /// The log finds no space once: the append is taken back whole, a flush that nobody asked for makes room, and the same
    /// request is taken the next time.
    async fn full_log(&mut self) -> Outcome {
        let points =
            [Failpoint::WalCreated, Failpoint::WalHeaderWritten, Failpoint::WalBeforeWrite, Failpoint::WalMidWrite];
        let point = *self.rng.pick(&points);
        // Something to flush, so that the end of the flush is seen.
        self.append_new().await?;
        let request = self.load.request(&mut self.rng);
        self.note(format!("append without space at {}", point.name()));
        let armed = failpoint::fill_below(&self.dir, point);
        let appended = self.store().append(request.batch.clone()).await;
        match (appended, armed.has_acted()) {
            (Ok(appended), false) => {
                self.model.insert(&request.batch, appended.duplicate_count);
                return Ok(());
            }
            (Err(Error::WalFull { .. }), true) => {}
            (outcome, acted) => return Err(format!("failpoint acted: {acted}, but the append ended with {outcome:?}")),
        }
        for _ in 0..500 {
            if self.store().unflushed_size_bytes() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if self.store().unflushed_size_bytes() > 0 {
            return Err("a full log asks for no flush".into());
        }
        self.check_all().await?;
        self.append(request.batch).await
    }

    fn newest_segment(&self) -> Option<(PathBuf, u64)> {
        let entries = fs::read_dir(self.dir.join("wal")).unwrap().map(|entry| entry.unwrap().path());
        let newest = entries.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).max()?;
        let size_bytes = fs::metadata(&newest).unwrap().len();
        Some((newest, size_bytes))
    }

    /// Cuts the newest segment at random after what was synced.
    fn cut_power(&mut self, synced: Option<(PathBuf, u64)>) {
        let Some((newest, size_bytes)) = self.newest_segment() else { return };
        let from = match synced {
            Some((path, synced_bytes)) if path == newest => synced_bytes,
            _ => 0,
        };
        let left = from + self.rng.below(size_bytes - from + 1);
        self.note(format!("power cut: {left} of {size_bytes} bytes of the newest segment stay"));
        fs::OpenOptions::new().write(true).open(newest).unwrap().set_len(left).unwrap();
    }

    async fn restart(&mut self, closes: bool) -> Outcome {
        self.note(if closes { "close, open".into() } else { "stop without close, open".into() });
        if closes {
            self.store().close().await.map_err(failed("close"))?;
        }
        self.store = None;
        self.open().await
    }

    /// Finds out what became of the requests without an answer.
    async fn resolve(&mut self) -> Outcome {
        let id = marker_series().id.to_column();
        for request in std::mem::take(&mut self.in_doubt) {
            let marker = (col("series_id").eq(lit(id))).and(
                col("time").eq(lit(ScalarValue::TimestampMicrosecond(Some(request.marker_time), Some("UTC".into())))),
            );
            let found: usize = self.read("samples", Some(marker)).await?.iter().map(RecordBatch::num_rows).sum();
            self.note(format!("the request without an answer is {}", if found > 0 { "there" } else { "not there" }));
            if found > 0 {
                self.model.insert(&request.batch, 0);
            }
        }
        Ok(())
    }

    async fn count_markers(&self, id: i64) -> Result<usize, String> {
        let rows = self.read("samples", Some(col("series_id").eq(lit(id)))).await?;
        let mut times = BTreeSet::new();
        for batch in &rows {
            times.extend(batch["time"].as_primitive::<TimestampMicrosecondType>().values().iter().copied());
        }
        Ok(times.len())
    }

    async fn read(&self, table: &str, filter: Option<Expr>) -> Result<Vec<RecordBatch>, String> {
        let provider = self.store().table(table).ok_or("no such table")?;
        let frame = self.context.read_table(provider).map_err(|error| error.to_string())?;
        let frame = match filter {
            Some(filter) => frame.filter(filter).map_err(|error| error.to_string())?,
            None => frame,
        };
        frame.collect().await.map_err(|error| format!("read {table}: {error}"))
    }

    /// One series, by a filter that prunes.
    async fn check_some(&mut self) -> Outcome {
        let ids = self.model.series_ids();
        if ids.is_empty() {
            return Ok(());
        }
        let id = *self.rng.pick(&ids);
        let histograms = self.rng.percent(50);
        let table = if histograms { "histograms" } else { "samples" };
        let rows = self.read(table, Some(col("series_id").eq(lit(id)))).await?;
        self.model.check_points(histograms, &rows, |identity| identity.1 == id)
    }

    async fn check_all(&self) -> Outcome {
        let samples = self.read("samples", None).await?;
        self.model.check_points(false, &samples, |_| true)?;
        let histograms = self.read("histograms", None).await?;
        self.model.check_points(true, &histograms, |_| true)?;
        self.model.check_series(&self.read("series", None).await?)?;
        self.model.check_rejections(&self.read("rejections", None).await?)?;
        self.model.check_counts(samples.iter().chain(&histograms).map(|batch| batch.num_rows() as u64).sum())
    }
}

/// The first `count` requests of the schedule `seed`, as a corpus for other tests.
pub(crate) fn batches(seed: u64, count: usize) -> Vec<WriteBatch> {
    let (mut rng, mut load) = (Rng(seed), Load::new());
    (0..count).map(|_| load.request(&mut rng).batch).collect()
}

/// Runs one schedule; on failure the last steps and how to run it again.
async fn simulate(seed: u64) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let mut simulation = Simulation::new(dir.path(), seed, Arc::clone(&steps));
    // In a task of its own, so that a panic in the store has its steps shown too.
    let run = tokio::spawn(async move { simulation.run().await });
    let outcome = run.await.unwrap_or_else(|panic| Err(panic.to_string()));
    outcome.map_err(|reason| {
        let steps = steps.lock().unwrap();
        let shown = steps.iter().enumerate().skip(steps.len().saturating_sub(STEPS_SHOWN));
        let shown: String = shown.map(|(index, step)| format!("\n  {index:3} {step}")).collect();
        format!(
            "seed {seed}: {reason}\nlast of {} steps:{shown}\nagain: DRIFTWATT_SIM_SEED={seed} cargo test -p driftwatt-store --lib simulation",
            steps.len()
        )
    })
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_of_ingest_flush_failure_and_restart_agree_with_the_model() {
    let seeds = match variable("DRIFTWATT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("DRIFTWATT_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let next = Arc::new(AtomicU64::new(seeds.start));
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        let (next, end) = (Arc::clone(&next), seeds.end);
        lanes.spawn(async move {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return Ok(());
                }
                simulate(seed).await?;
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap().unwrap_or_else(|failure: String| panic!("{failure}"));
    }
}

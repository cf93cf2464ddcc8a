//! The scheduler over a real store, with a clock that a test moves.

use std::{future::Future, path::Path, pin::Pin};

use datafusion::arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use tokio::sync::watch;

use super::*;
use crate::{config::RawConfig, query_runtime::QueryRuntime};

/// Stands still until it is moved, and knows who sleeps until when.
pub(super) struct MovedClock(watch::Sender<Moved>);

#[derive(Default)]
struct Moved {
    now_us: i64,
    /// When each sleeper wakes.
    wakes_us: Vec<i64>,
}

impl MovedClock {
    pub(super) fn at(text: &str) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Moved { now_us: us(text), wakes_us: vec![] })))
    }

    /// Moves to `text` in steps that a sleep can be, each as soon as `count` sleep: then all that was due is done.
    pub(super) async fn move_to(&self, text: &str, count: usize) {
        self.until_asleep(count).await;
        while self.unix_us() < us(text) {
            self.0.send_modify(|moved| {
                moved.now_us = (moved.now_us + LOOK_MAX.as_micros() as i64).min(us(text));
                let now_us = moved.now_us;
                moved.wakes_us.retain(|wakes_us| *wakes_us > now_us);
            });
            self.until_asleep(count).await;
        }
    }

    async fn until_asleep(&self, count: usize) {
        self.0.subscribe().wait_for(|moved| moved.wakes_us.len() >= count).await.unwrap();
    }
}

impl Clock for MovedClock {
    fn unix_us(&self) -> i64 {
        self.0.borrow().now_us
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let wakes_us = self.unix_us() + duration.as_micros() as i64;
        Box::pin(async move {
            self.0.send_modify(|moved| moved.wakes_us.push(wakes_us));
            self.0.subscribe().wait_for(|moved| moved.now_us >= wakes_us).await.unwrap();
        })
    }
}

pub(super) fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
}

const HOURLY: &str = "[[schedule]]\nname = \"hourly\"\njob = \"idle-alert\"\ncron = \"0 * * * *\"\n";
/// Nothing listens there.
const NO_MAIL: &str = "[delivery.mail]\nhost = \"127.0.0.1\"\nport = 1\nsecurity = \"none\"\nfrom = \"d@example.com\"\n\
                       to = [\"ops@example.com\"]\n[delivery.retry]\nattempts_max = 2\ndelay_first_seconds = 60\n";
const WEEKLY: &str = "[[schedule]]\nname = \"weekly\"\njob = \"weekly-report\"\ncron = \"0 7 * * MON\"\n";

pub(super) struct Opened {
    pub(super) store: Arc<Store>,
    session: SessionContext,
    config: Config,
    /// Plans go too deep for the threads of a test, as they do for those that receive.
    pub(super) queries: QueryRuntime,
}

pub(super) async fn open(dir: &Path, settings: &str) -> Opened {
    let mut raw: RawConfig = toml::from_str(settings).unwrap();
    raw.server.data_dir = Some(dir.to_owned());
    let config = raw.validate().unwrap();
    let store = Store::open(config.store.clone()).await.unwrap();
    let session = driftwatt_query::session(&store, &config.query).await.unwrap();
    Opened { store, session, config, queries: QueryRuntime::start().unwrap() }
}

impl Opened {
    pub(super) fn scheduler(&self, clock: &Arc<MovedClock>) -> Scheduler {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
        Scheduler::new(&self.config, &self.store, &self.session, clock, None).unwrap()
    }

    pub(super) async fn texts(&self, query: &str) -> Vec<String> {
        let batches = self.session.sql(query).await.unwrap().collect().await.unwrap();
        let text = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        let rows = text.lines().skip(3).filter(|line| line.starts_with('|'));
        rows.map(|line| line.trim_matches(['|', ' ']).split('|').map(str::trim).collect::<Vec<_>>().join(" ")).collect()
    }

    /// Outcomes by the time they were meant for.
    async fn outcomes(&self) -> Vec<String> {
        self.texts(
            "SELECT date_format(scheduled, '%d %H:%M') AS at, outcome FROM reports.runs ORDER BY scheduled, step",
        )
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_runs_at_its_times_and_a_missed_run_is_made_up_once() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), HOURLY).await;
    let clock = MovedClock::at("2026-11-23T06:30:00Z");
    let (_handle, work) = opened.scheduler(&clock).start();
    let first = opened.queries.handle().spawn(work);
    clock.move_to("2026-11-23T08:10:00Z", 1).await;
    first.abort();
    assert!(first.await.is_err());
    let expected =
        ["23 06:30 registered", "23 07:00 started", "23 07:00 succeeded", "23 08:00 started", "23 08:00 succeeded"];
    assert_eq!(opened.outcomes().await, expected);
    // Down over 9, 10 and 11 o'clock: the one of 11 is run, and says so.
    let clock = MovedClock::at("2026-11-23T11:20:00Z");
    for _start in 0..2 {
        let (_handle, work) = opened.scheduler(&clock).start();
        let again = opened.queries.handle().spawn(work);
        clock.until_asleep(1).await;
        again.abort();
        assert!(again.await.is_err());
        clock.0.send_modify(|moved| moved.wakes_us.clear());
    }
    let later = opened.outcomes().await;
    assert_eq!(later[5..], ["23 11:00 started", "23 11:00 succeeded"]);
    let notes = opened.texts("SELECT note FROM reports.runs WHERE note IS NOT NULL AND outcome = 'succeeded'").await;
    assert!(notes.len() == 1 && notes[0].starts_with("2 earlier runs were missed"), "{notes:?}");
    opened.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_nobody_takes_is_tried_again_recorded_and_counted_as_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &format!("{NO_MAIL}{WEEKLY}")).await;
    let clock = MovedClock::at("2026-11-23T06:59:30Z");
    let (_handle, work) = opened.scheduler(&clock).start();
    let running = opened.queries.handle().spawn(work);
    clock.move_to("2026-11-23T07:05:00Z", 1).await;
    running.abort();
    assert!(running.await.is_err());
    let steps = ["23 06:59 registered", "23 07:00 started", "23 07:00 delivering", "23 07:00 failed"];
    assert_eq!(opened.outcomes().await, steps);
    let tries = opened
        .texts("SELECT attempt, outcome, recipient, error IS NOT NULL FROM reports.deliveries ORDER BY attempt")
        .await;
    assert_eq!(tries, ["1 retried o…@example.com true", "2 failed o…@example.com true"]);
    let week = opened.texts("SELECT summary, parameters FROM reports.runs WHERE outcome = 'failed'").await;
    assert!(week[0].starts_with("2026-W47: no telemetry") && week[0].contains("\"2026-W47\""), "{week:?}");
    opened.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_could_not_be_recorded_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &format!("{NO_MAIL}{WEEKLY}")).await;
    // A table of another build: no row of `deliveries` can be written.
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from_value(0, 1).with_timezone("UTC"));
    let schema = Arc::new(Schema::new(vec![Field::new("time", time, false)]));
    let batch = RecordBatch::try_new(schema, vec![column]).unwrap();
    opened.store.write_result("deliveries", batch).await.unwrap();
    let clock = MovedClock::at("2026-11-23T06:59:30Z");
    let (_handle, work) = opened.scheduler(&clock).start();
    let running = opened.queries.handle().spawn(work);
    clock.move_to("2026-11-23T07:30:00Z", 1).await;
    running.abort();
    assert!(running.await.is_err());
    let steps = ["23 06:59 registered", "23 07:00 started", "23 07:00 delivering", "23 07:00 interrupted"];
    assert_eq!(opened.outcomes().await, steps);
    opened.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_open_is_begun_again_only_before_anybody_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), &format!("{HOURLY}{WEEKLY}")).await;
    let now = "2026-11-23T12:30:00Z";
    let left = |schedule: &str, at: &str, steps: &'static [Step]| {
        let schedule = Schedule::all(&opened.config.schedules, DateTime::UNIX_EPOCH)
            .unwrap()
            .into_iter()
            .find(|one| one.name == schedule);
        let (schedule, at, store) =
            (schedule.unwrap(), at.parse::<DateTime<Utc>>().unwrap(), Arc::clone(&opened.store));
        async move {
            for step in steps {
                Run::new(&schedule, at, Trigger::Clock).record(&store, *step, at.timestamp_micros()).await.unwrap();
            }
        }
    };
    left("hourly", "2026-11-23T12:00:00Z", &[Step::Started]).await;
    left("weekly", "2026-11-23T07:00:00Z", &[Step::Started, Step::Delivering]).await;
    let clock = MovedClock::at(now);
    let (_handle, work) = opened.scheduler(&clock).start();
    let running = opened.queries.handle().spawn(work);
    clock.until_asleep(2).await;
    running.abort();
    assert!(running.await.is_err());
    let last = last_runs(&opened.session).await.unwrap();
    assert_eq!((last["hourly"].step, last["hourly"].start_count), (Step::Succeeded, 2));
    assert_eq!(last["weekly"].step, Step::Interrupted);
    assert!(last["weekly"].error.as_ref().unwrap().contains("somebody may not have got it"));
    // Killed a second time at the same place: it would kill the process for ever.
    left("hourly", "2026-11-23T13:00:00Z", &[Step::Started, Step::Started]).await;
    let clock = MovedClock::at("2026-11-23T13:30:00Z");
    let (_handle, work) = opened.scheduler(&clock).start();
    let running = opened.queries.handle().spawn(work);
    clock.until_asleep(2).await;
    running.abort();
    assert!(running.await.is_err());
    assert_eq!(last_runs(&opened.session).await.unwrap()["hourly"].step, Step::Interrupted);
    opened.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_time_is_another_schedule_and_bad_recipients_are_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), HOURLY).await;
    let clock = MovedClock::at("2026-11-23T06:30:00Z");
    assert_eq!(
        opened.scheduler(&clock).take_up(&opened.scheduler(&clock).schedules[0]).await.unwrap(),
        opened.scheduler(&clock).now()
    );
    let daily = HOURLY.replace("0 * * * *", "0 5 * * *");
    let later = MovedClock::at("2026-11-24T12:00:00Z");
    let config = Config { schedules: toml::from_str::<RawConfig>(&daily).unwrap().schedule, ..opened.config.clone() };
    let clock: Arc<dyn Clock> = Arc::clone(&later) as _;
    let scheduler = Scheduler::new(&config, &opened.store, &opened.session, clock, None).unwrap();
    // The run of this morning was never promised.
    assert_eq!(scheduler.take_up(&scheduler.schedules[0]).await.unwrap(), scheduler.now());
    for (wrong, words) in
        [("to = [\"a@example.com\"]", "[delivery.mail]"), ("webhooks = [\"chat\"]", "[[delivery.webhook]]")]
    {
        let settings = format!("{HOURLY}{wrong}\n");
        let schedules = toml::from_str::<RawConfig>(&settings).unwrap().schedule;
        let config = Config { schedules, ..opened.config.clone() };
        let clock: Arc<dyn Clock> = Arc::clone(&later) as _;
        let error = Scheduler::new(&config, &opened.store, &opened.session, clock, None).err().unwrap().to_string();
        assert!(error.contains("hourly") && error.contains(words), "{error}");
    }
    opened.store.close().await.unwrap();
}

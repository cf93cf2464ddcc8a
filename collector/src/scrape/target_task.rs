//! One target: a page every interval, and what is said about the target itself.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval_at},
};

use super::{
    Outcome, Shared,
    discovery::Target,
    exposition::parse,
    fetch::fetch,
    history::History,
    otlp,
    owner::Owner,
    points::{Point, Points, Value, points},
};
use crate::config::ScrapeJob;

/// The task of one target.
#[derive(Debug)]
pub(super) struct TargetTask {
    target: Target,
    job: ScrapeJob,
    shared: Arc<Shared>,
    history: History,
    /// Why the newest page could not be used; a target that stays down is logged once.
    failure: Option<String>,
    /// Why something of the newest page was left out; logged once as well.
    left_out: Option<&'static str>,
}

/// What one look at the target gave.
#[derive(Debug, Default)]
struct Scraped {
    points: Vec<Point>,
    sample_count: usize,
    /// Samples and lines left out.
    error_count: usize,
    /// The first line left out, counted from 1, and what is wrong with it.
    first_error: Option<(usize, &'static str)>,
}

impl TargetTask {
    pub(super) fn new(target: Target, job: ScrapeJob, shared: Arc<Shared>) -> Self {
        Self { target, job, shared, history: History::default(), failure: None, left_out: None }
    }

    /// Scrapes at once and then every interval, until the sender of `wanted` is gone.
    pub(super) async fn run(mut self, mut wanted: watch::Receiver<()>, done: watch::Sender<Option<Outcome>>) {
        done.send_replace(Some(self.scrape().await));
        let interval = self.job.interval;
        // Spread over the interval, always the same for a target, so that not all of them are looked at in one moment.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&self.target.url);
        let offset = interval.mul_f64((hash % 1000) as f64 / 1000.0);
        let mut ticks = interval_at((Instant::now() + offset.max(Duration::from_millis(1))).into(), interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    // What failed is logged and counted where it fails.
                    let _outcome = self.scrape().await;
                }
                _ = wanted.changed() => break,
            }
        }
        let mut points = Vec::new();
        self.history.advance(&mut points, now_ms());
        let _outcome = self.send(&points).await;
    }

    async fn scrape(&mut self) -> Outcome {
        let shared = Arc::clone(&self.shared);
        // The semaphore is never closed.
        let _place = shared.places.acquire().await;
        let (time_ms, started) = (now_ms(), Instant::now());
        let scraped = self.look(time_ms).await;
        self.report(scraped.as_ref().err());
        let is_up = scraped.is_ok();
        let scraped = scraped.unwrap_or_default();
        self.report_left_out(&scraped);
        let Scraped { mut points, sample_count, error_count, .. } = scraped;
        self.history.advance(&mut points, time_ms);
        let owner = Arc::new(Owner::of_target(&self.target.labels));
        let attributes = self.target.labels.place(Vec::new()).1;
        for (metric, unit, value) in [
            ("up", "1", f64::from(u8::from(is_up))),
            ("scrape_duration_seconds", "s", started.elapsed().as_secs_f64()),
            ("scrape_samples_scraped", "1", sample_count as f64),
            ("driftwatt.collector.scrape.page.errors", "{error}", error_count as f64),
        ] {
            points.push(Point {
                owner: Arc::clone(&owner),
                metric: metric.into(),
                unit: unit.into(),
                description: "".into(),
                attributes: attributes.clone(),
                time_ms,
                has_own_time: false,
                start_ms: 0,
                is_stale: false,
                value: Value::Gauge(value),
            });
        }
        self.send(&points).await
    }

    /// Gets and reads the page; why it cannot be used otherwise.
    async fn look(&self, time_ms: i64) -> Result<Scraped, String> {
        let fetched = fetch(&self.shared.client, &self.target.url, &self.job).await?;
        let (labels, samples_max) = (self.target.labels.clone(), self.job.samples_max);
        // A large page takes its time to read.
        let read = tokio::task::spawn_blocking(move || {
            let page = parse(&fetched.text, fetched.format);
            if !page.is_complete {
                return Err("the page ends without # EOF: it is half a page".to_owned());
            }
            if page.sample_count > samples_max {
                return Err(format!("the page has {} samples, samples_max is {samples_max}", page.sample_count));
            }
            let Points { points, error_count } = points(&page, &labels, time_ms);
            Ok((page.sample_count, page.error_count, page.first_error, points, error_count))
        });
        let (sample_count, line_error_count, first_error, points, point_error_count) =
            read.await.map_err(|error| error.to_string())??;
        Ok(Scraped { points, sample_count, error_count: line_error_count + point_error_count, first_error })
    }

    /// Logs a change: a target that stays down is logged once.
    fn report(&mut self, failure: Option<&String>) {
        match (failure, &self.failure) {
            (Some(reason), None) => tracing::warn!(target = self.target.shown(), reason, "target cannot be scraped"),
            (None, Some(_)) => tracing::info!(target = self.target.shown(), "target can be scraped again"),
            _ => {}
        }
        self.failure = failure.cloned();
    }

    /// Logs the first line that is left out, when there was none like it on the page before.
    fn report_left_out(&mut self, scraped: &Scraped) {
        let Scraped { error_count, first_error, .. } = scraped;
        let apart = (*error_count > 0).then_some("parts of a histogram or summary do not fit, or a series comes twice");
        let reason = first_error.map(|(_, reason)| reason).or(apart);
        if let Some(reason) = reason.filter(|_| reason != self.left_out) {
            let line = first_error.map(|(line, _)| line);
            tracing::warn!(target = self.target.shown(), error_count, line, reason, "part of the page was left out");
        }
        self.left_out = reason;
    }

    async fn send(&self, points: &[Point]) -> Outcome {
        let mut outcome = Ok(());
        for request in otlp::requests(points, &self.shared.extra) {
            match self.shared.delivery.deliver(request).await {
                Ok((0, _)) => {}
                Ok((rejected, reason)) => {
                    tracing::warn!(
                        target = self.target.shown(),
                        rejected,
                        reason,
                        "the server refused some of the points"
                    );
                }
                Err(error) => {
                    self.shared.export.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(target = self.target.shown(), %error, "scraped points were not delivered");
                    outcome = Err(error.to_string());
                }
            }
        }
        outcome
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

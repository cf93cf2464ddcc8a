//! Observable instruments that read the watches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};

use crate::{
    buffer::Buffer,
    catalog::{CATALOG, Kind, Metric},
    export::ExportState,
    watch::Watch,
};

/// Registers every metric of the catalogue; each instrument reports what the newest snapshots hold under its name.
pub(crate) fn register(meter: &Meter, watches: &[Arc<Watch>]) {
    for metric in CATALOG {
        let observe = observer(metric, watches.to_vec());
        match metric.kind {
            Kind::Gauge => {
                let builder = meter.f64_observable_gauge(metric.name).with_unit(metric.unit);
                builder.with_description(metric.description).with_callback(observe).build();
            }
            Kind::Counter => {
                let builder = meter.f64_observable_counter(metric.name).with_unit(metric.unit);
                builder.with_description(metric.description).with_callback(observe).build();
            }
            Kind::UpDownCounter => {
                let builder = meter.f64_observable_up_down_counter(metric.name).with_unit(metric.unit);
                builder.with_description(metric.description).with_callback(observe).build();
            }
        }
    }
}

fn observer(
    metric: &'static Metric,
    watches: Vec<Arc<Watch>>,
) -> impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static {
    let totals = Mutex::new(Totals::default());
    move |instrument| {
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        for snapshot in watches.iter().filter_map(|watch| watch.read()) {
            for reading in snapshot.readings.iter().filter(|reading| reading.metric == metric.name) {
                let value = match metric.kind {
                    Kind::Counter => totals.since_start(&reading.attributes, reading.value, metric.own_count),
                    Kind::Gauge | Kind::UpDownCounter => reading.value,
                };
                instrument.observe(value, &reading.attributes);
            }
        }
    }
}

/// Turns totals since boot into totals since the collector started, which is the start time that the SDK sends. They
/// never fall: what a device counted before it began again (a driver reload) stays in.
#[derive(Debug, Default)]
struct Totals(HashMap<Vec<KeyValue>, Total>);

#[derive(Debug)]
struct Total {
    /// What the device showed when its present count began to be ours.
    baseline: f64,
    /// The highest it has shown since.
    latest: f64,
    /// What it counted before it began again.
    carried: f64,
    seen_at: Instant,
}

/// Series of one counter, above which those that were not seen for so long are forgotten: containers come and go.
const SERIES_MAX: usize = 4096;
const UNSEEN_MAX: Duration = Duration::from_secs(3600);

/// A total that falls, but stays above this share, has not begun again: the kernel's idle and iowait times may fall by
/// a tick (`man proc_stat`).
const DIP_SHARE_MIN: f64 = 0.99;

impl Totals {
    /// `is_ours`: the count began with the collector, so all of it is new.
    fn since_start(&mut self, attributes: &[KeyValue], total: f64, is_ours: bool) -> f64 {
        if self.0.len() >= SERIES_MAX && !self.0.contains_key(attributes) {
            self.0.retain(|_, known| known.seen_at.elapsed() < UNSEEN_MAX);
        }
        let now = Instant::now();
        let known = match self.0.get_mut(attributes) {
            Some(known) => known,
            None => {
                let baseline = if is_ours { 0.0 } else { total };
                self.0.entry(attributes.to_vec()).or_insert(Total {
                    baseline,
                    latest: total,
                    carried: 0.0,
                    seen_at: now,
                })
            }
        };
        known.seen_at = now;
        if total < known.latest * DIP_SHARE_MIN {
            // Everything since it began again is new.
            known.carried += known.latest - known.baseline;
            (known.baseline, known.latest) = (0.0, total);
        }
        known.latest = known.latest.max(total);
        known.carried + known.latest - known.baseline
    }
}

/// Registers what the collector says about itself.
pub(crate) fn register_own(meter: &Meter, watches: &[Arc<Watch>], export: Arc<ExportState>) {
    let source = |watch: &Watch| KeyValue::new("driftwatt.collector.source", watch.name);
    let all = watches.to_vec();
    let durations = meter.f64_observable_gauge("driftwatt.collector.scrape.duration").with_unit("s");
    durations
        .with_description("Time the newest sample of a source took.")
        .with_callback(move |instrument| {
            for watch in &all {
                if let Some(snapshot) = watch.read() {
                    instrument.observe(snapshot.took.as_secs_f64(), &[source(watch)]);
                }
            }
        })
        .build();
    let all = watches.to_vec();
    let ages = meter.f64_observable_gauge("driftwatt.collector.snapshot.age").with_unit("s");
    ages.with_description("Age of a source's newest sample; grows while the source hangs.")
        .with_callback(move |instrument| {
            for watch in &all {
                if let Some(age) = watch.age() {
                    instrument.observe(age.as_secs_f64(), &[source(watch)]);
                }
            }
        })
        .build();
    let all = watches.to_vec();
    let errors = meter.u64_observable_counter("driftwatt.collector.scrape.errors").with_unit("{error}");
    errors
        .with_description("Readings left out because they failed.")
        .with_callback(move |instrument| {
            for watch in &all {
                for (failure, count) in watch.failures() {
                    let reading = KeyValue::new("driftwatt.collector.reading", failure.reading);
                    let error_type = KeyValue::new("error.type", failure.error_type);
                    instrument.observe(count, &[source(watch), reading, error_type]);
                }
            }
        })
        .build();
    let exports = meter.u64_observable_counter("driftwatt.collector.export.errors").with_unit("{error}");
    exports
        .with_description("Exports given up after all retries.")
        .with_callback(move |instrument| instrument.observe(export.errors.load(Ordering::Relaxed), &[]))
        .build();
}

/// Registers what the collector says about its buffer.
pub(crate) fn register_buffer(meter: &Meter, buffer: &Arc<Buffer>) {
    let of = Arc::clone(buffer);
    let usage = meter.u64_observable_gauge("driftwatt.collector.buffer.usage").with_unit("By");
    usage
        .with_description("Space of requests that the server has not taken yet, in blocks of 4 KiB.")
        .with_callback(move |instrument| instrument.observe(of.levels().bytes, &[]))
        .build();
    let of = Arc::clone(buffer);
    let age = meter.f64_observable_gauge("driftwatt.collector.buffer.age").with_unit("s");
    age.with_description("Time since the oldest request was buffered; 0 with none.")
        .with_callback(move |instrument| {
            let age = of.levels().oldest.and_then(|written| SystemTime::now().duration_since(written).ok());
            instrument.observe(age.unwrap_or_default().as_secs_f64(), &[]);
        })
        .build();
    let of = Arc::clone(buffer);
    let dropped = meter.u64_observable_counter("driftwatt.collector.buffer.dropped").with_unit("{request}");
    dropped
        .with_description("Buffered requests that are lost.")
        .with_callback(move |instrument| {
            let dropped = of.levels().dropped;
            for (reason, count) in [("full", dropped.full), ("refused", dropped.refused), ("damaged", dropped.damaged)]
            {
                instrument.observe(count, &[KeyValue::new("error.type", reason)]);
            }
        })
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_start_at_zero_and_go_on_over_a_device_reset() {
        let mut totals = Totals::default();
        let gpu = [KeyValue::new("hw.id", "GPU-1")];
        for (total, expected) in [
            (1000.0, 0.0),
            (1500.0, 500.0),
            (20.0, 520.0),
            (70.0, 570.0),
            (2000.0, 2500.0),
            (0.0, 2500.0),
            (1.0, 2501.0),
        ] {
            assert_eq!(totals.since_start(&gpu, total, false), expected, "at {total}");
        }
        assert_eq!(totals.since_start(&[KeyValue::new("hw.id", "GPU-2")], 7.0, false), 0.0);
        let own: Vec<_> = [2.0, 3.0, 0.5].map(|total| totals.since_start(&[], total, true)).into();
        assert_eq!(own, [2.0, 3.0, 3.5], "what began with the collector is all new");
    }

    #[test]
    fn series_that_are_long_gone_are_forgotten_once_there_are_many() {
        let mut totals = Totals::default();
        let container = |number: usize| [KeyValue::new("container.id", number.to_string())];
        for number in 0..SERIES_MAX {
            totals.since_start(&container(number), 1.0, false);
        }
        let Some(long_ago) = Instant::now().checked_sub(UNSEEN_MAX) else { return };
        for (attributes, known) in &mut totals.0 {
            if attributes[0] != container(7)[0] {
                known.seen_at = long_ago;
            }
        }
        totals.since_start(&container(SERIES_MAX), 1.0, false);
        assert_eq!(totals.0.len(), 2);
        assert_eq!(totals.since_start(&container(7), 3.0, false), 2.0);
    }

    #[test]
    fn a_total_that_falls_by_a_tick_has_not_begun_again() {
        let mut totals = Totals::default();
        for (total, expected) in [(1000.0, 0.0), (1000.5, 0.5), (1000.25, 0.5), (1001.0, 1.0)] {
            assert_eq!(totals.since_start(&[], total, false), expected, "at {total}");
        }
    }
}

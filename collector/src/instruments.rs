//! Observable instruments that read the watches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::SystemTime,
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
    let baselines = Mutex::new(Baselines::default());
    move |instrument| {
        let mut baselines = baselines.lock().unwrap_or_else(PoisonError::into_inner);
        for snapshot in watches.iter().filter_map(|watch| watch.read()) {
            for reading in snapshot.readings.iter().filter(|reading| reading.metric == metric.name) {
                let value = match metric.kind {
                    Kind::Counter => baselines.since_start(&reading.attributes, reading.value),
                    Kind::Gauge | Kind::UpDownCounter => reading.value,
                };
                instrument.observe(value, &reading.attributes);
            }
        }
    }
}

/// Turns totals since boot into totals since the collector started, which is the start time that the SDK sends.
#[derive(Debug, Default)]
struct Baselines(HashMap<Vec<KeyValue>, f64>);

impl Baselines {
    fn since_start(&mut self, attributes: &[KeyValue], total: f64) -> f64 {
        let baseline = match self.0.get_mut(attributes) {
            Some(baseline) => baseline,
            None => self.0.entry(attributes.to_vec()).or_insert(total),
        };
        if total < *baseline {
            // The device counted from zero again (a driver reload): everything since then is new.
            *baseline = 0.0;
        }
        total - *baseline
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
    fn counters_start_at_zero_and_survive_a_device_reset() {
        let mut baselines = Baselines::default();
        let gpu = [KeyValue::new("hw.id", "GPU-1")];
        assert_eq!(baselines.since_start(&gpu, 1000.0), 0.0);
        assert_eq!(baselines.since_start(&gpu, 1500.0), 500.0);
        assert_eq!(baselines.since_start(&gpu, 20.0), 20.0);
        assert_eq!(baselines.since_start(&gpu, 70.0), 70.0);
        assert_eq!(baselines.since_start(&[KeyValue::new("hw.id", "GPU-2")], 7.0), 0.0);
    }
}

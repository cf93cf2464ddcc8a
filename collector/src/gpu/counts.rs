//! Counts that begin again with every reading process, such as events it has seen, and must not for whoever reads them.

use std::collections::HashMap;

use opentelemetry::KeyValue;

use crate::{
    catalog,
    reading::{Reading, Sample},
};

type Series = (&'static str, Vec<KeyValue>);

/// What the processes before have counted, and what the present one has.
#[derive(Debug, Default)]
pub(super) struct Counts {
    carried: HashMap<Series, f64>,
    present: HashMap<Series, f64>,
}

impl Counts {
    /// Adds to the counts in `sample` what was counted before, also to those that the present process has none of.
    pub(super) fn go_on(&mut self, sample: &mut Sample) {
        for reading in sample.readings.iter().filter(|reading| catalog::is_own_count(reading.metric)) {
            self.present.insert((reading.metric, reading.attributes.clone()), reading.value);
        }
        sample.readings.retain(|reading| !catalog::is_own_count(reading.metric));
        let only_before = self.carried.iter().filter(|(series, _)| !self.present.contains_key(series));
        let before = only_before.map(|(series, count)| (series, *count));
        let both = self.present.iter().map(|(series, n)| (series, n + self.carried.get(series).unwrap_or(&0.0)));
        let reading =
            |((metric, attributes), value): (&Series, f64)| Reading { metric, value, attributes: attributes.clone() };
        sample.readings.extend(before.chain(both).map(reading));
    }

    /// The process is gone; the next one counts from zero.
    pub(super) fn begin_again(&mut self) {
        for (series, count) in self.present.drain() {
            *self.carried.entry(series).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: &mut Counts, events: &[(&'static str, f64)]) -> Vec<(String, f64)> {
        let mut sample = Sample::default();
        sample.push("hw.power", 1.0, &[]);
        for (code, count) in events {
            sample.push("driftwatt.gpu.xid.errors", *count, &[KeyValue::new("driftwatt.gpu.xid", *code)]);
        }
        counts.go_on(&mut sample);
        assert_eq!(sample.readings.iter().filter(|reading| reading.metric == "hw.power").count(), 1);
        let events = sample.readings.iter().filter(|reading| reading.metric != "hw.power");
        let mut seen: Vec<_> = events.map(|r| (r.attributes[0].value.to_string(), r.value)).collect();
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        seen
    }

    #[test]
    fn events_are_not_forgotten_with_the_process_that_saw_them() {
        let mut counts = Counts::default();
        assert_eq!(counted(&mut counts, &[("79", 1.0)]), [("79".into(), 1.0)]);
        assert_eq!(counted(&mut counts, &[("79", 2.0)]), [("79".into(), 2.0)]);
        counts.begin_again();
        assert_eq!(counted(&mut counts, &[]), [("79".into(), 2.0)]);
        assert_eq!(counted(&mut counts, &[("13", 1.0), ("79", 2.0)]), [("13".into(), 1.0), ("79".into(), 4.0)]);
        counts.begin_again();
        counts.begin_again();
        assert_eq!(counted(&mut counts, &[("79", 1.0)]), [("13".into(), 1.0), ("79".into(), 5.0)]);
    }
}

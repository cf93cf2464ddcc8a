//! What a target showed before: start times of what counts, and markers for what is gone.
//!
//! A series that vanished is remembered for an hour without being reported, so that a counter which comes back goes on
//! with its start time and does not look as if it had begun anew.

use std::collections::HashMap;

use super::points::{Point, Value};

/// How long a series that is gone is remembered.
const GONE_MS_MAX: i64 = 3_600_000;

/// Identity of a series: owner, metric, attributes, kind and bounds.
type Key = String;

#[derive(Debug)]
struct Known {
    /// The newest point.
    point: Point,
    /// When it was found gone.
    gone_ms: Option<i64>,
    scrape: u64,
}

/// The series of one target.
#[derive(Debug, Default)]
pub(crate) struct History {
    series: HashMap<Key, Known>,
    scrape: u64,
    /// Time of the scrape before.
    last_ms: i64,
}

impl History {
    /// Gives `points` of a scrape at `time_ms` their start times and adds a marker for every series that is gone.
    pub(crate) fn advance(&mut self, points: &mut Vec<Point>, time_ms: i64) {
        self.scrape += 1;
        for point in points.iter_mut() {
            let key = key(point);
            let known = self.series.get(&key);
            point.start_ms = self.start_ms(known, point);
            self.series.insert(key, Known { point: point.clone(), gone_ms: None, scrape: self.scrape });
        }
        let scrape = self.scrape;
        self.series.retain(|_, known| {
            if known.scrape == scrape {
                return true;
            }
            // A series with times of its own is not expected in every page.
            if known.gone_ms.is_none() && !known.point.has_own_time {
                points.push(Point { time_ms, is_stale: true, ..known.point.clone() });
            }
            let gone_ms = *known.gone_ms.get_or_insert(time_ms);
            time_ms - gone_ms < GONE_MS_MAX
        });
        self.last_ms = time_ms;
    }

    /// A start that the page gives stands. Else it counts since it was first seen, and after a reset since the scrape before.
    fn start_ms(&self, known: Option<&Known>, point: &Point) -> i64 {
        let Some(value) = point.value.growing() else { return 0 };
        if point.start_ms > 0 && point.start_ms <= point.time_ms {
            return point.start_ms;
        }
        match known {
            None => point.time_ms,
            Some(known) if known.point.value.growing().is_some_and(|before| value < before) => {
                self.last_ms.min(point.time_ms)
            }
            Some(known) => known.point.start_ms,
        }
    }
}

fn key(point: &Point) -> Key {
    let owner = &point.owner;
    let mut key = String::with_capacity(128);
    let owned = [&*owner.job, &owner.instance, &owner.scope_name, &owner.scope_version, &point.metric];
    let attributes = point.attributes.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    for part in owned.into_iter().chain(attributes) {
        key.push_str(part);
        // No text of a page holds a zero byte on purpose, and one by accident only joins two series of one target.
        key.push('\0');
    }
    match &point.value {
        Value::Gauge(_) => key.push('g'),
        Value::Sum(_) => key.push('s'),
        Value::Summary { .. } => key.push('q'),
        Value::Histogram { bounds, .. } => bounds.iter().for_each(|bound| key.push_str(&format!("h{bound}"))),
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::{
        exposition::{Format, parse},
        owner::TargetLabels,
        points::points,
    };

    fn scrape(history: &mut History, text: &str, time_ms: i64) -> Vec<Point> {
        let mut points = points(&parse(text, Format::Text), &TargetLabels::default(), time_ms).points;
        history.advance(&mut points, time_ms);
        points
    }

    fn starts(points: &[Point]) -> Vec<(&str, i64, bool)> {
        points.iter().map(|point| (&*point.metric, point.start_ms, point.is_stale)).collect()
    }

    #[test]
    fn counters_start_when_first_seen_and_again_before_a_reset() {
        let mut history = History::default();
        let page = |value: u32| format!("# TYPE c counter\nc {value}\n# TYPE g gauge\ng {value}\n");
        assert_eq!(starts(&scrape(&mut history, &page(5), 1000)), [("c", 1000, false), ("g", 0, false)]);
        assert_eq!(starts(&scrape(&mut history, &page(7), 2000)), [("c", 1000, false), ("g", 0, false)]);
        assert_eq!(starts(&scrape(&mut history, &page(1), 3000)), [("c", 2000, false), ("g", 0, false)]);
        assert_eq!(starts(&scrape(&mut history, &page(1), 4000)), [("c", 2000, false), ("g", 0, false)]);
    }

    #[test]
    fn a_series_that_vanishes_gets_one_marker_and_goes_on_when_it_comes_back() {
        let mut history = History::default();
        let page = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\nold 1 500\n";
        assert_eq!(starts(&scrape(&mut history, page, 1000)), [("h", 1000, false), ("old", 0, false)]);
        let gone = scrape(&mut history, "", 2000);
        assert_eq!(starts(&gone), [("h", 1000, true)], "none for a series with a time of its own");
        assert_eq!(gone[0].time_ms, 2000);
        assert!(
            matches!(&gone[0].value, Value::Histogram { bounds, .. } if bounds == &[1.0]),
            "bounds are in the marker"
        );
        assert_eq!(scrape(&mut history, "", 3000), []);
        assert_eq!(starts(&scrape(&mut history, page, 4000))[0], ("h", 1000, false));
        scrape(&mut history, "", 5000);
        scrape(&mut history, "", 5000 + GONE_MS_MAX);
        assert!(history.series.is_empty());
    }
}

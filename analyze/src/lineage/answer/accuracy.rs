//! How often the predictions of each release were right, from labels that came later.

use std::collections::BTreeMap;

use crate::{
    lineage::{
        deployment::{Release, Target},
        prediction_label::LabelCount,
        timeline::Timeline,
        version_card::MinuteSums,
    },
    window::{MINUTE_US, Window},
};

/// Accuracy of one release.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionAccuracy {
    /// The release; none is what ran while it was not settled which.
    pub release: Option<Release>,
    /// Labels.
    pub count: u64,
    /// Share of right predictions by weight, 0 to 1.
    pub share: f64,
    /// Its 95 % interval; none where all labels are of one minute.
    pub interval: Option<(f64, f64)>,
    /// First and last minute of a prediction with a label, UTC microseconds.
    pub times_us: (i64, i64),
}

/// The labels of one target, each with its release.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Labelled {
    by_release: BTreeMap<Option<Release>, Vec<LabelCount>>,
}

impl Labelled {
    /// Labels of `target`: those that name its environment, or none. One without a version is of the release that ran, where that is
    /// known; `wanted` keeps to one model.
    pub(super) fn new(counts: &[LabelCount], target: &Target, timeline: &Timeline, wanted: Option<&str>) -> Self {
        let mut by_release: BTreeMap<Option<Release>, Vec<LabelCount>> = BTreeMap::new();
        let of_here = |count: &&LabelCount| count.environment.is_none() || count.environment == target.environment;
        for count in counts.iter().filter(of_here) {
            let release = release_of(count, timeline, &target.service);
            let model = release.as_ref().map(|release| release.model.as_str()).or(count.model.as_deref());
            if wanted.is_none() || model.is_none() || model == wanted {
                by_release.entry(release).or_default().push(count.clone());
            }
        }
        Self { by_release }
    }

    /// Of every release, the one with the newest labels first.
    pub(super) fn by_version(&self) -> Vec<VersionAccuracy> {
        let mut found: Vec<VersionAccuracy> = self
            .by_release
            .iter()
            .filter_map(|(release, counts)| {
                let times_us = (counts.first()?.minute_us, counts.last()?.minute_us);
                let (sums, count) = (sums(counts), counts.iter().map(|count| count.count).sum());
                let interval = sums.share().map(|share| (share.low, share.high));
                Some(VersionAccuracy { release: release.clone(), count, share: sums.x / sums.n, interval, times_us })
            })
            .collect();
        found.sort_by_key(|one| std::cmp::Reverse(one.times_us.1));
        found
    }

    /// Right answers of `release` in `window`.
    pub(super) fn of(&self, release: &Release, window: Window) -> MinuteSums {
        let counts = self.by_release.get(&Some(release.clone())).map_or(&[][..], Vec::as_slice);
        let within = |count: &&LabelCount| (window.start_us..window.end_us).contains(&count.minute_us);
        sums(&counts.iter().filter(within).cloned().collect::<Vec<_>>())
    }
}

/// Sums by minute, with weights that add up to as many labels of weight 1 as would tell as much.
fn sums(counts: &[LabelCount]) -> MinuteSums {
    let (weight, squared) =
        counts.iter().fold((0.0, 0.0), |(weight, squared), one| (weight + one.weight, squared + one.weight_squared));
    let scale = if squared > 0.0 { weight / squared } else { 0.0 };
    let mut minutes: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for one in counts {
        let (right, all) = minutes.entry(one.minute_us).or_default();
        (*right, *all) = (*right + one.right * scale, *all + one.weight * scale);
    }
    let mut sums = MinuteSums::default();
    minutes.values().for_each(|(right, all)| sums.add_weighed(*right, *all));
    sums
}

/// The release that made the predictions of one minute.
fn release_of(count: &LabelCount, timeline: &Timeline, service: &str) -> Option<Release> {
    // A minute in which another release came is of neither.
    let (first, last) = (timeline.at(count.minute_us), timeline.at(count.minute_us + MINUTE_US - 1));
    let ran = first.release().filter(|first| last.release() == Some(*first));
    match (&count.model, &count.version) {
        (model, Some(version)) => {
            let model = model.clone().or_else(|| ran.map(|release| release.model.clone()));
            Some(Release { model: model.unwrap_or_else(|| service.to_owned()), version: version.clone() })
        }
        (Some(model), None) => ran.filter(|release| release.model == *model).cloned(),
        (None, None) => ran.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::{
        deployment::{Evidence, Observation},
        timeline::{TimelineRules, timelines},
    };

    fn release(version: &str) -> Release {
        Release { model: "llama".into(), version: version.into() }
    }

    fn target() -> Target {
        Target { service: "chat".into(), environment: Some("prod".into()) }
    }

    /// 2.9 from minute 10 on, 2.10 from the middle of minute 30 on.
    fn timeline() -> Timeline {
        let mark = |time_us: i64, version: &str| Observation {
            target: target(),
            time_us,
            evidence: Evidence::Mark { release: release(version) },
            received_us: time_us,
        };
        let marks = [mark(10 * MINUTE_US, "2.9"), mark(30 * MINUTE_US + MINUTE_US / 2, "2.10")];
        timelines(&marks, &TimelineRules::default(), 100 * MINUTE_US).remove(&target()).unwrap()
    }

    fn count(minute: i64, version: Option<&str>, count: u64, right: f64) -> LabelCount {
        let weight = count as f64;
        let minute_us = minute * MINUTE_US;
        let version = version.map(str::to_owned);
        LabelCount { minute_us, environment: None, model: None, version, count, weight, right, weight_squared: weight }
    }

    #[test]
    fn labels_without_a_version_are_of_the_release_that_ran() {
        let counts = [
            count(12, None, 50, 45.0),
            count(13, None, 50, 45.0),
            // The move lies in this minute.
            count(30, None, 7, 7.0),
            count(40, None, 60, 30.0),
            count(41, Some("2.9"), 10, 0.0),
            LabelCount { environment: Some("test".into()), ..count(42, None, 99, 99.0) },
        ];
        let found = Labelled::new(&counts, &target(), &timeline(), None);
        let by_version: Vec<_> = found
            .by_version()
            .into_iter()
            .map(|one| (one.release.map(|release| release.version), one.count, one.share, one.interval.is_some()))
            .collect();
        assert_eq!(
            by_version,
            [
                // Newest first; what is of one minute has no interval.
                (Some("2.9".into()), 110, 90.0 / 110.0, true),
                (Some("2.10".into()), 60, 0.5, false),
                (None, 7, 1.0, false),
            ]
        );
        let before = found.of(&release("2.9"), Window { start_us: 0, end_us: 30 * MINUTE_US });
        assert_eq!((before.n, before.x, before.minutes), (100.0, 90.0, 2));
        assert!(Labelled::new(&counts, &target(), &timeline(), Some("other")).by_version()[0].release.is_none());
    }

    #[test]
    fn weights_count_as_many_labels_as_tell_as_much() {
        // Weights 3, 1, 1, 1: sum 6, squares 12, so 36 / 12 = 3 labels; right is the first and one more: 4/6.
        let weighed = |minute: i64, weight: f64, right: f64| LabelCount {
            weight,
            weight_squared: weight * weight,
            ..count(minute, None, 1, right)
        };
        let sums = sums(&[weighed(1, 3.0, 3.0), weighed(2, 1.0, 1.0), weighed(3, 1.0, 0.0), weighed(4, 1.0, 0.0)]);
        assert!((sums.n - 3.0).abs() < 1e-12 && (sums.x - 2.0).abs() < 1e-12, "{sums:?}");
    }
}

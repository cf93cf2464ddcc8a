//! The timeline against a model that plays deployments, rollbacks and restarts minute by minute.

use proptest::prelude::*;

use super::tests::{alias, mark, release, seen, target};
use super::*;

const MINUTES: usize = 400;

/// What happens to the service, in order.
#[derive(Debug, Clone)]
enum Step {
    /// The alias moves, and after some minutes on the old release the service restarts onto the new one.
    Deploy {
        version: u8,
        delay: usize,
        downtime: usize,
    },
    /// As a deployment, of the release before; announced by a mark.
    Rollback {
        downtime: usize,
    },
    Restart {
        downtime: usize,
    },
    Run {
        minutes: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u8..6, 0usize..20, 0usize..4).prop_map(|(version, delay, downtime)| Step::Deploy {
            version,
            delay,
            downtime
        }),
        (0usize..4).prop_map(|downtime| Step::Rollback { downtime }),
        (0usize..4).prop_map(|downtime| Step::Restart { downtime }),
        (1usize..60).prop_map(|minutes| Step::Run { minutes }),
    ]
}

/// The service as it truly was.
struct Model {
    /// Version in each minute; `None` while it is down.
    truth: Vec<Option<u8>>,
    version: u8,
    before: u8,
    instance: usize,
    observations: Vec<Observation>,
}

impl Model {
    fn play(steps: &[Step]) -> Self {
        let mut model = Self { truth: Vec::new(), version: 1, before: 1, instance: 0, observations: Vec::new() };
        model.observations.push(mark(1, "1"));
        model.truth.push(None);
        model.run(15);
        for step in steps {
            let minute = i64::try_from(model.truth.len()).unwrap();
            match *step {
                Step::Deploy { version, delay, downtime } => {
                    model.observations.push(alias(minute - 1, minute, &version.to_string()));
                    model.run(delay);
                    model.restart(version, downtime);
                }
                Step::Rollback { downtime } => {
                    model.observations.push(mark(minute, &model.before.to_string()));
                    model.restart(model.before, downtime);
                }
                Step::Restart { downtime } => model.restart(model.version, downtime),
                Step::Run { minutes } => model.run(minutes),
            }
        }
        model
    }

    fn run(&mut self, minutes: usize) {
        for _ in 0..minutes {
            let minute = i64::try_from(self.truth.len()).unwrap();
            let instance = format!("pod-{}", self.instance);
            self.observations.push(seen(&instance, minute, minute, &self.version.to_string()));
            self.truth.push(Some(self.version));
        }
    }

    /// Runs for longer than a flap lasts, so that each release counts as deployed.
    fn restart(&mut self, version: u8, downtime: usize) {
        self.truth.extend(std::iter::repeat_n(None, downtime));
        self.instance += 1;
        if version != self.version {
            (self.before, self.version) = (self.version, version);
        }
        self.run(12);
    }
}

fn build(observations: &[Observation], now_minute: usize) -> Timeline {
    let now_us = i64::try_from(now_minute).unwrap() * MINUTE_US;
    timelines(observations, &TimelineRules::default(), now_us).remove(&target()).unwrap()
}

proptest! {
    #[test]
    fn the_version_at_any_past_time_is_right_in_any_order_of_arrival(
        (steps, order) in prop::collection::vec(step(), 0..20).prop_flat_map(|steps| {
            let count = Model::play(&steps).observations.len();
            (Just(steps), Just((0..count).collect::<Vec<_>>()).prop_shuffle())
        }),
    ) {
        let model = Model::play(&steps);
        let shuffled: Vec<Observation> = order.iter().map(|&index| model.observations[index].clone()).collect();
        let last = model.truth.len() - 1;
        let built = build(&shuffled, last);
        for minute in 0..last {
            let Some(version) = model.truth[minute] else { continue };
            let time_us = i64::try_from(minute).unwrap() * MINUTE_US;
            // At the data point, and up to the next one if the service stays up.
            let until_us = if model.truth[minute + 1].is_some() { MINUTE_US - 1 } else { 0 };
            for time_us in [time_us, time_us + until_us] {
                let told = built.at(time_us);
                prop_assert_eq!(told.release(), Some(&release(&version.to_string())), "minute {}: {:?}", minute, told);
            }
        }
    }

    #[test]
    fn order_and_repetition_of_arrival_do_not_matter(
        (observations, order) in prop::collection::vec((0i64..60, 0u8..3, 0i64..12, 1u8..4, 0u8..3), 1..30)
            .prop_flat_map(|all| {
                let count = all.len();
                (Just(all), prop::collection::vec(0..count, 0..10)
                    .prop_flat_map(move |again| Just((0..count).chain(again).collect::<Vec<_>>()).prop_shuffle()))
            }),
    ) {
        let observations: Vec<Observation> = observations.iter().map(|&(minute, kind, width, version, instance)| {
            let (minute, version) = (minute + 1, version.to_string());
            match kind {
                0 => mark(minute, &version),
                1 => alias((minute - width).max(0), minute, &version),
                _ => seen(&format!("pod-{instance}"), minute, minute + width, &version),
            }
        }).collect();
        let arrived: Vec<Observation> = order.iter().map(|&index| observations[index].clone()).collect();
        let built = build(&observations, 50);
        prop_assert_eq!(&build(&arrived, 50), &built);
        for pair in built.intervals.windows(2) {
            prop_assert_eq!(pair[0].to_us, Some(pair[1].from_us));
            prop_assert!(pair[0].from_us < pair[1].from_us);
        }
        prop_assert!(built.intervals.last().is_none_or(|last| last.to_us.is_none()));
    }

    #[test]
    fn of_polled_aliases_a_known_version_is_true_and_doubt_covers_the_truth(
        poll_minutes in 1usize..9,
        moves in prop::collection::btree_map(1usize..40, (0usize..9, 1u8..5), 0..12),
    ) {
        // At most one move in each poll period: what moves there and back is invisible to any poll.
        let mut truth = vec![1u8; MINUTES];
        for (&period, &(offset, version)) in &moves {
            let begin = period * poll_minutes + 1 + offset % poll_minutes;
            truth[begin.min(MINUTES)..].fill(version);
        }
        let mut observations = vec![alias(1, 1, "1")];
        // Moves noticed by the poll at this minute; all minutes of its period are in doubt.
        let mut noticed = std::collections::BTreeSet::new();
        let polls: Vec<usize> = (1..MINUTES).filter(|minute| minute % poll_minutes == 0).collect();
        let mut known = 1;
        let mut before = 1;
        for &poll in &polls {
            if truth[poll] != known {
                known = truth[poll];
                let minute = i64::try_from(poll).unwrap();
                observations.push(alias(before, minute, &known.to_string()));
                noticed.insert(poll);
            }
            before = i64::try_from(poll).unwrap();
        }
        let last_poll = *polls.last().unwrap();
        let built = build(&observations, last_poll);
        for (minute, version) in truth.iter().enumerate().take(last_poll + 1).skip(1) {
            let status = built.at(i64::try_from(minute).unwrap() * MINUTE_US);
            prop_assert!(status.candidates().contains(&release(&version.to_string())), "minute {minute}: {status:?}");
            let next_poll = (minute / poll_minutes + 1) * poll_minutes;
            prop_assert_eq!(status.release().is_none(), noticed.contains(&next_poll), "minute {}: {:?}", minute, status);
        }
    }
}

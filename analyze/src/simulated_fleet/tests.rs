//! Verdicts on a small simulated fleet, and what the simulation itself is like.

use chrono_tz::Tz;

use super::{
    verdicts::{all, judge, table, verdict},
    *,
};
use crate::{
    recommend::{RecommendRequest, recommend},
    recommendation::{LedgerState, Verdict},
    test_session::{Sample, labels, session},
    window::Window,
};

/// The table of a seed in docs/idle.md.
fn published(seed: u64) -> String {
    let text = include_str!("../../../docs/idle.md");
    let (_, after) = text.split_once(&format!("\nSeed {seed}")).unwrap_or_else(|| panic!("no table of seed {seed}"));
    after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).fold(
        String::new(),
        |mut table, line| {
            table.push_str(line);
            table.push('\n');
            table
        },
    )
}

/// The limits that verdicts are held to, and what docs/idle.md says of them. Seed 2 by default: no rule was adjusted on it, and
/// it has the least precision. `DRIFTWATT_VERDICT_SEEDS=1,2,3` checks the other tables, too.
#[test]
fn verdicts_on_two_hundred_services_hold_in_the_weeks_that_follow() {
    let seeds = std::env::var("DRIFTWATT_VERDICT_SEEDS").unwrap_or_else(|_| "2".to_owned());
    for seed in seeds.split(',').map(|seed| seed.trim().parse::<u64>().unwrap()) {
        let tallies = judge(seed, 200, 15);
        let whole = all(&tallies);
        assert_eq!(whole.service_count, 200);
        assert!(whole.precision().unwrap() >= 0.98 && whole.recall().unwrap() >= 0.85, "{}", table(&tallies));
        for (kind, tally) in &tallies {
            let expected = if kind.is_measured() { 0 } else { tally.service_count };
            // No verdict without telemetry, and a working exporter is not taken for a hung one.
            assert_eq!(tally.unknown_count, expected, "{kind:?}");
            let asked = matches!(kind, Kind::Idle | Kind::IdleHeld | Kind::Bursty | Kind::Seasonal);
            assert_eq!(tally.shrinkable_count > 0, asked, "the question must be asked of {kind:?}");
        }
        assert_eq!(table(&tallies), published(seed), "docs/idle.md, seed {seed}");
    }
}

/// What the job makes of the same services when it reads them from a store's views.
#[tokio::test]
async fn services_that_are_read_get_the_same_verdict_and_are_called_simulated() {
    let interval_s = 120;
    let mut samples = Vec::new();
    let mut expected = Vec::new();
    for kind in [Kind::IdleHeld, Kind::Busy, Kind::HungExporter] {
        let service =
            (0..).map(|seed| SimulatedService::new(kind, seed)).find(|service| service.gpu_count == 4).unwrap();
        let name = match verdict(&service, interval_s) {
            Verdict::Shrink(_) => "shrink",
            Verdict::Keep(_) => "keep",
            Verdict::Vetoed(_) => "vetoed",
            Verdict::Unknown(_) => "unknown",
        };
        expected.push((kind.as_str().to_owned(), true, name));
        for index in 0..service.gpu_count {
            let id = format!("{}-{index}", kind.as_str());
            let labels = labels(&[("host_name", "sim-host"), ("gpu_id", &id), ("service_name", kind.as_str())]);
            let total = service.memory_bytes().1;
            let (role, labels_of) = ("gpu.memory.total", labels.clone());
            samples.push(Sample { time_us: START_US, role, value: total, labels: labels_of, simulated: true });
            for sample in service.samples(index, interval_s) {
                let values = [
                    ("gpu.utilization", sample.duty),
                    ("gpu.memory.used", sample.memory_bytes),
                    ("gpu.power", sample.power_watts),
                ];
                samples.extend(values.into_iter().filter_map(|(role, value)| {
                    Some(Sample {
                        time_us: sample.time_us,
                        role,
                        value: value?,
                        labels: labels.clone(),
                        simulated: true,
                    })
                }));
            }
        }
    }
    let end_us = START_US + (OBSERVED_DAYS * DAY_MINUTES) as i64 * MINUTE_US;
    let request = RecommendRequest {
        window: Window::new(START_US, end_us).unwrap(),
        zone: Tz::Europe__Berlin,
        prices: None,
        manifests: None,
        holidays: vec![],
        now_us: end_us,
    };
    let report = recommend(&session(&samples, &[]), None, &request).await.unwrap();
    let mut found: Vec<_> = report
        .services
        .iter()
        .map(|service| (service.service.clone(), service.simulated, service.verdict_name()))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let verdicts: Vec<_> = found.iter().map(|(.., verdict)| *verdict).collect();
    assert_eq!(verdicts, ["keep", "unknown", "shrink"], "{found:?}");
    assert!(report.to_text().contains("simulated idle-held"), "{}", report.to_text());
}

#[test]
fn most_samples_of_a_serving_fleet_are_zero_while_memory_is_held() {
    let service = SimulatedService::new(Kind::Seasonal, 5);
    let samples = service.samples(0, 60);
    assert_eq!(samples, SimulatedService::new(Kind::Seasonal, 5).samples(0, 60), "a seed is a fleet");
    let zero = samples.iter().filter(|sample| sample.duty == Some(0.0)).count() as f64 / samples.len() as f64;
    assert!((0.5..0.95).contains(&zero), "{zero}");
    assert!(samples.iter().all(|sample| sample.memory_bytes.unwrap() > GIB));
    let mean = samples.iter().filter_map(|sample| sample.duty).sum::<f64>() / samples.len() as f64;
    let observed = &service.demand()[..OBSERVED_DAYS * DAY_MINUTES];
    let truth = observed.iter().sum::<f64>() / observed.len() as f64 / service.gpu_count as f64;
    assert!((mean / truth - 0.95).abs() < 0.05, "samples are honest: {mean} of {truth}, this replica gets 95 %");
}

#[test]
fn a_recommendation_explains_itself_and_moves_through_the_ledger() {
    let service = SimulatedService::new(Kind::IdleHeld, 3);
    let Verdict::Shrink(got) = verdict(&service, 60) else { panic!("an idle service") };
    assert_eq!(got.proposed as usize, service.gpu_count - service.gpu_count / 4);
    let list = got.saving_list.unwrap();
    assert!((list.expected - f64::from(got.current - got.proposed) * 168.0 * 4.0).abs() < 1e-6);
    assert!(list.low <= list.expected && list.expected <= list.high);
    assert!(got.explanation.contains("replicas was busy on average"), "{}", got.explanation);
    let until_us = got.expires_us;
    let late = LedgerState::Proposed.advanced(LedgerState::Accepted(until_us), until_us);
    assert!(late.unwrap_err().to_string().contains("past its expiry"));
    let accepted = LedgerState::Proposed.advanced(LedgerState::Accepted(until_us - 1), until_us).unwrap();
    assert!(accepted.advanced(LedgerState::Rejected(0), until_us).is_err());
    let hours = got.gpu_hours.expected;
    let realised = LedgerState::Realised { predicted: hours, realised: hours };
    assert_eq!(accepted.advanced(realised, until_us), Ok(realised));
    assert!(LedgerState::Proposed.advanced(realised, until_us).is_err());
}

use std::collections::BTreeMap;

use super::*;
use crate::diagnosis::{Rules, diagnose, latency_buckets::LatencyBuckets};

/// Seeds that the method was never tuned on; tuning used 0 to 19. All 20 of `docs/diagnosis.md` take minutes without optimisation.
const HELD_OUT: std::ops::Range<u64> = if cfg!(debug_assertions) { 1_000..1_005 } else { 1_000..1_020 };

/// Prints the confusion table; `DRIFTWATT_SCENARIO_SEEDS=0..20` picks other seeds, `DRIFTWATT_SCENARIO_ROWS` another n.
#[test]
fn scenarios() {
    let seeds = std::env::var("DRIFTWATT_SCENARIO_SEEDS").ok();
    let seeds = seeds.and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let per_side = std::env::var("DRIFTWATT_SCENARIO_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let verbose = std::env::var("DRIFTWATT_SCENARIO_VERBOSE").is_ok();
    let table = Confusion::new(&KINDS, seeds.unwrap_or(HELD_OUT), per_side, verbose);
    println!("{}", table.markdown());
    if per_side == 2_000 {
        assert!(table.right_share() >= 0.95, "{}", table.right_share());
        assert!(table.share(Kind::Null, Verdict::System) <= 0.02);
        assert_eq!(table.share(Kind::MissingTelemetry, Verdict::Inconclusive), 1.0);
    }
}

/// The same incidents as a service shows them that sends histograms: a row for each minute, GPU, version, tenant, format and
/// finish reason, whose numbers are means.
#[test]
fn scenarios_as_means_of_intervals() {
    let seeds = std::env::var("DRIFTWATT_SCENARIO_SEEDS").ok().and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let verbose = std::env::var("DRIFTWATT_SCENARIO_VERBOSE").is_ok();
    let table = Confusion::of(&KINDS, seeds.unwrap_or(HELD_OUT), 8_000, verbose, means_of_intervals);
    println!("{}", table.markdown());
    assert!(table.right_share() >= 0.85, "{}", table.right_share());
    assert!(table.share(Kind::Null, Verdict::System) <= 0.02);
    assert_eq!(table.share(Kind::MissingTelemetry, Verdict::Inconclusive), 1.0);
}

fn means_of_intervals(single: ServiceWindow) -> ServiceWindow {
    let mut groups: BTreeMap<(u32, Vec<u16>), Vec<usize>> = BTreeMap::new();
    for (row, &minute) in single.minutes.iter().enumerate() {
        groups.entry((minute, single.labels.iter().map(|labels| labels.codes[row]).collect())).or_default().push(row);
    }
    let mut edges = vec![1.0];
    while edges.len() < 200 {
        edges.push(edges[edges.len() - 1] * 1.25f64);
    }
    edges.retain(|edge| *edge < 1e7);
    let mut buckets = LatencyBuckets::new(edges.clone(), single.minute_count);
    for (row, &minute) in single.minutes.iter().enumerate() {
        let latency = f64::from(single.latency_ms[row]);
        let cell = edges.partition_point(|edge| *edge < latency);
        let low = if cell == 0 { 0.0 } else { edges[cell - 1] };
        buckets.add(minute as usize, low, edges[cell], 1.0);
    }
    let mean = |values: &[f32], rows: &[usize]| {
        let known: Vec<f64> =
            rows.iter().map(|&row| f64::from(values[row])).filter(|value| value.is_finite()).collect();
        (known.iter().sum::<f64>() / known.len() as f64) as f32
    };
    let of = |values: &[f32]| groups.values().map(|rows| mean(values, rows)).collect::<Vec<f32>>();
    let mut window = single.clone();
    window.minutes = groups.keys().map(|(minute, _)| *minute).collect();
    window.latency_ms = of(&single.latency_ms);
    window.weights = groups.values().map(|rows| rows.len() as u32).collect();
    window.buckets = Some(buckets);
    for feature in &mut window.features {
        // Some spans without a size leave a mean over the others; then the share that is known does not show in a histogram.
        let unknown = feature.values.iter().filter(|value| value.is_nan()).count();
        let values = of(&feature.values);
        feature.values = if 10 * unknown > feature.values.len() { vec![f32::NAN; values.len()] } else { values };
    }
    for (at, labels) in window.labels.iter_mut().enumerate() {
        labels.codes = groups.keys().map(|(_, codes)| codes[at]).collect();
    }
    window
}

/// Verdicts by kind.
struct Confusion {
    rows: Vec<(Kind, Vec<Verdict>)>,
}

const COLUMNS: [Verdict; 7] = [
    Verdict::None,
    Verdict::Input,
    Verdict::Model,
    Verdict::System,
    Verdict::Saturation,
    Verdict::Mixed,
    Verdict::Inconclusive,
];

impl Confusion {
    fn new(kinds: &[Kind], seeds: std::ops::Range<u64>, per_side: usize, verbose: bool) -> Self {
        Self::of(kinds, seeds, per_side, verbose, |window| window)
    }

    fn of(
        kinds: &[Kind],
        seeds: std::ops::Range<u64>,
        per_side: usize,
        verbose: bool,
        seen: impl Fn(ServiceWindow) -> ServiceWindow,
    ) -> Self {
        let rows = kinds.iter().map(|&kind| {
            let verdicts = seeds.clone().map(|seed| {
                let mut scenario = simulate(kind, seed, per_side);
                scenario.window = seen(scenario.window);
                let diagnosis = diagnose(&scenario.window, &scenario.question, &Rules::default()).unwrap();
                assert!(diagnosis.simulated);
                if verbose && diagnosis.verdict != kind.truth() {
                    explain(&scenario, seed, &diagnosis);
                }
                diagnosis.verdict
            });
            (kind, verdicts.collect())
        });
        Self { rows: rows.collect() }
    }

    fn share(&self, kind: Kind, verdict: Verdict) -> f64 {
        let row = &self.rows.iter().find(|row| row.0 == kind).unwrap().1;
        row.iter().filter(|&&other| other == verdict).count() as f64 / row.len() as f64
    }

    fn right_share(&self) -> f64 {
        self.rows.iter().map(|row| self.share(row.0, row.0.truth())).sum::<f64>() / self.rows.len() as f64
    }

    fn markdown(&self) -> String {
        let mut text = "| scenario | right |".to_owned();
        for verdict in COLUMNS {
            text += &format!(" {} |", verdict.as_str());
        }
        text += "\n|---|---|";
        text += &"---|".repeat(COLUMNS.len());
        for (kind, verdicts) in &self.rows {
            text += &format!("\n| {} | {} |", kind.as_str(), kind.truth().as_str());
            for column in COLUMNS {
                let count = verdicts.iter().filter(|&&verdict| verdict == column).count();
                let shown = match (count, column == kind.truth()) {
                    (0, false) => String::new(),
                    (count, true) => format!("**{count}**"),
                    (count, false) => count.to_string(),
                };
                text += &format!(" {shown} |");
            }
        }
        text + &format!("\n\nright: {:.1} %", 100.0 * self.right_share())
    }
}

fn explain(scenario: &Scenario, seed: u64, diagnosis: &crate::diagnosis::Diagnosis) {
    let (kind, model) = (scenario.kind.as_str(), scenario.model.as_str());
    println!("-- {kind} seed {seed} {model} onset {}: {}", scenario.onset, diagnosis.verdict.as_str());
    println!("   {:?}", diagnosis.reasons);
    println!("   onset {:?} {:?}", diagnosis.onset, diagnosis.status);
    let Some(c) = &diagnosis.comparison else { return };
    let causes: Vec<_> = c
        .causes
        .iter()
        .map(|c| {
            format!("{} {:.0}±{:.0} {}", c.verdict.as_str(), c.part_ms.value, c.part_ms.standard_error, c.material)
        })
        .collect();
    println!(
        "   before {:.0} after {:.0} {causes:?} load {:.0} log {:.3} {:?} growth {:?}",
        c.split.before_ms, c.split.after_ms, c.split.load_ms, c.split.log_system, c.split.server, c.work_growth
    );
    for s in c.signals.iter().take(4) {
        println!(
            "   {} {:?} {:.3?} change {:.1} onset {:?} rho {:?} in time {} score {:.1}",
            s.kind.as_str(),
            s.container,
            s.medians,
            s.change,
            s.onset_minute,
            s.correlation,
            s.in_time,
            s.score
        );
    }
    for l in c.localised.iter().take(3) {
        println!(
            "   {} {} removed {:.2} of {:.2} factor {:.2}",
            l.dimension.as_str(),
            l.value,
            l.share_removed,
            l.request_share,
            l.factor
        );
    }
}

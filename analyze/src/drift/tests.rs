//! The job on a session: verdicts on the real trace, refusals, and the numbers of small data.

use super::*;
use crate::{
    Window,
    test_session::{Sample, labels, register_histograms, session},
};

/// Context tokens of the real trace as samples of role `input.tokens`, one second apart.
fn azure() -> Vec<Sample> {
    let text = include_str!("../../../tests/data/azure_llm_tokens.csv");
    text.lines()
        .skip(1)
        .enumerate()
        .map(|(row, line)| {
            let cells: Vec<&str> = line.split(',').collect();
            Sample {
                time_us: row as i64 * 1_000_000,
                role: "input.tokens",
                value: cells[2].parse().unwrap(),
                labels: labels(&[
                    ("service_name", cells[0]),
                    ("model_version", if row % 2 == 0 { "even" } else { "odd" }),
                ]),
                simulated: false,
            }
        })
        .collect()
}

fn request(reference: &[&str], current: &[&str]) -> DriftRequest {
    let window = Window::new(0, 10_000_000_000).unwrap();
    let side =
        |filters: &[&str]| Side { window, filters: filters.iter().map(|text| Filter::parse(text).unwrap()).collect() };
    DriftRequest {
        subject: Subject::Role("input.tokens".into()),
        source: Source::Auto,
        reference: side(reference),
        current: side(current),
    }
}

#[tokio::test]
async fn code_against_chat_drifts_and_half_against_half_does_not() {
    let ctx = session(&azure(), &[]);
    let drift = score(&ctx, None, &request(&["service.name=code"], &["service_name=chat"]), 0).await.unwrap();
    assert_eq!(drift.verdict, Verdict::Drift, "{}", drift.to_text());
    assert_eq!((drift.reference.value_count, drift.current.value_count), (2940, 6456));
    for service in ["code", "chat"] {
        let service = format!("service_name={service}");
        let halves = request(&[&service, "model_version=even"], &[&service, "model_version=odd"]);
        let none = score(&ctx, None, &halves, 0).await.unwrap();
        assert_eq!(none.verdict, Verdict::NoDrift, "{}", none.to_text());
        assert!(none.psi < none.psi_noise_critical, "{}", none.to_text());
    }
}

#[tokio::test]
async fn too_few_values_are_no_verdict() {
    let ctx = session(&azure()[..40], &[]);
    let few = score(&ctx, None, &request(&["model_version=even"], &["model_version=odd"]), 0).await.unwrap();
    assert_eq!(few.verdict, Verdict::NotEnoughData);
    let none = score(&ctx, None, &request(&["service_name=none"], &[]), 0).await.unwrap();
    assert_eq!((none.verdict, none.psi), (Verdict::NotEnoughData, None));
}

#[tokio::test]
async fn simulated_and_real_values_are_never_pooled() {
    let mut samples = azure();
    samples[7].simulated = true;
    let ctx = session(&samples, &[]);
    let mixed = score(&ctx, None, &request(&[], &[]), 0).await;
    assert!(matches!(mixed, Err(Error::MixedSimulated { side: "reference", .. })), "{mixed:?}");
    let real = ["driftwatt.simulated=false"];
    let score = score(&ctx, None, &request(&real, &real), 0).await.unwrap();
    assert_eq!((score.verdict, score.reference.value_count), (Verdict::NoDrift, 9395));
}

#[tokio::test]
async fn values_that_are_not_finite_are_counted_not_scored() {
    let mut samples = azure();
    samples[0].value = f64::NAN;
    samples[1].value = f64::INFINITY;
    let score = score(&session(&samples, &[]), None, &request(&[], &[]), 0).await.unwrap();
    assert_eq!((score.reference.row_count, score.reference.value_count), (9396, 9394));
    assert_eq!((score.ks_lower, score.wasserstein), (Some(0.0), Some(0.0)));
    let batch = score.to_batch(5).unwrap();
    assert_eq!((batch.num_rows(), batch.schema().field(0).name().as_str()), (1, "time"));
}

#[tokio::test]
async fn filters_cannot_leave_their_quotes() {
    let ctx = session(&azure(), &[]);
    let hostile = request(&["service_name=' OR '1'='1"], &["x']='' OR attributes['y=z"]);
    let score = score(&ctx, None, &hostile, 0).await.unwrap();
    assert_eq!((score.reference.row_count, score.current.row_count), (0, 0));
    assert!(Filter::parse("no equals sign").is_err());
}

#[tokio::test]
async fn cumulative_histograms_are_differenced_and_compared() {
    let ctx = session(&[], &[]);
    // Series 0 began before the window, so its first point is the base; series 1 began inside and restarts once.
    let points = [
        (0, -5, 10, vec![100, 100, 100]),
        (0, -5, 20, vec![140, 140, 120]),
        (1, 5, 10, vec![10, 20, 30]),
        (1, 5, 20, vec![10, 30, 60]),
        (1, 25, 30, vec![0, 10, 40]),
    ];
    register_histograms(&ctx, &[1.0, 2.0], &points);
    let mut request = request(&["service_name=s0"], &["service_name=s1"]);
    request.subject = Subject::Metric("h".into());
    let score = score(&ctx, None, &request, 0).await.unwrap();
    assert_eq!(score.source, Source::Histograms);
    assert_eq!((score.reference.value_count, score.current.value_count), (100, 150));
    // Reference 40, 40, 20 of 100; current 10, 40, 100 of 150.
    let (lower, upper) = (0.8 - 50.0 / 150.0, 0.8 - 10.0 / 150.0);
    assert!((score.ks_lower.unwrap() - lower).abs() < 1e-12, "{}", score.to_text());
    assert!((score.ks_upper.unwrap() - upper).abs() < 1e-12, "{}", score.to_text());
    assert_eq!(score.wasserstein_radius, None, "no minimum and maximum were recorded");
    assert_eq!(score.verdict, Verdict::Drift, "{}", score.to_text());
}

//! The job on a session: verdicts on the real trace, refusals, and the numbers of small data.

use datafusion::prelude::SessionContext;

use super::{
    decision::{Level, Status, Thresholds},
    measure::{Inputs, measure},
    reference_window::ReferenceKind,
    score_table::score_table,
    *,
};
use crate::{
    Window,
    error::{Error, Result},
    gates::StreamGates,
    simulated_fleet::Rng,
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
    let side = |filters: &[&str]| Side::new(window, filters.iter().map(|text| Filter::parse(text).unwrap()).collect());
    DriftRequest {
        subject: Subject::Role("input.tokens".into()),
        source: Source::Auto,
        reference: side(reference),
        reference_kind: ReferenceKind::Pinned,
        current: side(current),
        segment: None,
    }
}

/// One comparison, judged by itself.
async fn score_of(ctx: &SessionContext, request: &DriftRequest, thresholds: &Thresholds) -> Result<DriftScore> {
    let (measured, _sides) =
        measure(&Inputs { ctx, shelf: None, gates: StreamGates::default(), also: vec![] }, request, thresholds).await?;
    Ok(measured.decide(None, thresholds))
}

#[tokio::test]
async fn code_against_chat_drifts_and_half_against_half_does_not() {
    let ctx = session(&azure(), &[]);
    let drift =
        score_of(&ctx, &request(&["service.name=code"], &["service_name=chat"]), &Thresholds::default()).await.unwrap();
    assert_eq!(drift.decision.status, Status::Critical, "{}", drift.to_text());
    assert_eq!((drift.reference.value_count, drift.current.value_count), (2940, 6456));
    for service in ["code", "chat"] {
        let service = format!("service_name={service}");
        let halves = request(&[&service, "model_version=even"], &[&service, "model_version=odd"]);
        let none = score_of(&ctx, &halves, &Thresholds::default()).await.unwrap();
        assert_eq!(none.decision.status, Status::Ok, "{}", none.to_text());
        let comparison = none.comparison.as_ref().unwrap();
        assert!(Some(comparison.psi) < comparison.psi_noise, "{}", none.to_text());
    }
}

#[tokio::test]
async fn too_few_values_are_no_verdict() {
    let ctx = session(&azure()[..40], &[]);
    let few = score_of(&ctx, &request(&["model_version=even"], &["model_version=odd"]), &Thresholds::default())
        .await
        .unwrap();
    assert_eq!(few.decision.status, Status::InsufficientData);
    let none = score_of(&ctx, &request(&["service_name=none"], &[]), &Thresholds::default()).await.unwrap();
    assert_eq!((none.decision.status, none.comparison), (Status::InsufficientData, None));
}

#[tokio::test]
async fn simulated_and_real_values_are_never_pooled() {
    let mut samples = azure();
    samples[7].simulated = true;
    let ctx = session(&samples, &[]);
    let mixed = score_of(&ctx, &request(&[], &[]), &Thresholds::default()).await;
    assert!(matches!(mixed, Err(Error::MixedSimulated { side: "reference", .. })), "{mixed:?}");
    let real = ["driftwatt.simulated=false"];
    let score = score_of(&ctx, &request(&real, &real), &Thresholds::default()).await.unwrap();
    assert_eq!((score.decision.status, score.reference.value_count), (Status::Ok, 9395));
}

#[tokio::test]
async fn values_that_are_not_finite_are_counted_not_scored() {
    let mut samples = azure();
    samples[0].value = f64::NAN;
    samples[1].value = f64::INFINITY;
    let score = score_of(&session(&samples, &[]), &request(&[], &[]), &Thresholds::default()).await.unwrap();
    assert_eq!((score.reference.row_count, score.reference.value_count), (9396, 9394));
    let numeric = score.comparison.as_ref().unwrap().numeric.as_ref().unwrap();
    assert_eq!((numeric.ks, numeric.wasserstein), ((0.0, 0.0), Some(0.0)));
    let batch = score_table(&[&score], 5).unwrap();
    assert_eq!((batch.num_rows(), batch.schema().field(0).name().as_str()), (1, "time"));
}

#[tokio::test]
async fn filters_cannot_leave_their_quotes() {
    let ctx = session(&azure(), &[]);
    let hostile = request(&["service_name=' OR '1'='1"], &["x']='' OR attributes['y=z"]);
    let score = score_of(&ctx, &hostile, &Thresholds::default()).await.unwrap();
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
    let score = score_of(&ctx, &request, &Thresholds::default()).await.unwrap();
    assert_eq!(score.source, Source::Histograms);
    assert_eq!((score.reference.value_count, score.current.value_count), (100, 150));
    assert!(score.reference.mean.is_some() && score.current.mean.is_some(), "{}", score.to_text());
    // Reference 40, 40, 20 of 100; current 10, 40, 100 of 150.
    let (lower, upper) = (0.8 - 50.0 / 150.0, 0.8 - 10.0 / 150.0);
    let numeric = score.comparison.as_ref().unwrap().numeric.as_ref().unwrap();
    assert!((numeric.ks.0 - lower).abs() < 1e-12, "{}", score.to_text());
    assert!((numeric.ks.1 - upper).abs() < 1e-12, "{}", score.to_text());
    assert_eq!(numeric.wasserstein_radius, None, "no minimum and maximum were recorded");
    assert_eq!(score.decision.status, Status::InsufficientData, "{}", score.to_text());
    let fewer = Thresholds { values_min: 100, ..Thresholds::default() };
    let judged = score_of(&ctx, &request, &fewer).await.unwrap();
    assert_eq!(judged.decision.status, Status::Critical, "{}", judged.to_text());
}

/// A value each second of two hours; the last half hour, and the one before it, are shifted by these.
fn shifted(before: f64, last: f64) -> Vec<Sample> {
    let mut rng = Rng::new(7);
    let value = |second: i64, rng: &mut Rng| match second {
        5_400.. => rng.normal() + last,
        3_600.. => rng.normal() + before,
        _ => rng.normal(),
    };
    let sample = |second: i64| Sample {
        time_us: second * 1_000_000,
        role: "input.tokens",
        value: value(second, &mut rng),
        labels: labels(&[("service_name", "chat")]),
        simulated: false,
    };
    (0..7_200).map(sample).collect()
}

#[tokio::test]
async fn a_warning_needs_the_window_before_and_what_is_critical_does_not() {
    let window = |from: i64, to: i64| Window::new(from * 60_000_000, to * 60_000_000).unwrap();
    let side = |window| Side::new(window, vec![]);
    let request = DriftRequest {
        subject: Subject::Role("input.tokens".into()),
        source: Source::Auto,
        reference: side(window(0, 60)),
        reference_kind: ReferenceKind::Pinned,
        current: side(window(90, 120)),
        segment: None,
    };
    let usual = Thresholds::default();
    for (before, last, status, level) in [
        (0.0, 0.0, Status::Ok, Level::None),
        (0.0, 0.4, Status::Ok, Level::Warn),
        (0.4, 0.4, Status::Warn, Level::Warn),
        (0.0, 0.8, Status::Critical, Level::Critical),
    ] {
        let score = score_of(&session(&shifted(before, last), &[]), &request, &usual).await.unwrap();
        assert_eq!(
            (score.decision.status, score.decision.level),
            (status, level),
            "{before} {last}: {}",
            score.to_text()
        );
        assert_eq!(score.reference_window_count, 2, "{}", score.to_text());
    }
}

#[tokio::test]
async fn a_reference_that_varies_by_itself_tolerates_more() {
    // Ten windows of the reference that move as far apart as the current one does from them.
    let mut rng = Rng::new(3);
    let sample = |second: i64, rng: &mut Rng, moving: bool| {
        let window = second / 600;
        let shift =
            if moving { [0.0, 0.8, -0.8][window as usize % 3] } else { 0.0 } + if window == 10 { 0.38 } else { 0.0 };
        Sample {
            time_us: second * 1_000_000,
            role: "input.tokens",
            value: rng.normal() + shift,
            labels: labels(&[("service_name", "chat")]),
            simulated: false,
        }
    };
    let window = |from: i64, to: i64| Side::new(Window::new(from * 1_000_000, to * 1_000_000).unwrap(), vec![]);
    let request = DriftRequest {
        subject: Subject::Role("input.tokens".into()),
        source: Source::Auto,
        reference: window(0, 6_000),
        reference_kind: ReferenceKind::Pinned,
        current: window(6_000, 6_600),
        segment: None,
    };
    let once = Thresholds { persistence: 1, ..Thresholds::default() };
    for (moving, status) in [(false, Status::Warn), (true, Status::Ok)] {
        let samples: Vec<_> = (0..6_600).map(|second| sample(second, &mut rng, moving)).collect();
        let score = score_of(&session(&samples, &[]), &request, &once).await.unwrap();
        assert_eq!(score.decision.status, status, "{moving}: {}", score.to_text());
        assert_eq!(score.reference_window_count, 10);
    }
}

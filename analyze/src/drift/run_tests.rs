//! Runs over many features and segments, with their season, mix shifts and categories.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray},
        datatypes::{Field, Schema},
    },
    catalog::{Session, TableProvider},
    datasource::MemTable,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
    prelude::SessionContext,
};

use super::{
    decision::{Status, Thresholds},
    reference_window::ReferenceKind,
    score_table::score_table,
    *,
};
use crate::{
    Window,
    simulated_fleet::Rng,
    test_session::{Sample, add_result, labels, session},
    window::HOUR_US,
};

const WEEK: i64 = 168;

fn hours(from: i64, to: i64) -> Window {
    Window::new(from * HOUR_US, to * HOUR_US).unwrap()
}

fn request(names: &[&str], by: Option<&str>, reference: Window, current: Window) -> RunRequest {
    RunRequest {
        subjects: names.iter().map(|name| Subject::parse(name)).collect(),
        by: by.map(str::to_owned),
        reference: Side::new(reference, vec![]),
        reference_kind: ReferenceKind::Pinned,
        current: Side::new(current, vec![]),
        source: Source::Auto,
        also: vec![],
    }
}

/// `count` values of a metric in an hour, of one region.
fn values(role: &'static str, hour: i64, region: &str, count: i64, mean: f64, rng: &mut Rng) -> Vec<Sample> {
    let sample = |at: i64| Sample {
        time_us: hour * HOUR_US + at * (HOUR_US / count),
        role,
        value: mean + rng.normal(),
        labels: labels(&[("region", region)]),
        simulated: false,
    };
    (0..count).map(sample).collect()
}

#[tokio::test]
async fn features_and_segments_are_judged_together_and_a_mix_is_named() {
    let (mut rng, mut samples) = (Rng::new(11), vec![]);
    for hour in 0..10 {
        // Each region stays as it is; in the last hour far more comes from the one with long inputs.
        let us = if hour == 9 { 2_000 } else { 400 };
        samples.extend(values("input.tokens", hour, "eu", 2_000, 0.0, &mut rng));
        samples.extend(values("input.tokens", hour, "us", us, 3.0, &mut rng));
        samples.extend(values("input.pixels", hour, "eu", 1_000, 0.0, &mut rng));
        samples.extend(values("input.pixels", hour, "us", 30, 0.0, &mut rng));
    }
    let ctx = session(&samples, &[]);
    let asked = request(&["input.tokens", "input.pixels"], Some("region"), hours(0, 9), hours(9, 10));
    let run = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
    let seen: Vec<_> = run
        .scores
        .iter()
        .map(|score| {
            let segment = score.request.segment.as_ref().map(|segment| segment.value.as_str());
            (score.request.subject.name(), segment, score.decision.status)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("input.tokens", None, Status::Critical),
            ("input.tokens", Some("eu"), Status::Ok),
            ("input.tokens", Some("us"), Status::Ok),
            ("input.pixels", None, Status::Ok),
            ("input.pixels", Some("eu"), Status::Ok),
            ("input.pixels", Some("us"), Status::InsufficientData),
        ],
        "{}",
        run.to_text()
    );
    let shift = run.scores[0].mix_shift.as_ref().unwrap();
    assert!(shift.is_mostly_mix() && shift.mix > 10.0 * shift.within.abs(), "{shift:?}");
    let psi = run.scores[0].psi().unwrap();
    assert!((shift.mix + shift.within - psi).abs() < 0.02 * psi, "{shift:?} {psi}");
    // Too few values are no test of the family, which has five.
    assert_eq!(run.scores.iter().filter(|score| score.q_value.is_some()).count(), 5);
    let ok = &run.scores[1];
    assert!(ok.q_value >= ok.comparison.as_ref().unwrap().psi_p_value, "{ok:?}");
    assert_eq!(run.status(), Status::Critical);
    let text = run.to_text();
    assert!(
        text.contains("mostly who sends (mix)") && text.contains("1 critical, 4 ok, 1 insufficient data"),
        "{text}"
    );
    let page = run.to_page(&[], &Thresholds::default(), 0).to_html();
    for words in ["Distribution before and now", "Parts of the PSI", "No timeline", "mostly who sends", "no season"] {
        assert!(page.contains(words), "{words}");
    }
    let all = features(&ctx, hours(9, 10)).await.unwrap();
    assert_eq!(all.iter().map(Subject::name).collect::<Vec<_>>(), ["input.pixels", "input.tokens"]);
    assert!(features(&ctx, hours(50, 60)).await.unwrap_err().to_string().contains("no metric"));
}

#[tokio::test]
async fn a_declared_weight_changes_the_order_among_one_status_and_no_verdict() {
    let (mut rng, mut samples) = (Rng::new(23), vec![]);
    for hour in 0..10 {
        for (role, shift) in [("input.tokens", 2.0), ("input.pixels", 1.0), ("input.chars", 0.0)] {
            let mean = if hour == 9 { shift } else { 0.0 };
            samples.extend(values(role, hour, "eu", 500, mean, &mut rng));
        }
    }
    let ctx = session(&samples, &[]);
    let asked = request(&["input.chars", "input.pixels", "input.tokens"], None, hours(0, 9), hours(9, 10));
    let declared = [("input.pixels".to_owned(), 20.0), ("input.chars".to_owned(), 1_000.0)];
    let weights = FeatureWeights::new(declared.into_iter().collect()).unwrap();
    let weighted = Thresholds { weights, ..Thresholds::default() };
    let mut found = vec![];
    for thresholds in [Thresholds::default(), weighted] {
        let run = run(&ctx, None, &asked, &thresholds, 0).await.unwrap();
        let seen = run.scores.iter().map(|score| (score.request.subject.label(), score.decision.status));
        found.push((seen.collect::<Vec<_>>(), run));
    }
    let of = |names: [&str; 3]| {
        let statuses = [Status::Critical, Status::Critical, Status::Ok];
        names.map(str::to_owned).into_iter().zip(statuses).collect::<Vec<_>>()
    };
    assert_eq!(found[0].0, of(["input.tokens", "input.pixels", "input.chars"]));
    assert_eq!(found[1].0, of(["input.pixels", "input.tokens", "input.chars"]));
    let [plain, weighted] = [&found[0].1, &found[1].1];
    assert_eq!(plain.scores[0].impact, plain.scores[0].decision.severity);
    let first = &weighted.scores[0];
    assert_eq!((first.weight, first.impact), (20.0, first.decision.severity.map(|severity| severity * 20.0)));
    let words = "by its weight 20";
    assert!(first.to_text().contains(words) && !plain.to_text().contains("weight"), "{}", first.to_text());
    assert!(
        weighted.to_text().contains(words) && !weighted.to_text().contains("weight 1000"),
        "{}",
        weighted.to_text()
    );
    assert!(weighted.to_page(&[], &Thresholds::default(), 0).to_html().contains(words));
}

#[tokio::test]
async fn a_change_of_each_week_is_no_change_against_its_season() {
    let (mut rng, mut samples) = (Rng::new(5), vec![]);
    let now = 3 * WEEK;
    // Every week at this hour inputs are long; in the days before they are not.
    for week in 1..3 {
        samples.extend(values("input.tokens", now - week * WEEK, "eu", 1_000, 1.0, &mut rng));
    }
    (now - 24..now).for_each(|hour| samples.extend(values("input.tokens", hour, "eu", 300, 0.0, &mut rng)));
    samples.extend(values("input.tokens", now, "eu", 1_000, 1.0, &mut rng));
    let ctx = session(&samples, &[]);
    let asked = request(&["input.tokens"], None, hours(now - 24, now), hours(now, now + 1));
    let found = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
    let season = found.season_of(&found.scores[0]).unwrap();
    assert_eq!((found.scores[0].decision.status, season.decision.status), (Status::Critical, Status::Ok));
    assert_eq!(season.request.reference.windows.len(), 4);
    assert_eq!((season.reference.value_count, found.scores[0].q_value), (2_000, None));
    assert!(found.to_text().contains("usual for this time"), "{}", found.to_text());
    let beside = found.scores[0].to_text_beside(Some(season));
    assert!(beside.contains("Against what there is of the same hours 1, 2, 3 and 4 weeks before"), "{beside}");
    // One week is no season.
    let later: Vec<Sample> = samples.into_iter().filter(|sample| sample.time_us >= (now - WEEK) * HOUR_US).collect();
    let found = run(&session(&later, &[]), None, &asked, &Thresholds::default(), 0).await.unwrap();
    assert!(found.seasonal.is_empty());
}

#[tokio::test]
async fn a_season_of_too_few_values_or_of_mixed_data_takes_nothing_from_the_score() {
    let (mut rng, mut samples) = (Rng::new(6), vec![]);
    let now = 3 * WEEK;
    for week in 1..3 {
        samples.extend(values("input.tokens", now - week * WEEK, "eu", 50, 1.0, &mut rng));
    }
    (now - 24..now).for_each(|hour| samples.extend(values("input.tokens", hour, "eu", 300, 0.0, &mut rng)));
    samples.extend(values("input.tokens", now, "eu", 1_000, 1.0, &mut rng));
    let asked = request(&["input.tokens"], None, hours(now - 24, now), hours(now, now + 1));
    let found = run(&session(&samples, &[]), None, &asked, &Thresholds::default(), 0).await.unwrap();
    let season = found.season_of(&found.scores[0]).unwrap();
    assert_eq!((found.scores[0].decision.status, season.decision.status), (Status::Critical, Status::InsufficientData));
    assert!(found.to_text().contains("too few values to say whether that is new"), "{}", found.to_text());
    for sample in samples.iter_mut().filter(|sample| sample.time_us < (now - WEEK) * HOUR_US) {
        sample.simulated = true;
    }
    let found = run(&session(&samples, &[]), None, &asked, &Thresholds::default(), 0).await.unwrap();
    assert_eq!((found.scores.len(), found.seasonal.len(), found.status()), (1, 0, Status::Critical));
    let text = found.to_text();
    assert!(text.contains("input.tokens: not compared with its season: the reference window"), "{text}");
    assert!(text.contains("1 scores: 1 critical\n"), "{text}");
}

#[tokio::test]
async fn a_seasonal_reference_needs_two_weeks_of_history() {
    let (mut rng, mut samples) = (Rng::new(8), vec![]);
    let now = 5 * WEEK;
    for week in 0..3 {
        samples.extend(values("input.tokens", now - week * WEEK, "eu", 1_000, 1.0, &mut rng));
    }
    // A region of which there is one week.
    for week in 0..2 {
        samples.extend(values("input.tokens", now - week * WEEK, "us", 300, 1.0, &mut rng));
    }
    let current = hours(now, now + 1);
    let asked = |by| RunRequest {
        reference: Side { windows: reference_window::seasonal_windows(current), filters: vec![] },
        reference_kind: ReferenceKind::Seasonal,
        ..request(&["input.tokens"], by, current, current)
    };
    let ctx = session(&samples, &[]);
    let found = run(&ctx, None, &asked(Some("region")), &Thresholds::default(), 0).await.unwrap();
    let names: Vec<_> = found.scores.iter().map(|score| score.request.segment.as_ref().map(|it| &*it.value)).collect();
    assert_eq!((names, found.status()), (vec![None, Some("eu")], Status::Ok));
    let refused = &found.refused[0];
    assert_eq!((refused.segment.as_ref().unwrap().value.as_str(), found.refused.len()), ("us", 1));
    assert!(found.scores[0].mix_shift.is_some(), "its values are known, so the mix is");
    let text = found.to_text();
    assert!(text.contains("2 ok, 1 not scored") && text.contains("input.tokens of us: not scored"), "{text}");
    let later: Vec<Sample> = samples.into_iter().filter(|sample| sample.time_us >= (now - WEEK) * HOUR_US).collect();
    let found = run(&session(&later, &[]), None, &asked(None), &Thresholds::default(), 0).await.unwrap();
    assert_eq!((found.scores.len(), found.status()), (0, Status::InsufficientData));
    let reason = &found.refused[0].reason;
    assert!(
        reason.contains("has values in 1 of the same hours 1, 2, 3 and 4 weeks before") && reason.contains("trailing"),
        "{reason}"
    );
}

/// A point of the counter `requests`.
#[derive(Clone, Copy)]
struct Counted {
    hour: i64,
    language: &'static str,
    /// What it stands at.
    value: f64,
    /// Since the point before; none where there is none.
    increase: Option<f64>,
    /// Whether it says that it began in its hour.
    begun: bool,
}

/// A point that follows another one.
fn counted(hour: i64, language: &'static str, increase: f64) -> Counted {
    Counted { hour, language, value: increase + 1e6, increase: Some(increase), begun: false }
}

/// `raw.increases` and `raw.series` of `requests`, a metric of this kind.
fn register_counts(ctx: &SessionContext, kind: &str, monotonic: bool, counts: &[Counted]) {
    let mut languages: Vec<&str> = counts.iter().map(|count| count.language).collect();
    languages.sort_unstable();
    languages.dedup();
    let id = |language: &str| languages.iter().position(|known| *known == language).unwrap() as i64;
    let times = |values: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(datafusion::arrow::array::TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    let texts = |values: Vec<&str>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let column = |name: &str, column: ArrayRef| (Field::new(name, column.data_type().clone(), true), column);
    let points = counts.len();
    let each = |of: &dyn Fn(&Counted) -> Option<i64>| times(counts.iter().map(of).collect());
    let increases = vec![
        column("metric", texts(vec!["requests"; points])),
        column("series_id", Arc::new(Int64Array::from_iter_values(counts.iter().map(|count| id(count.language))))),
        column("date", Arc::new(Date32Array::from(vec![0; points]))),
        column("time", each(&|count| Some(count.hour * HOUR_US + 2))),
        column("start_time", each(&|count| Some(if count.begun { count.hour * HOUR_US + 1 } else { 0 }))),
        column("since", each(&|count| count.increase.map(|_| count.hour * HOUR_US))),
        column("begun", Arc::new(counts.iter().map(|count| Some(count.begun)).collect::<BooleanArray>())),
        column("value", Arc::new(Float64Array::from_iter_values(counts.iter().map(|count| count.value)))),
        column("increase", Arc::new(counts.iter().map(|count| count.increase).collect::<Float64Array>())),
    ];
    let mut attributes = datafusion::arrow::array::MapBuilder::new(
        None,
        datafusion::arrow::array::StringBuilder::new(),
        datafusion::arrow::array::StringBuilder::new(),
    );
    for language in &languages {
        attributes.keys().append_value("language");
        attributes.values().append_value(language);
        attributes.append(true).unwrap();
    }
    let rows = languages.len();
    let series = vec![
        column("metric", texts(vec!["requests"; rows])),
        column("series_id", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        column("date", Arc::new(Date32Array::from(vec![0; rows]))),
        column("kind", texts(vec![kind; rows])),
        column("temporality", texts(vec!["cumulative"; rows])),
        column("monotonic", Arc::new(BooleanArray::from(vec![monotonic; rows]))),
        column("attributes", Arc::new(attributes.finish())),
    ];
    for (name, columns) in [("raw.increases", increases), ("raw.series", series)] {
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        ctx.deregister_table(name).unwrap();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        ctx.register_table(name, Arc::new(table)).unwrap();
    }
}

#[tokio::test]
async fn categories_are_counted_and_new_and_vanished_ones_named() {
    let mut counts = vec![];
    for hour in 0..12 {
        counts.extend([
            counted(hour, "en", 700.0 + hour as f64),
            counted(hour, "de", 280.0),
            counted(hour, "la", 20.0),
        ]);
    }
    counts.extend([counted(12, "en", 350.0), counted(12, "de", 300.0), counted(12, "ja", 350.0)]);
    let ctx = session(&[], &[]);
    register_counts(&ctx, "sum", true, &counts);
    let asked = request(&["requests[language]"], None, hours(0, 12), hours(12, 13));
    let found = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
    let score = &found.scores[0];
    assert_eq!(score.decision.status, Status::Critical, "{}", score.to_text());
    let change = score.comparison.as_ref().unwrap().categories.as_ref().unwrap();
    assert_eq!((change.new.as_slice(), change.vanished.as_slice()), (&["ja".to_owned()][..], &["la".to_owned()][..]));
    assert!((change.new_share - 0.35).abs() < 1e-12 && change.new_is_material);
    assert_eq!((score.reference.value_count, score.current.value_count), (12_066, 1_000));
    // Twelve hours of the reference are twelve windows to learn from.
    assert_eq!(score.reference_window_count, 12);
    let text = found.to_text();
    assert!(text.contains("requests[language]: new ja, 35.00 %") && text.contains("vanished la"), "{text}");
    // The same mixture as before is none.
    let quiet = request(&["requests[language]"], None, hours(0, 11), hours(11, 12));
    let found = run(&ctx, None, &quiet, &Thresholds::default(), 0).await.unwrap();
    assert_eq!(found.scores[0].decision.status, Status::Ok, "{}", found.to_text());
    let table = score_table(&[score, &found.scores[0]], 9).unwrap();
    assert_eq!(table.num_rows(), 2);
    // What may go down is refused by category, and does not stop the run.
    for (kind, monotonic) in [("gauge", false), ("sum", false)] {
        register_counts(&ctx, kind, monotonic, &counts);
        let found = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
        assert!(found.refused[0].reason.contains("no counter"), "{:?}", found.refused);
        assert_eq!(found.status(), Status::InsufficientData);
    }
}

#[tokio::test]
async fn what_was_counted_before_a_gap_is_not_counted_again_and_parts_add_up() {
    let alone = |hour, value, begun| Counted { hour, language: "en", value, increase: None, begun };
    let mut counts = vec![counted(0, "en", 100.0), alone(3, 5_000.0, false), alone(4, 7.0, true)];
    // Ten thirds of a count, each below a half of one.
    counts.extend((5..15).map(|hour| counted(hour, "de", 1.0 / 3.0)));
    counts.push(counted(20, "en", 1.0));
    let ctx = session(&[], &[]);
    register_counts(&ctx, "sum", true, &counts);
    let asked = request(&["requests[language]"], None, hours(0, 20), hours(20, 21));
    let found = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
    // 100 increased, 7 of the counter that began, 10 / 3 rounded once; the 5 000 after the gap are only the base.
    assert_eq!(found.scores[0].reference.value_count, 110, "{}", found.to_text());
}

/// A table that counts how often it is read.
#[derive(Debug)]
struct Watched {
    rows: MemTable,
    reads: AtomicUsize,
}

#[async_trait]
impl TableProvider for Watched {
    fn schema(&self) -> Arc<Schema> {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.rows.scan(state, projection, filters, limit).await
    }
}

#[tokio::test]
async fn the_window_under_test_is_read_once_for_reference_and_season() {
    let (mut rng, mut samples) = (Rng::new(7), vec![]);
    let now = 3 * WEEK;
    for hour in [now - 2 * WEEK, now - WEEK].into_iter().chain(now - 24..now) {
        samples.extend(values("input.tokens", hour, "eu", 300, 0.0, &mut rng));
    }
    samples.extend(values("input.tokens", now, "eu", 1_000, 5.0, &mut rng));
    let ctx = session(&samples, &[]);
    let batches = ctx.table("metrics").await.unwrap().collect().await.unwrap();
    let rows = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
    let watched = Arc::new(Watched { rows, reads: AtomicUsize::new(0) });
    ctx.deregister_table("metrics").unwrap();
    ctx.register_table("metrics", Arc::clone(&watched) as Arc<dyn TableProvider>).unwrap();
    let asked = request(&["input.tokens"], None, hours(now - 24, now), hours(now, now + 1));
    let found = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
    assert_eq!((found.scores[0].decision.status, found.seasonal.len()), (Status::Critical, 1));
    // Each side is counted, then read: reference, current and season. What is critical needs no window before.
    assert_eq!(watched.reads.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn a_page_draws_the_worst_twenty_and_says_so() {
    let names: Vec<&'static str> =
        (0..25).map(|at| &*Box::leak(format!("input.feature.{at:02}").into_boxed_str())).collect();
    let (mut rng, mut samples) = (Rng::new(8), vec![]);
    for name in &names {
        (0..3).for_each(|hour| samples.extend(values(name, hour, "eu", 250, 0.0, &mut rng)));
    }
    let ctx = session(&samples, &[]);
    let asked = request(&names, None, hours(0, 2), hours(2, 3));
    let found = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
    assert_eq!(found.scores.len(), 25);
    let all: Vec<&DriftScore> = found.scores.iter().collect();
    add_result(&ctx, TABLE, score_table(&all, 0).unwrap());
    let drawn = timelines(&ctx, &found.scores).await.unwrap();
    assert_eq!(drawn.len(), 20);
    assert!(drawn.iter().all(|timeline| timeline.psi.len() == 1), "{drawn:?}");
    let page = found.to_page(&drawn, &Thresholds::default(), 0).to_html();
    assert_eq!(page.matches("Distribution before and now").count(), 20);
    assert!(page.contains("20 of 25 scores have charts"), "{page}");
    for name in &names {
        assert!(page.contains(name), "{name} is in the table");
    }
}

#[tokio::test]
async fn scores_of_a_version_that_knew_no_filters_are_drawn_as_none() {
    let (mut rng, mut samples) = (Rng::new(9), vec![]);
    (0..3).for_each(|hour| samples.extend(values("input.tokens", hour, "eu", 250, 0.0, &mut rng)));
    let ctx = session(&samples, &[]);
    let asked = request(&["input.tokens"], None, hours(0, 2), hours(2, 3));
    let found = run(&ctx, None, &asked, &Thresholds::default(), 0).await.unwrap();
    assert_eq!(timelines(&ctx, &found.scores).await.unwrap(), [], "nothing is stored");
    let stored = score_table(&[&found.scores[0]], 0).unwrap();
    let kept: Vec<usize> =
        (0..stored.num_columns()).filter(|at| stored.schema().field(*at).name() != "filters").collect();
    add_result(&ctx, TABLE, stored.project(&kept).unwrap());
    // Scores of other filters could not be told from these.
    assert_eq!(timelines(&ctx, &found.scores).await.unwrap(), []);
    ctx.deregister_table(format!("reports.{TABLE}")).unwrap();
    add_result(&ctx, TABLE, stored);
    assert_eq!(timelines(&ctx, &found.scores).await.unwrap()[0].statuses, ["ok"]);
}

//! Drift from stored hourly states: the same scores as from the points, built once, and built again where late data came.

use std::{fs, path::Path, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array as _, ArrayRef, AsArray as _, BinaryArray, Int64Array, RecordBatch},
        compute::cast,
        datatypes::{DataType, Field, Schema},
    },
    prelude::SessionContext,
};
use driftwatt_analyze::{
    Window,
    drift::{
        DriftRun, Filter, RunRequest, Side, Source, Subject,
        comparison::{ColumnOptions, Comparison},
        decision::Thresholds,
        feature_state::FeatureState,
        reference_window::ReferenceKind,
        run,
    },
};
use driftwatt_store::{
    AttributeValue, Compaction, Config, HistogramPoint, HistogramShape, Kind, SampleColumns, Series, SeriesDefinition,
    Store, Temporality, WriteBatch,
};
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
};

pub(crate) const HOUR: i64 = 3_600_000_000;
const WEEK: i64 = 168;
/// Long ago, on the hour.
pub(crate) const START: i64 = 1_795_024_800_000_000;

pub(crate) struct Stored {
    pub(crate) store: Arc<Store>,
    ctx: SessionContext,
    dir: tempfile::TempDir,
}

impl Stored {
    pub(crate) async fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap()).await
    }

    async fn open_in(dir: tempfile::TempDir) -> Self {
        let store = Store::open(Config::new(dir.path().join("data"))).await.unwrap();
        let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await.unwrap();
        Self { store, ctx, dir }
    }

    pub(crate) async fn drift(&self, request: &RunRequest) -> DriftRun {
        let now_us = START + (WEEK + 1) * HOUR;
        run(&self.ctx, Some(&*self.store), request, &Thresholds::default(), now_us).await.unwrap()
    }

    async fn integers(&self, sql: &str) -> Vec<i64> {
        let batches = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let column = |batch: &RecordBatch| {
            batch.column(0).as_primitive::<datafusion::arrow::datatypes::Int64Type>().values().to_vec()
        };
        batches.iter().flat_map(column).collect()
    }

    /// States in the table.
    async fn states(&self) -> i64 {
        self.integers("SELECT count(*) FROM reports.drift_states").await[0]
    }
}

pub(crate) fn hours(from: i64, to: i64) -> Window {
    Window::new(START + from * HOUR, START + to * HOUR).unwrap()
}

/// The last hour against the week before it.
pub(crate) fn request(names: &[&str], source: Source) -> RunRequest {
    RunRequest {
        subjects: names.iter().map(|name| Subject::parse(name)).collect(),
        by: None,
        reference: Side::new(hours(0, WEEK), vec![]),
        reference_kind: ReferenceKind::Pinned,
        current: Side::new(hours(WEEK, WEEK + 1), vec![]),
        source,
        also: vec![],
    }
}

pub(crate) fn series(metric: &str, kind: Kind, temporality: Temporality, bounds: Vec<f64>, label: &str) -> Arc<Series> {
    Series::new(SeriesDefinition {
        metric: metric.into(),
        unit: "1".into(),
        description: "".into(),
        kind,
        temporality,
        monotonic: kind == Kind::Sum,
        bounds,
        resource: vec![("service.name".into(), AttributeValue::String("chat".into()))].into(),
        scope_name: "".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: vec![("language".into(), AttributeValue::String(label.into()))],
    })
}

/// A number between 0 and 1 that is the same in every run.
pub(crate) fn noise(seed: i64) -> f64 {
    let mut z = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// 40 values an hour of `tokens`, long-tailed; those of the last hour are larger.
fn tokens() -> (WriteBatch, Vec<(i64, f64)>) {
    let mut batch = WriteBatch {
        series: vec![series("tokens", Kind::Gauge, Temporality::Unspecified, vec![], "en")],
        ..WriteBatch::default()
    };
    let mut values = vec![];
    for at in 0..(WEEK + 1) * 40 {
        let time_us = START + at * HOUR / 40;
        let shift = if at >= WEEK * 40 { 3.0 } else { 1.0 };
        let value = (shift * 100.0 / (noise(at) + 0.01)).round();
        batch.samples.push(0, 0, time_us, value.to_bits(), SampleColumns::DOUBLE);
        values.push((time_us, value));
    }
    (batch, values)
}

/// An exponential histogram of 60 values each quarter of an hour, delta, at scales that change; and a counter by language, cumulative.
fn histograms_and_categories() -> WriteBatch {
    let delta = series("sizes", Kind::ExponentialHistogram, Temporality::Delta, vec![], "en");
    let languages = ["en", "de", "ja"].map(|name| series("requests", Kind::Sum, Temporality::Cumulative, vec![], name));
    let mut batch = WriteBatch { series: [vec![delta], languages.to_vec()].concat(), ..WriteBatch::default() };
    let mut counted = [0.0; 3];
    for quarter in 0..(WEEK + 1) * 4 {
        let time_us = START + quarter * HOUR / 4 + 1;
        let mut counts = vec![0u64; 40];
        for at in 0..60 {
            let shift = if quarter >= WEEK * 4 { 12 } else { 0 };
            counts[(noise(quarter * 100 + at) * 28.0) as usize + shift] += 1;
        }
        batch.histograms.push(HistogramPoint {
            series: 0,
            start_time: time_us - HOUR / 4,
            time: time_us,
            recorded: true,
            count: 60,
            sum: None,
            min: None,
            max: None,
            shape: HistogramShape::Exponential {
                scale: 2 + (quarter % 3) as i32,
                zero_count: 0,
                zero_threshold: 0.0,
                positive_offset: 4,
                positive_counts: counts,
                negative_offset: 0,
                negative_counts: vec![],
            },
        });
    }
    // Every five minutes, so that no gap is one.
    for step in 1..(WEEK + 1) * 12 {
        let time_us = START + step * HOUR / 12;
        let shares = if step >= WEEK * 12 { [40.0, 10.0, 50.0] } else { [60.0, 30.0, 10.0] };
        for (at, share) in shares.into_iter().enumerate() {
            counted[at] += share;
            batch.samples.push(at as u32 + 1, START, time_us, f64::to_bits(counted[at]), SampleColumns::DOUBLE);
        }
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_of_states_scores_as_its_points_do() {
    let stored = Stored::open().await;
    let (batch, values) = tokens();
    stored.store.append(batch).await.unwrap();
    stored.store.append(histograms_and_categories()).await.unwrap();
    stored.store.flush().await.unwrap();
    let names = ["sizes", "requests[language]", "tokens"];
    let from_states = stored.drift(&request(&names, Source::States)).await;
    let from_points = stored.drift(&request(&names, Source::Auto)).await;
    assert!(from_states.refused.is_empty() && from_points.refused.is_empty(), "{from_states:?} {from_points:?}");
    let of = |run: &DriftRun, name: &str| {
        run.scores.iter().find(|score| score.request.subject.label() == name).unwrap().clone()
    };
    for name in ["sizes", "requests[language]"] {
        let (states, points) = (of(&from_states, name), of(&from_points, name));
        assert_eq!(states.comparison, points.comparison, "{name}");
        assert_eq!(
            (states.decision.status, states.decision.learnt_noise),
            (points.decision.status, points.decision.learnt_noise)
        );
        assert_eq!(states.reference_window_count, points.reference_window_count);
        assert_eq!(
            (states.reference.mean, states.current.value_count),
            (points.reference.mean, points.current.value_count)
        );
    }
    assert_eq!(of(&from_states, "sizes").decision.status.as_str(), "critical");
    assert_eq!(of(&from_states, "requests[language]").decision.status.as_str(), "critical");
    // Of single values: what their own two states say, and the raw distance inside what the buckets prove.
    let state = |is_current: bool| {
        let mut state = FeatureState::default();
        let current = |time_us: i64| time_us >= START + WEEK * HOUR;
        values
            .iter()
            .filter(|(time_us, _)| current(*time_us) == is_current)
            .for_each(|(_, value)| state.record(Some(*value)));
        state
    };
    let expected = Comparison::of_states(&state(false), &state(true), ColumnOptions::default()).unwrap();
    let (states, points) = (of(&from_states, "tokens"), of(&from_points, "tokens"));
    assert_eq!(states.comparison.as_ref(), Some(&expected));
    assert_eq!(
        (states.reference.mean, states.reference.value_count),
        (points.reference.mean.map(|_| state(false).sum().unwrap() / 6720.0), 6720)
    );
    assert_eq!(states.decision.status, points.decision.status);
    assert_eq!((states.source, states.reference.covered), (Source::States, 1.0));
    let ks = |score: &driftwatt_analyze::drift::DriftScore| score.comparison.clone().unwrap().numeric.unwrap().ks;
    assert!(ks(&states).0 <= ks(&points).0 && ks(&points).0 <= ks(&states).1, "{:?} {:?}", ks(&states), ks(&points));
    // Each hour of each feature once, with its figures.
    assert_eq!(stored.states().await, 3 * (WEEK + 1));
    let sums = "SELECT CAST(sum(sum) AS BIGINT) FROM reports.drift_states WHERE feature = 'tokens'";
    assert_eq!(stored.integers(sums).await[0], values.iter().map(|(_, value)| *value as i64).sum::<i64>());
    stored.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_built_once_and_again_where_late_points_came() {
    let stored = Stored::open().await;
    stored.store.append(tokens().0).await.unwrap();
    stored.store.flush().await.unwrap();
    let asked = request(&["tokens"], Source::States);
    let first = stored.drift(&asked).await;
    assert_eq!(stored.states().await, WEEK + 1);
    let again = stored.drift(&asked).await;
    assert_eq!(
        (again.scores[0].comparison.as_ref(), stored.states().await),
        (first.scores[0].comparison.as_ref(), WEEK + 1)
    );
    // One point into the tenth hour, of a metric that has its file of it, and one of another metric, which is none of its business.
    for (metric, hour) in [("tokens", 10), ("others", 20)] {
        let series = series(metric, Kind::Gauge, Temporality::Unspecified, vec![], "late");
        let mut late = WriteBatch { series: vec![series], ..WriteBatch::default() };
        late.samples.push(0, 0, START + hour * HOUR + 7, 5f64.to_bits(), SampleColumns::DOUBLE);
        stored.store.append(late).await.unwrap();
    }
    let after = stored.drift(&asked).await;
    assert_eq!(after.scores[0].reference.value_count, first.scores[0].reference.value_count + 1);
    let rebuilt = format!(
        "SELECT value_count FROM reports.drift_states WHERE CAST(time AS BIGINT) = {} ORDER BY written_through",
        START + 10 * HOUR
    );
    assert_eq!((stored.integers(&rebuilt).await, stored.states().await), (vec![40, 41], WEEK + 2));
    // The same after everything was written and merged: a merge may have hours built again, and changes no answer.
    stored.store.flush().await.unwrap();
    stored.store.compact(Compaction::Full).await.unwrap();
    let merged = stored.drift(&asked).await;
    assert_eq!(merged.scores[0].comparison, after.scores[0].comparison);
    let count = stored.states().await;
    stored.drift(&asked).await;
    assert_eq!(stored.states().await, count);
    stored.store.close().await.unwrap();
    let Stored { store, ctx, dir } = stored;
    drop((store, ctx));
    let stored = Stored::open_in(dir).await;
    assert_eq!(stored.drift(&asked).await.scores[0].comparison, after.scores[0].comparison);
    assert_eq!(stored.states().await, count, "a restart makes nothing stale");
    stored.store.close().await.unwrap();
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false => _ = fs::copy(entry.path(), place).unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_outlive_their_points() {
    let stored = Stored::open().await;
    stored.store.append(tokens().0).await.unwrap();
    stored.store.append(histograms_and_categories()).await.unwrap();
    let asked = request(&["sizes", "requests[language]", "tokens"], Source::States);
    let first = stored.drift(&asked).await;
    stored.store.close().await.unwrap();
    // A directory that holds nothing else, as if all points and series were too old to be kept.
    let dir = tempfile::tempdir().unwrap();
    let table = Path::new("data/tables/drift_states");
    copy(&stored.dir.path().join(table), &dir.path().join(table));
    let only_states = Stored::open_in(dir).await;
    let later = only_states.drift(&asked).await;
    assert!(later.refused.is_empty(), "{later:?}");
    let comparisons = |run: &DriftRun| {
        let of = |name: &str| run.scores.iter().find(|score| score.request.subject.label() == name).unwrap();
        ["sizes", "requests[language]", "tokens"].map(|name| of(name).comparison.clone())
    };
    assert_eq!(comparisons(&later), comparisons(&first));
    assert_eq!(only_states.states().await, 3 * (WEEK + 1), "nothing is built of nothing");
    only_states.store.close().await.unwrap();
}

/// The stored state of `hour` of `feature`, as a row that is a microsecond younger, its bytes changed by `damage`.
async fn damaged(stored: &Stored, feature: &str, hour: i64, damage: fn(&mut Vec<u8>)) -> RecordBatch {
    let sql = format!(
        "SELECT * FROM reports.drift_states WHERE feature = '{feature}' AND CAST(time AS BIGINT) = {}",
        START + hour * HOUR
    );
    let batches = stored.ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    let row = batches.iter().find(|batch| batch.num_rows() > 0).unwrap().slice(0, 1);
    let schema = row.schema();
    let columns = schema.fields().iter().zip(row.columns()).filter(|(field, _)| field.name() != "date").map(
        |(field, column)| -> (Field, ArrayRef) {
            let column = match field.name().as_str() {
                "state" => {
                    let bytes = cast(column, &DataType::Binary).unwrap();
                    let mut bytes = bytes.as_binary::<i32>().value(0).to_vec();
                    damage(&mut bytes);
                    Arc::new(BinaryArray::from(vec![bytes.as_slice()])) as ArrayRef
                }
                "computed" => {
                    let time_us = cast(column, &DataType::Int64).unwrap();
                    let later = Int64Array::from(vec![
                        time_us.as_primitive::<datafusion::arrow::datatypes::Int64Type>().value(0) + 1,
                    ]);
                    cast(&later, column.data_type()).unwrap()
                }
                _ if matches!(column.data_type(), DataType::Utf8View | DataType::Dictionary(..)) => {
                    cast(column, &DataType::Utf8).unwrap()
                }
                _ => Arc::clone(column),
            };
            (Field::new(field.name(), column.data_type().clone(), field.name() != "time"), column)
        },
    );
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_and_one_of_another_version_are_built_again_from_their_points() {
    let stored = Stored::open().await;
    stored.store.append(tokens().0).await.unwrap();
    let asked = request(&["tokens"], Source::States);
    let first = stored.drift(&asked).await;
    // One bit of a count, another version, and a row that ends early: each the newest of its hour.
    let changed: [fn(&mut Vec<u8>); 3] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes[0] = 9,
        |bytes| bytes.truncate(9),
    ];
    for (hour, damage) in (3..).zip(changed) {
        let row = damaged(&stored, "tokens", hour, damage).await;
        stored.store.write_result("drift_states", row).await.unwrap();
    }
    assert_eq!(stored.states().await, WEEK + 1 + 3);
    let later = START + (WEEK + 2) * HOUR;
    let run_later = async || run(&stored.ctx, Some(&*stored.store), &asked, &Thresholds::default(), later).await;
    for _ in 0..2 {
        let again = run_later().await.unwrap();
        assert_eq!(again.scores[0].comparison, first.scores[0].comparison);
        assert_eq!(again.scores[0].reference.covered, first.scores[0].reference.covered);
        assert_eq!(stored.states().await, WEEK + 1 + 3 + 3, "those three are built again, once");
    }
    stored.store.close().await.unwrap();
    // Where the points are gone, too, nothing can be built: what is not known is missing from the values and from the coverage.
    let dir = tempfile::tempdir().unwrap();
    let table = Path::new("data/tables/drift_states");
    copy(&stored.dir.path().join(table), &dir.path().join(table));
    let only_states = Stored::open_in(dir).await;
    for hour in 20..60 {
        let row = damaged(&only_states, "tokens", hour, |bytes| bytes[20] ^= 0x80).await;
        only_states.store.write_result("drift_states", row).await.unwrap();
    }
    let poorer = only_states.drift(&asked).await;
    let reference = &poorer.scores[0].reference;
    assert_eq!(
        (reference.value_count, first.scores[0].reference.value_count),
        ((WEEK as u64 - 40) * 40, WEEK as u64 * 40)
    );
    assert!(reference.covered < 0.8 && first.scores[0].reference.covered == 1.0, "{}", reference.covered);
    only_states.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_have_states_of_their_own_and_other_windows_are_refused() {
    let stored = Stored::open().await;
    stored.store.append(histograms_and_categories()).await.unwrap();
    let asked = RunRequest { by: Some("language".into()), ..request(&["sizes"], Source::States) };
    let run_by = stored.drift(&asked).await;
    assert_eq!(run_by.scores.iter().filter(|score| score.request.segment.is_some()).count(), 1, "{run_by:?}");
    let segments = "SELECT count(*) FROM reports.drift_states WHERE segment = 'language=en' AND source = 'histograms'";
    assert_eq!(stored.integers(segments).await, [WEEK + 1]);
    let half = Window { start_us: START + HOUR / 2, ..hours(WEEK, WEEK + 1) };
    let refused = stored.drift(&RunRequest { current: Side::new(half, vec![]), ..asked.clone() }).await;
    assert!(refused.refused[0].reason.contains("--source auto"), "{refused:?}");
    let none: Option<&Store> = None;
    let error = run(&stored.ctx, none, &asked, &Thresholds::default(), 0).await.unwrap_err().to_string();
    assert!(error.contains("by POST"), "{error}");
    let one = Filter { key: "language".into(), value: "none".into() };
    let side = |window| Side::new(window, vec![one.clone()]);
    let nothing =
        RunRequest { reference: side(hours(0, WEEK)), current: side(hours(WEEK, WEEK + 1)), by: None, ..asked };
    assert_eq!(stored.drift(&nothing).await.scores[0].decision.status.as_str(), "insufficient_data");
    stored.store.close().await.unwrap();
}

fn ask(server: &str, arguments: &[&str]) -> Value {
    let mut command = driftwatt();
    command.args(["drift", "--server", server, "--format", "json"]).args(arguments);
    let output = command.output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_a_schedule_ask_for_states() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let schedule = "[[schedule]]\nname = \"tokens\"\njob = \"drift\"\ncron = \"@yearly\"\nmetric = \"driftwatt.input.tokens\"\n\
                    hours = 2\nsource = \"states\"\n";
    fs::write(&config, schedule).unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &config.display().to_string());
    let hour = 3_600_000_000_000;
    let end = now_nanos() / hour * hour;
    let value = |at: u64| (at * 37 % 101) as f64;
    let points = (0..2_000)
        .map(|at| point(end - 20 * hour + at * (20 * hour / 2_000), value(at), vec![label("a", "b")]))
        .collect();
    assert_eq!(export(&server, vec![gauge("driftwatt.input.tokens", points)]).await.0, 0);
    let time = |nanos: u64| {
        chrono::DateTime::from_timestamp_nanos(nanos as i64).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    let windows = [
        format!("{}/{}", time(end - 20 * hour), time(end - 10 * hour)),
        format!("{}/{}", time(end - 10 * hour), time(end)),
    ];
    let url = format!("http://{}", server.http);
    let arguments =
        ["--metric", "driftwatt.input.tokens", "--reference", &windows[0], "--current", &windows[1], "--source"];
    let score = ask(&url, &[&arguments[..], &["states"]].concat());
    assert_eq!((&score["source"], &score["decision"]["status"]), (&json!("states"), &json!("ok")), "{score}");
    assert_eq!(
        server.rows("SELECT count(*), sum(value_count) FROM reports.drift_states").await,
        [[json!(20), json!(2_000)]]
    );
    let stored = "SELECT source, source_scale FROM reports.drift_scores";
    assert_eq!(server.rows(stored).await, [[json!("states"), json!(5)]]);
    let mut command = driftwatt();
    let ran = command.args(["schedule", "run", "tokens", "--server", &url]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let runs = "SELECT count(*) FROM reports.drift_scores WHERE source = 'states'";
    assert_eq!(server.rows(runs).await, [[json!(2)]]);
    // What only looks leaves no trace, and cannot bring states up to date.
    let query = format!("metric=driftwatt.input.tokens&reference={}&current={}&source=states", windows[0], windows[1]);
    let (status, body) = server.get(&format!("/api/v1/drift?{query}")).await;
    assert!(status == 400 && body.contains("POST"), "{status} {body}");
}

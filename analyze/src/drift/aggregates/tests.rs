//! The aggregates on a session, against the scores of the job.

use datafusion::{
    arrow::{array::AsArray, datatypes::Float64Type},
    prelude::SessionContext,
};

use super::*;
use crate::drift::{category_counts::CategoryCounts, comparison::ColumnOptions};

async fn asked(sql: &str) -> std::result::Result<Vec<Option<f64>>, String> {
    // Several partitions, so that states are merged.
    let ctx = SessionContext::new_with_config(datafusion::prelude::SessionConfig::new().with_target_partitions(4));
    register_aggregates(&ctx);
    let frame = ctx.sql(sql).await.map_err(|error| error.to_string())?;
    let frame = frame.repartition(datafusion::logical_expr::Partitioning::RoundRobinBatch(1)).unwrap();
    let batches = frame.collect().await.map_err(|error| error.to_string())?;
    Ok(batches
        .iter()
        .flat_map(|batch| {
            batch.columns().iter().map(|column| column.as_primitive::<Float64Type>().iter().next().unwrap())
        })
        .collect())
}

/// Two sides of 3 000 numbers; the second 0.5 higher.
const NUMBERS: &str = "SELECT CASE WHEN value % 2 = 0 THEN CAST(value % 977 AS DOUBLE) / 100 END AS a, \
                       CASE WHEN value % 2 = 1 THEN CAST(value % 977 AS DOUBLE) / 100 + 0.5 END AS b \
                       FROM generate_series(1, 6000)";

#[tokio::test]
async fn numbers_have_the_scores_of_the_job() {
    let answers = asked(&format!("SELECT psi(a, b), js(a, b), ks(a, b), wasserstein(a, b) FROM ({NUMBERS})")).await;
    let side = |odd: u64, shift: f64| {
        let mut values: Vec<f64> =
            (1..=6_000u64).filter(|value| value % 2 == odd).map(|value| (value % 977) as f64 / 100.0 + shift).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let expected = Comparison::of_samples(&side(0, 0.0), &side(1, 0.5), ColumnOptions::default()).unwrap();
    let expected = Distance::ALL.map(|distance| distance.of(&expected));
    assert_eq!(answers.unwrap(), expected);
    // Swapped, the deciles are those of the other side.
    let swapped = asked(&format!("SELECT psi(b, a), wasserstein(b, a) FROM ({NUMBERS})")).await.unwrap();
    assert!(swapped[0] != expected[0] && (swapped[1].unwrap() - expected[3].unwrap()).abs() < 1e-12);
    let same = asked(&format!("SELECT psi(a, a), ks(a, a) FROM ({NUMBERS})")).await.unwrap();
    assert_eq!(same, [Some(0.0), Some(0.0)]);
}

#[tokio::test]
async fn texts_are_categories_and_nothing_is_null() {
    let rows = "SELECT CASE WHEN value <= 300 THEN 'en' END AS a, CASE WHEN value > 150 THEN \
                CASE WHEN value % 2 = 0 THEN 'en' ELSE 'de' END END AS b FROM generate_series(1, 450)";
    let answers = asked(&format!("SELECT psi(a, b), js(a, b) FROM ({rows})")).await.unwrap();
    let counts = |pairs: &[(&str, u64)]| {
        let mut counts = CategoryCounts::default();
        pairs.iter().for_each(|(name, count)| counts.add(name, *count));
        counts
    };
    let expected = Comparison::of_categories(&counts(&[("en", 300)]), &counts(&[("en", 150), ("de", 150)])).unwrap();
    assert_eq!(answers, [Some(expected.psi), Some(expected.jensen_shannon)]);
    let empty = format!("SELECT psi(a, b), ks(a, b), psi(NULL, b) FROM ({NUMBERS}) WHERE b IS NULL");
    assert_eq!(asked(&empty).await.unwrap(), [None, None, None]);
    let odd = asked("SELECT ks('NaN'::double, 1.0), psi(arrow_cast(1, 'UInt8'), 2)").await.unwrap();
    assert_eq!(odd[0], None);
    for (sql, words) in [
        (
            format!("SELECT ks('a', 'b') FROM ({NUMBERS})"),
            "two columns of numbers or histograms: ks(reference, current)",
        ),
        (format!("SELECT psi(a, 'b') FROM ({NUMBERS})"), "numbers, texts or histograms"),
        (format!("SELECT psi(a) FROM ({NUMBERS})"), "psi(reference, current)"),
    ] {
        let error = asked(&sql).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

/// A histogram as `histogram()` of the query crate gives it: explicit with these counts over 1, 2, 4, or exponential.
fn histogram(explicit: Option<[u64; 4]>, exponential: Option<(i32, [u64; 3])>) -> String {
    let list = |counts: &[u64]| {
        format!("make_array({})", counts.iter().map(|count| format!("{count}.0")).collect::<Vec<_>>().join(", "))
    };
    let none = || "CAST(NULL AS DOUBLE[])".to_owned();
    format!(
        "named_struct('count', 0.0, 'sum', 0.0, 'min', CAST(0.5 AS DOUBLE), 'max', CAST(8.0 AS DOUBLE), 'bounds', {}, \
         'bucket_counts', {}, 'scale', CAST({} AS INT), 'zero_count', CAST(0 AS DOUBLE), 'zero_threshold', CAST(0 AS DOUBLE), \
         'positive_offset', CAST(0 AS INT), 'positive_counts', {}, 'negative_offset', CAST(0 AS INT), 'negative_counts', {})",
        if explicit.is_some() { "make_array(1.0, 2.0, 4.0)".into() } else { none() },
        explicit.map_or_else(none, |counts| list(&counts)),
        exponential.map_or_else(|| "NULL".to_owned(), |(scale, _)| scale.to_string()),
        exponential.map_or_else(none, |(_, counts)| list(&counts)),
        none(),
    )
}

#[tokio::test]
async fn histograms_are_merged_and_compared_at_their_edges() {
    let of = |counts| histogram(Some(counts), None);
    let rows = format!(
        "SELECT {} AS a, {} AS b UNION ALL SELECT {}, NULL UNION ALL SELECT NULL, {}",
        of([10, 10, 0, 0]),
        of([0, 5, 5, 0]),
        of([10, 10, 20, 0]),
        of([0, 5, 5, 20])
    );
    let answers =
        asked(&format!("SELECT ks(a, b), psi(a, b), psi(a, a), wasserstein(a, b) FROM ({rows})")).await.unwrap();
    // Of 60: 20, 20, 20, 0; of 40: 0, 10, 10, 20. The largest distance at an edge is 0.5, at 4.
    let state = |counts: [u64; 4]| {
        let mut state = crate::drift::feature_state::FeatureState::default();
        state.histogram.add_explicit(&[1.0, 2.0, 4.0], &counts);
        state.histogram.widen(Some(0.5), Some(8.0));
        state
    };
    let expected =
        Comparison::of_states(&state([20, 20, 20, 0]), &state([0, 10, 10, 20]), ColumnOptions::default()).unwrap();
    assert_eq!(answers, [Some(0.5), Distance::Psi.of(&expected), Some(0.0), Distance::Wasserstein.of(&expected)]);
    let exponential = |scale, counts| histogram(None, Some((scale, counts)));
    // At scale 0 the buckets are (1, 2], (2, 4], (4, 8]; those of scale 1 are half of them.
    let rows = format!("SELECT {} AS a, {} AS b", exponential(0, [8, 8, 0]), exponential(1, [0, 4, 4]));
    assert_eq!(asked(&format!("SELECT ks(a, b) FROM ({rows})")).await.unwrap(), [Some(0.0)]);
    let mixed = format!("SELECT {} AS a, {} AS b", of([1, 1, 1, 1]), exponential(0, [1, 1, 1]));
    let error = asked(&format!("SELECT psi(a, b) FROM ({mixed})")).await.unwrap_err();
    assert!(error.contains("exponential"), "{error}");
}

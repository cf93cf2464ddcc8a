use std::collections::BTreeMap;

use datafusion::arrow::{
    array::{ArrayRef, Int64Array, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray},
    datatypes::{Field, Schema, TimeUnit},
};
use proptest::prelude::*;

use super::*;

/// `(metric, series_id, time, start_time)`: the table order.
type Key = (String, i64, i64, i64);
type Rows = BTreeMap<Key, i64>;

fn batch(rows: &[(Key, i64)]) -> RecordBatch {
    let time = |pick: fn(&Key) -> Option<i64>| -> ArrayRef {
        let times = rows.iter().map(|(key, _)| pick(key)).collect::<Vec<_>>();
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
    };
    // A column with nulls and one of lists stand for everything the merge does not know.
    let mut lists = ListBuilder::new(StringBuilder::new());
    for (_, value) in rows {
        for n in 0..value % 3 {
            lists.values().append_value(format!("{value}/{n}"));
        }
        lists.append(value % 5 != 0);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("metric", Arc::new(StringArray::from_iter_values(rows.iter().map(|(key, _)| &key.0)))),
        ("series_id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(key, _)| key.1)))),
        ("start_time", time(|key| (key.3 != 0).then_some(key.3))),
        ("time", time(|key| Some(key.2))),
        ("value", Arc::new(rows.iter().map(|(_, value)| (value % 7 != 0).then_some(*value)).collect::<Int64Array>())),
        ("texts", Arc::new(lists.finish())),
    ];
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = columns.iter().map(|(name, column)| match *name {
        "start_time" | "time" => Field::new(*name, timestamp.clone(), *name == "start_time"),
        _ => Field::new(*name, column.data_type().clone(), true),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

/// The merged rows, as one batch, and the number of duplicates.
fn merged(inputs: &[Rows], chunk: usize, batch_row_count: usize) -> (RecordBatch, u64) {
    let schema = batch(&[]).schema();
    let chunks = inputs.iter().map(|rows| {
        let rows: Vec<_> = rows.clone().into_iter().collect();
        rows.chunks(chunk).map(batch).collect::<Vec<_>>().into_iter()
    });
    let mut chunks: Vec<_> = chunks.collect();
    let mut merge = Merge::new(Arc::clone(&schema), inputs.len(), batch_row_count);
    let mut output = Vec::new();
    loop {
        match merge.step().unwrap() {
            Step::Need(input) => merge.push(input, chunks[input].next()).unwrap(),
            Step::Batch(batch) => {
                assert!((1..=batch_row_count).contains(&batch.num_rows()), "{} rows", batch.num_rows());
                output.push(batch);
            }
            Step::Done => break,
        }
    }
    (datafusion::arrow::compute::concat_batches(&schema, &output).unwrap(), merge.duplicate_count)
}

fn check(inputs: &[Rows], chunk: usize, batch_row_count: usize) {
    let mut model = Rows::new();
    let count: usize = inputs.iter().map(BTreeMap::len).sum();
    inputs.iter().for_each(|rows| model.extend(rows.clone()));
    let (found, duplicates) = merged(inputs, chunk, batch_row_count);
    let expected: Vec<_> = model.into_iter().collect();
    assert_eq!(found, batch(&expected));
    assert_eq!(duplicates as usize, count - expected.len());
}

fn key() -> impl Strategy<Value = Key> {
    ("[ab]", -2..3i64, 0..30i64, 0..3i64).prop_map(|(metric, id, time, start)| (metric, id, time, start))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3000 }))]
    #[test]
    fn a_merge_is_what_a_map_would_hold_after_all_writes(
        inputs in prop::collection::vec(prop::collection::btree_map(key(), 0..1000i64, 0..120), 0..6),
        chunk in 1..40usize,
        batch_row_count in 1..50usize,
    ) {
        check(&inputs, chunk, batch_row_count);
    }
}

fn rows(series: i64, times: impl Iterator<Item = i64>, value: i64) -> Rows {
    times.map(|time| (("m".to_owned(), series, time, 0), value)).collect()
}

#[test]
fn long_runs_alternate_points_and_whole_repeats_are_merged() {
    let long = |value| rows(1, 0..20_000, value);
    check(&[long(1), rows(1, 20_000..40_000, 2)], 8192, 8192);
    check(&[rows(1, (0..20_000).step_by(2), 1), rows(1, (1..20_000).step_by(2), 2)], 8192, 8192);
    check(&[long(1), long(2), long(3)], 1000, 8192);
    check(&[long(1), rows(1, 19_999..20_001, 2)], 8192, 100);
}

#[test]
fn one_input_passes_through_without_a_copy() {
    let (found, duplicates) = merged(&[rows(1, 0..100, 1)], 100, 8192);
    assert_eq!((found.num_rows(), duplicates), (100, 0));
}

#[test]
fn a_gallop_finds_the_border_wherever_it_is() {
    for length in 1..70 {
        for border in 1..=length {
            assert_eq!(gallop(0, length, |row| row < border), border, "{border} of {length}");
        }
    }
}

//! Every rule both ways, what is no data at all, and the merge law.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::*;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::gates::limit::{Condition, Limit, Unit};
use crate::gates::result::{Outcome, Status};
use crate::gates::rule::{Interval, LabelFormat, LogicalType, RuleKind};

/// 2024-08-01T00:00:00Z.
const NOW: i64 = 1_722_470_400;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn judge_with(kind: RuleKind, column: ArrayRef, history: &[BatchSummary]) -> RuleResult {
    let of_table = matches!(kind, RuleKind::RowCount(_) | RuleKind::RowCountOfPast { .. } | RuleKind::Schema { .. });
    let mut table = Table::new("t");
    table.push(Rule::new((!of_table).then_some("x"), kind));
    let batch = batch(vec![("x", column)]);
    let mut scan = Scan::new(&table, &batch.schema());
    scan.update(&batch).unwrap();
    scan.finish(now(), history).remove(0)
}

fn check(kind: RuleKind, column: ArrayRef, status: Status) -> RuleResult {
    let result = judge_with(kind, column, &[]);
    assert_eq!(result.status, status, "{result:?}");
    result
}

/// The rule passes for one column and fails for the other.
fn both(kind: RuleKind, good: ArrayRef, bad: ArrayRef) -> RuleResult {
    check(kind.clone(), good, Status::Pass);
    check(kind, bad, Status::Fail)
}

#[test]
fn values_of_a_rule_are_read_as_the_column_has_them() {
    let allowed = |value: &str| RuleKind::AllowedSet { values: vec![value.into()], limit: Limit::none() };
    check(allowed("0.1"), Arc::new(Float32Array::from(vec![0.1])), Status::Pass);
    check(allowed("1.0"), ints([1]), Status::Pass);
    let tokens = RuleKind::Missing { tokens: vec!["9999-12-31".into()], limit: Limit::none() };
    let dates = |days: i32| Arc::new(Date32Array::from(vec![days])) as ArrayRef;
    both(tokens, dates(19_000), dates(2_932_896));
    // Neighbours above 2^53 are two keys.
    let ids = Decimal128Array::from(vec![9_007_199_254_740_992, 9_007_199_254_740_993]);
    let unique = RuleKind::Duplicates { columns: vec!["x".into()], limit: Limit::none() };
    check(unique, Arc::new(ids.with_precision_and_scale(18, 0).unwrap()), Status::Pass);
}

fn past(rows: u64, distinct: f64) -> BatchSummary {
    let column = ColumnSummary { name: "x".into(), data_type: "Int64".into(), unit: None, distinct: Some(distinct) };
    BatchSummary { rows, columns: vec![column] }
}

fn spread(extra: &[f64]) -> ArrayRef {
    let mut values: Vec<f64> = (0..1000).map(|i| f64::from(i % 100)).collect();
    values.extend(extra);
    floats(&values)
}

#[test]
fn row_count() {
    let kind = RuleKind::RowCount(Limit::new(Condition::GreaterOrEqual(3.0), Unit::Rows));
    let failed = both(kind, ints(0..3), ints(0..2));
    assert_eq!((failed.observed.as_str(), failed.value), ("2 rows", Some(2.0)));
    let kind = RuleKind::RowCountOfPast { ratio_min: 0.5, ratio_max: 2.0 };
    let history = [past(1, 1.0), past(100, 1.0), past(100, 1.0), past(100, 1.0), past(100, 1.0)];
    assert_eq!(judge_with(kind.clone(), ints(0..60), &history).status, Status::Pass);
    let failed = judge_with(kind.clone(), ints(0..40), &history);
    assert_eq!((failed.status, failed.value), (Status::Fail, Some(0.4)));
    assert_eq!(judge_with(kind, ints(0..60), &[]).status, Status::Skipped);
}

#[test]
fn missing_share() {
    let kind = |tokens: &[&str], percent| RuleKind::Missing {
        tokens: tokens.iter().map(|text| text.to_string()).collect(),
        limit: Limit::new(Condition::Less(percent), Unit::Percent),
    };
    let column = texts(&[Some("a"), None, Some("N/A"), Some("b")]);
    check(kind(&[], 26.0), Arc::clone(&column), Status::Pass);
    let failed = check(kind(&["N/A", ""], 26.0), column, Status::Fail);
    assert_eq!((failed.rows_failed, failed.rows_checked, failed.value), (Some(2), 4, Some(50.0)));
    assert_eq!(failed.samples.iter().map(|sample| sample.row).collect::<Vec<_>>(), [1, 2]);
    both(kind(&["-999"], 1.0), ints([1, 2]), ints([1, -999]));
    let dictionary: DictionaryArray<Int32Type> = [Some("a"), Some(""), None].into_iter().collect();
    assert_eq!(check(kind(&[""], 1.0), Arc::new(dictionary), Status::Fail).rows_failed, Some(2));
}

#[test]
fn values_of_single_rows() {
    let none = Limit::none;
    both(RuleKind::NonFinite(none()), floats(&[1.0, 1e308, -0.0]), floats(&[1.0, f64::NAN, f64::INFINITY]));
    let set = |values: &[&str]| RuleKind::AllowedSet {
        values: values.iter().map(|text| text.to_string()).collect(),
        limit: Limit::none(),
    };
    both(set(&["kg", "lb"]), texts(&[Some("kg"), None, Some("lb")]), texts(&[Some("kg"), Some("KG")]));
    both(set(&["1", "2.0"]), ints([1, 2]), ints([1, 3]));
    both(set(&["0", "1.5"]), floats(&[-0.0, 1.5]), floats(&[1.25]));
    both(set(&["true"]), Arc::new(BooleanArray::from(vec![true])), Arc::new(BooleanArray::from(vec![false])));
    let pattern = RuleKind::Pattern { regex: "^[A-Z]{2}$".into(), limit: none() };
    both(pattern, texts(&[Some("DE"), None]), texts(&[Some("DE"), Some("De")]));
    let label = RuleKind::LabelFormat { format: LabelFormat::Snake, limit: none() };
    both(label, texts(&[Some("big_cat")]), texts(&[Some("Big cat")]));
    let interval = Interval { min: Some(0.0), max: Some(10.0), max_exclusive: true, ..Interval::default() };
    let range = RuleKind::Range { interval, limit: none() };
    both(range.clone(), floats(&[0.0, 9.999]), floats(&[10.0]));
    both(range.clone(), ints([0, 9]), ints([10]));
    both(range.clone(), Arc::new(UInt64Array::from(vec![0, 9])), Arc::new(UInt64Array::from(vec![u64::MAX])));
    let failed = check(range, floats(&[f64::NAN, f64::NEG_INFINITY, 1e308, 5.0]), Status::Fail);
    assert_eq!(failed.rows_failed, Some(3));
    let open = Interval { min: Some(0.0), min_exclusive: true, ..Interval::default() };
    both(RuleKind::Range { interval: open, limit: none() }, ints([1]), ints([0]));
}

#[test]
fn outliers() {
    let limit = Limit::percent_max(0.5);
    let iqr = RuleKind::IqrOutliers { factor: 1.5, limit: limit.clone() };
    let failed = both(iqr.clone(), spread(&[1e9]), spread(&[1e9; 20]));
    assert_eq!(failed.rows_failed, Some(20));
    let robust = RuleKind::RobustZ { z: 3.5, limit };
    both(robust.clone(), spread(&[1e308]), spread(&[-1e308; 20]));
    for kind in [iqr, robust] {
        check(kind.clone(), floats(&[7.0; 50]), Status::Skipped);
        check(kind.clone(), floats(&[f64::NAN, f64::INFINITY]), Status::Skipped);
        check(kind, floats(&[-1e308, 1e308, 0.0, 1e308, -1e308, 5.0]), Status::Pass);
    }
}

#[test]
fn keys() {
    let duplicates = |limit| RuleKind::Duplicates { columns: vec!["x".into()], limit };
    let failed = both(duplicates(Limit::none()), ints([1, 2, 3]), ints([1, 2, 1, 1]));
    assert_eq!((failed.rows_failed, failed.samples.len()), (Some(2), 2));
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, None, Some(1)]));
    assert_eq!(check(duplicates(Limit::none()), nulls, Status::Pass).rows_checked, 1);
    let unique = RuleKind::Uniqueness {
        columns: vec!["x".into()],
        limit: Limit::new(Condition::GreaterOrEqual(75.0), Unit::Percent),
    };
    both(unique, texts(&[Some("a"), Some("b"), Some("c"), Some("c")]), texts(&[Some("a"), Some("a")]));
    let both_columns = batch(vec![("x", ints([1, 1, 1])), ("y", texts(&[Some("a"), Some("b"), Some("a")]))]);
    let mut table = Table::new("t");
    table.push(Rule::new(None, RuleKind::Duplicates { columns: vec!["x".into(), "y".into()], limit: Limit::none() }));
    let mut scan = Scan::new(&table, &both_columns.schema());
    scan.update(&both_columns).unwrap();
    assert_eq!(scan.finish(now(), &[])[0].rows_failed, Some(1));
    let jump = RuleKind::DistinctOfPast { ratio_min: 0.5, ratio_max: 2.0 };
    let history = [past(10, 10.0), past(10, 12.0)];
    assert_eq!(judge_with(jump.clone(), ints(0..15), &history).status, Status::Pass);
    assert_eq!(judge_with(jump.clone(), ints(0..40), &history).status, Status::Fail);
    assert_eq!(judge_with(jump, ints(0..40), &[]).status, Status::Skipped);
}

#[test]
fn constant_columns() {
    both(RuleKind::Constant, floats(&[1.0, 1.0, 2.0]), floats(&[1.0, 1.0, 1.0]));
    both(RuleKind::Constant, texts(&[Some("a"), None, Some("b")]), texts(&[Some("a"), None, Some("a")]));
    check(RuleKind::Constant, floats(&[1.0]), Status::Skipped);
}

#[test]
fn schema_and_types() {
    let schema = |columns: &[&str], open| RuleKind::Schema {
        columns: columns.iter().map(|name| name.to_string()).collect(),
        open,
    };
    check(schema(&["x"], false), ints([1]), Status::Pass);
    check(schema(&[], true), ints([1]), Status::Pass);
    let failed = check(schema(&["x", "y"], true), ints([1]), Status::Fail);
    assert_eq!(failed.observed, "missing y");
    assert_eq!(check(schema(&[], false), ints([1]), Status::Fail).observed, "not in the contract: x");
    let logical = |logical| RuleKind::Type { logical: Some(logical), unit: None };
    both(logical(LogicalType::Integer), ints([1]), floats(&[1.0]));
    let kind = RuleKind::Type { logical: None, unit: None };
    assert_eq!(judge_with(kind.clone(), ints([1]), &[past(1, 1.0)]).status, Status::Pass);
    let changed = judge_with(kind.clone(), floats(&[1.0]), &[past(1, 1.0)]);
    assert_eq!(changed.observed, "Float64: Int64 in the last batch");
    assert_eq!(changed.status, Status::Fail);
    check(kind, ints([1]), Status::Skipped);
}

#[test]
fn units_are_compared_with_the_contract_and_the_past() {
    let judge = |unit: Option<&str>, wanted: Option<&str>, history: &[BatchSummary]| {
        let metadata = unit.map(|unit| ("unit".to_string(), unit.to_string())).into_iter().collect();
        let field = Field::new("x", DataType::Int64, true).with_metadata(metadata);
        let mut table = Table::new("t");
        table.push(Rule::new(Some("x"), RuleKind::Type { logical: None, unit: wanted.map(str::to_string) }));
        let scan = Scan::new(&table, &Arc::new(Schema::new(vec![field])));
        scan.finish(now(), history).remove(0).status
    };
    assert_eq!(judge(Some("ms"), Some("ms"), &[]), Status::Pass);
    assert_eq!(judge(Some("s"), Some("ms"), &[]), Status::Fail);
    assert_eq!(judge(None, Some("ms"), &[]), Status::Skipped);
    assert_eq!(judge(Some("s"), None, &[past(1, 1.0)]), Status::Fail);
    assert_eq!(judge(None, None, &[past(1, 1.0)]), Status::Pass);
}

#[test]
fn times() {
    let monotone = |strict| RuleKind::Monotone { strict, limit: Limit::none() };
    let failed = both(monotone(false), ints([-1, 2, 2, 3]), ints([1, 3, 2, 2]));
    assert_eq!((failed.rows_failed, failed.samples[0].row), (Some(1), 2));
    both(monotone(true), floats(&[-1.5, f64::NAN, 0.0]), floats(&[-0.0, 0.0]));
    let freshness = RuleKind::Freshness { age_max: Duration::from_secs(3600) };
    let at = |seconds: i64| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from(vec![Some((NOW + seconds) * 1000), None]))
    };
    let failed = both(freshness.clone(), at(-3600), at(-7200));
    assert_eq!((failed.observed.as_str(), failed.value), ("newest row 2h old", Some(7200.0)));
    check(freshness.clone(), at(60), Status::Pass);
    assert_eq!(check(freshness.clone(), at(86_400), Status::Fail).observed, "newest row 24h in the future");
    let days = |day: i64| -> ArrayRef { Arc::new(Date32Array::from(vec![(NOW / 86_400 - day) as i32])) };
    both(freshness, days(0), days(3));
}

#[test]
fn class_balance() {
    let kind = RuleKind::ClassBalance { share_min: Some(0.25), share_max: Some(0.75), classes: vec!["a".into()] };
    let failed = both(
        kind,
        texts(&[Some("a"), Some("b"), None]),
        texts(&[Some("a"), Some("b"), Some("b"), Some("b"), Some("b")]),
    );
    assert!(failed.observed.contains("\"a\" 20 %") && failed.observed.contains("\"b\" 80 %"), "{failed:?}");
    let kind = RuleKind::ClassBalance { share_min: None, share_max: None, classes: vec!["2".into()] };
    both(kind, ints([1, 2]), ints([1, 1]));
    let kind = RuleKind::ClassBalance { share_min: Some(0.1), share_max: None, classes: Vec::new() };
    check(kind, ints(0..20_000), Status::Error);
}

#[test]
fn reference_integrity() {
    let kind = RuleKind::Reference { to: "customers.id".into(), limit: Limit::none() };
    let mut table = Table::new("t");
    table.push(Rule::new(Some("x"), kind));
    let mut known = Reference::new(&DataType::Int64);
    known.add(&ints(0..100)).unwrap();
    assert!(known.add(&texts(&[None])).is_err());
    let references = References::from([("customers.id".to_string(), known)]);
    let judge = |column: ArrayRef, references: &References| {
        let batch = batch(vec![("x", column)]);
        let mut scan = Scan::with_references(&table, &batch.schema(), references);
        scan.update(&batch).unwrap();
        scan.finish(now(), &[]).remove(0)
    };
    assert_eq!(judge(ints([5, 99]), &references).status, Status::Pass);
    assert_eq!(judge(ints([5, 100, -1]), &references).rows_failed, Some(2));
    assert_eq!(judge(texts(&[Some("5")]), &references).status, Status::Error);
    assert_eq!(judge(ints([5]), &References::new()).status, Status::Skipped);
}

#[test]
fn what_is_no_data_is_said_and_never_passes() {
    let limit = Limit::none;
    let kinds = [
        RuleKind::NonFinite(limit()),
        RuleKind::Range { interval: Interval { min: Some(0.0), ..Interval::default() }, limit: limit() },
        RuleKind::AllowedSet { values: vec!["1".into()], limit: limit() },
        RuleKind::Pattern { regex: "1".into(), limit: limit() },
        RuleKind::IqrOutliers { factor: 1.5, limit: limit() },
        RuleKind::RobustZ { z: 3.5, limit: limit() },
        RuleKind::Duplicates { columns: vec!["x".into()], limit: limit() },
        RuleKind::Constant,
        RuleKind::Monotone { strict: false, limit: limit() },
        RuleKind::ClassBalance { share_min: Some(0.1), share_max: None, classes: Vec::new() },
    ];
    for kind in kinds {
        let empty = check(kind.clone(), floats(&[]), Status::Skipped);
        assert_eq!((empty.observed.as_str(), empty.value), ("unknown", None));
        let nulls: ArrayRef = Arc::new(Float64Array::from(vec![None, None]));
        assert!(check(kind, nulls, Status::Skipped).reason.is_some());
    }
    let missing = RuleKind::Missing { tokens: Vec::new(), limit: Limit::none() };
    check(missing, Arc::new(Float64Array::from(vec![None, None])), Status::Fail);
    let all_null: DictionaryArray<Int32Type> = [None::<&str>, None].into_iter().collect();
    check(RuleKind::Constant, Arc::new(all_null), Status::Skipped);
}

#[test]
fn rules_that_do_not_fit_are_errors_with_a_reason() {
    let error = check(RuleKind::NonFinite(Limit::none()), texts(&[Some("a")]), Status::Error);
    assert_eq!(error.reason.as_deref(), Some("\"x\" is Utf8, but the rule needs numbers"));
    let set = RuleKind::AllowedSet { values: vec!["kg".into()], limit: Limit::none() };
    assert!(check(set, ints([1]), Status::Error).reason.unwrap().contains("\"kg\""));
    let pattern = RuleKind::Pattern { regex: "(".into(), limit: Limit::none() };
    assert!(check(pattern, texts(&[Some("a")]), Status::Error).reason.unwrap().contains("unclosed group"));
    let unsupported = RuleKind::Unsupported { reason: "SQL".into() };
    check(unsupported, ints([1]), Status::Skipped);
    let mut table = Table::new("t");
    table.push(Rule::new(Some("y"), RuleKind::Constant));
    let batch = batch(vec![("x", ints([1]))]);
    let mut scan = Scan::new(&table, &batch.schema());
    let result = scan.finish(now(), &[]).remove(0);
    assert_eq!(result.reason.as_deref(), Some("the data has no column \"y\"; it has x"));
    let other = RecordBatch::try_from_iter([("x", floats(&[1.0]))]).unwrap();
    assert!(scan.update(&other).unwrap_err().to_string().contains("\"x\" Int64 became \"x\" Float64"));
    assert_eq!(scan.rows(), 0);
}

#[test]
fn severity_decides_the_status_and_the_worst_rule_the_outcome() {
    let batch = batch(vec![("x", floats(&[1.0, f64::NAN]))]);
    let outcome = |rules: Vec<Rule>| {
        let mut table = Table::new("t");
        rules.into_iter().for_each(|rule| table.push(rule));
        let mut scan = Scan::new(&table, &batch.schema());
        scan.update(&batch).unwrap();
        Outcome::of(&scan.finish(now(), &[]))
    };
    let broken = || Rule::new(Some("x"), RuleKind::NonFinite(Limit::none()));
    let lost = || Rule::new(Some("y"), RuleKind::Constant);
    let fine = || Rule::new(Some("x"), RuleKind::Constant);
    let skipped = || Rule::new(None, RuleKind::RowCountOfPast { ratio_min: 0.5, ratio_max: 2.0 });
    let check = |rules, status, exit_code| {
        let outcome = outcome(rules);
        assert_eq!((outcome.status, outcome.exit_code(), outcome.accepts()), (status, exit_code, exit_code == 0));
    };
    check(vec![fine(), skipped()], Status::Pass, 0);
    check(vec![fine(), broken().warning()], Status::Warn, 0);
    check(vec![broken().warning(), lost()], Status::Error, 2);
    check(vec![lost(), broken()], Status::Fail, 1);
    check(vec![skipped()], Status::Skipped, 2);
    check(Vec::new(), Status::Skipped, 2);
}

#[test]
fn samples_name_rows_by_their_masked_key() {
    let batch = batch(vec![("id", texts(&[Some("customer-1"), Some("customer-2")])), ("x", floats(&[1.0, f64::NAN]))]);
    let mut table = Table::new("t");
    table.primary_key = vec!["id".into()];
    table.push(Rule::new(Some("x"), RuleKind::NonFinite(Limit::none())));
    let mut scan = Scan::new(&table, &batch.schema());
    for _ in 0..20 {
        scan.update(&batch).unwrap();
    }
    let result = scan.finish(now(), &[]).remove(0);
    assert_eq!((result.rows_failed, result.samples.len()), (Some(20), 10));
    assert_eq!(result.samples[1], Sample { row: 3, key: Some("c…2 (10 characters)".into()) });
}

/// One table with a rule of each kind over columns of several types.
fn full_table() -> Table {
    let mut table = Table::new("t");
    table.primary_key = vec!["n".into()];
    let limit = || Limit::percent_max(10.0);
    let mut add = |column: Option<&str>, kind: RuleKind| table.push(Rule::new(column, kind));
    add(None, Rule::default_row_count().kind);
    for column in ["n", "f", "s"] {
        add(Some(column), RuleKind::Missing { tokens: vec!["".into(), "3".into()], limit: limit() });
        add(Some(column), RuleKind::Duplicates { columns: vec![column.into()], limit: limit() });
        add(Some(column), RuleKind::Uniqueness { columns: vec![column.into()], limit: limit() });
        add(Some(column), RuleKind::DistinctOfPast { ratio_min: 0.5, ratio_max: 2.0 });
        add(Some(column), RuleKind::Constant);
        add(Some(column), RuleKind::ClassBalance { share_min: Some(0.01), share_max: None, classes: vec!["a".into()] });
        add(Some(column), RuleKind::AllowedSet { values: vec!["1".into(), "2".into()], limit: limit() });
    }
    for column in ["n", "f"] {
        add(Some(column), RuleKind::NonFinite(limit()));
        add(Some(column), RuleKind::Monotone { strict: true, limit: limit() });
        add(Some(column), RuleKind::IqrOutliers { factor: 1.5, limit: limit() });
        add(Some(column), RuleKind::RobustZ { z: 3.5, limit: limit() });
        let interval = Interval { min: Some(-5.0), max: Some(5.0), ..Interval::default() };
        add(Some(column), RuleKind::Range { interval, limit: limit() });
    }
    add(Some("s"), RuleKind::Pattern { regex: "^[a-c]?$".into(), limit: limit() });
    add(Some("t"), RuleKind::Freshness { age_max: Duration::from_secs(60) });
    table
}

type Row = (Option<i64>, Option<f64>, Option<String>, Option<i64>);

fn row() -> impl Strategy<Value = Row> {
    let number = prop_oneof![-9i64..9, Just(i64::MAX), Just(i64::MIN)];
    let float = prop_oneof![-9.0..9.0f64, Just(f64::NAN), Just(1e308), Just(-1e308), Just(f64::INFINITY), Just(0.0)];
    let opt = proptest::option::of::<BoxedStrategy<i64>>;
    (opt(number.boxed()), proptest::option::of(float), proptest::option::of("[a-d]{0,2}"), opt((0..NOW).boxed()))
}

fn rows_of(rows: &[Row]) -> RecordBatch {
    batch(vec![
        ("n", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("f", Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>())),
        ("s", Arc::new(rows.iter().map(|row| row.2.clone()).collect::<StringArray>())),
        ("t", Arc::new(rows.iter().map(|row| row.3).collect::<TimestampSecondArray>())),
    ])
}

proptest! {
    /// Any cut into batches, scanned by any grouping of scans, gives the same results.
    #[test]
    fn any_split_gives_the_same_results(
        rows in proptest::collection::vec(row(), 0..80),
        cuts in proptest::collection::vec(0usize..80, 0..4),
    ) {
        let table = full_table();
        let whole = rows_of(&rows);
        let mut wanted = Scan::new(&table, &whole.schema());
        wanted.update(&whole).unwrap();
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(rows.len())).chain([rows.len()]).collect();
        ends.sort_unstable();
        let (mut updated, mut merged, mut start) = (Scan::new(&table, &whole.schema()), Scan::new(&table, &whole.schema()), 0);
        for end in ends {
            let part = whole.slice(start, end - start);
            updated.update(&part).unwrap();
            let mut own = Scan::new(&table, &whole.schema());
            own.update(&part).unwrap();
            merged.merge(&own).unwrap();
            start = end;
        }
        let history = [past(20, 7.0)];
        let results = wanted.finish(now(), &history);
        prop_assert_eq!(&updated.finish(now(), &history), &results);
        // The sample rows of duplicates are those within one scan; their number is exact all the same.
        let without_samples = |mut results: Vec<RuleResult>| {
            results.iter_mut().filter(|result| result.metric == "duplicateValues").for_each(|result| result.samples.clear());
            results
        };
        prop_assert_eq!(without_samples(merged.finish(now(), &history)), without_samples(results));
        prop_assert_eq!(merged.summary(), wanted.summary());
    }

    /// The histogram of order and the sets of keys agree with sorting and with a set of the values.
    #[test]
    fn counts_agree_with_a_plain_model(values in proptest::collection::vec(-50i64..50, 2..60)) {
        let duplicates = RuleKind::Duplicates { columns: vec!["x".into()], limit: Limit::none() };
        let found = judge_with(duplicates, ints(values.clone()), &[]);
        let distinct = values.iter().collect::<std::collections::BTreeSet<_>>().len();
        prop_assert_eq!(found.rows_failed, Some((values.len() - distinct) as u64));
        let back = values.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
        let monotone = judge_with(RuleKind::Monotone { strict: false, limit: Limit::none() }, ints(values.clone()), &[]);
        prop_assert_eq!(monotone.rows_failed, Some(back));
        let mut sorted: Vec<f64> = values.iter().map(|value| *value as f64).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |p: f64| {
            let rank = (sorted.len() - 1) as f64 * p;
            let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
            low * (1.0 - rank.fract()) + high * rank.fract()
        };
        let (q1, q3) = (at(0.25), at(0.75));
        let (low, high) = (q1 - 0.5 * (q3 - q1), q3 + 0.5 * (q3 - q1));
        let outside = sorted.iter().filter(|value| **value < low || **value > high).count() as u64;
        let iqr = judge_with(RuleKind::IqrOutliers { factor: 0.5, limit: Limit::none() }, ints(values), &[]);
        prop_assert_eq!(iqr.rows_failed.unwrap_or(0), if q1 == q3 { 0 } else { outside });
    }
}

//! What the pushed-down predicate of a scan can rule out: files by their key ranges, unflushed series by metric, id and
//! time.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, BooleanArray, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array},
        datatypes::SchemaRef,
    },
    catalog::Session,
    common::{Column, DFSchema, ScalarValue, pruning::PruningStatistics},
    error::Result,
    logical_expr::{Expr, utils::conjunction},
    physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder},
};

use crate::{
    live_file::{KeyRange, KeyRanges},
    memtable::{SeriesPoints, day_of, sort_in_table_order},
    parquet_file::MetricMask,
};

/// The pushed-down predicate, applied to ranges of keys.
#[derive(Clone)]
pub(super) struct Filter(Option<Arc<PruningPredicate>>);

impl Filter {
    pub(super) fn new(state: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Self> {
        let Some(filter) = conjunction(filters.to_vec()) else { return Ok(Self(None)) };
        let df_schema = DFSchema::try_from(Arc::clone(schema))?;
        let predicate = state.create_physical_expr(filter, &df_schema)?;
        // A predicate that pruning cannot use is not an error: the filter above the scan still applies it.
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
        let longest = state.config_options().execution.parquet.max_in_list_size;
        Ok(Self(builder.with_max_in_list_size(longest).build(predicate)))
    }

    pub(super) fn keep<T: Clone>(&self, items: &[T], keys: impl Fn(&T) -> KeyRange) -> Result<Vec<T>> {
        let Some(predicate) = &self.0 else { return Ok(items.to_vec()) };
        if items.is_empty() {
            return Ok(vec![]);
        }
        let ranges: Vec<_> = items.iter().map(keys).collect();
        let kept = predicate.prune(&KeyRanges(&ranges))?;
        Ok(items.iter().zip(kept).filter(|(_, keep)| *keep).map(|(item, _)| item.clone()).collect())
    }

    /// Those of `series`, all of wanted metrics, that may have matching points, in table order. `times` tells first and last
    /// time of the points that are meant; a series without such points matches nothing.
    pub(super) fn keep_series<'a>(
        &self,
        series: impl Iterator<Item = &'a Arc<SeriesPoints>>,
        times: impl Fn(&SeriesPoints) -> Option<(i64, i64)>,
    ) -> Result<Arc<[Arc<SeriesPoints>]>> {
        let mut series: Vec<&Arc<SeriesPoints>> = series.filter(|points| times(points).is_some()).collect();
        if let Some(predicate) = &self.0
            && !series.is_empty()
        {
            let mut kept = predicate.prune(&SeriesRanges::new(&series, times))?.into_iter();
            series.retain(|_| kept.next().unwrap_or(true));
        }
        let mut series: Vec<_> = series.into_iter().map(Arc::clone).collect();
        sort_in_table_order(&mut series);
        Ok(series.into())
    }

    /// The rows whose metric may match; none where nothing is asked of it.
    pub(super) fn metric_mask(&self) -> Option<MetricMask> {
        self.0.as_ref()?;
        let filter = self.clone();
        Some(Arc::new(move |metrics| {
            let distinct: Vec<&str> = metrics.iter().flatten().collect::<HashSet<_>>().into_iter().collect();
            let kept: HashSet<&str> =
                filter.keep(&distinct, |metric| KeyRange::of_metric(metric))?.into_iter().collect();
            Ok(metrics.iter().map(|metric| Some(metric.is_some_and(|metric| kept.contains(metric)))).collect())
        }))
    }
}

/// Keys of some series as pruning statistics.
struct SeriesRanges {
    metrics: ArrayRef,
    ids: ArrayRef,
    /// First and last.
    times: [ArrayRef; 2],
    dates: [ArrayRef; 2],
    count: usize,
}

impl SeriesRanges {
    fn new(series: &[&Arc<SeriesPoints>], times: impl Fn(&SeriesPoints) -> Option<(i64, i64)>) -> Self {
        let times: Vec<_> = series.iter().map(|points| times(points).unwrap_or((i64::MIN, i64::MIN))).collect();
        let ends = [times.iter().map(|ends| ends.0).collect::<Vec<_>>(), times.iter().map(|ends| ends.1).collect()];
        let date = |times: &Vec<i64>| Arc::new(Date32Array::from_iter_values(times.iter().copied().map(day_of))) as _;
        let metrics = series.iter().map(|points| &*points.series.definition.metric);
        Self {
            metrics: Arc::new(StringArray::from_iter_values(metrics)),
            ids: Arc::new(Int64Array::from_iter_values(series.iter().map(|points| points.series.id.to_column()))),
            dates: ends.each_ref().map(date),
            times: ends.map(|times| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as _),
            count: series.len(),
        }
    }

    fn ends(&self, column: &Column, end: usize) -> Option<ArrayRef> {
        match column.name.as_str() {
            "metric" => Some(Arc::clone(&self.metrics)),
            "series_id" => Some(Arc::clone(&self.ids)),
            "time" => Some(Arc::clone(&self.times[end])),
            "date" => Some(Arc::clone(&self.dates[end])),
            _ => None,
        }
    }
}

impl PruningStatistics for SeriesRanges {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, 0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, 1)
    }

    fn num_containers(&self) -> usize {
        self.count
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let keys = ["metric", "series_id", "time", "date"];
        keys.contains(&column.name.as_str()).then(|| Arc::new(UInt64Array::from_value(0, self.count)) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

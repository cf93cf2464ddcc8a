//! The physical node: rows sorted by group and bucket in, the same with rows for missing buckets out.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array,
    },
    compute::{SortOptions, cast, concat_batches, partition, take},
    datatypes::{DataType, Float64Type, SchemaRef},
};
use datafusion::{
    common::{exec_err, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result},
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::{
        EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr, expressions::Column,
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt};

use super::Function;
use crate::functions::{bucket::Buckets, instant::instants};

/// Rows that one node may add, in all groups.
const ROWS_ADDED_MAX: usize = 1_000_000;
const BATCH_ROWS: usize = 8192;

/// What is filled, and how.
#[derive(Debug, Clone)]
pub(crate) struct Gaps {
    pub(crate) group_count: usize,
    pub(crate) bucket: usize,
    pub(crate) buckets: Buckets,
    /// First and last moment of the range, where it is known; else each group has its own first and last bucket.
    pub(crate) start: Option<i64>,
    pub(crate) last: Option<i64>,
    pub(crate) fills: Vec<Function>,
}

/// Holds the rows of its partition, which are groups and their aggregates, in memory.
#[derive(Debug)]
pub(crate) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    gaps: Gaps,
    ordering: Option<LexOrdering>,
    added: Arc<AtomicUsize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GapFillExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef, gaps: Gaps) -> Result<Self> {
        let keys = (0..gaps.group_count).filter(|index| *index != gaps.bucket).chain([gaps.bucket]);
        let sorted = keys.map(|index| PhysicalSortExpr {
            expr: Arc::new(Column::new(schema.field(index).name(), index)),
            options: SortOptions::default(),
        });
        let ordering = LexOrdering::new(sorted);
        let mut equivalence = EquivalenceProperties::new(schema);
        equivalence.add_orderings(ordering.clone());
        let properties = PlanProperties::new(
            equivalence,
            input.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let (added, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        Ok(Self { input, gaps, ordering, added, properties: Arc::new(properties), metrics })
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(input, self.schema(), self.gaps.clone())?))
    }
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFillExec: bucket={}, fills={:?}", self.schema().field(self.gaps.bucket).name(), self.gaps.fills)
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &'static str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let keys = (0..self.gaps.group_count).filter(|index| *index != self.gaps.bucket);
        let schema = self.input.schema();
        let keys: Vec<Arc<dyn PhysicalExpr>> =
            keys.map(|index| Arc::new(Column::new(schema.field(index).name(), index)) as _).collect();
        vec![if keys.is_empty() { Distribution::SinglePartition } else { Distribution::KeyPartitioned(keys) }]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.ordering.clone().map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.with_input(children.swap_remove(0))
    }

    fn execute(&self, index: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(index, Arc::clone(&context))?;
        let metrics = BaselineMetrics::new(&self.metrics, index);
        let (schema, gaps, added) = (self.schema(), self.gaps.clone(), Arc::clone(&self.added));
        let output = async move {
            let reservation = MemoryConsumer::new("GapFillExec").register(context.memory_pool());
            let (input_schema, mut batches) = (input.schema(), Vec::new());
            while let Some(batch) = input.next().await {
                let batch = batch?;
                // Once as it comes, and once in the answer.
                reservation.try_grow(2 * batch.get_array_memory_size())?;
                batches.push(batch);
            }
            let _timer = metrics.elapsed_compute().timer();
            let rows = concat_batches(&input_schema, &batches)?;
            drop(batches);
            let filled = gaps.filled(&rows, &schema, &added, &reservation)?;
            metrics.record_output(filled.num_rows());
            let starts = (0..filled.num_rows()).step_by(BATCH_ROWS);
            let slices = starts.map(move |start| {
                // Held until the last batch is taken.
                let _held = &reservation;
                Ok(filled.slice(start, BATCH_ROWS.min(filled.num_rows() - start)))
            });
            Ok::<_, DataFusionError>(futures::stream::iter(slices))
        };
        let stream = futures::stream::once(output).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows of the answer: a row of the input or none, the row whose groups it has, and its bucket.
#[derive(Default)]
struct Rows {
    row: Vec<Option<u32>>,
    group: Vec<Option<u32>>,
    bucket: Vec<Option<i64>>,
    /// Where groups begin and end.
    groups: Vec<Range<usize>>,
}

impl Gaps {
    fn filled(
        &self,
        input: &RecordBatch,
        schema: &SchemaRef,
        added: &AtomicUsize,
        reservation: &MemoryReservation,
    ) -> Result<RecordBatch> {
        let rows = self.rows(input, added)?;
        // Twice, since arrays are made of them.
        reservation.try_grow(2 * rows.row.len() * Rows::BYTES_PER_ROW)?;
        let (from, groups) = (UInt32Array::from(rows.row.clone()), UInt32Array::from(rows.group.clone()));
        let buckets: ArrayRef = Arc::new(TimestampMicrosecondArray::from(rows.bucket.clone()).with_timezone("UTC"));
        let filled_from = input.num_columns() - self.fills.len();
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            let column = input.column(index);
            if index == self.bucket {
                return Ok(cast(&buckets, field.data_type())?);
            }
            if index < self.group_count {
                return Ok(take(column, &groups, None)?);
            }
            match index.checked_sub(filled_from).map(|fill| self.fills[fill]) {
                Some(Function::Interpolate) => interpolated(column, &rows),
                Some(_) => held(column, &rows),
                None => Ok(take(column, &from, None)?),
            }
        });
        let filled = RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?;
        // From here on there is nothing else.
        reservation.try_resize(filled.get_array_memory_size())?;
        Ok(filled)
    }

    fn rows(&self, input: &RecordBatch, added: &AtomicUsize) -> Result<Rows> {
        let keys: Vec<_> = (0..self.group_count)
            .filter(|index| *index != self.bucket)
            .map(|index| Arc::clone(input.column(index)))
            .collect();
        let groups = match (input.num_rows(), keys.is_empty()) {
            // Without groups there is always one.
            (rows, true) => std::iter::once(0..rows).collect(),
            (0, false) => vec![],
            _ => partition(&keys)?.ranges(),
        };
        let times = instants(input.column(self.bucket))?;
        let mut rows = Rows::default();
        for group in groups {
            let begin = rows.row.len();
            let mut known = group.clone().filter(|row| times.is_valid(*row)).map(|row| times.value(row));
            let (first, last) = (known.clone().next(), known.next_back());
            let first = self.start.map(|start| self.buckets.start(start)).transpose()?.or(first);
            let last = self.last.or(last);
            let of_group = (!group.is_empty()).then_some(group.start as u32);
            let mut next = first;
            for row in group.clone() {
                let bucket = times.is_valid(row).then(|| times.value(row));
                self.fill(&mut rows, &mut next, of_group, bucket.map(|bucket| bucket.saturating_sub(1)), added)?;
                rows.push(Some(row as u32), Some(row as u32), bucket);
                if let Some(bucket) = bucket.filter(|bucket| next.is_none_or(|next| next <= *bucket)) {
                    next = Some(self.buckets.next(bucket)?);
                }
            }
            self.fill(&mut rows, &mut next, of_group, last, added)?;
            rows.groups.push(begin..rows.row.len());
        }
        Ok(rows)
    }

    /// Adds buckets from `next` on that begin no later than `last`.
    fn fill(
        &self,
        rows: &mut Rows,
        next: &mut Option<i64>,
        group: Option<u32>,
        last: Option<i64>,
        added: &AtomicUsize,
    ) -> Result<()> {
        while let (Some(bucket), Some(last)) = (*next, last)
            && bucket <= last
        {
            if added.fetch_add(1, Ordering::Relaxed) >= ROWS_ADDED_MAX {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "time_bucket_gapfill would add more than {ROWS_ADDED_MAX} rows; take wider buckets, a shorter time or \
                     fewer groups"
                )));
            }
            rows.push(None, group, Some(bucket));
            *next = Some(self.buckets.next(bucket)?);
        }
        Ok(())
    }
}

impl Rows {
    const BYTES_PER_ROW: usize = 2 * size_of::<Option<u32>>() + size_of::<Option<i64>>();

    fn push(&mut self, row: Option<u32>, group: Option<u32>, bucket: Option<i64>) {
        self.row.push(row);
        self.group.push(group);
        self.bucket.push(bucket);
    }
}

/// The last value before, where there is none.
fn held(column: &ArrayRef, rows: &Rows) -> Result<ArrayRef> {
    let mut from = Vec::with_capacity(rows.row.len());
    for group in &rows.groups {
        let mut last = None;
        for row in group.clone() {
            last = rows.row[row].filter(|row| column.is_valid(*row as usize)).or(last);
            from.push(last);
        }
    }
    if column.is_empty() {
        return Ok(new_null_array(column.data_type(), from.len()));
    }
    Ok(take(column, &UInt32Array::from(from), None)?)
}

/// On the line between the values before and after by time, where there is none.
fn interpolated(column: &ArrayRef, rows: &Rows) -> Result<ArrayRef> {
    if column.data_type() != &DataType::Float64 {
        return exec_err!("interpolate takes doubles");
    }
    let values = column.as_primitive::<Float64Type>();
    let value = |row: usize| {
        let known = rows.row[row].map(|row| row as usize).filter(|row| values.is_valid(*row));
        known.map(|known| values.value(known)).zip(rows.bucket[row])
    };
    let mut answer = vec![None; rows.row.len()];
    for group in &rows.groups {
        let mut before: Option<(usize, f64, i64)> = None;
        for row in group.clone() {
            let Some((known, time)) = value(row) else { continue };
            answer[row] = Some(known);
            if let Some((index, earlier, from)) = before {
                let gap = index + 1..row;
                for (filled, bucket) in answer[gap.clone()].iter_mut().zip(&rows.bucket[gap]) {
                    let share = bucket.map(|at| at.saturating_sub(from) as f64 / time.saturating_sub(from) as f64);
                    *filled = share.map(|share| earlier + (known - earlier) * share);
                }
            }
            before = Some((row, known, time));
        }
    }
    Ok(Arc::new(Float64Array::from(answer)))
}

//! The physical node: a merge of two inputs that are sorted by key and time, batch by batch.

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, PrimitiveArray, RecordBatch, new_null_array},
    compute::{SortOptions, interleave},
    datatypes::{SchemaRef, TimestampMicrosecondType},
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use datafusion::{
    common::{internal_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt};

use super::Nearest;
use crate::functions::instant::instants;

type Keys = Vec<Arc<dyn PhysicalExpr>>;

/// Holds one batch of the left, and of the right those that its rows match.
#[derive(Debug)]
pub(crate) struct AsofJoinExec {
    inputs: [Arc<dyn ExecutionPlan>; 2],
    /// What must be equal, then the time.
    keys: [Keys; 2],
    nearest: Nearest,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AsofJoinExec {
    pub(crate) fn new(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        keys: [Keys; 2],
        nearest: Nearest,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            inputs[0].output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { inputs, keys, nearest, properties: Arc::new(properties), metrics }
    }

    fn with_inputs(&self, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok(inputs) = <[_; 2]>::try_from(inputs) else { return internal_err!("an ASOF JOIN has two inputs") };
        Ok(Arc::new(Self::new(inputs, self.keys.clone(), self.nearest, self.schema())))
    }
}

impl DisplayAs for AsofJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsofJoinExec: {:?}", self.nearest)?;
        for (left, right) in self.keys[0].iter().zip(&self.keys[1]) {
            write!(f, ", {left} ~ {right}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for AsofJoinExec {
    fn name(&self) -> &'static str {
        "AsofJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let of = |keys: &Keys| match &keys[..keys.len() - 1] {
            [] => Distribution::SinglePartition,
            equal => Distribution::KeyPartitioned(equal.to_vec()),
        };
        self.keys.iter().map(of).collect()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let sorted =
            |expr: &Arc<dyn PhysicalExpr>| PhysicalSortExpr { expr: Arc::clone(expr), options: SortOptions::default() };
        let of = |keys: &Keys| LexOrdering::new(keys.iter().map(sorted)).map(OrderingRequirements::from);
        self.keys.iter().map(of).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for key in self.keys.iter().flatten() {
            visit(key)?;
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.with_inputs(children)
    }

    fn execute(&self, index: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let left = self.inputs[0].execute(index, Arc::clone(&context))?;
        let right = Right {
            stream: self.inputs[1].execute(index, context)?,
            keys: Keyed::new(&self.keys[1], &self.inputs[1].schema())?,
            now: None,
            row: 0,
            last: None,
        };
        let keys = Keyed::new(&self.keys[0], &self.inputs[0].schema())?;
        let merge = Merge { keys, right, nearest: self.nearest, schema: self.schema() };
        let metrics = BaselineMetrics::new(&self.metrics, index);
        let joined = futures::stream::try_unfold((left, merge), move |(mut left, mut merge)| {
            let metrics = metrics.clone();
            async move {
                let Some(batch) = left.next().await else { return Ok(None) };
                let joined = merge.joined(batch?).await?;
                metrics.record_output(joined.num_rows());
                Ok(Some((joined, (left, merge))))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), joined.into_stream())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Computes keys and times of batches.
struct Keyed {
    exprs: Keys,
    converter: RowConverter,
}

struct Batch {
    batch: RecordBatch,
    keys: Rows,
    /// Whether a key is null, which equals nothing.
    has_null: Vec<bool>,
    times: PrimitiveArray<TimestampMicrosecondType>,
}

impl Keyed {
    fn new(exprs: &Keys, schema: &SchemaRef) -> Result<Self> {
        let fields = exprs[..exprs.len() - 1].iter().map(|key| Ok(SortField::new(key.data_type(schema)?)));
        let converter = RowConverter::new(fields.collect::<Result<_>>()?)?;
        Ok(Self { exprs: exprs.clone(), converter })
    }

    fn of(&self, batch: RecordBatch) -> Result<Batch> {
        let arrays = self.exprs.iter().map(|expr| expr.evaluate(&batch)?.into_array(batch.num_rows()));
        let mut arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let Some(times) = arrays.pop() else { return internal_err!("an ASOF JOIN has a time") };
        let has_null = (0..batch.num_rows()).map(|row| arrays.iter().any(|key| key.is_null(row))).collect();
        let keys = match arrays.is_empty() {
            true => self.converter.empty_rows(0, 0),
            false => self.converter.convert_columns(&arrays)?,
        };
        Ok(Batch { keys, has_null, times: instants(&times)?, batch })
    }
}

impl Batch {
    fn key(&self, row: usize) -> Option<arrow::row::Row<'_>> {
        (self.keys.num_rows() > 0).then(|| self.keys.row(row))
    }

    fn time(&self, row: usize) -> Option<i64> {
        self.times.is_valid(row).then(|| self.times.value(row))
    }
}

/// A row of the right that may match.
#[derive(Clone)]
struct Candidate {
    batch: RecordBatch,
    row: usize,
    key: Option<OwnedRow>,
}

/// The right input, read up to some row.
struct Right {
    stream: SendableRecordBatchStream,
    keys: Keyed,
    now: Option<Batch>,
    row: usize,
    /// The last row that was passed and has a time.
    last: Option<Candidate>,
}

impl Right {
    /// Makes sure that there is a row, unless the input has ended.
    async fn fill(&mut self) -> Result<()> {
        while self.now.as_ref().is_none_or(|batch| self.row >= batch.batch.num_rows()) {
            let Some(batch) = self.stream.next().await else {
                self.now = None;
                return Ok(());
            };
            self.now = Some(self.keys.of(batch?)?);
            self.row = 0;
        }
        Ok(())
    }

    fn candidate(&self) -> Option<Candidate> {
        let batch = self.now.as_ref()?;
        Some(Candidate { batch: batch.batch.clone(), row: self.row, key: batch.key(self.row).map(|key| key.owned()) })
    }
}

struct Merge {
    keys: Keyed,
    right: Right,
    nearest: Nearest,
    schema: SchemaRef,
}

impl Merge {
    async fn joined(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let left = self.keys.of(batch)?;
        // The first is one row of nulls, for rows without a match.
        let mut batches: Vec<RecordBatch> = vec![];
        let mut matches = Vec::with_capacity(left.batch.num_rows());
        for row in 0..left.batch.num_rows() {
            let found = self.nearest_to(&left, row).await?;
            matches.push(found.map_or((0, 0), |found| {
                let known = batches.last().is_some_and(|last| same(last, &found.batch));
                if !known {
                    batches.push(found.batch);
                }
                (batches.len(), found.row)
            }));
        }
        let of_left = left.batch.num_columns();
        let mut columns = left.batch.columns().to_vec();
        for (index, field) in self.schema.fields().iter().enumerate().skip(of_left) {
            let nothing = new_null_array(field.data_type(), 1);
            let sources = batches.iter().map(|batch| batch.column(index - of_left).as_ref());
            let sources: Vec<&dyn Array> = std::iter::once(nothing.as_ref()).chain(sources).collect();
            columns.push(interleave(&sources, &matches)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    async fn nearest_to(&mut self, left: &Batch, row: usize) -> Result<Option<Candidate>> {
        let inclusive = matches!(self.nearest, Nearest::AtOrBefore | Nearest::After);
        loop {
            self.right.fill().await?;
            let Some(right) = &self.right.now else { break };
            let at = self.right.row;
            let order = right.key(at).cmp(&left.key(row)).then_with(|| right.time(at).cmp(&left.time(row)));
            if order == Ordering::Greater || (order == Ordering::Equal && !inclusive) {
                break;
            }
            if right.time(at).is_some() && matches!(self.nearest, Nearest::AtOrBefore | Nearest::Before) {
                self.right.last = self.right.candidate();
            }
            self.right.row += 1;
        }
        let candidate = match self.nearest {
            Nearest::AtOrBefore | Nearest::Before => self.right.last.clone(),
            Nearest::AtOrAfter | Nearest::After => self.right.candidate(),
        };
        let matches = left.time(row).is_some() && !left.has_null[row];
        Ok(candidate.filter(|candidate| matches && candidate.key.as_ref().map(|key| key.row()) == left.key(row)))
    }
}

/// Whether both are the same batch, not only equal.
fn same(one: &RecordBatch, other: &RecordBatch) -> bool {
    match (one.columns().first(), other.columns().first()) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => one.num_rows() == other.num_rows(),
    }
}

//! Where the right does not fit into memory: a merge of both sides, sorted by key and time, batch by batch.

use std::{
    cmp::Ordering,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, compute::SortOptions, datatypes::SchemaRef};
use datafusion::{
    common::internal_datafusion_err,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{LexOrdering, PhysicalSortExpr},
    physical_plan::{
        ExecutionPlan,
        metrics::SpillMetrics,
        sorts::sort::SortExec,
        spill::SpillManager,
        stream::{EmptyRecordBatchStream, RecordBatchStreamAdapter},
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{
    Stream, StreamExt,
    stream::{self, Fuse},
};

use super::{
    Nearest,
    keys::{Exprs, KeyRuns, Keys},
    matches::{Matches, Output},
};

/// `batches` and what follows them as one stream, `batches` from a file: nothing of it is in memory.
pub(super) fn spilled(
    batches: Vec<RecordBatch>,
    rest: SendableRecordBatchStream,
    metrics: SpillMetrics,
    context: &TaskContext,
) -> Result<SendableRecordBatchStream> {
    let schema = rest.schema();
    let spills = SpillManager::new(context.runtime_env(), metrics, Arc::clone(&schema))
        .with_compression_type(context.session_config().spill_compression());
    let Some(file) = spills.spill_record_batch_and_finish(&batches, "the right side of an ASOF JOIN")? else {
        return Ok(rest);
    };
    let stream = spills.read_spill_as_stream(file, None)?.chain(rest);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
}

/// `stream` by what must be equal and the time.
pub(super) fn sorted(
    stream: SendableRecordBatchStream,
    exprs: &Exprs,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let ascending = exprs.iter().map(|expr| PhysicalSortExpr::new(Arc::clone(expr), SortOptions::default()));
    let ordering = LexOrdering::new(ascending).ok_or_else(|| internal_datafusion_err!("an ASOF JOIN has a time"))?;
    let schema = stream.schema();
    let begun = Arc::new(Begun { schema: Arc::clone(&schema), stream: Mutex::new(Some(stream)) });
    let input = StreamingTableExec::try_new(schema, vec![begun], None, [], false, None)?;
    SortExec::new(ordering, Arc::new(input)).execute(0, context)
}

/// A stream that is read already, as the input of a plan that is executed once.
struct Begun {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

impl PartitionStream for Begun {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.unwrap_or_else(|| Box::pin(EmptyRecordBatchStream::new(Arc::clone(&self.schema))))
    }
}

/// The rows of `left`, sorted, each with the nearest of `right`; `keys` are those of the left.
pub(super) fn merged(
    left: SendableRecordBatchStream,
    right: Merge,
    keys: Keys,
    nearest: Nearest,
    output: Output,
) -> impl Stream<Item = Result<RecordBatch>> {
    let asked = (keys, nearest, output);
    stream::try_unfold((left, right, asked), async |(mut left, mut right, asked)| {
        let Some(batch) = left.next().await.transpose()? else { return Ok(None) };
        let joined = right.joined(&batch, &asked.0, asked.1, &asked.2).await?;
        Ok(Some((joined, (left, right, asked))))
    })
}

/// The right, sorted and read up to some row.
pub(super) struct Merge {
    stream: Fuse<SendableRecordBatchStream>,
    keys: Keys,
    now: Option<Arc<Numbered>>,
    row: usize,
    /// The last row that was passed and has a time.
    last: Option<Candidate>,
}

struct Numbered {
    number: usize,
    batch: RecordBatch,
    runs: KeyRuns,
}

/// A row of the right that may match.
struct Candidate {
    of: Arc<Numbered>,
    row: usize,
}

impl Merge {
    pub(super) fn new(sorted: SendableRecordBatchStream, keys: Keys) -> Self {
        Self { stream: sorted.fuse(), keys, now: None, row: 0, last: None }
    }

    /// The rows of `left`, which is sorted and follows on those before, each with the nearest of the right.
    async fn joined(
        &mut self,
        left: &RecordBatch,
        keys: &Keys,
        nearest: Nearest,
        output: &Output,
    ) -> Result<RecordBatch> {
        let runs = keys.runs(left)?;
        let mut matches = Matches::with_capacity(left.num_rows());
        for (run, rows) in runs.iter() {
            for row in rows {
                self.pass(runs.key(run), runs.time(row), nearest).await?;
                let candidate = match nearest.is_behind() {
                    true => self.last.as_ref().map(|last| (&last.of, last.row)),
                    false => self.now.as_ref().map(|now| (now, self.row)),
                };
                let may_match = runs.time(row).is_some() && !runs.has_null(run);
                match candidate.filter(|(of, at)| may_match && of.key(*at) == runs.key(run)) {
                    Some((of, at)) => matches.push(of.number, &of.batch, at),
                    None => matches.push_none(),
                }
            }
        }
        matches.joined(left, output)
    }

    /// Goes on to the first row that is not passed by the key and time of a row of the left.
    async fn pass(&mut self, key: &[u8], time: Option<i64>, nearest: Nearest) -> Result<()> {
        while let Some(now) = self.fill().await? {
            let (right_key, right_time) = (now.key(self.row), now.runs.time(self.row));
            let is_passed = match right_key.cmp(key) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => match (right_time, time) {
                    // Rows without a time are the first of their key, and match nothing.
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(right), Some(left)) => nearest.is_passed(right, left),
                },
            };
            if !is_passed {
                return Ok(());
            }
            if right_time.is_some() && nearest.is_behind() {
                self.last = Some(Candidate { of: now, row: self.row });
            }
            self.row += 1;
        }
        Ok(())
    }

    /// The batch that has the row, unless the input has ended.
    async fn fill(&mut self) -> Result<Option<Arc<Numbered>>> {
        loop {
            let next = match &self.now {
                Some(now) if self.row < now.batch.num_rows() => return Ok(Some(Arc::clone(now))),
                Some(now) => now.number + 1,
                None => 0,
            };
            let Some(batch) = self.stream.next().await.transpose()? else {
                self.now = None;
                return Ok(None);
            };
            let runs = self.keys.runs(&batch)?;
            self.now = Some(Arc::new(Numbered { number: next, batch, runs }));
            self.row = 0;
        }
    }
}

impl Numbered {
    fn key(&self, row: usize) -> &[u8] {
        self.runs.key(self.runs.run_of(row))
    }
}

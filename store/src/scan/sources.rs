//! The inputs of one scan: files and unflushed rows, merged where they may repeat each other and only there.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::Session,
    common::stats::Precision,
    error::Result,
    physical_expr::expressions::Column,
    physical_plan::{
        ExecutionPlan,
        projection::{ProjectionExec, ProjectionExpr},
    },
};

use super::{file_scan, unflushed::SharedRows, unflushed_exec::UnflushedExec};
use crate::{
    delta_log::TableSnapshot,
    live_file::{KeyRange, LiveFile},
    memtable::{Memtable, RepeatedTimes},
    merge::KEY_COLUMNS,
    merge_exec::MergeExec,
    overlap::{Span, merge_groups},
};

/// Rows of one memtable, in table order.
pub(super) struct UnflushedRows {
    sequence: u64,
    repeated_times: Option<(i64, i64)>,
    pub(super) rows: SharedRows,
}

impl UnflushedRows {
    pub(super) fn of(memtable: &Memtable, repeated: &RepeatedTimes, rows: SharedRows) -> Self {
        let repeated_times = repeated.values().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Self { sequence: memtable.last_sequence, repeated_times, rows }
    }

    /// Rows of which no identity is asked.
    pub(super) fn plain(rows: SharedRows) -> Self {
        Self { sequence: 0, repeated_times: None, rows }
    }

    fn span(&self) -> Span {
        let repeats = self.repeated_times.map(|times| KeyRange { time: Some(times), ..KeyRange::default() });
        Span { sequence: self.sequence, keys: KeyRange::default(), repeats }
    }
}

/// What a scan makes its inputs with.
pub(super) struct Sources<'a> {
    pub(super) state: &'a dyn Session,
    pub(super) snapshot: &'a TableSnapshot,
    /// Of the whole table.
    pub(super) schema: SchemaRef,
    pub(super) projection: Option<&'a Vec<usize>>,
    pub(super) limit: Option<usize>,
    /// All points are merged, so that they come in table order.
    pub(super) in_order: bool,
    /// Of points the planner is not told how many there are, so that it never keeps them in memory for a join. Of other
    /// tables, `series` above all, it is, and then gives few series to every reader of points instead of dealing these out.
    pub(super) holds_points: bool,
}

pub(super) type Plans = Vec<Arc<dyn ExecutionPlan>>;

impl Sources<'_> {
    /// Files and unflushed rows side by side.
    pub(super) fn scan(&self, files: &[Arc<LiveFile>], unflushed: Vec<UnflushedRows>) -> Result<Plans> {
        let mut inputs = Plans::new();
        if !files.is_empty() {
            let row_count = match self.holds_points {
                true => Precision::Absent,
                false => Precision::Inexact(files.iter().map(|file| file.row_count as usize).sum()),
            };
            let (state, schema, snapshot) = (self.state, &self.schema, self.snapshot);
            inputs.push(file_scan(state, schema, snapshot, files, self.projection, self.limit, row_count)?);
        }
        if !unflushed.is_empty() {
            inputs.push(self.memory_scan(unflushed, self.projection, self.limit)?);
        }
        Ok(inputs)
    }

    fn memory_scan(
        &self,
        unflushed: Vec<UnflushedRows>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let memtables = unflushed.into_iter().map(|rows| rows.rows).collect();
        Ok(Arc::new(UnflushedExec::new(memtables, schema, limit)))
    }

    /// As [`Sources::scan`], with each group of sources that may repeat each other's points merged.
    pub(super) fn scan_points(&self, mut files: Vec<Arc<LiveFile>>, unflushed: Vec<UnflushedRows>) -> Result<Plans> {
        files.sort_by(|a, b| a.age_order().cmp(&b.age_order()));
        // Memtables are newer than all files.
        let spans: Vec<_> =
            files.iter().map(|file| file.span()).chain(unflushed.iter().map(UnflushedRows::span)).collect();
        let all = || (!spans.is_empty()).then(|| (0..spans.len()).collect());
        let groups = if self.in_order { all().into_iter().collect() } else { merge_groups(&spans) };
        if groups.is_empty() {
            return self.scan(&files, unflushed);
        }
        let file_count = files.len();
        let mut files: Vec<_> = files.into_iter().map(Some).collect();
        let mut unflushed: Vec<_> = unflushed.into_iter().map(Some).collect();
        let (wide, narrow) = self.with_keys()?;
        let mut merged = Plans::new();
        for group in groups {
            let mut inputs = Plans::new();
            for index in group {
                if let Some(file) = files.get_mut(index).and_then(Option::take) {
                    let (state, schema, snapshot) = (self.state, &self.schema, self.snapshot);
                    let unknown = Precision::Absent;
                    inputs.push(file_scan(state, schema, snapshot, &[file], Some(&wide), None, unknown)?);
                } else if let Some(rows) = index.checked_sub(file_count).and_then(|at| unflushed[at].take()) {
                    inputs.push(self.memory_scan(vec![rows], Some(&wide), None)?);
                }
            }
            merged.push(narrowed(Arc::new(MergeExec::new(inputs)), narrow)?);
        }
        let files: Vec<_> = files.into_iter().flatten().collect();
        merged.extend(self.scan(&files, unflushed.into_iter().flatten().collect())?);
        Ok(merged)
    }

    /// The projection with the key columns it lacks at its end, and how many columns were asked for.
    fn with_keys(&self) -> Result<(Vec<usize>, usize)> {
        let mut columns: Vec<usize> = match self.projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let narrow = columns.len();
        for name in KEY_COLUMNS {
            let index = self.schema.index_of(name)?;
            if !columns.contains(&index) {
                columns.push(index);
            }
        }
        Ok((columns, narrow))
    }
}

/// The first `column_count` columns of `plan`.
fn narrowed(plan: Arc<dyn ExecutionPlan>, column_count: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    if schema.fields().len() == column_count {
        return Ok(plan);
    }
    let columns = schema.fields().iter().take(column_count).enumerate().map(|(index, field)| ProjectionExpr {
        expr: Arc::new(Column::new(field.name(), index)),
        alias: field.name().clone(),
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}

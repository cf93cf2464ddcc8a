//! All rules of a table in one pass over its batches, in memory that does not grow with the rows.
//!
//! | state | bound for each column or key |
//! |---|---|
//! | rows that break a test | two counters and ten samples |
//! | order statistics | 8192 buckets, 256 KiB |
//! | distinct keys, exact | 12.6 million, 128 MiB; past it an estimate with its error |
//! | distinct keys, estimate | 49 152 keys, 512 KiB |
//! | classes | 10 000 |
//!
//! Rules that need the same state of the same columns share it. The result does not depend on how the rows are cut into
//! batches, nor on which part of them was scanned by which of several scans that are merged in the order of the rows;
//! only the samples of duplicates do, and their number does not.

mod accumulator;
mod column;
mod hasher;
mod key_set;
mod order_histogram;
pub(crate) mod plan;
mod row_test;
mod sample;
#[cfg(test)]
mod tests;
mod types;
mod verdict;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;

use super::contract::Table;
use super::error::{Error, Result};
use super::history::{BatchSummary, ColumnSummary};
use super::result::RuleResult;
use super::rule::Rule;
use accumulator::Accumulator;
use column::Column;
use plan::Plan;
pub(crate) use plan::Problem;
pub use plan::{Reference, References};
use sample::SampleKeys;
pub use sample::{Sample, mask};
pub(crate) use verdict::{Facts, judge};

/// A state with the columns that feed it.
#[derive(Debug, Clone)]
struct Step {
    columns: Vec<usize>,
    state: Accumulator,
}

/// A rule with what decides it: the table (`None`), a step, or nothing.
#[derive(Debug, Clone)]
struct Planned {
    rule: Rule,
    step: std::result::Result<Option<usize>, Problem>,
}

/// One pass of the rules of a table over its rows.
#[derive(Debug, Clone)]
pub struct Scan {
    schema: SchemaRef,
    rules: Vec<Planned>,
    steps: Vec<Step>,
    /// Index of the column whose values name the sample rows.
    key: Option<usize>,
    rows: u64,
}

impl Scan {
    /// Plans the rules of `table` for batches of `schema`.
    ///
    /// A rule that does not fit the schema becomes a result with the status `error`; it stops no other.
    pub fn new(table: &Table, schema: &SchemaRef) -> Self {
        Self::with_references(table, schema, &References::new())
    }

    /// Plans the rules with the columns of other tables that they refer to.
    pub fn with_references(table: &Table, schema: &SchemaRef, references: &References) -> Self {
        let key = table.primary_key.first().and_then(|name| schema.index_of(name).ok());
        let mut scan = Self { schema: SchemaRef::clone(schema), rules: Vec::new(), steps: Vec::new(), key, rows: 0 };
        for rule in &table.rules {
            let step = plan::plan(rule, schema, references).map(|plan| match plan {
                Plan::Table => None,
                Plan::Rows(columns, state) => Some(scan.step(columns, *state)),
            });
            scan.rules.push(Planned { rule: rule.clone(), step });
        }
        scan
    }

    /// The index of a step with this state, which is an existing one where rules can share it.
    fn step(&mut self, columns: Vec<usize>, state: Accumulator) -> usize {
        let shared = self.steps.iter_mut().position(|step| {
            step.columns == columns
                && match (&mut step.state, &state) {
                    (Accumulator::Order(_), Accumulator::Order(_))
                    | (Accumulator::Classes(_), Accumulator::Classes(_)) => true,
                    (Accumulator::Keys { set, .. }, Accumulator::Keys { set: wanted, .. }) => {
                        set.raise_limit(wanted.keys_max());
                        true
                    }
                    _ => false,
                }
        });
        shared.unwrap_or_else(|| {
            self.steps.push(Step { columns, state });
            self.steps.len() - 1
        })
    }

    /// Rows seen so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// [`Error::SchemaChanged`] if the batch has another schema, [`Error::Column`] if a column cannot be read. The batch
    /// is then not counted, and the scan can go on.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        check_schema(&self.schema, &batch.schema())?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut columns: Vec<Option<Column>> = (0..batch.num_columns()).map(|_| None).collect();
        for index in self.steps.iter().flat_map(|step| &step.columns) {
            if columns[*index].is_none() {
                let column = Column::new(batch.column(*index));
                let name = || self.schema.field(*index).name().clone();
                columns[*index] = Some(column.map_err(|source| Error::Column { column: name(), source })?);
            }
        }
        let keys = SampleKeys { keys: self.key.map(|key| batch.column(key)), rows_before: self.rows };
        for step in &mut self.steps {
            let own: Vec<&Column> = step.columns.iter().filter_map(|index| columns[*index].as_ref()).collect();
            step.state.update(&own, &keys);
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Takes the state of a scan of the rows that follow.
    ///
    /// # Errors
    /// [`Error::ForeignScan`] if the other scan was not made from the same table and schema.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let same = self.schema == other.schema
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(a, b)| a.rule == b.rule && a.step == b.step);
        if !same {
            return Err(Error::ForeignScan);
        }
        for (step, next) in self.steps.iter_mut().zip(&other.steps) {
            if !step.state.merge(&next.state, self.rows) {
                return Err(Error::ForeignScan);
            }
        }
        self.rows += other.rows;
        Ok(())
    }

    /// Judges all rules, in the order of the table. `history` has the past batches from old to new.
    pub fn finish(&self, now: DateTime<Utc>, history: &[BatchSummary]) -> Vec<RuleResult> {
        let facts = Facts { rows: self.rows, schema: &self.schema, now, history };
        let state = |planned: &Planned| match &planned.step {
            Ok(step) => judge(&planned.rule, Ok(step.map(|index| &self.steps[index].state)), &facts),
            Err(problem) => judge(&planned.rule, Err(problem), &facts),
        };
        self.rules.iter().map(state).collect()
    }

    /// What later batches are compared with.
    pub fn summary(&self) -> BatchSummary {
        let distinct = |index: usize| {
            self.steps.iter().filter(|step| step.columns == [index]).find_map(|step| match &step.state {
                Accumulator::Keys { set, .. } => Some(set.distinct().count),
                _ => None,
            })
        };
        let column = |(index, field): (usize, &datafusion::arrow::datatypes::FieldRef)| ColumnSummary {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
            unit: field.metadata().get("unit").cloned(),
            distinct: distinct(index),
        };
        BatchSummary { rows: self.rows, columns: self.schema.fields().iter().enumerate().map(column).collect() }
    }
}

/// Batches may differ in metadata and in what may be null, but not in names and types.
fn check_schema(expected: &Schema, found: &Schema) -> Result<()> {
    let changed = |difference: String| Err(Error::SchemaChanged { difference });
    if expected.fields().len() != found.fields().len() {
        return changed(format!("{} columns instead of {}", found.fields().len(), expected.fields().len()));
    }
    for (a, b) in expected.fields().iter().zip(found.fields()) {
        if a.name() != b.name() || a.data_type() != b.data_type() {
            return changed(format!("{:?} {} became {:?} {}", a.name(), a.data_type(), b.name(), b.data_type()));
        }
    }
    Ok(())
}

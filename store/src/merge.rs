//! Streaming k-way merge of sorted inputs: each identity `(series_id, start_time, time)` once, the newest input wins.
//!
//! Works run by run: of the smallest series, the stretch of rows that only one input has before the next row of another
//! is taken as one piece, and pieces are gathered column by column. It holds one batch of each input and the pieces of
//! one output batch. It knows the key columns only. Whoever drives it reads the inputs, blocking or not.

use std::{cmp::Ordering, sync::Arc};

use datafusion::arrow::{
    array::{Array, AsArray, MutableArrayData, RecordBatch, StringArray, make_array},
    buffer::ScalarBuffer,
    compute::cast,
    datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType},
};

use crate::error::{Error, Result};

/// Columns that make the order and the identity.
pub(crate) const KEY_COLUMNS: [&str; 4] = ["metric", "series_id", "start_time", "time"];

/// What the merge wants next.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next batch of this input, given by [`Merge::push`].
    Need(usize),
    /// Merged rows.
    Batch(RecordBatch),
    /// All inputs are merged.
    Done,
}

/// Position in one input.
#[derive(Debug)]
enum Cursor {
    /// Its next batch is not there yet.
    Waiting,
    At(Box<Head>),
    Ended,
}

/// The batch an input is at, and the row.
#[derive(Debug)]
struct Head {
    batch: RecordBatch,
    metric: StringArray,
    series_id: ScalarBuffer<i64>,
    time: ScalarBuffer<i64>,
    /// 0 where there is none, as in the log.
    start_time: ScalarBuffer<i64>,
    row: usize,
    /// Index of `batch` in the gathered batches, once a piece of it is.
    gathered: Option<usize>,
}

/// Rows `start..start + count` of a gathered batch.
#[derive(Debug)]
struct Piece {
    batch: usize,
    start: usize,
    count: usize,
}

/// Pieces of the output batch under way.
#[derive(Debug, Default)]
struct Gathered {
    batches: Vec<RecordBatch>,
    pieces: Vec<Piece>,
    row_count: usize,
}

/// An input whose head is at the smallest series, and where its rows of that series end in its batch.
#[derive(Debug, Clone, Copy)]
struct Member {
    input: usize,
    end: usize,
}

/// The merge of some inputs, oldest first.
#[derive(Debug)]
pub(crate) struct Merge {
    schema: SchemaRef,
    cursors: Vec<Cursor>,
    gathered: Gathered,
    batch_row_count: usize,
    /// Rows dropped because a newer input has the same identity.
    pub(crate) duplicate_count: u64,
}

impl Head {
    fn new(batch: RecordBatch) -> Result<Self> {
        let column = |name: &str| {
            let reason = || format!("a merge needs the column {name}");
            batch.column_by_name(name).ok_or_else(|| Error::Task(reason()))
        };
        let metric = cast(column("metric")?, &DataType::Utf8)?.as_string::<i32>().clone();
        let time = column("time")?.as_primitive::<TimestampMicrosecondType>();
        let start = column("start_time")?.as_primitive::<TimestampMicrosecondType>();
        let start_time = match start.null_count() {
            0 => start.values().clone(),
            _ => start.iter().map(Option::unwrap_or_default).collect::<Vec<_>>().into(),
        };
        let series_id = column("series_id")?.as_primitive::<Int64Type>().values().clone();
        Ok(Self { metric, series_id, time: time.values().clone(), start_time, row: 0, gathered: None, batch })
    }

    fn series(&self) -> (&str, i64) {
        (self.metric.value(self.row), self.series_id[self.row])
    }

    fn key(&self, row: usize) -> (i64, i64) {
        (self.time[row], self.start_time[row])
    }

    /// First row after this one that is of another series, or the end of the batch.
    fn series_end(&self) -> usize {
        let (metric, id) = self.series();
        let same = |row: usize| self.series_id[row] == id && self.metric.value(row) == metric;
        gallop(self.row, self.series_id.len(), same)
    }
}

/// The first row of `from + 1..to` for which `holds`, true at `from`, is false; `to` if there is none. Doubles its steps,
/// so it costs by the distance and not by the length.
fn gallop(from: usize, to: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (from, 1);
    while low + step < to && holds(low + step) {
        low += step;
        step *= 2;
    }
    let (mut low, mut high) = (low + 1, to.min(low + step));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl Merge {
    /// A merge of `input_count` inputs of `schema`, oldest first, into batches of about `batch_row_count` rows.
    pub(crate) fn new(schema: SchemaRef, input_count: usize, batch_row_count: usize) -> Self {
        let cursors = std::iter::repeat_with(|| Cursor::Waiting).take(input_count).collect();
        Self { schema, cursors, gathered: Gathered::default(), batch_row_count, duplicate_count: 0 }
    }

    /// Gives the next batch of `input`; `None` ends it.
    ///
    /// # Errors
    /// [`Error::Task`] if a key column is missing.
    pub(crate) fn push(&mut self, input: usize, batch: Option<RecordBatch>) -> Result<()> {
        self.cursors[input] = match batch {
            Some(batch) if batch.num_rows() == 0 => Cursor::Waiting,
            Some(batch) => Cursor::At(Box::new(Head::new(batch)?)),
            None => Cursor::Ended,
        };
        Ok(())
    }

    /// Merges until something is needed or ready.
    ///
    /// # Errors
    /// [`Error::Arrow`] if the inputs do not have the schema.
    pub(crate) fn step(&mut self) -> Result<Step> {
        loop {
            let full = self.gathered.row_count >= self.batch_row_count;
            // Batches of which little is kept must not pile up either.
            if full || self.gathered.batches.len() >= 2 * self.cursors.len() + 8 {
                return Ok(Step::Batch(self.take_gathered()?));
            }
            if let Some(input) = self.cursors.iter().position(|cursor| matches!(cursor, Cursor::Waiting)) {
                return Ok(Step::Need(input));
            }
            let members = self.smallest_series();
            if !members.is_empty() {
                self.merge_series(members);
            } else if self.gathered.row_count > 0 {
                return Ok(Step::Batch(self.take_gathered()?));
            } else {
                return Ok(Step::Done);
            }
        }
    }

    fn head(&self, input: usize) -> &Head {
        match &self.cursors[input] {
            Cursor::At(head) => head,
            _ => unreachable!("members of a series have a head"),
        }
    }

    fn head_mut(&mut self, input: usize) -> &mut Head {
        match &mut self.cursors[input] {
            Cursor::At(head) => head,
            _ => unreachable!("members of a series have a head"),
        }
    }

    /// The inputs at the smallest `(metric, series_id)`, oldest first.
    fn smallest_series(&self) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::new();
        let mut smallest = None;
        for (input, cursor) in self.cursors.iter().enumerate() {
            let Cursor::At(head) = cursor else { continue };
            let series = head.series();
            match smallest.map_or(Ordering::Less, |known| series.cmp(&known)) {
                Ordering::Less => {
                    smallest = Some(series);
                    members.clear();
                }
                Ordering::Equal => {}
                Ordering::Greater => continue,
            }
            members.push(Member { input, end: 0 });
        }
        for member in &mut members {
            member.end = self.head(member.input).series_end();
        }
        members
    }

    /// Takes rows of one series in order, until the output is full, a batch ends or the series does.
    fn merge_series(&mut self, mut members: Vec<Member>) {
        while !members.is_empty() && self.gathered.row_count < self.batch_row_count {
            let keys = members.iter().map(|member| {
                let head = self.head(member.input);
                head.key(head.row)
            });
            let keys: Vec<_> = keys.collect();
            let Some(smallest) = keys.iter().min().copied() else { return };
            // Of equal identities the last, of the newest input, is the one that stays.
            let newest = keys.iter().rposition(|key| *key == smallest).unwrap_or_default();
            for (index, member) in members.iter().enumerate() {
                if index != newest && keys[index] == smallest {
                    self.head_mut(member.input).row += 1;
                    self.duplicate_count += 1;
                }
            }
            let count = self.stretch(&members, newest);
            self.gather(members[newest].input, count);
            if self.retire(&mut members) {
                return;
            }
        }
    }

    /// How many rows of the member `newest` come before the next row of any other.
    fn stretch(&self, members: &[Member], newest: usize) -> usize {
        let mut limit = None;
        for (_, member) in members.iter().enumerate().filter(|(index, _)| *index != newest) {
            let head = self.head(member.input);
            if head.row < member.end {
                let key = head.key(head.row);
                limit = Some(limit.map_or(key, |known: (i64, i64)| known.min(key)));
            } else if head.row == head.series_id.len() {
                // Its next batch may go on with this series, at any later time.
                return 1;
            }
        }
        let head = self.head(members[newest].input);
        let space = self.batch_row_count - self.gathered.row_count;
        let end = members[newest].end.min(head.row + space);
        match limit {
            Some(limit) => gallop(head.row, end, |row| head.key(row) < limit) - head.row,
            None => end - head.row,
        }
    }

    /// Adds the next `count` rows of `input` to the output.
    fn gather(&mut self, input: usize, count: usize) {
        let Cursor::At(head) = &mut self.cursors[input] else { return };
        let gathered = &mut self.gathered;
        let batch = *head.gathered.get_or_insert_with(|| {
            gathered.batches.push(head.batch.clone());
            gathered.batches.len() - 1
        });
        match gathered.pieces.last_mut() {
            Some(last) if last.batch == batch && last.start + last.count == head.row => last.count += count,
            _ => gathered.pieces.push(Piece { batch, start: head.row, count }),
        }
        gathered.row_count += count;
        head.row += count;
    }

    /// Drops members that are through with the series; true if a batch ended, so that it is not known who is smallest.
    fn retire(&mut self, members: &mut Vec<Member>) -> bool {
        let mut batch_ended = false;
        members.retain(|member| {
            let head = self.head(member.input);
            let (at_end, last_of_batch) = (head.row == member.end, member.end == head.series_id.len());
            if at_end && last_of_batch {
                self.cursors[member.input] = Cursor::Waiting;
                batch_ended = true;
            }
            !at_end
        });
        batch_ended
    }

    fn take_gathered(&mut self) -> Result<RecordBatch> {
        for cursor in &mut self.cursors {
            if let Cursor::At(head) = cursor {
                head.gathered = None;
            }
        }
        let gathered = std::mem::take(&mut self.gathered);
        let columns = (0..self.schema.fields().len()).map(|column| {
            let arrays: Vec<_> = gathered.batches.iter().map(|batch| batch.column(column)).collect();
            if let ([piece], [array]) = (gathered.pieces.as_slice(), arrays.as_slice()) {
                return Ok(array.slice(piece.start, piece.count));
            }
            let arrays: Vec<_> = arrays.into_iter().map(|array| array.to_data()).collect();
            let mut rows = MutableArrayData::new(arrays.iter().collect(), false, gathered.row_count);
            for piece in &gathered.pieces {
                rows.try_extend(piece.batch, piece.start, piece.start + piece.count)?;
            }
            Ok(make_array(rows.freeze()))
        });
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<Vec<_>>>()?)?)
    }
}

#[cfg(test)]
mod tests;

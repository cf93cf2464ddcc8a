//! What the scan remembers for a rule between batches.
//!
//! Every state merges: the state of two runs of rows, one after the other, is the state of all of them.

use super::column::{Column, Values, mix};
use super::hasher::DirectMap;
use super::key_set::{Added, KeySet};
use super::order_histogram::{OrderHistogram, sortable};
use super::row_test::RowTest;
use super::sample::{SAMPLES_MAX, Sample, SampleKeys, Samples};

/// Classes of one column that are counted; more are a column of another nature.
pub(crate) const CLASSES_MAX: usize = 10_000;

#[derive(Debug, Clone)]
pub(crate) enum Accumulator {
    /// Rows that break a test of their own.
    Rows {
        test: RowTest,
        checked: u64,
        failed: u64,
        samples: Samples,
    },
    /// Order statistics of the finite numbers.
    Order(OrderHistogram),
    /// Distinct keys. Samples are rows whose key came again in the batches of one scan: what came again only in another
    /// one is counted by a merge, but its row is not known.
    Keys {
        set: KeySet,
        samples: Samples,
    },
    /// The first key, and whether another one came.
    Constant {
        first: Option<u64>,
        varied: bool,
        checked: u64,
    },
    /// Steps back.
    Monotone {
        strict: bool,
        first: Option<(u64, Sample)>,
        last: Option<u64>,
        checked: u64,
        failed: u64,
        samples: Samples,
    },
    /// Newest time, in nanoseconds since 1970-01-01.
    Newest {
        newest_ns: Option<i128>,
        checked: u64,
    },
    Classes(ClassCounts),
}

impl Accumulator {
    pub(crate) fn rows(test: RowTest) -> Self {
        Self::Rows { test, checked: 0, failed: 0, samples: Samples::default() }
    }

    pub(crate) fn monotone(strict: bool) -> Self {
        Self::Monotone { strict, first: None, last: None, checked: 0, failed: 0, samples: Samples::default() }
    }

    /// Takes the next rows. `columns` are those of the rule; there is at least one.
    pub(crate) fn update(&mut self, columns: &[&Column], keys: &SampleKeys<'_>) {
        let column = columns[0];
        let valid = (column.len - column.null_count()) as u64;
        match self {
            Self::Rows { test, checked, failed, samples } => {
                *checked += if test.judges_nulls() { column.len as u64 } else { valid };
                let broken = test.broken(column);
                let count = broken.count_set_bits();
                *failed += count as u64;
                if count > 0 {
                    samples.take(broken.set_indices(), keys);
                }
            }
            Self::Order(histogram) => add_numbers(histogram, column),
            Self::Keys { set, samples } => add_keys(set, samples, columns, keys),
            Self::Constant { first, varied, checked } => {
                *checked += valid;
                if !*varied && let Some(hashes) = column.hashes() {
                    let mut keys = (0..column.len).filter(|row| column.is_valid(*row)).map(|row| hashes[row]);
                    let first = match first {
                        Some(first) => Some(*first),
                        None => {
                            *first = keys.next();
                            *first
                        }
                    };
                    *varied = keys.any(|key| Some(key) != first);
                }
            }
            Self::Monotone { strict, first, last, checked, failed, samples } => {
                let mut broken = Vec::new();
                each_in_order(column, |row, key| {
                    *checked += 1;
                    if let Some(before) = *last {
                        if is_step_back(before, key, *strict) {
                            broken.push(row);
                        }
                    } else {
                        *first = Some((key, keys.sample(row)));
                    }
                    *last = Some(key);
                });
                *failed += broken.len() as u64;
                samples.take(broken.into_iter(), keys);
            }
            Self::Newest { newest_ns, checked } => {
                *checked += valid;
                if let Values::Time(array, ns_per_tick) = &column.values {
                    let ns = datafusion::arrow::compute::max(array)
                        .map(|ticks| i128::from(ticks) * i128::from(*ns_per_tick));
                    *newest_ns = (*newest_ns).max(ns);
                }
            }
            Self::Classes(counts) => counts.update(column),
        }
    }

    /// Takes the state of the rows that follow; `rows_before` is how many rows this state has seen. `false` if the other
    /// state is of another rule.
    pub(crate) fn merge(&mut self, other: &Self, rows_before: u64) -> bool {
        match (self, other) {
            (
                Self::Rows { checked, failed, samples, .. },
                Self::Rows { checked: more_checked, failed: more_failed, samples: more_samples, .. },
            ) => {
                *checked += more_checked;
                *failed += more_failed;
                samples.merge(more_samples, rows_before);
            }
            (Self::Order(histogram), Self::Order(other)) => histogram.merge(other),
            (Self::Keys { set, samples }, Self::Keys { set: other, samples: more }) => {
                set.merge(other);
                samples.merge(more, rows_before);
            }
            (
                Self::Constant { first, varied, checked },
                Self::Constant { first: other_first, varied: other_varied, checked: more },
            ) => {
                *checked += more;
                *varied |= other_varied | matches!((&first, other_first), (Some(a), Some(b)) if *a != *b);
                *first = first.or(*other_first);
            }
            (this @ Self::Monotone { .. }, Self::Monotone { .. }) => this.merge_monotone(other, rows_before),
            (Self::Newest { newest_ns, checked }, Self::Newest { newest_ns: other, checked: more }) => {
                *newest_ns = (*newest_ns).max(*other);
                *checked += more;
            }
            (Self::Classes(counts), Self::Classes(other)) => counts.merge(other),
            _ => return false,
        }
        true
    }

    fn merge_monotone(&mut self, other: &Self, rows_before: u64) {
        let (
            Self::Monotone { strict, first, last, checked, failed, samples },
            Self::Monotone {
                first: next_first,
                last: next_last,
                checked: more,
                failed: more_failed,
                samples: next,
                ..
            },
        ) = (self, other)
        else {
            return;
        };
        if let (Some(before), Some((key, sample))) = (*last, next_first)
            && is_step_back(before, *key, *strict)
        {
            // The step from the last row here to the first one there is seen by neither.
            *failed += 1;
            samples.merge(&Samples::of(sample.clone()), rows_before);
        }
        *checked += more;
        *failed += more_failed;
        samples.merge(next, rows_before);
        if first.is_none() {
            *first = next_first.clone().map(|(key, sample)| (key, sample.after(rows_before)));
        }
        *last = next_last.or(*last);
    }
}

fn is_step_back(before: u64, key: u64, strict: bool) -> bool {
    key < before || (strict && key == before)
}

fn add_numbers(histogram: &mut OrderHistogram, column: &Column) {
    let mut add_each = |value: &dyn Fn(usize) -> f64| {
        (0..column.len).filter(|row| column.is_valid(*row)).for_each(|row| histogram.add(value(row)));
    };
    match &column.values {
        Values::Float(array) if column.nulls.is_none() => array.values().iter().for_each(|value| histogram.add(*value)),
        Values::Float(array) => add_each(&|row| array.value(row)),
        Values::Integer(array) => add_each(&|row| array.value(row) as f64),
        Values::Unsigned(array) => add_each(&|row| array.value(row) as f64),
        _ => {}
    }
}

fn add_keys(set: &mut KeySet, samples: &mut Samples, columns: &[&Column], keys: &SampleKeys<'_>) {
    let Some(hashes) = columns.iter().map(|column| column.hashes()).collect::<Option<Vec<&[u64]>>>() else { return };
    let mut again = Vec::new();
    let mut add = |row: usize, key: u64| {
        if set.add(key) == Added::Again && again.len() < SAMPLES_MAX {
            again.push(row);
        }
    };
    if let [only] = hashes.as_slice() {
        match &columns[0].nulls {
            None => only.iter().enumerate().for_each(|(row, key)| add(row, *key)),
            Some(nulls) => nulls.valid_indices().for_each(|row| add(row, only[row])),
        }
    } else {
        for row in (0..columns[0].len).filter(|row| columns.iter().all(|column| column.is_valid(*row))) {
            add(row, hashes.iter().fold(0, |key, hashes| mix(key ^ hashes[row])));
        }
    }
    samples.take(again.into_iter(), keys);
}

/// Calls `visit` with the rows that have an order, and a key that sorts like their value. NaN has none.
fn each_in_order(column: &Column, mut visit: impl FnMut(usize, u64)) {
    const SIGN: u64 = 1 << 63;
    let rows = (0..column.len).filter(|row| column.is_valid(*row));
    match &column.values {
        Values::Integer(array) | Values::Time(array, _) => {
            rows.for_each(|row| visit(row, array.value(row) as u64 ^ SIGN));
        }
        Values::Unsigned(array) => rows.for_each(|row| visit(row, array.value(row))),
        Values::Float(array) => {
            rows.filter(|row| !array.value(*row).is_nan()).for_each(|row| visit(row, sortable(array.value(row))));
        }
        _ => {}
    }
}

/// Rows of each class of a column.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClassCounts {
    counts: DirectMap<u64, (String, u64)>,
    overflow: bool,
}

impl ClassCounts {
    /// Class and rows, by class; `None` if there are more than [`CLASSES_MAX`].
    pub(crate) fn sorted(&self) -> Option<Vec<(&str, u64)>> {
        let mut classes: Vec<(&str, u64)> = self.counts.values().map(|(label, rows)| (label.as_str(), *rows)).collect();
        classes.sort_unstable();
        (!self.overflow).then_some(classes)
    }

    fn update(&mut self, column: &Column) {
        let Some(hashes) = column.hashes() else { return };
        for row in (0..column.len).filter(|row| column.is_valid(*row)) {
            if let Some((_, rows)) = self.counts.get_mut(&hashes[row]) {
                *rows += 1;
            } else if !self.overflow {
                self.add(hashes[row], column.label(row), 1);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.overflow |= other.overflow;
        for (hash, (label, rows)) in &other.counts {
            match self.counts.get_mut(hash) {
                Some((_, seen)) => *seen += rows,
                None => self.add(*hash, label.clone(), *rows),
            }
        }
    }

    fn add(&mut self, hash: u64, label: String, rows: u64) {
        self.overflow |= self.counts.len() >= CLASSES_MAX;
        if !self.overflow {
            self.counts.insert(hash, (label, rows));
        }
    }
}

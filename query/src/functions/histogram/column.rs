//! Histograms in a column: the struct type, reading a row, and building an array.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Float64Builder, Int32Builder, ListArray, ListBuilder, PrimitiveArray, StructArray,
    },
    buffer::NullBuffer,
    datatypes::{DataType, Field, Fields, Float64Type, Int32Type},
};
use datafusion::{common::exec_err, error::Result};

use super::{Explicit, Exponential, Histogram, Run, Shape};

pub(crate) fn doubles() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)))
}

/// The parts of a histogram, which are columns of the view `histograms` and arguments of `histogram(…)`.
pub(crate) const PARAMETERS: [&str; 13] = [
    "count",
    "sum",
    "min",
    "max",
    "bounds",
    "bucket_counts",
    "scale",
    "zero_count",
    "zero_threshold",
    "positive_offset",
    "positive_counts",
    "negative_offset",
    "negative_counts",
];

/// Those of the type; as in the view, but counts are doubles.
pub(crate) fn fields() -> &'static Fields {
    static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
        let data_type = |name: &&str| match *name {
            "scale" | "positive_offset" | "negative_offset" => DataType::Int32,
            "bounds" | "bucket_counts" | "positive_counts" | "negative_counts" => doubles(),
            _ => DataType::Float64,
        };
        PARAMETERS.iter().map(|name| Field::new(*name, data_type(name), true)).collect()
    });
    &FIELDS
}

pub(crate) fn histogram_type() -> DataType {
    DataType::Struct(fields().clone())
}

/// The columns of many histograms, parts of the struct or arguments of the constructor.
pub(crate) struct Columns<'a> {
    /// Which rows of the struct there are.
    nulls: Option<&'a NullBuffer>,
    numbers: [&'a PrimitiveArray<Float64Type>; 6],
    integers: [&'a PrimitiveArray<Int32Type>; 3],
    lists: [Doubles<'a>; 4],
}

struct Doubles<'a> {
    lists: &'a ListArray,
    values: &'a [f64],
}

impl<'a> Doubles<'a> {
    fn of(lists: &'a ListArray) -> Self {
        Self { lists, values: lists.values().as_primitive::<Float64Type>().values() }
    }

    fn get(&self, row: usize) -> Option<&'a [f64]> {
        let offsets = self.lists.value_offsets();
        self.lists.is_valid(row).then(|| &self.values[offsets[row] as usize..offsets[row + 1] as usize])
    }
}

impl<'a> Columns<'a> {
    /// Of columns in the order of [`fields`] and of their types.
    pub(crate) fn of(columns: &'a [ArrayRef]) -> Self {
        let number = |index: usize| columns[index].as_primitive::<Float64Type>();
        let integer = |index: usize| columns[index].as_primitive::<Int32Type>();
        let list = |index: usize| Doubles::of(columns[index].as_list::<i32>());
        Self {
            nulls: None,
            numbers: [number(0), number(1), number(2), number(3), number(7), number(8)],
            integers: [integer(6), integer(9), integer(11)],
            lists: [list(4), list(5), list(10), list(12)],
        }
    }

    /// Of a column of [`histogram_type`].
    pub(crate) fn of_struct(array: &'a StructArray) -> Self {
        Self { nulls: array.nulls(), ..Self::of(array.columns()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers[0].len()
    }

    /// Whether every row is an explicit histogram whose counts fit its bounds, and says nothing else.
    pub(crate) fn are_explicit(&self) -> bool {
        let rows = self.len();
        let is_full = |array: &dyn Array| array.null_count() == 0;
        let is_empty = |array: &dyn Array| array.null_count() == rows;
        let [bounds, counts, positive, negative] = &self.lists;
        self.nulls.is_none()
            && is_full(self.numbers[0])
            && [bounds, counts].iter().all(|of| is_full(of.lists))
            && [positive, negative].iter().all(|of| is_empty(of.lists))
            && self.numbers[4..].iter().all(|of| is_empty(of))
            && self.integers.iter().all(|of| is_empty(of))
            && (0..rows).all(|row| counts.lists.value_length(row) == bounds.lists.value_length(row) + 1)
    }

    fn number(&self, index: usize, row: usize) -> Option<f64> {
        self.numbers[index].is_valid(row).then(|| self.numbers[index].value(row))
    }

    fn integer(&self, index: usize, row: usize) -> Option<i32> {
        self.integers[index].is_valid(row).then(|| self.integers[index].value(row))
    }

    fn list(&self, index: usize, row: usize) -> Option<Vec<f64>> {
        self.lists[index].get(row).map(<[f64]>::to_vec)
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// Adds the histogram of a row, where there is one, to `sum`.
    ///
    /// # Errors
    /// Those of [`Self::histogram`] and [`Histogram::add`].
    pub(crate) fn add_to(&self, sum: &mut Option<Histogram>, row: usize) -> Result<()> {
        if let Some(sum) = sum
            && self.is_added_in_place(sum, row)
        {
            return Ok(());
        }
        let Some(histogram) = self.histogram(row)? else { return Ok(()) };
        match sum {
            Some(sum) => sum.add(&histogram, 1.0),
            None => {
                *sum = Some(histogram);
                Ok(())
            }
        }
    }

    /// Adds an explicit histogram to one of the same bounds, which most are, without a copy; `false` if that is not what they
    /// are.
    fn is_added_in_place(&self, sum: &mut Histogram, row: usize) -> bool {
        let Shape::Explicit(explicit) = &mut sum.shape else { return false };
        let [bounds, counts] = [0, 1].map(|index: usize| self.lists[index].get(row));
        let (Some(count), Some(bounds), Some(counts)) = (self.number(0, row), bounds, counts) else { return false };
        // One without observations has no say in the bounds.
        let is_alike = bounds == explicit.bounds && counts.len() == explicit.counts.len();
        if self.is_null(row) || self.integers[0].is_valid(row) || !is_alike || count == 0.0 || sum.count == 0.0 {
            return false;
        }
        for (sum, count) in explicit.counts.iter_mut().zip(counts) {
            *sum += count;
        }
        sum.add_totals(count, [1, 2, 3].map(|index| self.number(index, row)), 1.0);
        true
    }

    /// The histogram of a row; `None` where there is none, as for a staleness marker or a summary.
    ///
    /// # Errors
    /// If counts and bounds do not fit.
    pub(crate) fn histogram(&self, row: usize) -> Result<Option<Histogram>> {
        if self.is_null(row) {
            return Ok(None);
        }
        let run = |offset, counts| {
            let (offset, counts) = (self.integer(offset, row).unwrap_or(0), self.list(counts, row).unwrap_or_default());
            // The bucket after the last must have a number too: it is the upper bound.
            if i64::from(offset) + counts.len() as i64 > i64::from(i32::MAX) {
                return exec_err!(
                    "there is no bucket {} of an exponential histogram",
                    i64::from(offset) + counts.len() as i64
                );
            }
            Ok(Run { offset, counts })
        };
        let shape = match (self.integer(0, row), self.list(1, row)) {
            (Some(scale), _) => Shape::Exponential(Exponential {
                scale,
                zero_count: self.number(4, row).unwrap_or(0.0),
                zero_threshold: self.number(5, row).unwrap_or(0.0),
                positive: run(1, 2)?,
                negative: run(2, 3)?,
            }),
            (None, Some(counts)) => {
                let mut explicit = Explicit { bounds: self.list(0, row).unwrap_or_default(), counts };
                if explicit.counts.is_empty() {
                    explicit = Explicit { bounds: vec![], counts: vec![self.number(0, row).unwrap_or(0.0)] };
                }
                if explicit.counts.len() != explicit.bounds.len() + 1 {
                    let (counts, bounds) = (explicit.counts.len(), explicit.bounds.len());
                    return exec_err!("a histogram has one count more than bounds, not {counts} for {bounds}");
                }
                Shape::Explicit(explicit)
            }
            (None, None) => return Ok(None),
        };
        let Some(count) = self.number(0, row) else { return Ok(None) };
        let [sum, min, max] = [1, 2, 3].map(|index| self.number(index, row));
        Ok(Some(Histogram { count, sum, min, max, shape }))
    }

    /// The counts of an explicit histogram, whatever its bounds.
    pub(super) fn counts(&self, row: usize) -> Option<&[f64]> {
        if self.integers[0].is_null(row) { self.lists[1].get(row) } else { None }
    }

    /// Count, sum, smallest and largest.
    pub(super) fn totals(&self, row: usize) -> Option<(f64, [Option<f64>; 3])> {
        Some((self.number(0, row)?, [1, 2, 3].map(|index| self.number(index, row))))
    }
}

/// A column of `histograms`.
pub(crate) fn build(histograms: &[Option<Histogram>]) -> StructArray {
    let number = |of: fn(&Histogram) -> Option<f64>| -> ArrayRef {
        let mut builder = Float64Builder::with_capacity(histograms.len());
        histograms.iter().for_each(|histogram| builder.append_option(histogram.as_ref().and_then(of)));
        Arc::new(builder.finish())
    };
    let integer = |of: fn(&Histogram) -> Option<i32>| -> ArrayRef {
        let mut builder = Int32Builder::with_capacity(histograms.len());
        histograms.iter().for_each(|histogram| builder.append_option(histogram.as_ref().and_then(of)));
        Arc::new(builder.finish())
    };
    let list = |of: fn(&Histogram) -> Option<&Vec<f64>>| -> ArrayRef {
        let mut builder = ListBuilder::new(Float64Builder::new());
        for histogram in histograms {
            let values = histogram.as_ref().and_then(of);
            values.into_iter().flatten().for_each(|value| builder.values().append_value(*value));
            builder.append(values.is_some());
        }
        Arc::new(builder.finish())
    };
    let columns = vec![
        number(|of| Some(of.count)),
        number(|of| of.sum),
        number(|of| of.min),
        number(|of| of.max),
        list(|of| of.explicit().map(|shape| &shape.bounds)),
        list(|of| of.explicit().map(|shape| &shape.counts)),
        integer(|of| of.exponential().map(|shape| shape.scale)),
        number(|of| of.exponential().map(|shape| shape.zero_count)),
        number(|of| of.exponential().map(|shape| shape.zero_threshold)),
        integer(|of| of.exponential().map(|shape| shape.positive.offset)),
        list(|of| of.exponential().map(|shape| &shape.positive.counts)),
        integer(|of| of.exponential().map(|shape| shape.negative.offset)),
        list(|of| of.exponential().map(|shape| &shape.negative.counts)),
    ];
    let valid = NullBuffer::from_iter(histograms.iter().map(Option::is_some));
    StructArray::new(fields().clone(), columns, Some(valid))
}

impl Histogram {
    fn explicit(&self) -> Option<&Explicit> {
        match &self.shape {
            Shape::Explicit(shape) => Some(shape),
            Shape::Exponential(_) => None,
        }
    }

    fn exponential(&self) -> Option<&Exponential> {
        match &self.shape {
            Shape::Exponential(shape) => Some(shape),
            Shape::Explicit(_) => None,
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn size(&self) -> usize {
        let doubles = match &self.shape {
            Shape::Explicit(shape) => shape.bounds.capacity() + shape.counts.capacity(),
            Shape::Exponential(shape) => shape.positive.counts.capacity() + shape.negative.counts.capacity(),
        };
        size_of::<Self>() + doubles * size_of::<f64>()
    }
}

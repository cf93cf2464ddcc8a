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

/// `count, sum, min, max, bounds, bucket_counts, scale, …` as in the view `histograms`, but counts are doubles.
pub(crate) fn fields() -> &'static Fields {
    static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
        let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        Fields::from(vec![
            field("count", DataType::Float64),
            field("sum", DataType::Float64),
            field("min", DataType::Float64),
            field("max", DataType::Float64),
            field("bounds", doubles()),
            field("bucket_counts", doubles()),
            field("scale", DataType::Int32),
            field("zero_count", DataType::Float64),
            field("zero_threshold", DataType::Float64),
            field("positive_offset", DataType::Int32),
            field("positive_counts", doubles()),
            field("negative_offset", DataType::Int32),
            field("negative_counts", doubles()),
        ])
    });
    &FIELDS
}

pub(crate) fn histogram_type() -> DataType {
    DataType::Struct(fields().clone())
}

/// The columns of many histograms, parts of the struct or arguments of the constructor.
pub(crate) struct Columns<'a> {
    numbers: [&'a PrimitiveArray<Float64Type>; 6],
    integers: [&'a PrimitiveArray<Int32Type>; 3],
    lists: [&'a ListArray; 4],
}

impl<'a> Columns<'a> {
    /// Of columns in the order of [`fields`] and of their types.
    pub(crate) fn of(columns: &'a [ArrayRef]) -> Self {
        let number = |index: usize| columns[index].as_primitive::<Float64Type>();
        let integer = |index: usize| columns[index].as_primitive::<Int32Type>();
        let list = |index: usize| columns[index].as_list::<i32>();
        Self {
            numbers: [number(0), number(1), number(2), number(3), number(7), number(8)],
            integers: [integer(6), integer(9), integer(11)],
            lists: [list(4), list(5), list(10), list(12)],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers[0].len()
    }

    fn number(&self, index: usize, row: usize) -> Option<f64> {
        self.numbers[index].is_valid(row).then(|| self.numbers[index].value(row))
    }

    fn integer(&self, index: usize, row: usize) -> Option<i32> {
        self.integers[index].is_valid(row).then(|| self.integers[index].value(row))
    }

    fn list(&self, index: usize, row: usize) -> Option<Vec<f64>> {
        self.lists[index]
            .is_valid(row)
            .then(|| self.lists[index].value(row).as_primitive::<Float64Type>().values().to_vec())
    }

    /// The histogram of a row; `None` where there is none, as for a staleness marker or a summary.
    ///
    /// # Errors
    /// If counts and bounds do not fit.
    pub(crate) fn histogram(&self, row: usize) -> Result<Option<Histogram>> {
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
        let lists = self.lists[1];
        let explicit = self.integers[0].is_null(row) && lists.is_valid(row);
        let values = lists.values().as_primitive::<Float64Type>().values();
        explicit.then(|| &values[lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize])
    }

    /// Count, sum, smallest and largest.
    pub(super) fn totals(&self, row: usize) -> Option<(f64, [Option<f64>; 3])> {
        Some((self.number(0, row)?, [1, 2, 3].map(|index| self.number(index, row))))
    }
}

/// The histogram in row `row` of a column of [`histogram_type`].
pub(crate) fn read(array: &StructArray, row: usize) -> Result<Option<Histogram>> {
    if array.is_null(row) { Ok(None) } else { Columns::of(array.columns()).histogram(row) }
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

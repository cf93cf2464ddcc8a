//! A sample's value in two lanes: decimals as scaled integers, everything else as the double it is.
//!
//! Most numbers that machines report are decimals with few digits: whole percent, milliwatts, bytes, hundredths of a
//! second. As `scaled / 10^exponent` they pack several times smaller than as doubles. What does not come back bit for
//! bit (`-0.0`, NaN, infinities, `1/3`) stays a double.

use datafusion::{
    arrow::{
        array::{Array, Float64Array, Int32Array, Int64Array},
        buffer::NullBuffer,
    },
    error::{DataFusionError, Result},
};

use crate::{sample::Sample, write_batch::SampleColumns};

/// Largest exponent that is tried.
const EXPONENT_MAX: usize = 9;

/// Integers up to here are doubles, all of them.
const INTEGER_MAX: f64 = (1u64 << 53) as f64;

/// A run may keep this share of its doubles as they are, and still scale the others.
const EXCEPTIONS_PER_RUN: usize = 16;

/// Powers of ten that are doubles, padded so that an index needs no bounds check.
const POWERS: [f64; 32] = {
    let mut powers = [f64::NAN; 32];
    powers[0] = 1.0;
    let mut exponent = 1;
    while exponent < 23 {
        // Exact: 10^22 = 2^22 · 5^22 and 5^22 < 2^53.
        powers[exponent] = powers[exponent - 1] * 10.0;
        exponent += 1;
    }
    powers
};

/// `value * 10^exponent` as an integer, if dividing that by `10^exponent` gives the bits of `value` again.
fn scale(value: f64, exponent: usize) -> Option<i64> {
    let power = POWERS[exponent & 31];
    let product = value * power;
    // NaN is not below anything.
    if product.abs() < INTEGER_MAX {
        let rounded = if exponent == 0 { product } else { product + 0.5f64.copysign(product) };
        let scaled = rounded as i64;
        return ((scaled as f64 / power).to_bits() == value.to_bits()).then_some(scaled);
    }
    None
}

/// The smallest exponent by which the doubles of a run become integers; `None` if too many do not.
///
/// What fits one exponent fits every larger one below the range of exact integers, so a pass with a rising exponent
/// finds it: about one test per point.
pub(crate) fn run_exponent<'a>(chunks: impl Iterator<Item = &'a [Sample]> + Clone) -> Option<usize> {
    let mut exceptions_left = chunks.clone().map(<[Sample]>::len).sum::<usize>() / EXCEPTIONS_PER_RUN;
    let mut exponent = 0;
    for sample in chunks.flatten().filter(|sample| sample.form() == SampleColumns::DOUBLE) {
        let value = f64::from_bits(sample.bits);
        match (exponent..=EXPONENT_MAX).find(|exponent| scale(value, *exponent).is_some()) {
            Some(fitting) => exponent = fitting,
            None => exceptions_left = exceptions_left.checked_sub(1)?,
        }
    }
    Some(exponent)
}

/// What one sample puts into the lanes; all `None` for a staleness marker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lanes {
    /// `(scaled, exponent)`.
    pub(crate) decimal: Option<(i64, i32)>,
    pub(crate) double: Option<f64>,
}

impl Lanes {
    /// The lanes of `sample` in a run with `exponent`.
    pub(crate) fn new(sample: &Sample, exponent: Option<usize>) -> Self {
        let value = match sample.form() {
            SampleColumns::INT => return Self { decimal: Some((sample.bits.cast_signed(), 0)), double: None },
            SampleColumns::NO_VALUE => return Self { decimal: None, double: None },
            _ => f64::from_bits(sample.bits),
        };
        match exponent.and_then(|exponent| Some((scale(value, exponent)?, exponent as i32))) {
            Some(decimal) => Self { decimal: Some(decimal), double: None },
            None => Self { decimal: None, double: Some(value) },
        }
    }
}

/// `int` if its nearest double is another number.
pub(crate) fn beyond_double(int: i64) -> Option<i64> {
    // `as` saturates, so i64::MAX would compare equal to 2^63; go through i128 to see the rounding.
    ((int as f64) as i128 != i128::from(int)).then_some(int)
}

fn out_of_range(exponent: i32) -> DataFusionError {
    DataFusionError::Execution(format!("samples: exponent {exponent} is not in 0..=22; the file is damaged"))
}

/// The public `value` of each row.
///
/// # Errors
/// An exponent outside 0..=22, which no writer of ours stores.
pub(crate) fn values(scaled: &Int64Array, exponent: &Int32Array, value: &Float64Array) -> Result<Float64Array> {
    if scaled.null_count() == scaled.len() {
        return Ok(value.clone());
    }
    let mut largest = 0;
    let divide = |(scaled, exponent): (&i64, &i32)| {
        largest = largest.max(exponent.cast_unsigned());
        *scaled as f64 / POWERS[*exponent as usize & 31]
    };
    let mut doubles: Vec<f64> = scaled.values().iter().zip(exponent.values()).map(divide).collect();
    if largest > 22 || exponent.null_count() > scaled.null_count() {
        let stored = (0..scaled.len()).filter(|row| scaled.is_valid(*row));
        let mut exponents = stored.map(|row| if exponent.is_valid(row) { exponent.value(row) } else { -1 });
        if let Some(wrong) = exponents.find(|exponent| !(0..=22).contains(exponent)) {
            return Err(out_of_range(wrong));
        }
    }
    let Some(missing) = scaled.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(Float64Array::new(doubles.into(), None));
    };
    if value.null_count() == value.len() {
        return Ok(Float64Array::new(doubles.into(), Some(missing.clone())));
    }
    for (row, double) in doubles.iter_mut().enumerate() {
        if missing.is_null(row) {
            *double = value.value(row);
        }
    }
    let nulls = value.nulls().map(|nulls| NullBuffer::new(missing.inner() | nulls.inner()));
    Ok(Float64Array::new(doubles.into(), nulls))
}

/// The public `value_int` of each row: integers that no double holds.
pub(crate) fn integers(scaled: &Int64Array, exponent: &Int32Array) -> Int64Array {
    if scaled.values().iter().all(|scaled| scaled.unsigned_abs() <= 1 << 53) {
        return Int64Array::new_null(scaled.len());
    }
    let rows = scaled.iter().zip(exponent);
    rows.map(|(scaled, exponent)| scaled.filter(|_| exponent == Some(0)).and_then(beyond_double)).collect()
}

#[cfg(test)]
mod tests;

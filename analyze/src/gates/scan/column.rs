//! One column of one batch, in the few shapes that rules tell apart.

use std::cell::OnceCell;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeStringArray, StringArray, StringViewArray,
    UInt64Array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64;

/// How the values of a data type are looked at. Rules are planned by it before the first batch comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Unsigned,
    Float,
    Boolean,
    Text,
    Time,
    Other,
}

impl Kind {
    pub(crate) fn of(data_type: &DataType) -> Self {
        use DataType::*;
        match data_type {
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => Self::Integer,
            // As doubles, keys above 2^53 would fall together.
            Decimal32(_, 0) | Decimal64(_, 0) | Decimal128(..=18, 0) => Self::Integer,
            UInt64 => Self::Unsigned,
            Float16 | Float32 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
                Self::Float
            }
            Boolean => Self::Boolean,
            Utf8 | LargeUtf8 | Utf8View => Self::Text,
            Timestamp(..) | Date32 | Date64 => Self::Time,
            Dictionary(_, values) => Self::of(values),
            _ => Self::Other,
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Unsigned | Self::Float)
    }
}

/// The values themselves; null rows hold anything.
pub(crate) enum Values {
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Boolean(BooleanArray),
    Text(Text),
    /// Ticks since 1970-01-01, and how many nanoseconds a tick has.
    Time(Int64Array, i64),
    Other,
}

/// Texts as they are stored, so that nothing is copied.
pub(crate) enum Text {
    Utf8(StringArray),
    Large(LargeStringArray),
    View(StringViewArray),
    /// Each distinct text once, and which of them a row has.
    Dictionary(Box<Text>, Vec<usize>),
}

/// One column of one batch.
pub(crate) struct Column {
    pub(crate) values: Values,
    pub(crate) nulls: Option<NullBuffer>,
    pub(crate) len: usize,
    hashes: OnceCell<Option<Vec<u64>>>,
}

impl Column {
    pub(crate) fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(Self { values: Values::new(array)?, nulls, len: array.len(), hashes: OnceCell::new() })
    }

    pub(crate) fn null_count(&self) -> usize {
        self.nulls.as_ref().map_or(0, NullBuffer::null_count)
    }

    pub(crate) fn is_valid(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    /// The rows of `rows` that are not null.
    pub(crate) fn valid_of(&self, rows: BooleanBuffer) -> BooleanBuffer {
        match &self.nulls {
            Some(nulls) => &rows & nulls.inner(),
            None => rows,
        }
    }

    /// One hash for each row; 0 for null rows.
    ///
    /// Values of up to 64 bits are mixed by a bijection, so equal hashes are equal values; texts have XXH3-64.
    /// `None` for nested and binary columns.
    /// All rules of the column share them.
    pub(crate) fn hashes(&self) -> Option<&[u64]> {
        self.hashes.get_or_init(|| self.hash_rows()).as_deref()
    }

    fn hash_rows(&self) -> Option<Vec<u64>> {
        let mut hashes: Vec<u64> = match &self.values {
            Values::Integer(array) | Values::Time(array, _) => array.values().iter().map(|v| mix(*v as u64)).collect(),
            Values::Unsigned(array) => array.values().iter().map(|v| mix(*v)).collect(),
            Values::Float(array) => array.values().iter().map(|v| mix(canonical_bits(*v))).collect(),
            Values::Boolean(array) => array.values().iter().map(|v| mix(u64::from(v))).collect(),
            Values::Text(text) => text.hashes(),
            Values::Other => return None,
        };
        if let Some(nulls) = &self.nulls {
            hashes.iter_mut().enumerate().filter(|(row, _)| nulls.is_null(*row)).for_each(|(_, hash)| *hash = 0);
        }
        Some(hashes)
    }

    /// The value of a row as people write it.
    pub(crate) fn label(&self, row: usize) -> String {
        match &self.values {
            Values::Integer(array) | Values::Time(array, _) => array.value(row).to_string(),
            Values::Unsigned(array) => array.value(row).to_string(),
            Values::Float(array) => array.value(row).to_string(),
            Values::Boolean(array) => array.value(row).to_string(),
            Values::Text(text) => text.value(row).to_string(),
            Values::Other => String::new(),
        }
    }
}

impl Values {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        if let DataType::Dictionary(_, values) = array.data_type() {
            return match Kind::of(values) {
                Kind::Text => Ok(Self::Text(Text::dictionary(array)?)),
                _ => Self::new(&cast(array, values)?),
            };
        }
        Ok(match Kind::of(array.data_type()) {
            Kind::Integer => Self::Integer(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            Kind::Unsigned => Self::Unsigned(array.as_primitive::<UInt64Type>().clone()),
            Kind::Float => Self::Float(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            Kind::Boolean => Self::Boolean(array.as_boolean().clone()),
            Kind::Text => Self::Text(Text::new(array)),
            Kind::Time => Self::time(array)?,
            Kind::Other => Self::Other,
        })
    }

    fn time(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => {
                Self::Time(array.as_primitive::<TimestampSecondType>().reinterpret_cast(), 1_000_000_000)
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Self::Time(array.as_primitive::<TimestampMillisecondType>().reinterpret_cast(), 1_000_000)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Time(array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(), 1000)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Self::Time(array.as_primitive::<TimestampNanosecondType>().reinterpret_cast(), 1)
            }
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>().reinterpret_cast::<Int32Type>();
                Self::Time(cast(&days, &DataType::Int64)?.as_primitive::<Int64Type>().clone(), 86_400_000_000_000)
            }
            _ => Self::Time(array.as_primitive::<Date64Type>().reinterpret_cast(), 1_000_000),
        })
    }
}

impl Text {
    fn new(array: &ArrayRef) -> Self {
        match array.data_type() {
            DataType::LargeUtf8 => Self::Large(array.as_string::<i64>().clone()),
            DataType::Utf8View => Self::View(array.as_string_view().clone()),
            _ => Self::Utf8(array.as_string::<i32>().clone()),
        }
    }

    fn dictionary(array: &ArrayRef) -> Result<Self, ArrowError> {
        let dictionary = array.as_any_dictionary();
        if dictionary.values().is_empty() {
            // All rows are null; without a value there is nothing that a key could point to.
            return Ok(Self::new(&cast(array, &DataType::Utf8)?));
        }
        Ok(Self::Dictionary(Box::new(Self::new(dictionary.values())), dictionary.normalized_keys()))
    }

    pub(crate) fn value(&self, row: usize) -> &str {
        match self {
            Self::Utf8(array) => array.value(row),
            Self::Large(array) => array.value(row),
            Self::View(array) => array.value(row),
            Self::Dictionary(values, keys) => values.value(keys[row]),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Utf8(array) => array.len(),
            Self::Large(array) => array.len(),
            Self::View(array) => array.len(),
            Self::Dictionary(_, keys) => keys.len(),
        }
    }

    /// The rows whose text fulfils `test`, which is asked once for each text of a dictionary.
    pub(crate) fn rows_where(&self, test: impl Fn(&str) -> bool) -> BooleanBuffer {
        match self {
            Self::Utf8(array) => BooleanBuffer::collect_bool(array.len(), |row| test(array.value(row))),
            Self::Large(array) => BooleanBuffer::collect_bool(array.len(), |row| test(array.value(row))),
            Self::View(array) => BooleanBuffer::collect_bool(array.len(), |row| test(array.value(row))),
            Self::Dictionary(values, keys) => {
                let verdicts = (0..values.len()).map(|row| test(values.value(row))).collect::<Vec<bool>>();
                BooleanBuffer::collect_bool(keys.len(), |row| verdicts[keys[row]])
            }
        }
    }

    fn hashes(&self) -> Vec<u64> {
        let hash = |text: &str| xxh3_64(text.as_bytes());
        match self {
            Self::Utf8(array) => (0..array.len()).map(|row| hash(array.value(row))).collect(),
            Self::Large(array) => (0..array.len()).map(|row| hash(array.value(row))).collect(),
            Self::View(array) => (0..array.len()).map(|row| hash(array.value(row))).collect(),
            Self::Dictionary(values, keys) => {
                let hashes = values.hashes();
                keys.iter().map(|key| hashes[*key]).collect()
            }
        }
    }
}

/// A bijection of 64 bits whose every output bit depends on every input bit.
///
/// Source: the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The bits of a number, equal for both zeros and for all NaN.
pub(crate) fn canonical_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

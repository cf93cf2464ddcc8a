//! Encodings a column chunk may have. All are in the Parquet standard and in the readers of Spark, DuckDB, Trino, Arrow
//! and Polars, which rules out `BYTE_STREAM_SPLIT`: Spark's vectorised reader fails on it.

use parquet::{
    basic::{Encoding, Type},
    file::properties::WriterPropertiesBuilder,
    schema::types::ColumnDescPtr,
};

/// One way to encode a column chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnEncoding {
    /// Dictionary; once that is full, what else suits the type.
    Dictionary,
    /// `DELTA_BINARY_PACKED`.
    Delta,
    Plain,
}

impl ColumnEncoding {
    pub(super) const ALL: [Self; 3] = [Self::Dictionary, Self::Delta, Self::Plain];

    pub(super) fn set(self, builder: WriterPropertiesBuilder, leaf: &ColumnDescPtr) -> WriterPropertiesBuilder {
        let path = leaf.path();
        let builder = builder.set_column_dictionary_enabled(path.clone(), self == Self::Dictionary);
        match self {
            Self::Plain => builder.set_column_encoding(path.clone(), Encoding::PLAIN),
            _ if is_integer(leaf) => builder.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED),
            _ => builder,
        }
    }
}

fn is_integer(leaf: &ColumnDescPtr) -> bool {
    matches!(leaf.physical_type(), Type::INT32 | Type::INT64)
}

/// The encodings that suit the type of `leaf`.
pub(super) fn candidates(leaf: &ColumnDescPtr) -> &'static [ColumnEncoding] {
    match leaf.physical_type() {
        Type::INT32 | Type::INT64 => &[ColumnEncoding::Delta, ColumnEncoding::Dictionary, ColumnEncoding::Plain],
        Type::BOOLEAN => &[ColumnEncoding::Plain],
        _ => &[ColumnEncoding::Dictionary, ColumnEncoding::Plain],
    }
}

/// The encoding of `leaf` in a file that is not measured.
///
/// Doubles of a row hardly repeat, as those that are decimals are stored as integers; doubles in lists, such as bounds,
/// do. Counts in lists differ least from those of the row before, which compression sees where they are plain.
pub(super) fn fixed(leaf: &ColumnDescPtr) -> ColumnEncoding {
    match (leaf.physical_type(), leaf.max_rep_level() > 0) {
        (Type::DOUBLE, false) | (Type::INT64, true) => ColumnEncoding::Plain,
        _ => candidates(leaf)[0],
    }
}

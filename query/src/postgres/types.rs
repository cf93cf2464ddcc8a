//! Types of PostgreSQL, and which of them an Arrow type is to clients. Every one has an OID that clients know.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

/// Where `datafusion-pg-catalog` says that a number is the id of an object.
const OID_KEY: &str = "pg.oid_alias";

/// A type of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Bytea,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Json,
    Float4,
    Float8,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Numeric,
}

/// A type of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PgType {
    pub(crate) scalar: Scalar,
    pub(crate) is_array: bool,
}

/// Scalar, its OID, the OID of its array, bytes of a value (-1: any), its name.
const TYPES: [(Scalar, u32, u32, i16, &str); 16] = [
    (Scalar::Bool, 16, 1000, 1, "boolean"),
    (Scalar::Bytea, 17, 1001, -1, "bytea"),
    (Scalar::Int8, 20, 1016, 8, "bigint"),
    (Scalar::Int2, 21, 1005, 2, "smallint"),
    (Scalar::Int4, 23, 1007, 4, "integer"),
    (Scalar::Text, 25, 1009, -1, "text"),
    (Scalar::Oid, 26, 1028, 4, "oid"),
    (Scalar::Json, 114, 199, -1, "json"),
    (Scalar::Float4, 700, 1021, 4, "real"),
    (Scalar::Float8, 701, 1022, 8, "double precision"),
    (Scalar::Date, 1082, 1182, 4, "date"),
    (Scalar::Time, 1083, 1183, 8, "time without time zone"),
    (Scalar::Timestamp, 1114, 1115, 8, "timestamp without time zone"),
    (Scalar::Timestamptz, 1184, 1185, 8, "timestamp with time zone"),
    (Scalar::Interval, 1186, 1187, 16, "interval"),
    (Scalar::Numeric, 1700, 1231, -1, "numeric"),
];

/// Further OIDs that clients give to parameters, and what they are read as.
const ALIASES: [(u32, u32); 8] = [
    (0, 25),      // not said
    (18, 25),     // "char"
    (19, 25),     // name
    (705, 25),    // unknown
    (1042, 25),   // bpchar
    (1043, 25),   // varchar
    (3802, 114),  // jsonb, as text
    (1015, 1009), // varchar[]
];

impl Scalar {
    fn row(self) -> &'static (Scalar, u32, u32, i16, &'static str) {
        // Every scalar has its row, which a test shows.
        TYPES.iter().find(|row| row.0 == self).unwrap_or(&TYPES[5])
    }

    /// The Arrow type whose values are written as this one, and as which parameters are read.
    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Bytea => DataType::Binary,
            Self::Int2 | Self::Int4 | Self::Int8 | Self::Oid => DataType::Int64,
            Self::Text | Self::Json | Self::Numeric => DataType::Utf8,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        }
    }
}

impl PgType {
    pub(crate) const TEXT: Self = Self::scalar(Scalar::Text);

    pub(crate) const fn scalar(scalar: Scalar) -> Self {
        Self { scalar, is_array: false }
    }

    /// What a column is to clients.
    pub(crate) fn of(field: &Field) -> Self {
        let is_oid = field.metadata().get(OID_KEY).is_some_and(|kind| kind == "oid");
        if is_oid && *field.data_type() == DataType::Int32 {
            return Self::scalar(Scalar::Oid);
        }
        Self::of_arrow(field.data_type())
    }

    /// What values of `data_type` are to clients: maps, structs and lists of lists are JSON.
    pub(crate) fn of_arrow(data_type: &DataType) -> Self {
        Self::scalar(match data_type {
            DataType::Boolean => Scalar::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Scalar::Int2,
            DataType::Int32 | DataType::UInt16 => Scalar::Int4,
            DataType::Int64 | DataType::UInt32 => Scalar::Int8,
            // An int8 does not hold them all.
            DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Scalar::Numeric,
            DataType::Float16 | DataType::Float32 => Scalar::Float4,
            DataType::Float64 => Scalar::Float8,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Scalar::Bytea
            }
            DataType::Date32 | DataType::Date64 => Scalar::Date,
            DataType::Time32(_) | DataType::Time64(_) => Scalar::Time,
            DataType::Timestamp(_, None) => Scalar::Timestamp,
            DataType::Timestamp(_, Some(_)) => Scalar::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => Scalar::Interval,
            DataType::Map(..) | DataType::Struct(_) | DataType::Union(..) => Scalar::Json,
            DataType::Dictionary(_, value) => return Self::of_arrow(value),
            DataType::RunEndEncoded(_, values) => return Self::of(values),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => {
                let item = Self::of(item);
                let is_json = item.is_array || item.scalar == Scalar::Json;
                return Self { scalar: if is_json { Scalar::Json } else { item.scalar }, is_array: !is_json };
            }
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Scalar::Text,
        })
    }

    /// The type with this OID; `None` if parameters cannot have it.
    pub(crate) fn with_oid(oid: u32) -> Option<Self> {
        let oid = ALIASES.iter().find(|(alias, _)| *alias == oid).map_or(oid, |(_, oid)| *oid);
        TYPES.iter().find_map(|(scalar, own, array, ..)| match oid {
            _ if oid == *own => Some(Self::scalar(*scalar)),
            _ if oid == *array => Some(Self { scalar: *scalar, is_array: true }),
            _ => None,
        })
    }

    pub(crate) fn oid(self) -> u32 {
        let (_, own, array, ..) = *self.scalar.row();
        if self.is_array { array } else { own }
    }

    /// Bytes of a value, -1 for any.
    pub(crate) fn size(self) -> i16 {
        if self.is_array { -1 } else { self.scalar.row().3 }
    }

    /// As `information_schema` shows it.
    pub(crate) fn name(self) -> String {
        let name = self.scalar.row().4;
        if self.is_array { format!("{name}[]") } else { name.to_owned() }
    }

    /// As parameters of this type are planned.
    pub(crate) fn arrow(self) -> DataType {
        let scalar = match self.scalar {
            Scalar::Int2 => DataType::Int16,
            Scalar::Int4 | Scalar::Oid => DataType::Int32,
            Scalar::Numeric => DataType::Float64,
            other => other.arrow(),
        };
        if self.is_array { DataType::new_list(scalar, true) } else { scalar }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_oid() {
        for (scalar, oid, array, ..) in TYPES {
            assert_eq!(scalar.row().0, scalar);
            assert_eq!(PgType::with_oid(oid), Some(PgType::scalar(scalar)));
            assert_eq!(PgType::with_oid(array).map(PgType::oid), Some(array));
        }
        assert_eq!(PgType::with_oid(0), Some(PgType::TEXT));
        assert_eq!(PgType::with_oid(4_000_000_000), None);
    }

    #[test]
    fn nested_values_are_json_and_lists_of_plain_ones_arrays() {
        let list = DataType::new_list(DataType::UInt64, true);
        assert_eq!(PgType::of_arrow(&list).oid(), 1231);
        assert_eq!(PgType::of_arrow(&DataType::new_list(list, true)).oid(), 114);
        let field = Field::new("a", DataType::Int64, true);
        assert_eq!(PgType::of_arrow(&DataType::Struct(vec![field].into())).name(), "json");
    }
}

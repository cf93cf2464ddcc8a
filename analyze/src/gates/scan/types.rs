//! Which arrow types are which logical type of a contract.

use datafusion::arrow::datatypes::DataType;

use crate::gates::rule::LogicalType;

/// Whether values of `data_type` are of the logical type. A number may be whole; a timestamp may be no date.
pub(crate) fn accepts(logical: LogicalType, data_type: &DataType) -> bool {
    use DataType::*;
    if let Dictionary(_, values) = data_type {
        return accepts(logical, values);
    }
    match logical {
        LogicalType::String => matches!(data_type, Utf8 | LargeUtf8 | Utf8View),
        LogicalType::Date => matches!(data_type, Date32 | Date64),
        LogicalType::Timestamp => matches!(data_type, Timestamp(..)),
        LogicalType::Time => matches!(data_type, Time32(_) | Time64(_)),
        LogicalType::Integer => {
            data_type.is_integer()
                || matches!(data_type, Decimal32(_, 0) | Decimal64(_, 0) | Decimal128(_, 0) | Decimal256(_, 0))
        }
        LogicalType::Number => data_type.is_numeric() && !matches!(data_type, Duration(_) | Interval(_)),
        LogicalType::Boolean => matches!(data_type, Boolean),
        LogicalType::Object => matches!(data_type, Struct(_) | Map(..)),
        LogicalType::Array => {
            matches!(data_type, List(_) | LargeList(_) | FixedSizeList(..) | ListView(_) | LargeListView(_))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_types_accept_their_arrow_types_only() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        assert!(accepts(LogicalType::String, &dictionary));
        assert!(accepts(LogicalType::Number, &DataType::Int8) && accepts(LogicalType::Number, &DataType::Float64));
        assert!(accepts(LogicalType::Number, &DataType::Decimal128(10, 2)));
        assert!(accepts(LogicalType::Integer, &DataType::Decimal128(38, 0)));
        assert!(!accepts(LogicalType::Integer, &DataType::Decimal128(10, 2)));
        assert!(!accepts(LogicalType::Integer, &DataType::Float64));
        assert!(!accepts(LogicalType::Number, &DataType::Utf8));
        assert!(!accepts(LogicalType::Timestamp, &DataType::Date32));
        assert!(accepts(LogicalType::Date, &DataType::Date32));
        assert!(!accepts(LogicalType::Boolean, &DataType::Int8));
    }
}

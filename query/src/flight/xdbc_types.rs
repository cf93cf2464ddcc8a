//! The types of columns, as ODBC and JDBC drivers ask for them.

use arrow_flight::{
    error::FlightError,
    sql::{
        Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode,
        metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder},
    },
};

/// Every type that a column may have, by the name that `CAST` takes.
///
/// # Errors
/// If it cannot be encoded.
pub(super) fn types() -> Result<XdbcTypeInfoData, FlightError> {
    use XdbcDataType::*;
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, bits) in [
        ("TINYINT", XdbcTinyint, 8),
        ("SMALLINT", XdbcSmallint, 16),
        ("INTEGER", XdbcInteger, 32),
        ("BIGINT", XdbcBigint, 64),
    ] {
        types.append(number(name, data_type, bits, false));
        types.append(number(&format!("{name} UNSIGNED"), data_type, bits, true));
    }
    types.append(number("REAL", XdbcReal, 24, false));
    types.append(number("DOUBLE", XdbcDouble, 53, false));
    types.append(XdbcTypeInfo {
        column_size: Some(76),
        create_params: Some(vec!["precision".into(), "scale".into()]),
        unsigned_attribute: Some(false),
        fixed_prec_scale: true,
        minimum_scale: Some(0),
        maximum_scale: Some(76),
        num_prec_radix: Some(10),
        ..named("DECIMAL", XdbcDecimal)
    });
    types.append(XdbcTypeInfo { column_size: Some(1), ..named("BOOLEAN", XdbcBit) });
    types.append(XdbcTypeInfo { case_sensitive: true, ..quoted("VARCHAR", XdbcVarchar, "'") });
    types.append(quoted("BYTEA", XdbcVarbinary, "X'"));
    types.append(XdbcTypeInfo { column_size: Some(10), ..quoted("DATE", XdbcDate, "DATE '") });
    types.append(XdbcTypeInfo { column_size: Some(18), ..quoted("TIME", XdbcTime, "TIME '") });
    types.append(XdbcTypeInfo {
        column_size: Some(29),
        minimum_scale: Some(0),
        maximum_scale: Some(9),
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
        ..quoted("TIMESTAMP", XdbcTimestamp, "TIMESTAMP '")
    });
    types.append(quoted("INTERVAL", XdbcInterval, "INTERVAL '"));
    types.build()
}

fn named(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        sql_data_type: data_type,
        local_type_name: Some(name.to_owned()),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        ..XdbcTypeInfo::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, bits: i32, unsigned: bool) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: Some(bits),
        unsigned_attribute: Some(unsigned),
        auto_increment: Some(false),
        num_prec_radix: Some(2),
        ..named(name, data_type)
    }
}

fn quoted(name: &str, data_type: XdbcDataType, before: &str) -> XdbcTypeInfo {
    XdbcTypeInfo { literal_prefix: Some(before.to_owned()), literal_suffix: Some("'".into()), ..named(name, data_type) }
}

//! Answers of PostgreSQL's wire, read by the types that it declares and written as the suite writes them.

use std::error::Error;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value;
use sqllogictest::DefaultColumnType;
use tokio_postgres::{
    Client, Row,
    error::SqlState,
    types::{FromSql, Type},
};

use super::{
    cell::double,
    surface::{Refusal, Rows},
};

/// Asks with a prepared statement.
pub(super) async fn over_postgres(client: &Client, sql: &str) -> Result<Rows, Refusal> {
    let statement = client.prepare(sql).await.map_err(refusal)?;
    let types = statement.columns().iter().map(|column| column_type(column.type_())).collect();
    let rows = client.query(&statement, &[]).await.map_err(refusal)?;
    Ok((types, rows.iter().map(|row| (0..row.len()).map(|column| cell(row, column)).collect()).collect()))
}

/// The kind of the error, which the other surfaces name, and its message.
fn refusal(error: tokio_postgres::Error) -> Refusal {
    let Some(error) = error.as_db_error() else { panic!("{error}") };
    let kind = match error.code() {
        &SqlState::READ_ONLY_SQL_TRANSACTION => "denied",
        &SqlState::QUERY_CANCELED => "timeout",
        &SqlState::INTERNAL_ERROR => "internal",
        code if code.code().starts_with("53") => "limit",
        _ => "invalid",
    };
    Refusal(format!("{kind}: {}", error.message()))
}

/// A `numeric` without a fraction: an integer that does not fit `int8`, or might not.
struct Whole(i128);

impl<'a> FromSql<'a> for Whole {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // Digits in base 10 000, most significant first: their number, weight of the first, sign, digits of the fraction.
        let words: Vec<i16> = raw.chunks_exact(2).map(|word| i16::from_be_bytes([word[0], word[1]])).collect();
        let [_, weight, sign, 0, digits @ ..] = &words[..] else { return Err("a fraction, or too short".into()) };
        let digit = |place| digits.get(place).copied().unwrap_or(0);
        let places = usize::try_from(weight + 1).unwrap_or(0);
        let value = (0..places).fold(0, |value, place| value * 10_000 + i128::from(digit(place)));
        Ok(Self(if *sign == 0 { value } else { -value }))
    }

    fn accepts(postgres_type: &Type) -> bool {
        *postgres_type == Type::NUMERIC
    }
}

fn column_type(postgres_type: &Type) -> DefaultColumnType {
    match *postgres_type {
        Type::FLOAT4 | Type::FLOAT8 => DefaultColumnType::FloatingPoint,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::NUMERIC => DefaultColumnType::Integer,
        _ => DefaultColumnType::Text,
    }
}

fn cell(row: &Row, column: usize) -> String {
    match *row.columns()[column].type_() {
        Type::BOOL => shown(row, column, |value: bool| value.to_string()),
        Type::INT2 => shown(row, column, |value: i16| value.to_string()),
        Type::INT4 => shown(row, column, |value: i32| value.to_string()),
        Type::INT8 => shown(row, column, |value: i64| value.to_string()),
        Type::FLOAT4 => shown(row, column, |value: f32| value.to_string()),
        Type::FLOAT8 => shown(row, column, double),
        Type::NUMERIC => shown(row, column, |value: Whole| value.0.to_string()),
        Type::DATE => shown(row, column, |value: NaiveDate| value.to_string()),
        Type::TIMESTAMP => shown(row, column, time),
        Type::TIMESTAMPTZ => shown(row, column, |value: DateTime<Utc>| time(value.naive_utc())),
        Type::JSON => shown(row, column, |value: Value| json(&value)),
        Type::INT8_ARRAY => shown(row, column, |items: Vec<Option<i64>>| list(items, |item| item.to_string())),
        Type::FLOAT8_ARRAY => shown(row, column, |items: Vec<Option<f64>>| list(items, double)),
        Type::TEXT_ARRAY => shown(row, column, |items: Vec<Option<String>>| list(items, |item| format!("{item:?}"))),
        Type::TEXT | Type::VARCHAR => {
            shown(row, column, |text: String| if text.is_empty() { "(empty)".into() } else { text })
        }
        ref other => panic!("the suite has no words for values of type {other}"),
    }
}

fn shown<'a, T: FromSql<'a>>(row: &'a Row, column: usize, show: impl Fn(T) -> String) -> String {
    row.get::<_, Option<T>>(column).map_or_else(|| "NULL".to_owned(), show)
}

fn list<T>(items: Vec<Option<T>>, show: impl Fn(T) -> String) -> String {
    let items = items.into_iter().map(|item| item.map_or_else(|| "null".to_owned(), &show));
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn time(time: NaiveDateTime) -> String {
    let text = time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
    format!("{}Z", text.strip_suffix(".000000").unwrap_or(&text))
}

fn json(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, double),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{key:?}:{}", json(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
    }
}

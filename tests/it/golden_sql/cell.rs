//! A value as the suite writes it, so that every surface can: `NULL`; doubles by the shortest digits that come back; times as
//! UTC with a `Z`, fractions only where there are any; lists, structs and maps as JSON of such texts.

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Float64Type},
    util::display::{ArrayFormatter, FormatOptions},
};

pub(crate) fn cell(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    match array.data_type() {
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => time(array, row),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items = (0..items.len()).map(|item| nested(&items, item)).collect::<Vec<_>>();
            format!("[{}]", items.join(","))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let pairs = columns.map(|(field, column)| format!("{:?}:{}", field.name(), nested(column, row)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pair = |entry| format!("{}:{}", nested(entries.column(0), entry), nested(entries.column(1), entry));
            let mut pairs: Vec<_> = (0..entries.len()).map(pair).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(","))
        }
        _ => match text(array, row) {
            empty if empty.is_empty() => "(empty)".to_owned(),
            text => text,
        },
    }
}

fn nested(array: &ArrayRef, row: usize) -> String {
    match array.data_type() {
        _ if array.is_null(row) => "null".to_owned(),
        data_type if data_type.is_string() => format!("{:?}", text(array, row)),
        _ => cell(array, row),
    }
}

fn text(array: &ArrayRef, row: usize) -> String {
    ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default()).unwrap().value(row).to_string()
}

pub(super) fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    // No zero below zero: not every surface has one.
    if value == 0.0 {
        return "0".to_owned();
    }
    if (1e-5..1e15).contains(&value.abs()) { format!("{value}") } else { format!("{value:e}") }
}

fn time(array: &ArrayRef, row: usize) -> String {
    let format = Some("%Y-%m-%dT%H:%M:%S%.6f");
    let options = FormatOptions::default().with_timestamp_format(format).with_timestamp_tz_format(format);
    let text = ArrayFormatter::try_new(array.as_ref(), &options).unwrap().value(row).to_string();
    format!("{}Z", text.strip_suffix(".000000").unwrap_or(&text))
}

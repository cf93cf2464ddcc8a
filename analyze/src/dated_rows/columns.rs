//! Which column of a file is what.

use datafusion::arrow::datatypes::{DataType, Schema};

use crate::error::{Error, Result};

/// What whole numbers in a column of times count since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds, which are floored.
    Nanoseconds,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnChoice {
    /// The column of times.
    pub time: String,
    /// What whole numbers in it count.
    pub epoch_unit: Option<EpochUnit>,
    /// Columns of numbers; none: all that are neither of the others.
    pub values: Vec<String>,
    /// Columns whose values are counted.
    pub categories: Vec<String>,
    /// Columns that name the series of a row.
    pub labels: Vec<String>,
}

/// A column of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileColumn {
    pub(super) name: String,
    pub(super) index: usize,
}

/// The columns of a file by what is taken from them.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) time: FileColumn,
    /// Of a column of whole numbers.
    pub(super) epoch_unit: Option<EpochUnit>,
    pub(super) values: Vec<FileColumn>,
    pub(super) categories: Vec<FileColumn>,
    pub(super) labels: Vec<FileColumn>,
    pub(super) unused: Vec<String>,
}

fn refuse<T>(column: &str, reason: impl Into<String>) -> Result<T> {
    Err(Error::ImportColumn { column: column.to_owned(), reason: reason.into() })
}

/// Finds the columns of `choice`.
pub(super) fn describe(schema: &Schema, choice: &ColumnChoice) -> Result<Columns> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let find = |name: &String| match names.iter().position(|other| other == name) {
        Some(index) => Ok(FileColumn { name: name.clone(), index }),
        None => refuse(name, format!("is not in the file, which has {}", names.join(", "))),
    };
    let all = |names: &[String]| names.iter().map(find).collect::<Result<Vec<_>>>();
    let time = find(&choice.time)?;
    let epoch_unit = epoch_unit(schema.field(time.index).data_type(), choice)?;
    let (labels, categories) = (all(&choice.labels)?, all(&choice.categories)?);
    let taken = |name: &str| name == choice.time || labels.iter().chain(&categories).any(|column| column.name == name);
    let is_number = |index: usize| schema.field(index).data_type().is_numeric();
    let values = match choice.values.is_empty() {
        false => all(&choice.values)?,
        true => {
            let numbers = (0..names.len()).filter(|index| is_number(*index) && !taken(names[*index]));
            numbers.map(|index| FileColumn { name: names[index].to_owned(), index }).collect()
        }
    };
    if let Some(other) = values.iter().find(|column| !is_number(column.index)) {
        let data_type = schema.field(other.index).data_type();
        return refuse(&other.name, format!("holds {data_type}, no numbers; its values can be counted (--category)"));
    }
    if let Some(twice) = values.iter().find(|column| taken(&column.name)) {
        return refuse(&twice.name, "is named twice, as a value and as something else");
    }
    if values.is_empty() && categories.is_empty() {
        return refuse(
            &choice.time,
            "is the only one that something is taken from; name columns with --value or --category",
        );
    }
    let used = |name: &&&str| taken(name) || values.iter().any(|column| column.name == **name);
    let unused = names.iter().filter(|name| !used(name)).map(|name| (*name).to_owned()).collect();
    Ok(Columns { time, epoch_unit, values, categories, labels, unused })
}

/// The unit of a column of whole numbers; none of times and of texts.
fn epoch_unit(data_type: &DataType, choice: &ColumnChoice) -> Result<Option<EpochUnit>> {
    match (data_type, choice.epoch_unit) {
        (data_type, unit) if data_type.is_integer() => match unit {
            Some(unit) => Ok(Some(unit)),
            None => refuse(
                &choice.time,
                "holds whole numbers; say what they count since 1970 with --time-unit s, ms, us or ns",
            ),
        },
        (_, Some(_)) => refuse(&choice.time, format!("holds {data_type}, no whole numbers; leave --time-unit out")),
        (DataType::Timestamp(..) | DataType::Date32 | DataType::Date64, None) => Ok(None),
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, None) => Ok(None),
        _ => refuse(&choice.time, format!("holds {data_type}, no times")),
    }
}

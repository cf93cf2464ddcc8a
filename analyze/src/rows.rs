//! Running SQL and reading its small answers.

use std::collections::BTreeMap;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        compute::cast,
        datatypes::{DataType, Float64Type, Int64Type},
    },
    prelude::SessionContext,
};

use crate::error::{Error, Result};

/// Quotes `text` as an SQL string.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether the session has the result table `name`, which exists once something was recorded.
pub(crate) fn has_result(ctx: &SessionContext, name: &str) -> bool {
    // A session without the schema has no result at all.
    ctx.table_exist(format!("reports.{name}")).unwrap_or(false)
}

/// SQL for "is this row simulated", of a row with an `attributes` map.
pub(crate) const SIMULATED: &str = "coalesce(attributes['driftwatt.simulated'] = 'true', false)";

/// One answer, as one batch, with columns read by name.
pub(crate) struct Rows {
    batch: RecordBatch,
}

impl Rows {
    /// Runs `sql` and collects its answer, which must be small.
    pub(crate) async fn query(ctx: &SessionContext, sql: &str) -> Result<Self> {
        tracing::debug!(sql, "job query");
        let frame = ctx.sql(sql).await?;
        let schema = std::sync::Arc::clone(frame.schema().inner());
        let batches = frame.collect().await?;
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        Ok(Self { batch: datafusion::arrow::compute::concat_batches(&schema, &batches)? })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// The column `name` cast to `data_type`.
    fn column(&self, name: &str, data_type: &DataType) -> Result<ArrayRef> {
        let column = self.batch.column_by_name(name).ok_or_else(|| Error::Column { name: name.to_owned() })?;
        Ok(cast(column, data_type)?)
    }

    /// A text column; null where null.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<Option<String>>> {
        let column = self.column(name, &DataType::Utf8)?;
        Ok(column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
    }

    /// A number column; null where null.
    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let column = self.column(name, &DataType::Float64)?;
        Ok(column.as_primitive::<Float64Type>().iter().collect())
    }

    /// An integer column; null where null.
    pub(crate) fn integers(&self, name: &str) -> Result<Vec<Option<i64>>> {
        let column = self.column(name, &DataType::Int64)?;
        Ok(column.as_primitive::<Int64Type>().iter().collect())
    }

    /// A boolean column; false where null.
    pub(crate) fn flags(&self, name: &str) -> Result<Vec<bool>> {
        let column = self.column(name, &DataType::Boolean)?;
        Ok(column.as_boolean().iter().map(|flag| flag.unwrap_or(false)).collect())
    }

    /// A column of bytes; empty where null.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        let column = self.column(name, &DataType::Binary)?;
        Ok(column.as_binary::<i32>().iter().map(|bytes| bytes.unwrap_or_default().to_vec()).collect())
    }

    /// A column of maps from text to text; empty where null.
    pub(crate) fn text_maps(&self, name: &str) -> Result<Vec<BTreeMap<String, String>>> {
        let wrong = || Error::Column { name: name.to_owned() };
        let column = self.batch.column_by_name(name).ok_or_else(wrong)?;
        let maps = column.as_map_opt().ok_or_else(wrong)?;
        let (keys, values) = (cast(maps.keys(), &DataType::Utf8)?, cast(maps.values(), &DataType::Utf8)?);
        let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
        let of_row = |row: usize| {
            let range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
            let pairs = range.filter(|at| !maps.is_null(row) && !values.is_null(*at));
            pairs.map(|at| (keys.value(at).to_owned(), values.value(at).to_owned())).collect()
        };
        Ok((0..maps.len()).map(of_row).collect())
    }

    /// A list-of-integers column; null where null.
    pub(crate) fn integer_lists(&self, name: &str) -> Result<Vec<Option<Vec<i64>>>> {
        let item = std::sync::Arc::new(datafusion::arrow::datatypes::Field::new("element", DataType::Int64, true));
        let column = self.column(name, &DataType::List(item))?;
        let lists = column.as_list::<i32>();
        Ok((0..lists.len())
            .map(|row| {
                (!lists.is_null(row)).then(|| {
                    lists.value(row).as_primitive::<Int64Type>().iter().map(Option::unwrap_or_default).collect()
                })
            })
            .collect())
    }

    /// A list-of-numbers column; null where null.
    pub(crate) fn number_lists(&self, name: &str) -> Result<Vec<Option<Vec<f64>>>> {
        let item = std::sync::Arc::new(datafusion::arrow::datatypes::Field::new("element", DataType::Float64, true));
        let column = self.column(name, &DataType::List(item))?;
        let lists = column.as_list::<i32>();
        Ok((0..lists.len())
            .map(|row| {
                (!lists.is_null(row)).then(|| {
                    lists.value(row).as_primitive::<Float64Type>().iter().map(Option::unwrap_or_default).collect()
                })
            })
            .collect())
    }
}

//! What is stored of metrics in a window, as a number and a digest: whether it is what it was when it was last looked at.

use std::fmt;

use datafusion::{
    arrow::{
        array::{Array as _, AsArray as _, RecordBatch},
        compute::cast,
        datatypes::{DataType, Float64Type, Int64Type},
    },
    prelude::SessionContext,
};
use futures::TryStreamExt as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    drift::{Filter, Side},
    error::Result,
    rows::literal,
    window::Window,
};

/// Columns of a row that are integers: series, time and start; the rest are doubles.
const INTEGERS: usize = 3;

/// Points of some metrics in a window. Two of the same content are equal, in whatever order they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PointsContent {
    /// How many.
    pub count: u64,
    /// The sum of the hashes of the points: series, times and values, for histograms count, sum, minimum and maximum.
    digest: u64,
}

impl fmt::Display for PointsContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.count, self.digest)
    }
}

impl PointsContent {
    /// Reads the points of `metrics` in `window`, of the series that `filters` leave; a batch of them is in memory at a time.
    ///
    /// # Errors
    /// Query errors.
    pub async fn read(ctx: &SessionContext, metrics: &[String], filters: &[Filter], window: Window) -> Result<Self> {
        let mut content = Self::default();
        for (table, values) in [("samples", ["value"].as_slice()), ("histograms", &["count", "sum", "min", "max"])] {
            let mut rows = ctx.sql(&sql(table, values, metrics, filters, window)).await?.execute_stream().await?;
            while let Some(batch) = rows.try_next().await? {
                content.add(&batch)?;
            }
        }
        Ok(content)
    }

    /// Three integers, then doubles; of a null only that it is one.
    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = rows
            .columns()
            .iter()
            .enumerate()
            .map(|(at, column)| cast(column, if at < INTEGERS { &DataType::Int64 } else { &DataType::Float64 }));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        let mut bytes = Vec::with_capacity(64);
        for row in 0..rows.num_rows() {
            bytes.clear();
            for (at, column) in columns.iter().enumerate() {
                bytes.push(u8::from(column.is_valid(row)));
                // What lies under a null is nobody's.
                if column.is_valid(row) {
                    bytes.extend(match at < INTEGERS {
                        true => column.as_primitive::<Int64Type>().value(row).to_le_bytes(),
                        false => column.as_primitive::<Float64Type>().value(row).to_bits().to_le_bytes(),
                    });
                }
            }
            self.digest = self.digest.wrapping_add(xxh3_64(&bytes));
        }
        self.count += rows.num_rows() as u64;
        Ok(())
    }
}

fn sql(table: &str, values: &[&str], metrics: &[String], filters: &[Filter], window: Window) -> String {
    let metrics: Vec<String> = metrics.iter().map(|metric| literal(metric)).collect();
    let named = format!("metric IN ({})", metrics.join(", "));
    let values: String = values.iter().map(|value| format!(", {value}")).collect();
    let side = Side::new(window, filters.to_vec());
    let filtered = match filters.is_empty() {
        true => String::new(),
        false => {
            format!(" AND series_id IN (SELECT series_id FROM raw.series WHERE {named}{})", side.filter_sql())
        }
    };
    format!(
        "SELECT series_id, CAST(time AS BIGINT) AS time_us, CAST(start_time AS BIGINT) AS start_us{values} FROM raw.{table} \
         WHERE {named} AND {}{filtered}",
        side.time_sql("time")
    )
}

//! Ten columns a side from Parquet: all distances of each, and a gate on its missing values.

use std::{fs::File, path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use datafusion::arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array},
    datatypes::Float64Type,
    record_batch::RecordBatch,
};
use driftwatt_analyze::{
    drift::{
        comparison::{ColumnOptions, Comparison},
        sort::sort_values,
    },
    gates::{Limit, Rule, RuleKind, Scan, Status, Table},
};
use parquet::arrow::{
    ArrowWriter, ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder},
};

use crate::{memory_mb, normal, thread_cpu_seconds};

const COLUMNS: usize = 10;
const BATCH_ROWS: usize = 8_192;
const SIDES: [&str; 2] = ["reference.parquet", "current.parquet"];
/// Of 32 rows this many have no value.
const MISSING_OF_32: usize = 1;

/// Log-normal columns; the current side of each is a twentieth of a deviation longer than the one before.
pub(crate) fn prepare(dir: &Path, rows: usize) -> anyhow::Result<()> {
    for (side, name) in SIDES.iter().enumerate() {
        let batch = |from: usize| -> anyhow::Result<RecordBatch> {
            let columns = (0..COLUMNS).map(|column| {
                let shift = if side == 1 { column as f64 * 0.05 } else { 0.0 };
                let value = |row: usize| {
                    let seed = (row as u64) << 8 | (side * COLUMNS + column) as u64;
                    (row % 32 >= MISSING_OF_32).then(|| (normal(seed) + shift).exp())
                };
                let rows = from..(from + BATCH_ROWS).min(rows);
                (format!("c{column}"), Arc::new(rows.map(value).collect::<Float64Array>()) as ArrayRef, true)
            });
            Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
        };
        let first = batch(0)?;
        let mut writer = ArrowWriter::try_new(File::create(dir.join(name))?, first.schema(), None)?;
        for from in (0..rows).step_by(BATCH_ROWS) {
            writer.write(&batch(from)?)?;
        }
        writer.close()?;
    }
    Ok(())
}

/// One column of one side, without its missing values, sorted; its gate has seen every batch.
fn read(path: &Path, column: usize, keys: &mut Vec<u64>) -> anyhow::Result<Vec<f64>> {
    let file = File::open(path)?;
    let metadata = ArrowReaderMetadata::load(&file, Default::default())?;
    let mask = ProjectionMask::leaves(metadata.parquet_schema(), [column]);
    let row_count = usize::try_from(metadata.metadata().file_metadata().num_rows())?;
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    let name = format!("c{column}");
    let mut table = Table::new("bench");
    let limit = Limit::percent_max(6.0);
    table.push(Rule::new(Some(&name), RuleKind::Missing { tokens: Vec::new(), limit: limit.clone() }));
    table.push(Rule::new(Some(&name), RuleKind::NonFinite(limit)));
    let mut scan: Option<Scan> = None;
    let mut values = Vec::with_capacity(row_count);
    for batch in reader {
        let batch = batch?;
        scan.get_or_insert_with(|| Scan::new(&table, &batch.schema())).update(&batch)?;
        let array = batch.column(0).as_primitive::<Float64Type>();
        match array.null_count() {
            0 => values.extend(array.values().iter().filter(|value| value.is_finite())),
            _ => values.extend(array.iter().flatten().filter(|value| value.is_finite())),
        }
    }
    let scan = scan.context("no rows")?;
    let now = chrono::DateTime::from_timestamp(0, 0).context("no time")?;
    ensure!(scan.finish(now, &[]).iter().all(|result| result.status == Status::Pass), "a gate failed");
    sort_values(&mut values, keys);
    Ok(values)
}

pub(crate) fn measure(dir: &Path, rows: usize) -> anyhow::Result<()> {
    let started = thread_cpu_seconds()?;
    let mut keys = Vec::new();
    let mut scores = Vec::new();
    for column in 0..COLUMNS {
        let reference = read(&dir.join(SIDES[0]), column, &mut keys)?;
        let current = read(&dir.join(SIDES[1]), column, &mut keys)?;
        scores.push(Comparison::of_samples(&reference, &current, ColumnOptions::default())?);
    }
    let seconds = thread_cpu_seconds()? - started;
    for (column, score) in scores.iter().enumerate() {
        // Of unit normals a shift of d has a PSI of d^2, of which deciles see nine tenths and more.
        let truth = (column as f64 * 0.05).powi(2);
        let per_row = 2.0 / rows as f64;
        let noise = 8.0 * (truth * per_row).sqrt() + 30.0 * per_row;
        ensure!(
            (0.85 * truth - noise..1.05 * truth + noise).contains(&score.psi),
            "column {column}: PSI {}",
            score.psi
        );
        ensure!(
            score.numeric.is_some() && score.n_reference + score.n_reference / 16 >= rows as u64,
            "column {column}"
        );
    }
    println!(
        "raw: {COLUMNS} columns x {rows} rows a side from Parquet, all distances and null gates: {seconds:.2} CPU-seconds, \
         largest memory {:.0} MB",
        memory_mb()?
    );
    Ok(())
}

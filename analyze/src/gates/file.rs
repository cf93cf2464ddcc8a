//! A file of rows against the rules of its table, all in one pass after the one for its digest.

use std::{path::Path, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, FieldRef, Fields, Schema, TimeUnit},
    execution::options::{CsvReadOptions, JsonReadOptions, ParquetReadOptions},
    prelude::{DataFrame, SessionConfig, SessionContext},
};
use futures::TryStreamExt as _;

use super::{
    batch_name::BatchName,
    checked::{BatchKind, CheckInputs, CheckedFile},
    contract::Table,
    digest,
    history::of_another_content,
    image::{check_images, digest_of_images, is_of_images},
    result::Outcome,
    rule::{LogicalType, RuleKind},
    scan::Scan,
};
use crate::{
    broken_file::broken_file,
    error::{Error, Result},
};

/// Rows of a text file from which the types of its columns are guessed where the contract says nothing; a later value of
/// another type is an error with its line.
const INFERRED_ROWS: usize = 100_000;

/// Checks the rows of `path` (CSV with a header, Parquet, or JSON lines, by the end of its name) against `table`; a folder, or
/// a `.txt`, `.lst` or `.manifest` with one path a line, is one of images. A file of rows is streamed
/// twice, for its digest and for the rules; memory is that of the rules, see [`Scan`].
///
/// # Errors
/// [`Error::FileFormat`] for another end of the name, [`Error::BrokenFile`] for a file that cannot be read, with line and column
/// where it has them, [`Error::Gate`] for rows of another schema, or a folder that the table has no rule for.
pub async fn check_file(path: &Path, table: &Table, inputs: &CheckInputs) -> Result<CheckedFile> {
    if is_of_images(path) {
        return Ok(check_images(path, table, inputs)?);
    }
    let (digest, size_bytes) = digest::of_file(path)?;
    let rows = open(path, table).await.map_err(|error| match error {
        Error::DataFusion(error) => broken_file(path, &error, None, 0),
        error => error,
    })?;
    let schema = Arc::clone(rows.schema().inner());
    let mut scan = Scan::with_references(table, &schema, &inputs.references);
    let mut batches = rows.execute_stream().await?;
    let mut row_count = 0;
    loop {
        let batch = batches.try_next().await.map_err(|error| broken_file(path, &error, Some(&schema), row_count))?;
        let Some(batch) = batch else { break };
        row_count += batch.num_rows() as u64;
        scan.update(&batch)?;
    }
    let name = batch_name(path);
    let history = of_another_content(&inputs.history, &digest);
    let past: Vec<_> = history.iter().map(|past| past.summary.clone()).collect();
    let results = scan.finish(inputs.now, &past);
    Ok(CheckedFile {
        file: path.display().to_string(),
        kind: BatchKind::Rows,
        table: table.name.clone(),
        digest,
        size_bytes,
        summary: scan.summary(),
        name,
        history,
        references: inputs.references.keys().cloned().collect(),
        damaged: Vec::new(),
        outcome: Outcome::of(&results),
        results,
    })
}

/// The digest of what is at `path` now, as a check gives it. A manifest that was moved lists its images relative to where it was, `from`.
///
/// # Errors
/// It cannot be read.
pub fn content_digest(path: &Path, from: &Path) -> Result<String> {
    Ok(if is_of_images(path) { digest_of_images(path, from)? } else { digest::of_file(path)?.0 })
}

/// What the name of a file or folder says.
pub fn batch_name(path: &Path) -> BatchName {
    BatchName::parse(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// The rows of a file in their order; its types are those of `table` where the file itself has none.
pub(crate) async fn open(path: &Path, table: &Table) -> Result<DataFrame> {
    // One partition keeps the order of the rows, which numbers the samples and is what `monotone` is about.
    let config = SessionConfig::new().with_target_partitions(1).with_repartition_file_scans(false);
    let ctx = SessionContext::new_with_config(config);
    // As a URL: a plain path is taken for a pattern, in which `rows[1].csv` is another file.
    let file = path.display().to_string();
    let url = std::path::absolute(path).ok().and_then(|path| reqwest::Url::from_file_path(path).ok());
    let url = url.ok_or_else(|| Error::FileFormat { file: file.clone() })?.to_string();
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    Ok(match extension.as_str() {
        "csv" => {
            let options = CsvReadOptions::new().file_extension(&end).schema_infer_max_records(INFERRED_ROWS);
            let inferred = ctx.read_csv(&url, options.clone()).await?;
            let schema = stated(inferred.schema().as_arrow(), table, true);
            ctx.read_csv(&url, options.schema(&schema)).await?
        }
        "parquet" => ctx.read_parquet(&url, ParquetReadOptions::default().file_extension(&end)).await?,
        "jsonl" | "ndjson" | "json" => {
            let options = JsonReadOptions::default().file_extension(&end).schema_infer_max_records(INFERRED_ROWS);
            let inferred = ctx.read_json(&url, options.clone()).await?;
            let schema = stated(inferred.schema().as_arrow(), table, false);
            ctx.read_json(&url, options.schema(&schema)).await?
        }
        _ => return Err(Error::FileFormat { file }),
    })
}

/// The types that were guessed, but where the contract knows better: digits may be a text, and a column may be empty for long.
fn stated(inferred: &Schema, table: &Table, csv: bool) -> Schema {
    let logical = |name: &str| {
        table.rules.iter().find_map(|rule| match &rule.kind {
            RuleKind::Type { logical, .. } if rule.column.as_deref() == Some(name) => *logical,
            _ => None,
        })
    };
    let field = |field: &FieldRef| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let data_type = match (logical(field.name()), field.data_type()) {
            (Some(LogicalType::String), _) if csv => DataType::Utf8,
            (Some(LogicalType::Number), DataType::Null | DataType::Int64) => DataType::Float64,
            (Some(LogicalType::Integer), DataType::Null) => DataType::Int64,
            (Some(LogicalType::Boolean), DataType::Null) => DataType::Boolean,
            (Some(LogicalType::Date), DataType::Null) => DataType::Date32,
            (Some(LogicalType::Timestamp), DataType::Null) => time,
            (Some(LogicalType::Timestamp), DataType::Utf8) if !csv => time,
            (_, DataType::Null) => DataType::Utf8,
            (_, found) => found.clone(),
        };
        field.as_ref().clone().with_data_type(data_type)
    };
    Schema::new(inferred.fields().iter().map(field).collect::<Fields>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gates::{Contract, Status};

    const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 1.0.0
status: active
schema:
  - name: train
    properties:
      - { name: id, logicalType: integer, primaryKey: true }
      - name: latency
        logicalType: number
        quality:
          - { metric: nullValues, mustBeLessThan: 1, unit: percent }
";

    /// 2000 rows, of which each `every`-th has no latency.
    fn rows(every: usize) -> Vec<(usize, Option<f64>)> {
        (0..2_000).map(|id| (id, (id % every != 1).then_some(id as f64 / 4.0))).collect()
    }

    async fn checked(name: &str, text: &str) -> Result<CheckedFile> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let contract = Contract::from_odcs("contract.yaml", CONTRACT).unwrap();
        check_file(&path, contract.table(None).unwrap(), &CheckInputs::default()).await
    }

    #[tokio::test]
    async fn missing_values_fail_a_file_in_each_format() {
        let csv = |every| {
            let line = |(id, latency): (usize, Option<f64>)| {
                format!("{id},{}\n", latency.map_or_else(String::new, |latency| latency.to_string()))
            };
            format!("id,latency\n{}", rows(every).into_iter().map(line).collect::<String>())
        };
        let lines = |every| -> String {
            let line = |(id, latency)| format!("{}\n", json!({ "id": id, "latency": latency }));
            rows(every).into_iter().map(line).collect()
        };
        for (name, text) in [("train_data_202408_resnet.csv", csv(20)), ("rows.jsonl", lines(20))] {
            let checked = checked(name, &text).await.unwrap();
            assert_eq!((checked.rows(), checked.outcome.status), (2_000, Status::Fail), "{:?}", checked.results);
            let broken: Vec<_> = checked.results.iter().filter(|result| result.status == Status::Fail).collect();
            assert_eq!((broken.len(), broken[0].metric, broken[0].rows_failed), (1, "missingValues", Some(100)));
            assert_eq!(broken[0].samples[0].row, 1);
            assert_eq!(checked.outcome.exit_code(), 1);
        }
        for (name, text) in [("rows.csv", csv(500)), ("rows.ndjson", lines(500))] {
            let checked = checked(name, &text).await.unwrap();
            assert_eq!(checked.outcome.exit_code(), 0, "{:?}", checked.results);
        }
    }

    #[tokio::test]
    async fn the_contract_knows_the_types_of_a_text_file() {
        // Empty for longer than types are guessed from, then a number; an empty optional column; digits that are a text.
        let contract = CONTRACT.replace(
            "quality:",
            "description: seconds\n      - { name: note, logicalType: integer }\n      - { name: zip, logicalType: string }\n#",
        );
        let contract = contract.lines().filter(|line| !line.contains("nullValues")).collect::<Vec<_>>().join("\n");
        let contract = Contract::from_odcs("contract.yaml", &contract).unwrap();
        let dir = tempfile::tempdir().unwrap();
        // A name that is a pattern to others, and what it would match.
        let path = dir.path().join("rows[1].csv");
        std::fs::write(dir.path().join("rows1.csv"), "id\n1\n").unwrap();
        let empty = (0..INFERRED_ROWS + 1).map(|id| format!("{id},,,00123\n")).collect::<String>();
        std::fs::write(&path, format!("id,latency,note,zip\n{empty}100001,2.5,,00124\n")).unwrap();
        let checked = check_file(&path, contract.table(None).unwrap(), &CheckInputs::default()).await.unwrap();
        assert_eq!((checked.rows(), checked.outcome.exit_code()), (100_002, 0), "{:?}", checked.results);
        std::fs::write(&path, format!("id,latency,note,zip\n{empty}100001,x,,00124\n")).unwrap();
        let refused =
            check_file(&path, contract.table(None).unwrap(), &CheckInputs::default()).await.unwrap_err().to_string();
        assert!(refused.contains("line 100003, column 2 (latency): \"x\" is no Float64"), "{refused}");
    }

    #[tokio::test]
    async fn a_broken_file_names_its_line_and_an_unknown_one_its_formats() {
        let broken = checked("rows.csv", "id,latency\n1,2.5\n2,3.5,7\n").await.unwrap_err().to_string();
        assert!(
            broken.contains("rows.csv") && broken.ends_with("Expected 2 records, found 3 records at line 3"),
            "{broken}"
        );
        let unknown = checked("rows.xlsx", "").await.unwrap_err().to_string();
        assert!(unknown.contains("rows.xlsx") && unknown.contains("parquet"), "{unknown}");
        let missing = check_file(Path::new("nowhere.csv"), &Table::new("train"), &CheckInputs::default()).await;
        assert!(missing.unwrap_err().to_string().contains("nowhere.csv"));
    }
}

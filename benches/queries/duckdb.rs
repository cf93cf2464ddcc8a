//! The same question to DuckDB over the same Parquet files, by its Python module.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};

/// Prints version, time, and the last two columns of each row.
const PROGRAM: &str = r#"
import sys, time
try:
    import duckdb
except ImportError:
    sys.exit(3)
rounds, sql = int(sys.argv[1]), sys.argv[2]
db = duckdb.connect(config={"threads": 2})
# It would stand between the answers.
db.execute("SET enable_progress_bar = false")
times = []
for _ in range(rounds + 1):
    started = time.perf_counter()
    rows = db.execute(sql).fetchall()
    times.append((time.perf_counter() - started) * 1e3)
print(duckdb.__version__)
print(sorted(times[1:])[(rounds - 1) // 2])
for row in rows:
    print(*(float("nan") if value is None else repr(float(value)) for value in row[-2:]))
"#;
const MODULE_MISSING: i32 = 3;

/// What DuckDB answered.
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) p50_ms: f64,
    pub(crate) numbers: Vec<[f64; 2]>,
}

/// Asks `sql`, with the files of the tables that it names in braces, of the closed store at `data_dir`; `None` where Python or the
/// module is missing.
///
/// # Errors
/// A table that cannot be read; the program fails or prints something else.
pub(crate) async fn ask(data_dir: &Path, sql: &str, rounds: usize) -> anyhow::Result<Option<Answer>> {
    let mut sql = sql.to_owned();
    for table in ["samples", "histograms", "series"] {
        let place = format!("{{{table}}}");
        if sql.contains(&place) {
            sql = sql.replace(&place, &live_files(data_dir, table).await?);
        }
    }
    let python = std::env::var("QUERIES_PYTHON").unwrap_or_else(|_unset| "python3".to_owned());
    let output = Command::new(python).args(["-c", PROGRAM, &rounds.to_string(), &sql]).output();
    let Ok(output) = output else { return Ok(None) };
    if output.status.code() == Some(MODULE_MISSING) {
        return Ok(None);
    }
    ensure!(output.status.success(), "DuckDB: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines();
    let version = lines.next().context("no version")?.to_owned();
    let p50_ms = lines.next().context("no time")?.parse()?;
    let numbers = lines.map(|line| {
        let (first, second) = line.split_once(' ').context("not two numbers")?;
        Ok([first.parse()?, second.parse()?])
    });
    Ok(Some(Answer { version, p50_ms, numbers: numbers.collect::<anyhow::Result<_>>()? }))
}

/// Files of the newest version, as a list in SQL: replaced ones lie beside them for a while.
async fn live_files(data_dir: &Path, table: &str) -> anyhow::Result<String> {
    let dir = data_dir.join("tables").join(table);
    let table = deltalake::open_table(deltalake::ensure_table_uri(dir.to_string_lossy())?).await?;
    let files =
        table.get_file_uris()?.map(|uri| format!("'{}'", uri.trim_start_matches("file://").replace('\'', "''")));
    Ok(format!("[{}]", files.collect::<Vec<_>>().join(", ")))
}

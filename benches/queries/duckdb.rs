//! The same question to DuckDB over the same Parquet files, by its Python module.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};

/// Reads the value as `docs/format/tables.md` says, labels from `series`; prints version, times and means.
const PROGRAM: &str = r#"
import sys, time
try:
    import duckdb
except ImportError:
    sys.exit(3)
rounds, metric = int(sys.argv[1]), sys.argv[2]
samples, series = sys.argv[3].split(","), sys.argv[4].split(",")
db = duckdb.connect(config={"threads": 2})
sql = f"""
    SELECT d.host_name, avg(coalesce(s.scaled / pow(10, s.exponent), s.value)) AS mean
    FROM read_parquet({samples}, hive_partitioning = true) s
    JOIN read_parquet({series}, hive_partitioning = true) d
      ON s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date
    WHERE s.metric = '{metric}' GROUP BY d.host_name ORDER BY d.host_name"""
times = []
for _ in range(rounds + 1):
    started = time.perf_counter()
    rows = db.execute(sql).fetchall()
    times.append((time.perf_counter() - started) * 1e3)
print(duckdb.__version__)
print(sorted(times[1:])[(rounds - 1) // 2])
for _, mean in rows:
    print(repr(mean))
"#;
const MODULE_MISSING: i32 = 3;

/// What DuckDB answered.
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) p50_ms: f64,
    /// By host, in the order of their names.
    pub(crate) means: Vec<f64>,
}

/// The weekly mean by host of the closed store at `data_dir`; `None` where Python or the module is missing.
///
/// # Errors
/// A table that cannot be read; the program fails or prints something else.
pub(crate) async fn weekly_mean(data_dir: &Path, rounds: usize) -> anyhow::Result<Option<Answer>> {
    let python = std::env::var("QUERIES_PYTHON").unwrap_or_else(|_unset| "python3".to_owned());
    let mut command = Command::new(python);
    command.args(["-c", PROGRAM, &rounds.to_string(), super::METRIC]);
    for table in ["samples", "series"] {
        command.arg(live_files(data_dir, table).await?);
    }
    let output = command.output();
    let Ok(output) = output else { return Ok(None) };
    if output.status.code() == Some(MODULE_MISSING) {
        return Ok(None);
    }
    ensure!(output.status.success(), "DuckDB: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines();
    let version = lines.next().context("no version")?.to_owned();
    let p50_ms = lines.next().context("no time")?.parse()?;
    let means = lines.map(str::parse).collect::<Result<_, _>>()?;
    Ok(Some(Answer { version, p50_ms, means }))
}

/// Files of the newest version: replaced ones lie beside them for a while.
async fn live_files(data_dir: &Path, table: &str) -> anyhow::Result<String> {
    let dir = data_dir.join("tables").join(table);
    let table = deltalake::open_table(deltalake::ensure_table_uri(dir.to_string_lossy())?).await?;
    let files: Vec<_> = table.get_file_uris()?.map(|uri| uri.trim_start_matches("file://").to_owned()).collect();
    Ok(files.join(","))
}

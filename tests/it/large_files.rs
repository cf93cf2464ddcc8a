//! Files that are larger than the memory of whoever reads them.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::server::{driftwatt, start};

/// KiB of private memory that the process may have (`RLIMIT_DATA`), and the size of the file, which is larger.
const LIMIT_KIB: u64 = 128 * 1_024;
const FILE_BYTES: u64 = 200_000_000;
const ROWS: u64 = FILE_BYTES / 1_000;

const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 1.0.0
status: active
schema:
  - name: train
    properties:
      - { name: id, logicalType: integer, primaryKey: true }
      - { name: time, logicalType: timestamp, required: true }
      - name: value
        logicalType: number
        quality:
          - { metric: nullValues, mustBe: 0 }
          - { type: custom, engine: driftwatt, implementation: { rule: iqrOutliers } }
      - { name: note, logicalType: string }
";

/// A row of 1 000 bytes for each second of the last days, the last one of a type that no number is.
fn write(path: &Path) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    writeln!(file, "id,time,value,note").unwrap();
    let start = chrono::Utc::now().timestamp() - 3 * 86_400;
    for row in 0..ROWS as i64 {
        let time = chrono::DateTime::from_timestamp(start + row, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ");
        let head = format!("{row:08},{time},{:05}.5,", row * 37 % 10_007);
        writeln!(file, "{head}{}", "x".repeat(999 - head.len())).unwrap();
    }
    file.flush().unwrap();
    assert!(path.metadata().unwrap().len() >= FILE_BYTES);
}

/// Runs the binary with less memory than the file has.
fn limited(arguments: &[&str]) -> Output {
    let script = format!("ulimit -d {LIMIT_KIB} && exec \"$0\" \"$@\"");
    let binary = driftwatt();
    Command::new("sh").args(["-c", &script]).arg(binary.get_program()).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_streamed_through_a_check_and_an_import() {
    let (dir, server) = start();
    let (file, contract) = (dir.path().join("train.csv"), dir.path().join("contract.yaml"));
    write(&file);
    std::fs::write(&contract, CONTRACT).unwrap();
    let [file, contract] = [file, contract].map(|path| path.display().to_string());
    let checked = limited(&["check", &file, "--contract", &contract, "--format", "json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap_or_else(|_| panic!("{checked:?}"));
    assert_eq!((&report["status"], &report["rows"]), (&json!("pass"), &json!(ROWS)), "{report}");
    let otlp = format!("http://{}", server.otlp_http);
    let import = ["import", &file, "--time-column", "time", "--value", "value", "--server", &otlp, "--format", "json"];
    let imported = limited(&import);
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    let counted = server.rows("SELECT count(*), CAST(sum(value) AS BIGINT) FROM metrics WHERE metric = 'value'").await;
    let sum: u64 = (0..ROWS).map(|row| row * 37 % 10_007).sum::<u64>() + ROWS / 2;
    assert_eq!(json!(counted), json!([[ROWS, sum]]));
}

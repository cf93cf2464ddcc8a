//! `driftwatt import`: real files into a running server and into a directory, and what is wrong with a file.

use std::{path::Path, process::Output, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMillisecondArray},
        record_batch::RecordBatch,
    },
    parquet::arrow::ArrowWriter,
};
use serde_json::{Value, json};

use crate::{
    otlp::now_nanos,
    server::{Server, driftwatt, start},
};

const DAY_S: i64 = 86_400;

fn import(file: &Path, arguments: &[&str]) -> Output {
    driftwatt().arg("import").arg(file).args(["--format", "json"]).args(arguments).output().unwrap()
}

fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Midnight of some days ago, seconds since 1970.
fn days_ago(days: i64) -> i64 {
    (now_nanos() / 1_000_000_000) as i64 / DAY_S * DAY_S - days * DAY_S
}

fn date(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%d").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_set_becomes_a_reference_and_a_second_import_changes_nothing() {
    let (dir, server) = start();
    let otlp = format!("http://{}", server.otlp_http);
    // Two days of 600 rows each, whose times are only days: in one series many rows have one time.
    let line = |row: i64| {
        let language = if row % 3 == 0 { "de" } else { "en" };
        let tokens = if row % 50 == 49 { String::new() } else { (row * 37 % 401).to_string() };
        format!("{},{tokens},{}.5,{language},note {row}\n", date(days_ago(9 - row / 600)), row % 7)
    };
    let text: String = (0..1_200).map(line).collect();
    let file = dir.path().join("train_data_202608_resnet.csv");
    std::fs::write(&file, format!("day,tokens,seconds,language,note\n{text}")).unwrap();
    let arguments = ["--time-column", "day", "--category", "language", "--prefix", "train.", "--server", &otlp];
    let first = import(&file, &arguments);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert!(words(&first).contains("nothing is taken from note"), "{first:?}");
    let said = summary(&first);
    assert_eq!(
        (&said["row_count"], &said["point_count"], &said["set_apart"]),
        (&json!(1_200), &json!(3_600), &json!(true))
    );
    assert_eq!(said["metrics"], json!(["train.tokens", "train.seconds"]));
    let stored = "SELECT metric, count(*), count(value), CAST(sum(value) AS BIGINT) FROM metrics GROUP BY metric ORDER BY metric";
    let expected = json!([
        ["train.language", 1_200, 1_200, 1_200],
        ["train.seconds", 1_200, 1_200, (0..1_200).map(|row| row % 7).sum::<i64>() + 600],
        ["train.tokens", 1_200, 1_176, (0..1_200).filter(|row| row % 50 != 49).map(|row| row * 37 % 401).sum::<i64>()],
    ]);
    assert_eq!(json!(server.rows(stored).await), expected);
    server.flush().await;
    assert_eq!(import(&file, &arguments).status.code(), Some(0));
    assert_eq!(json!(server.rows(stored).await), expected);
    // The same rows a week later, longer: drift against what was imported.
    let later: String = (0..600).map(|row| format!("{},{},1,en,\n", date(days_ago(2)), row * 37 % 401 + 200)).collect();
    let log = dir.path().join("log.jsonl");
    let lines: String = later
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            format!(
                "{}\n",
                json!({ "day": cells[0], "tokens": cells[1].parse::<i64>().unwrap(), "language": cells[3] })
            )
        })
        .collect();
    std::fs::write(&log, lines).unwrap();
    let log_import =
        import(&log, &["--time-column", "day", "--category", "language", "--prefix", "train.", "--server", &otlp]);
    assert_eq!(log_import.status.code(), Some(0), "{log_import:?}");
    let http = format!("http://{}", server.http);
    let current = summary(&log_import)["window"].as_str().unwrap().to_owned();
    let window = said["window"].as_str().unwrap();
    for (metric, code) in [("train.tokens", 1), ("train.language[language]", 1)] {
        let mut command = driftwatt();
        command.args(["drift", "--server", &http, "--metric", metric, "--reference", window, "--current", &current]);
        command.args(["--reference-where", "driftwatt.dataset=train_data_202608_resnet.csv", "--format", "json"]);
        let drift = command.output().unwrap();
        assert_eq!(drift.status.code(), Some(code), "{drift:?}");
        let score: Value = serde_json::from_slice(&drift.stdout).unwrap();
        assert_eq!(score["decision"]["status"], "critical", "{score}");
        assert_eq!(score["current"]["value_count"], 600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_goes_into_a_directory_with_labels_and_whole_numbers_as_times() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Server::start(&data).terminate();
    let count = 30_000;
    let start_ms = days_ago(3) * 1_000;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("at", Arc::new(TimestampMillisecondArray::from_iter_values((0..count).map(|row| start_ms + row * 1_000)))),
        ("seconds", Arc::new(Int64Array::from_iter_values((0..count).map(|row| start_ms / 1_000 + row)))),
        ("latency", Arc::new(Float64Array::from_iter_values((0..count).map(|row| row as f64 / 8.0)))),
        (
            "region",
            Arc::new(StringArray::from_iter_values((0..count).map(|row| if row % 2 == 0 { "eu" } else { "us" }))),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = dir.path().join("log.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&file).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let data_text = data.display().to_string();
    let arguments = ["--value", "latency", "--label", "region", "--service", "chat", "--data", &data_text];
    for time in [&["--time-column", "at"][..], &["--time-column", "seconds", "--time-unit", "s"]] {
        let imported = import(&file, &[&arguments[..], time].concat());
        assert_eq!(imported.status.code(), Some(0), "{imported:?}");
        assert_eq!(
            (&summary(&imported)["point_count"], &summary(&imported)["set_apart"]),
            (&json!(count), &json!(false))
        );
    }
    let sql = "SELECT service_name, region, count(*), sum(value), attributes['driftwatt.dataset'] FROM metrics \
               WHERE metric = 'latency' GROUP BY 1, 2, 5 ORDER BY 2";
    let asked = driftwatt().args(["sql", "--data", &data_text, "--format", "json", sql]).output().unwrap();
    let rows: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let half = count / 2;
    let sum = |first: i64| (0..half).map(|row| (first + 2 * row) as f64 / 8.0).sum::<f64>();
    assert_eq!(
        rows["rows"],
        json!([["chat", "eu", half, sum(0), "log.parquet"], ["chat", "us", half, sum(1), "log.parquet"]]),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_file_is_said_with_line_and_column_and_brings_nothing() {
    let (dir, server) = start();
    let otlp = format!("http://{}", server.otlp_http);
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let good: String = (0..120_000).map(|row| format!("{},{row}\n", days_ago(5) + row)).collect();
    let seconds = ["--time-column", "t", "--time-unit", "s", "--server", &otlp];
    for (name, text, said) in [
        ("cell.csv", format!("t,x\n{good}1,seven\n"), "line 120002, column 2 (x): \"seven\" is no Int64"),
        ("short.csv", format!("t,x\n{good}1\n"), "120002"),
        ("cut.parquet", "PAR1 and then nothing".to_owned(), "cut.parquet"),
        ("rows.xlsx", String::new(), ".parquet"),
        ("other.csv", "time,x\n1,2\n".to_owned(), "which has time, x"),
    ] {
        let refused = import(&write(name, &text), &seconds);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(words(&refused).contains(said), "{name}: {refused:?}");
    }
    let missing = import(&dir.path().join("nowhere.csv"), &seconds);
    assert!(missing.status.code() == Some(2) && words(&missing).contains("nowhere.csv"), "{missing:?}");
    assert_eq!(server.rows("SELECT count(*) FROM metrics").await, [[json!(0)]]);
    // Rows that are refused by themselves: without a time, from before the horizon, not finite.
    let day = date(days_ago(1));
    let text = format!(
        "t,x\n{day}T00:00:01Z,1.5\nsoon,2.5\n1999-01-01T00:00:00Z,3.5\n{day}T00:00:02Z,inf\n{day}T00:00:03Z,4.5\n"
    );
    let partial = import(&write("log.csv", &text), &["--time-column", "t", "--value", "x", "--server", &otlp]);
    assert_eq!(partial.status.code(), Some(1), "{partial:?}");
    let said = summary(&partial);
    assert_eq!(
        (&said["undated_row_count"], &said["first_undated_row"], &said["rejected_point_count"]),
        (&json!(1), &json!(2), &json!(2))
    );
    let because = said["rejected_because"].as_str().unwrap();
    assert!(because.contains("horizon") && because.contains("NaN or infinite"), "{because}");
    assert_eq!(
        server.rows("SELECT value FROM metrics WHERE metric = 'x' ORDER BY time").await,
        [[json!(1.5)], [json!(4.5)]]
    );
    let gone = server.otlp_http.clone();
    server.terminate();
    let file = write("later.csv", &format!("t,x\n{day}T00:00:01Z,1\n"));
    let unsent = import(&file, &["--time-column", "t", "--server", &format!("http://{gone}")]);
    assert!(unsent.status.code() == Some(2) && words(&unsent).contains("nothing is stored twice"), "{unsent:?}");
}

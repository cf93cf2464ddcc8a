//! The sqllogictest suite in `tests/golden/sql`: what every view and function answers, over every surface, from memory and
//! from files. With `DRIFTWATT_GOLDEN_REWRITE=1` the files are written anew with what was answered, to be reviewed.

mod cell;
mod data;
mod postgres;
mod surface;

use std::path::PathBuf;

use sqllogictest::{
    DefaultColumnType, Record, Runner, default_normalizer, default_validator, parse_file, strict_column_validator,
};

use crate::server::{Server, start_with};
use surface::{Connection, Surface};

/// Fewer would mean that files are not found.
const CASES_MIN: usize = 300;

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sql");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|extension| extension == "slt")).collect();
    files.sort();
    files
}

/// All files at once: they only read.
async fn differences(server: &Server, surface: Surface) -> Vec<String> {
    let files = files();
    let found = futures::future::join_all(files.iter().map(|file| difference(server, surface, file))).await;
    found.into_iter().flatten().collect()
}

/// What is not as written in `file`; the first of it.
async fn difference(server: &Server, surface: Surface, file: &PathBuf) -> Option<String> {
    let mut runner = Runner::new(|| async { Connection::open(surface, server).await });
    runner.with_column_validator(strict_column_validator);
    if std::env::var("DRIFTWATT_GOLDEN_REWRITE").is_ok_and(|value| value == "1") {
        let written =
            runner.update_test_file(file, " ", default_validator, default_normalizer, strict_column_validator);
        written.await.unwrap();
        return None;
    }
    let ran = runner.run_file_async(file).await;
    ran.err().map(|error| format!("{surface:?}: {}", error.display(false)))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_and_function_answers_as_written() {
    // The points are of one day that does not come closer.
    let (_dir, server) = start_with(&[
        ("DRIFTWATT_INGEST__RETENTION_DAYS", "36500"),
        ("DRIFTWATT_STORE__RETENTION__SAMPLES", "forever"),
    ]);
    data::send(&server).await;
    let mut found = Vec::new();
    for surface in Surface::ALL {
        found.extend(differences(&server, surface).await);
    }
    server.flush().await;
    found.extend(differences(&server, Surface::Http).await);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn there_are_enough_cases() {
    let is_case =
        |record: &Record<DefaultColumnType>| matches!(record, Record::Query { .. } | Record::Statement { .. });
    let count =
        |file: &PathBuf| parse_file::<DefaultColumnType>(file).unwrap().iter().filter(|record| is_case(record)).count();
    let cases: usize = files().iter().map(count).sum();
    assert!(cases >= CASES_MIN, "{cases}");
}

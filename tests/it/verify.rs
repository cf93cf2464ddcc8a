//! `driftwatt verify` and `inspect` on directories that the real server made, whole and damaged (`docs/reliability.md`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};

use crate::{
    crash_ledger::Requests,
    otlp::post,
    server::{Server, driftwatt},
};

/// Damaged offsets for each kind of file.
const FLIPS: usize = 12;
const SEED: u64 = 0x5eed_7e51;

/// Steele, Lea and Flood's SplitMix64: the damaged offsets follow from the seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Runs `driftwatt <command> --data <data> --format <format>`.
fn run(command: &str, data: &Path, format: &str) -> Output {
    driftwatt().args([command, "--format", format, "--data"]).arg(data).output().unwrap()
}

/// The exit code and the report of `driftwatt verify`.
fn verify(data: &Path) -> (i32, Value) {
    let output = run("verify", data, "json");
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

/// All files below `dir`, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Flips one bit of the byte at `at`.
fn flip(path: &Path, at: usize, bit: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

/// A killed server's directory: two flushed requests, one that is only in the log.
async fn directory(data: &Path) {
    let requests = Requests::new();
    let server = Server::start(data);
    for k in [0, 8, 16] {
        let (status, _) = post(&reqwest::Client::new(), &server.otlp_http, requests.body(k), &[]).await.unwrap();
        assert_eq!(status, 200);
        if k < 16 {
            server.flush().await;
        }
    }
    server.kill();
}

/// Live data files of `table`.
fn live(data: &Path, table: &str) -> Vec<PathBuf> {
    let (_, report) = verify(data);
    let orphans: Vec<_> =
        report["notes"].as_array().unwrap().iter().map(|note| data.join(note["path"].as_str().unwrap())).collect();
    let all = files(&data.join("tables").join(table)).into_iter();
    all.filter(|path| ends(path, "parquet") && !orphans.contains(path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_log_data_or_catalog_is_named_and_gives_exit_code_1() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    directory(&data).await;
    let before = contents(&data);
    let (code, report) = verify(&data);
    assert_eq!((code, &report["sound"], &report["faults"]), (0, &json!(true), &json!([])), "{report}");
    assert_eq!(report["wal"]["records"], 1);
    let rows = |table: &str| {
        let tables = report["tables"].as_array().unwrap();
        tables.iter().find(|found| found["name"] == table).unwrap()["rows"].as_u64().unwrap()
    };
    assert_eq!((rows("samples"), rows("histograms"), rows("series")), (40, 6, 4));

    let mut seed = SEED;
    let parquet: Vec<_> = ["samples", "histograms", "series"].iter().flat_map(|table| live(&data, table)).collect();
    let kinds = [
        files(&data.join("wal")),
        parquet,
        files(&data.join("tables")).into_iter().filter(|path| ends(path, "json")).collect(),
    ];
    for candidates in kinds {
        assert!(!candidates.is_empty());
        for _ in 0..FLIPS {
            let path = &candidates[next(&mut seed) as usize % candidates.len()];
            let at = next(&mut seed) as usize % fs::read(path).unwrap().len();
            let bit = next(&mut seed) % 8;
            flip(path, at, bit);
            let (code, report) = verify(&data);
            let name = path.strip_prefix(&data).unwrap().to_string_lossy();
            let named = report["faults"].as_array().unwrap().iter().any(|fault| fault["path"] == *name);
            assert!(code == 1 && named, "bit {bit} of byte {at} of {name}: exit code {code}, {report}");
            flip(path, at, bit);
        }
    }
    assert!(before == contents(&data), "the check changed the directory");
    assert_eq!(verify(&data).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_checked_gives_exit_code_2() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let server = Server::start(&data);
    for command in ["verify", "inspect"] {
        let locked = run(command, &data, "json");
        assert_eq!(locked.status.code(), Some(2));
        let error = String::from_utf8_lossy(&locked.stderr).into_owned();
        assert!(error.contains("in use by another driftwatt process"), "{error}");
        let missing = run(command, &temp.path().join("nothing"), "json");
        assert_eq!(missing.status.code(), Some(2));
        assert_eq!(run(command, &data, "yaml").status.code(), Some(2));
    }
    server.terminate();
    assert_eq!(run("verify", &data, "json").status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_fit_a_terminal_and_say_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    directory(&data).await;
    let sound = run("verify", &data, "text");
    let text = String::from_utf8_lossy(&sound.stdout).into_owned();
    assert!(sound.status.success() && text.contains("is sound"), "{text}");
    let inspected = run("inspect", &data, "text");
    let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for expected in ["samples: version 2, days: ", "DELTA_BINARY_PACKED", "crash.sample", "4 series"] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let report: Value = serde_json::from_slice(&run("inspect", &data, "json").stdout).unwrap();
    let samples = report["tables"].as_array().unwrap().iter().find(|table| table["name"] == "samples").unwrap();
    assert_eq!(samples["total"]["rows"], 40);
    assert_eq!(samples["metrics"][0]["metric"], "crash.sample");

    let file = live(&data, "samples").remove(0);
    fs::write(&file, "").unwrap();
    let damaged = run("verify", &data, "text");
    assert_eq!(damaged.status.code(), Some(1));
    let text = String::from_utf8_lossy(&damaged.stdout).into_owned();
    for expected in ["file_size: tables/samples/", "to do: restore the file from a backup", "has 1 fault"] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_costs_its_own_rows_only_and_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    directory(&data).await;
    let damaged = live(&data, "samples");
    let bytes = fs::read(&damaged[0]).unwrap();
    // One byte inside the pages: the start does not see it, the query does and says so.
    flip(&damaged[0], bytes.len() / 3, 2);
    let server = Server::start(&data);
    let (status, answer) = server.ask(json!({ "query": "SELECT sum(value) FROM raw.samples" })).await;
    let message = answer["error"]["message"].as_str().unwrap_or_default().to_owned();
    let name = damaged[0].file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(status, 500, "{answer}");
    assert!(message.contains(&name) && message.contains("driftwatt verify"), "{message}");
    assert_eq!(server.rows("SELECT count(*) FROM raw.histograms").await, [[json!(9)]]);
    server.kill();

    let foreign = damaged[0].with_file_name("export.parquet");
    fs::write(&foreign, "not ours").unwrap();
    fs::write(&damaged[0], &bytes[..bytes.len() / 2]).unwrap();
    let server = Server::start(&data);
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(40)]]);
    let counted = "SELECT quarantined_files, quarantined_rows FROM system.tables WHERE name = 'samples'";
    assert_eq!(server.rows(counted).await, [[json!(1), json!(20)]]);
    assert!(server.log().contains("was taken out of its table"), "{}", server.log());
    server.terminate();
    assert_eq!(fs::read(&foreign).unwrap(), b"not ours");
    let kept = data.join("quarantine/samples").join(&name);
    assert_eq!(fs::read(kept).unwrap(), &bytes[..bytes.len() / 2]);
    let (code, report) = verify(&data);
    assert_eq!(code, 0, "{report}");
    let kinds: Vec<_> = report["notes"].as_array().unwrap().iter().map(|note| note["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"quarantined") && kinds.contains(&"foreign"), "{report}");
}

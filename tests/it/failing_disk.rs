//! A disk that fails at one place: the log refuses writes and stays readable until a restart, a flush fails with a message
//! and succeeds the next time, and everything is there exactly once in between and afterwards.

use std::{collections::BTreeSet, path::Path};

use driftwatt_store::Failpoint;
use serde_json::json;

use crate::{
    crash_ledger::{Ledger, Requests, check, stored_requests},
    delta,
    otlp::post,
    server::Server,
};

/// Nothing is flushed but on request.
const SETTINGS: &[(&str, &str)] = &[("DRIFTWATT_STORE__FLUSH_INTERVAL", "1h")];

fn start(data: &Path, failpoint: &str) -> Server {
    Server::start_with(data, &[SETTINGS, &[("DRIFTWATT_FAILPOINT", failpoint)]].concat())
}

async fn send(server: &Server, requests: Requests, k: u64) -> (u16, String) {
    let url = format!("http://{}/v1/metrics", server.otlp_http);
    let request = reqwest::Client::new().post(url).header("content-type", "application/x-protobuf");
    let response = request.body(requests.body(k)).send().await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(status == 503, response.headers().contains_key("retry-after"), "{status}");
    (status, String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned())
}

async fn send_well(server: &Server, requests: Requests, ledger: &mut Ledger, k: u64) {
    ledger.sent.insert(k);
    let (status, body) = post(&reqwest::Client::new(), &server.otlp_http, requests.body(k), &[]).await.unwrap();
    assert_eq!(status, 200, "{}\n{}", String::from_utf8_lossy(&body), server.log());
    ledger.acknowledged.insert(k);
}

fn points(prefixes: &[&str]) -> Vec<Failpoint> {
    let of = |point: &Failpoint| prefixes.iter().any(|prefix| point.name().starts_with(prefix));
    Failpoint::ALL.iter().copied().filter(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_log_write_refuses_writes_keeps_reads_and_is_mended_by_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    use Failpoint as F;
    for point in [
        F::WalBeforeCreate,
        F::WalCreated,
        F::WalHeaderWritten,
        F::WalBeforeWrite,
        F::WalMidWrite,
        F::WalBeforeSync,
        F::WalAfterSync,
    ] {
        let (name, requests, mut ledger) = (point.name(), Requests::new(), Ledger::default());
        let data = temp.path().join(name.replace('.', "-"));
        let server = start(&data, &format!("{name}:2=error"));
        send_well(&server, requests, &mut ledger, 0).await;
        // What comes next needs a new segment.
        server.flush().await;
        // The second request meets the failure, the third the closed log.
        for k in [1, 2] {
            let (status, body) = send(&server, requests, k).await;
            assert_eq!(status, 503, "{name}, request {k}: {body}");
            assert!(body.contains("closed after a failed"), "{name}, request {k}: {body}");
            ledger.sent.insert(k);
        }
        assert_eq!(stored_requests(&server).await, BTreeSet::from([0]), "{name}: what was refused is not shown");
        let (status, body) = server.try_flush().await.unwrap();
        assert!(status >= 500 && body.contains("closed after a failed"), "{name}: {status} {body}");
        assert!(server.log().contains("poisoned"), "{name}: {}", server.log());
        server.kill();
        let server = Server::start_with(&data, SETTINGS);
        let stored = check(&server, &ledger).await;
        assert!(!stored.contains(&2), "{name}: the closed log took a request");
        for k in [1, 2] {
            send_well(&server, requests, &mut ledger, k).await;
        }
        check(&server, &ledger).await;
        server.flush().await;
        check(&server, &ledger).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_write_without_space_is_refused_alone_and_the_log_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    use Failpoint as F;
    for (point, nth) in
        [(F::WalCreated, 1), (F::WalHeaderWritten, 1), (F::WalBeforeWrite, 2), (F::WalMidWrite, 1), (F::WalMidWrite, 2)]
    {
        let (name, requests, mut ledger) = (point.name(), Requests::new(), Ledger::default());
        let data = temp.path().join(format!("{}-{nth}", name.replace('.', "-")));
        let server = start(&data, &format!("{name}:{nth}=enospc"));
        for k in 1..nth {
            send_well(&server, requests, &mut ledger, k).await;
        }
        let (status, body) = send(&server, requests, nth).await;
        assert!(status == 503 && body.contains("could not grow"), "{name}: {status} {body}");
        for k in nth + 1..nth + 3 {
            send_well(&server, requests, &mut ledger, k).await;
        }
        assert_eq!(check(&server, &ledger).await, ledger.acknowledged, "{name}:{nth}");
        server.kill();
        let server = Server::start_with(&data, SETTINGS);
        assert_eq!(check(&server, &ledger).await, ledger.acknowledged, "{name}:{nth}, after a restart");
        assert!(!server.log().contains("poisoned") && !server.log().contains("torn end"), "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_says_why_hides_nothing_and_succeeds_the_next_time() {
    let temp = tempfile::tempdir().unwrap();
    for point in points(&["parquet.", "flush.", "delta.", "wal.before_remove", "wal.after_remove"]) {
        let name = point.name();
        // Without effect on a flush: a failed checkpoint is tried again 100 versions later, a failed deletion is logged.
        if ["checkpoint", "delete", "shorten"].iter().any(|kind| name.contains(kind)) {
            continue;
        }
        let data = temp.path().join(name.replace('.', "-"));
        let (requests, mut ledger, mut k) = (Requests::new(), Ledger::default(), 0);
        // Creates the tables, which passes failpoints too.
        Server::start(&data).kill();
        for nth in 1..=3 {
            // The three tables that this load writes, one after the other; a flush removes one segment.
            let nth = if name.starts_with("wal.") { 1 } else { nth };
            let server = start(&data, &format!("{name}:{nth}=enospc"));
            for _ in 0..3 {
                send_well(&server, requests, &mut ledger, k).await;
                k += 1;
            }
            let (status, body) = server.try_flush().await.unwrap();
            assert!(status >= 500 && body.contains(name) && body.contains("No space left"), "{name}: {status} {body}");
            assert_eq!(check(&server, &ledger).await, ledger.acknowledged, "{name}:{nth}, after the failed flush");
            send_well(&server, requests, &mut ledger, k).await;
            k += 1;
            assert_eq!(check(&server, &ledger).await, ledger.acknowledged, "{name}:{nth}, after one more request");
            server.flush().await;
            assert_eq!(check(&server, &ledger).await, ledger.acknowledged, "{name}:{nth}, after the next flush");
            let samples = data.join("tables/samples");
            let (rows, sum, series) = delta::read(&samples, "value").await;
            let sql = "SELECT count(*), sum(value), count(DISTINCT series_id) FROM raw.samples";
            assert_eq!(json!([rows, sum, series]), json!(server.rows(sql).await[0]), "{name}:{nth}, second reader");
            server.kill();
        }
        let server = Server::start_with(&data, SETTINGS);
        assert_eq!(check(&server, &ledger).await, ledger.acknowledged, "{name}, after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_says_so_and_the_next_one_succeeds() {
    let temp = tempfile::tempdir().unwrap();
    use Failpoint as F;
    for (point, nth) in [
        (F::SmallFileWritten, 1),
        (F::SmallFileBeforeRename, 1),
        (F::SmallFileAfterRename, 1),
        (F::DeltaBeforeCreate, 2),
        (F::DeltaTemporaryWritten, 2),
        (F::DeltaBeforeLink, 2),
        (F::DeltaAfterLink, 2),
        (F::DeltaBeforeSync, 2),
    ] {
        let name = point.name();
        let data = temp.path().join(name.replace('.', "-"));
        let failpoint = format!("{name}:{nth}=enospc");
        let ended = Server::try_start_with(&data, &[("DRIFTWATT_FAILPOINT", &failpoint)]);
        let log = std::fs::read_to_string(data.with_extension("log")).unwrap();
        assert!(ended.is_err_and(|status| status.code().is_some_and(|code| code != 0)), "{name}: {log}");
        assert!(log.contains(name) && log.contains("No space left"), "{name}: {log}");
        let server = Server::start(&data);
        assert_eq!(check(&server, &Ledger::default()).await, BTreeSet::new());
    }
}

//! Everything at once with little memory: ingest of ever new series, merges and heavy queries.
//!
//! `DRIFTWATT_SOAK_SECONDS` sets how long, 20 s by default.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use serde_json::json;

use crate::{
    memory::host,
    otlp::{now_nanos, post},
    server::Server,
};

/// Process memory above the limit that is no fault: the limit is of what the parts account for.
const MEMORY_BYTES_MAX: u64 = 700 << 20;
const HOSTS_PER_REQUEST: u64 = 40;
/// Hosts of one sender: 100 000 series, of 5 metrics.
const HOSTS: u64 = 2000;
/// Requests after which a host is replaced by a new one.
const REQUESTS_PER_HOST: u64 = 8;

/// Points acknowledged, and requests refused.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    acknowledged: u64,
    refused: u64,
}

/// Sends until `end`, as fast as answers come.
async fn send(server: Arc<Server>, sender: u64, end: Instant) -> Sent {
    let client = reqwest::Client::new();
    let mut sent = Sent::default();
    for number in 0.. {
        if Instant::now() > end {
            break;
        }
        let first = sender * HOSTS + number / REQUESTS_PER_HOST * HOSTS_PER_REQUEST % HOSTS;
        let time = now_nanos();
        let resource_metrics: Vec<_> = (first..first + HOSTS_PER_REQUEST).map(|number| host(number, time)).collect();
        let body = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
        match post(&client, &server.otlp_http, body, &[]).await.unwrap() {
            (200, _) => sent.acknowledged += HOSTS_PER_REQUEST * crate::memory::SERIES_PER_HOST,
            (429 | 503, _) => {
                sent.refused += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (status, answer) => panic!("{status}: {}\n{}", String::from_utf8_lossy(&answer), server.log()),
        }
    }
    sent
}

/// Asks until `end`; how many queries were answered, and how many refused for their memory or time.
async fn ask(server: Arc<Server>, end: Instant) -> (u64, u64) {
    let queries = [
        "SELECT metric, series_id, count(*), avg(value) FROM raw.samples GROUP BY metric, series_id",
        "SELECT count(DISTINCT time), count(DISTINCT series_id) FROM raw.samples",
        "SELECT sum(n) FROM (SELECT row_number() OVER (ORDER BY value, time, series_id) AS n FROM raw.samples)",
        "SELECT metric, count(DISTINCT identity) FROM raw.series GROUP BY metric",
        "SELECT host_name, avg(value) FROM raw.samples JOIN raw.series USING (series_id) GROUP BY host_name",
    ];
    let (mut answered, mut refused) = (0, 0);
    for query in queries.into_iter().cycle() {
        if Instant::now() > end {
            break;
        }
        match server.ask(json!({ "query": query })).await {
            (200, _) => answered += 1,
            (429 | 503 | 504, _) => refused += 1,
            (status, body) => panic!("{status} for {query}: {body}\n{}", server.log()),
        }
    }
    (answered, refused)
}

/// Merges everything, again and again.
async fn compact(server: Arc<Server>, end: Instant) -> u64 {
    let mut count = 0;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.flush().await;
        let url = format!("http://{}/api/v1/admin/compact", server.http);
        let response = reqwest::Client::new().post(url).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{}", server.log());
        count += 1;
    }
    count
}

async fn stored(server: &Server) -> u64 {
    server.rows("SELECT count(*) FROM raw.samples").await[0][0].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_with_512_mib_stays_below_700_mib_sheds_properly_and_loses_nothing() {
    let seconds = std::env::var("DRIFTWATT_SOAK_SECONDS").map_or(20, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = [("DRIFTWATT_LIMITS__MEMORY", "512MiB")];
    let server = Arc::new(Server::start_with(&data, &settings));
    let end = Instant::now() + Duration::from_secs(seconds);
    let senders: Vec<_> = (0..2).map(|sender| tokio::spawn(send(Arc::clone(&server), sender, end))).collect();
    let askers: Vec<_> = (0..2).map(|_| tokio::spawn(ask(Arc::clone(&server), end))).collect();
    let compactor = tokio::spawn(compact(Arc::clone(&server), end));
    let mut sent = Sent::default();
    for sender in senders {
        let Sent { acknowledged, refused } = sender.await.unwrap();
        sent = Sent { acknowledged: sent.acknowledged + acknowledged, refused: sent.refused + refused };
    }
    let mut asked = (0, 0);
    for asker in askers {
        let (answered, refused) = asker.await.unwrap();
        asked = (asked.0 + answered, asked.1 + refused);
    }
    let merges = compactor.await.unwrap();
    let (peak, now) = (server.memory_bytes("VmHWM") >> 20, server.memory_bytes("VmRSS") >> 20);
    println!(
        "{seconds} s: {sent:?}, queries (answered, refused) {asked:?}, {merges} merges, peak {peak} MiB, now {now} MiB"
    );
    assert!(sent.acknowledged > 0 && asked.0 > 0 && merges > 0);
    assert_eq!(stored(&server).await, sent.acknowledged);
    assert!(peak << 20 < MEMORY_BYTES_MAX, "{peak} MiB");
    Arc::into_inner(server).unwrap().kill();
    let server = Server::start_with(&data, &settings);
    assert_eq!(stored(&server).await, sent.acknowledged);
}

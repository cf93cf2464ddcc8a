//! Limits of one user: they end what the user asks with an error that names them, and nobody else notices.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, error::SqlState};

use super::client::{failure, value};
use crate::server::{Server, start_with};

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

/// A server where `guest` has `limits`, and `other` has none.
fn start(limits: &[(&str, &str)]) -> (tempfile::TempDir, Server) {
    let names: Vec<_> = limits.iter().map(|(name, _)| format!("DRIFTWATT_QUERY__USERS__GUEST__{name}")).collect();
    let mut variables = vec![
        ("DRIFTWATT_QUERY__USERS__GUEST__PASSWORD", "secret"),
        ("DRIFTWATT_QUERY__USERS__OTHER", "secret"),
        ("DRIFTWATT_QUERY__CONCURRENCY_MAX", "4"),
    ];
    variables.extend(names.iter().zip(limits).map(|(name, (_, value))| (name.as_str(), *value)));
    start_with(&variables)
}

async fn connect(server: &Server, user: &str) -> Client {
    let parameters = format!("{} password=secret", super::client::parameters(server, user));
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn one_users_heavy_queries_leave_room_for_others() {
    let (_dir, server) = start(&[("CONCURRENCY_MAX", "2"), ("TIMEOUT", "10s")]);
    let mut asked = Vec::new();
    for _ in 0..18 {
        let client = connect(&server, "guest").await;
        asked.push(tokio::spawn(async move { failure(&client, ENDLESS).await }));
    }
    let waits = "SELECT count(*) FILTER (WHERE state = 'running') || ' ' || count(*) FILTER (WHERE state = 'waiting') \
                 FROM system.queries WHERE user_name = 'guest'";
    let full = async {
        while server.rows(waits).await[0][0] != "2 16" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(9), full).await.expect("two run, sixteen wait");
    let (code, message, _) = failure(&connect(&server, "guest").await, "SELECT 1").await;
    assert_eq!(code, SqlState::INSUFFICIENT_RESOURCES, "{message}");
    assert!(message.contains("query.users.guest.concurrency_max"), "{message}");
    let other = connect(&server, "other").await;
    let begun = Instant::now();
    assert_eq!(value(&other, "SELECT 1").await, "1");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for ended in asked {
        let (code, message, _) = ended.await.unwrap();
        assert_eq!(code, SqlState::QUERY_CANCELED, "{message}");
        assert!(message.contains("10s"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_bytes_and_memory_of_a_user_are_bounded() {
    let (_dir, server) = start(&[("ROWS_MAX", "10"), ("BYTES_MAX", "64KiB"), ("MEMORY", "1MiB")]);
    let (guest, other) = (connect(&server, "guest").await, connect(&server, "other").await);
    let count = |limit: u32| format!("SELECT value FROM generate_series(1, 100000) LIMIT {limit}");
    assert_eq!(guest.simple_query(&count(10)).await.unwrap().len(), 12, "rows, their description and the end");
    let (code, message, _) = failure(&guest, &count(11)).await;
    assert_eq!(code, SqlState::CONFIGURATION_LIMIT_EXCEEDED, "{message}");
    assert!(message.contains("query.users.guest.rows_max"), "{message}");
    other.simple_query(&count(11)).await.unwrap();
    let long = |length: u32| format!("SELECT repeat('x', {length}) FROM generate_series(1, 5)");
    assert_eq!(guest.simple_query(&long(10_000)).await.unwrap().len(), 7);
    let (code, message, _) = failure(&guest, &long(20_000)).await;
    assert_eq!(code, SqlState::CONFIGURATION_LIMIT_EXCEEDED, "{message}");
    assert!(message.contains("query.users.guest.bytes_max"), "{message}");
    other.simple_query(&long(20_000)).await.unwrap();
    let heavy = "SELECT length(string_agg(CAST(value AS VARCHAR), ',')) > 3000000 FROM generate_series(1, 3000000)";
    let (code, message, _) = failure(&guest, heavy).await;
    assert_eq!(code, SqlState::OUT_OF_MEMORY, "{message}");
    assert!(message.contains("query.users.guest.memory"), "{message}");
    assert_eq!(value(&other, heavy).await, "t");
}

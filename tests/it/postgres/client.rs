//! A server with a few points, and a client of its PostgreSQL wire.

use tokio_postgres::{Client, NoTls, SimpleQueryMessage, error::SqlState};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{self, Server},
};

/// The address for `tokio_postgres`, as `user` without a password.
pub(crate) fn parameters(server: &Server, user: &str) -> String {
    let (host, port) = server.postgres.rsplit_once(':').unwrap();
    format!("host={host} port={port} user={user} dbname=driftwatt connect_timeout=10")
}

/// A connected client; its connection lives as long as the runtime of the test.
pub(crate) async fn connect(server: &Server) -> Client {
    let (client, connection) = tokio_postgres::connect(&parameters(server, "tester"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A server of its own, and a client of it.
pub(crate) async fn start() -> (tempfile::TempDir, Server, Client) {
    let (dir, server) = server::start();
    let client = connect(&server).await;
    (dir, server, client)
}

/// Three points of one GPU, a minute apart.
pub(crate) async fn add_points(server: &Server) {
    let now = now_nanos();
    let points = (0..3).map(|minute| {
        let labels = vec![label("hw.id", "GPU-1"), label("k\"ey", "va,lue")];
        point(now - minute * 60_000_000_000, 0.25 * minute as f64, labels)
    });
    assert_eq!(export(server, vec![gauge("hw.gpu.utilization", points.collect())]).await.0, 0);
}

/// The rows of a simple query, as text.
pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()),
            _ => None,
        })
        .collect()
}

/// The rows of a simple query, without nulls.
pub(crate) async fn texts(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let rows = rows(client, sql).await;
    rows.into_iter().map(|row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".into())).collect()).collect()
}

/// The one value of a simple query.
pub(crate) async fn value(client: &Client, sql: &str) -> String {
    let rows = texts(client, sql).await;
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
    rows[0][0].clone()
}

/// SQLSTATE, message and position of a statement that must fail.
pub(crate) async fn failure(client: &Client, sql: &str) -> (SqlState, String, Option<u32>) {
    let error = match client.simple_query(sql).await {
        Ok(answer) => panic!("{sql} is answered: {answer:?}"),
        Err(error) => error,
    };
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    let position = error.position().map(|position| match position {
        tokio_postgres::error::ErrorPosition::Original(place) => *place,
        other => panic!("{other:?}"),
    });
    (error.code().clone(), error.message().to_owned(), position)
}

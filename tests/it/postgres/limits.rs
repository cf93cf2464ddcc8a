//! Bad input and too much of it: a clear error or a limit, and the server goes on.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::{NoTls, error::SqlState};

use super::client::{connect, failure, parameters, start, value};
use crate::server::{Server, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_or_deep_statement_is_refused_and_the_connection_goes_on() {
    let (_dir, _server, client) = start().await;
    let long = format!("SELECT '{}'", "x".repeat(10 << 20));
    assert_eq!(failure(&client, &long).await.0, SqlState::PROGRAM_LIMIT_EXCEEDED);
    for deep in [
        format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("SELECT * FROM {}(SELECT 1){}", "(SELECT * FROM ".repeat(2000), ")".repeat(2000)),
        format!("SELECT {}", "NOT ".repeat(100_000)),
    ] {
        let (code, message, _) = failure(&client, &deep).await;
        let refused = [SqlState::STATEMENT_TOO_COMPLEX, SqlState::SYNTAX_ERROR];
        assert!(refused.contains(&code), "{code:?} {message}");
    }
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

/// A connection past its start-up, byte by byte.
async fn raw(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(&server.postgres).await.unwrap();
    let mut startup = b"\0\0\0\0\0\x03\0\0user\0raw\0\0".to_vec();
    startup[3] = startup.len() as u8;
    stream.write_all(&startup).await.unwrap();
    let mut seen = Vec::new();
    // Up to ReadyForQuery.
    while !seen.ends_with(b"Z\0\0\0\x05I") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{seen:?}");
    }
    stream
}

/// What the server still says before it closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
    // A reset is an end, too.
    let _ended = read.expect("the connection stays open");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_their_connection_only() {
    let (_dir, server, client) = start().await;
    let messages: [&[u8]; 9] = [
        b"Q\xff\xff\xff\xff",
        b"Q\0\0\0\x03",
        b"Q\x7f\xff\xff\xff",
        b"Q\0\0\0\x0cSELECT 1",
        b"Q\0\0\0\x07\xff\xff\0",
        b"P\0\0\0\x08\0\0\xff\xff",
        b"B\0\0\0\x0c\0\0\0\x01\0\x07\0\0",
        b"z\0\0\0\x04",
        b"\x16\x03\x01\0\xa5\x01",
    ];
    for message in messages {
        let mut stream = raw(&server).await;
        stream.write_all(message).await.unwrap();
        let said = rest(stream).await;
        assert!(said.contains("FATAL"), "{message:?}: {said}");
    }
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x08\0\x02\0\0", b"\xff\xff\xff\xff", &[0; 64]] {
        let mut stream = TcpStream::connect(&server.postgres).await.unwrap();
        stream.write_all(first).await.unwrap();
        rest(stream).await;
    }
    assert_eq!(value(&client, "SELECT 1").await, "1");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_never_finishes_its_start_is_closed() {
    let (_dir, server, client) = start().await;
    let silent = TcpStream::connect(&server.postgres).await.unwrap();
    let mut half = TcpStream::connect(&server.postgres).await.unwrap();
    half.write_all(b"\0\0\0\x20\0\x03").await.unwrap();
    let (silent, half) = tokio::join!(rest(silent), rest(half));
    assert_eq!((silent.as_str(), half.as_str()), ("", ""));
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_idle_connections_leave_room_for_others() {
    let (_dir, server) = start_with(&[("DRIFTWATT_QUERY__CONNECTIONS_MAX", "50")]);
    let mut clients = Vec::new();
    let mut refused = 0;
    for _ in 0..500 {
        match tokio_postgres::connect(&parameters(&server, "idle"), NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                clients.push(client);
            }
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS), "{error:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((clients.len(), refused), (50, 450));
    assert_eq!(server.rows("SELECT 1").await[0][0], 1, "HTTP is answered all the same");
    assert_eq!(value(&clients[0], "SELECT 1").await, "1");
    drop(clients);
    let again = async {
        while tokio_postgres::connect(&parameters(&server, "idle"), NoTls).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("their places come free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_query() {
    let (_dir, server) = start_with(&[("DRIFTWATT_QUERY__CONCURRENCY_MAX", "1")]);
    let (client, connection) = tokio_postgres::connect(&parameters(&server, "leaver"), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let endless = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b, \
                   generate_series(1, 1000000) c WHERE a.value + b.value = c.value + 7";
    let left = tokio::time::timeout(Duration::from_millis(500), client.simple_query(endless)).await;
    assert!(left.is_err(), "it is endless");
    // As when the client's process dies.
    connection.abort();
    let other = connect(&server).await;
    let answered = tokio::time::timeout(Duration::from_secs(10), value(&other, "SELECT 1")).await;
    assert_eq!(answered.expect("the query goes on without its client"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connection_holds_is_bounded() {
    let (_dir, _server, mut client) = start().await;
    let large = "x".repeat(5 << 20);
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("SELECT length($1::text)").await.unwrap();
    let mut portals = Vec::new();
    let refused = loop {
        match transaction.bind(&statement, &[&large]).await {
            Ok(portal) => portals.push(portal),
            Err(error) => break error,
        }
        assert!(portals.len() < 10, "values of portals are held without a limit");
    };
    assert_eq!(refused.code(), Some(&SqlState::PROGRAM_LIMIT_EXCEEDED), "{refused:?}");
    assert_eq!(portals.len(), 3);
    transaction.rollback().await.unwrap();
    let long = format!("SET application_name = '{}'", "x".repeat(9000));
    assert_eq!(failure(&client, &long).await.0, SqlState::PROGRAM_LIMIT_EXCEEDED);
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_the_user_cancels_is_not_shown_as_abandoned() {
    let (_dir, server, client) = start().await;
    let cancel = client.cancel_token();
    let endless = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let (ended, ()) = tokio::join!(failure(&client, endless), async {
        // Only slow ones are shown after their end.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        cancel.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(ended.0, SqlState::QUERY_CANCELED, "{}", ended.1);
    let states = "SELECT state FROM system.queries WHERE surface = 'postgres' AND statement LIKE '%b'";
    assert_eq!(server.rows(states).await, [["cancelled"]]);
}

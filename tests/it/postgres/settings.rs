//! Settings, transactions, empty statements.

use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use super::client::{connect, failure, start, texts, value};

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_set_is_remembered_for_their_connection() {
    let (_dir, server, client) = start().await;
    for sql in [
        "SET client_encoding = 'UTF8'",
        "SET extra_float_digits = 3",
        "SET application_name TO 'it'",
        "SET DateStyle = 'ISO'",
        "SET TIME ZONE 'UTC'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET standard_conforming_strings = on",
        "SET search_path TO raw, public",
        "SET lock_timeout = 0",
        "SELECT set_config('idle_in_transaction_session_timeout', '5000', false)",
    ] {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    assert_eq!(value(&client, "SHOW application_name").await, "it");
    assert_eq!(value(&client, "SHOW TIME ZONE").await, "UTC");
    assert_eq!(value(&client, "SHOW transaction_isolation").await, "read committed");
    assert_eq!(value(&client, "SHOW idle_in_transaction_session_timeout").await, "5000");
    assert_eq!(value(&client, "SELECT current_setting('search_path')").await, "raw, public");
    // The first schema of the path that is there.
    assert_eq!(value(&client, "SELECT count(*) FROM samples").await, "0");
    let other = connect(&server).await;
    assert_eq!(value(&other, "SHOW application_name").await, "");
    assert_eq!(failure(&other, "SELECT count(*) FROM samples").await.0, SqlState::UNDEFINED_TABLE);
    client.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(value(&client, "SHOW application_name").await, "");
    assert_eq!(failure(&client, "SET no_such = 1").await.0, SqlState::UNDEFINED_OBJECT);
    assert_eq!(failure(&client, "SET client_encoding = 'LATIN1'").await.0, SqlState::INVALID_PARAMETER_VALUE);
    assert_eq!(failure(&client, "SHOW no_such").await.0, SqlState::UNDEFINED_OBJECT);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_begin_fail_and_end() {
    let (_dir, _server, client) = start().await;
    client.batch_execute("BEGIN; SELECT 1; COMMIT").await.unwrap();
    client.batch_execute("START TRANSACTION READ ONLY; SAVEPOINT a; RELEASE SAVEPOINT a; ROLLBACK").await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(failure(&client, "SELECT nope").await.0, SqlState::UNDEFINED_COLUMN);
    assert_eq!(failure(&client, "SELECT 1").await.0, SqlState::IN_FAILED_SQL_TRANSACTION);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_statements_and_several_in_one_text_are_answered() {
    let (_dir, _server, client) = start().await;
    for empty in ["-- ping", ";", "", " ; ; ", "/* nothing */"] {
        client.simple_query(empty).await.unwrap_or_else(|error| panic!("{empty:?}: {error:?}"));
        client.execute(empty, &[]).await.unwrap_or_else(|error| panic!("{empty:?}: {error:?}"));
    }
    assert_eq!(texts(&client, "SELECT 1; SELECT 2, 3;").await, [vec!["1"], vec!["2", "3"]]);
    let messages = client.simple_query("SELECT value FROM generate_series(1, 3)").await.unwrap();
    let Some(SimpleQueryMessage::CommandComplete(count)) = messages.last() else { panic!("{messages:?}") };
    assert_eq!(*count, 3);
    for (sql, expected) in [
        ("SELECT current_database()", "driftwatt"),
        ("SELECT current_schema()", "public"),
        ("SELECT current_user", "tester"),
        ("SELECT current_setting('server_version_num')::int/100 as version", "1500"),
        ("SELECT pg_catalog.quote_ident('a b')", "\"a b\""),
    ] {
        assert_eq!(value(&client, sql).await, expected, "{sql}");
    }
    assert!(value(&client, "SELECT version()").await.starts_with("PostgreSQL 15.0 "));
}

//! Errors with SQLSTATE and position, and statements that write.

use tokio_postgres::error::SqlState;

use super::client::{failure, start, value};

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_is_wrong_and_where() {
    let (_dir, _server, client) = start().await;
    for (sql, code, position) in [
        ("SELECT 1 FRM x y", SqlState::SYNTAX_ERROR, Some(14)),
        ("SELECT 1;\nSELECT 2 FRM x", SqlState::SYNTAX_ERROR, Some(24)),
        ("SELECT no_such FROM metrics", SqlState::UNDEFINED_COLUMN, Some(8)),
        ("SELECT *\nFROM metrics WHERE nope = 1", SqlState::UNDEFINED_COLUMN, Some(29)),
        ("SELECT * FROM no_such", SqlState::UNDEFINED_TABLE, Some(15)),
        ("SELECT no_such(1)", SqlState::UNDEFINED_FUNCTION, Some(8)),
        ("SELECT 1 / 0", SqlState::DIVISION_BY_ZERO, None),
        ("SELECT CAST('x' AS INT)", SqlState::INVALID_TEXT_REPRESENTATION, None),
    ] {
        let (found, message, place) = failure(&client, sql).await;
        assert_eq!((&found, place), (&code, position), "{sql}: {message}");
        assert_eq!(value(&client, "SELECT 1").await, "1", "after {sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_writes() {
    let (_dir, _server, client) = start().await;
    for sql in [
        "CREATE TABLE t (a INT)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP VIEW metrics",
        "DROP TABLE raw.samples",
        "INSERT INTO raw.samples SELECT * FROM raw.samples",
        "DELETE FROM raw.samples",
        "UPDATE raw.samples SET value = 0",
        "TRUNCATE raw.samples",
        "SELECT 1 AS a INTO t",
        "EXPLAIN ANALYZE INSERT INTO raw.samples SELECT * FROM raw.samples",
        "COPY metrics TO '/tmp/x'",
        "COPY raw.samples FROM STDIN",
        "PREPARE p AS DELETE FROM raw.samples",
        "ALTER TABLE raw.samples ADD COLUMN x INT",
        "GRANT ALL ON metrics TO tester",
    ] {
        let (code, message, _) = failure(&client, sql).await;
        assert_eq!(code, SqlState::READ_ONLY_SQL_TRANSACTION, "{sql}: {message}");
        let error = client.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION), "{sql}: {error:?}");
    }
    assert_eq!(value(&client, "SELECT count(*) FROM raw.samples").await, "0");
    let (_, message, _) = failure(&client, "SELECT * FROM '/etc/passwd'").await;
    assert!(!message.contains("root"), "{message}");
}

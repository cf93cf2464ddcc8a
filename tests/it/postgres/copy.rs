//! `COPY … TO STDOUT`.

use futures::TryStreamExt;
use tokio_postgres::{Client, error::SqlState};

use super::client::{start, value};

async fn copied(client: &Client, sql: &str) -> String {
    let stream = client.copy_out(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let pieces: Vec<_> = stream.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_as_text_and_as_csv() {
    let (_dir, _server, client) = start().await;
    let query = "(SELECT * FROM (VALUES (1, 'a,b', true), (2, NULL, false), (3, E'q\"\\ttab\\n', NULL)) AS t(n, s, b))";
    for (options, expected) in [
        ("", "1\ta,b\tt\n2\t\\N\tf\n3\tq\"\\ttab\\n\t\\N\n"),
        ("WITH (FORMAT csv, HEADER)", "n,s,b\n1,\"a,b\",t\n2,,f\n3,\"q\"\"\ttab\n\",\n"),
        ("CSV HEADER", "n,s,b\n1,\"a,b\",t\n2,,f\n3,\"q\"\"\ttab\n\",\n"),
        ("WITH CSV DELIMITER ';' NULL 'nil'", "1;a,b;t\n2;nil;f\n3;\"q\"\"\ttab\n\";nil\n"),
        ("WITH (FORMAT csv, FORCE_QUOTE (n))", "\"1\",\"a,b\",t\n\"2\",,f\n\"3\",\"q\"\"\ttab\n\",\n"),
    ] {
        assert_eq!(copied(&client, &format!("COPY {query} TO STDOUT {options}")).await, expected, "{options}");
    }
    assert!(copied(&client, "COPY system.settings (name) TO STDOUT").await.contains("query.timeout\n"));
    let many = copied(&client, "COPY (SELECT value FROM generate_series(1, 100000)) TO STDOUT").await;
    assert_eq!(many.lines().count(), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_said_before_it_begins() {
    let (_dir, _server, client) = start().await;
    for (sql, code) in [
        ("COPY (SELECT nope) TO STDOUT", SqlState::UNDEFINED_COLUMN),
        ("COPY (SELECT 1) TO STDOUT WITH (FORMAT binary)", SqlState::FEATURE_NOT_SUPPORTED),
        ("COPY (DELETE FROM raw.samples) TO STDOUT", SqlState::READ_ONLY_SQL_TRANSACTION),
    ] {
        let error = client.copy_out(sql).await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), Some(&code), "{sql}: {error:?}");
        assert_eq!(value(&client, "SELECT 1").await, "1");
    }
}

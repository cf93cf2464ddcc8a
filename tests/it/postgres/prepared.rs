//! Prepared statements, portals, cancelling.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use tokio_postgres::{
    NoTls,
    error::SqlState,
    types::{ToSql, Type},
};

use super::client::{add_points, failure, start, texts, value};

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_the_types_that_the_statement_needs() {
    let (_dir, server, client) = start().await;
    add_points(&server).await;
    let sql = "SELECT value FROM metrics WHERE metric = $1 AND value > $2 AND time > $3 ORDER BY time LIMIT $4";
    let statement = client.prepare(sql).await.unwrap();
    assert_eq!(statement.params(), [Type::TEXT, Type::FLOAT8, Type::TIMESTAMPTZ, Type::INT8]);
    let hour_ago = Utc::now() - chrono::TimeDelta::hours(1);
    for _ in 0..2 {
        let rows = client.query(&statement, &[&"hw.gpu.utilization", &0.1, &hour_ago, &5i64]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<_, f64>(0)).collect::<Vec<_>>(), [0.5, 0.25]);
    }
    let none = client.query(&statement, &[&None::<&str>, &0.1, &hour_ago, &5i64]).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_types_and_those_that_nothing_says_are_taken() {
    let (_dir, _server, client) = start().await;
    let statement = client.prepare_typed("SELECT $1, $2 + 1, $3", &[Type::INT8, Type::INT4, Type::TIMESTAMPTZ]).await;
    let statement = statement.unwrap();
    assert_eq!(statement.columns()[0].type_(), &Type::INT8);
    // What is declared is what is told, as JDBC expects when it prepares a statement on the server at its fifth use.
    let declared = [Type::VARCHAR, Type::BPCHAR, Type::UNKNOWN, Type::JSONB];
    let told = client.prepare_typed("SELECT $1, $2, $3, $4, $5", &declared).await.unwrap();
    assert_eq!(told.params(), [Type::VARCHAR, Type::BPCHAR, Type::TEXT, Type::JSONB, Type::TEXT]);
    let now = DateTime::from_timestamp_micros(1_795_000_000_123_456).unwrap();
    let row = client.query_one(&statement, &[&7i64, &8i32, &now]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, DateTime<Utc>>(2)), (7, now));
    let row = client.query_one("SELECT $1, length($2)", &[&"a", &"abc"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "a");
    let numbers = vec![1i64, 3];
    let any = "SELECT count(*) FROM generate_series(1, 9) WHERE value = ANY($1::BIGINT[])";
    assert_eq!(client.query_one(any, &[&numbers]).await.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_parameters_are_answered() {
    let (_dir, _server, client) = start().await;
    let places: Vec<_> = (1..=10_000).map(|n| format!("${n}")).collect();
    let sql = format!("SELECT count(*) FROM generate_series(1, 20000) WHERE value IN ({})", places.join(","));
    let values: Vec<i64> = (1..=10_000).collect();
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    assert_eq!(client.query_one(&sql, &values).await.unwrap().get::<_, i64>(0), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_prepared_executed_and_forgotten_by_sql_too() {
    let (_dir, _server, client) = start().await;
    client.batch_execute("PREPARE plus (int, int) AS SELECT $1 + $2 AS sum").await.unwrap();
    assert_eq!(value(&client, "EXECUTE plus(1, 2)").await, "3");
    assert_eq!(value(&client, "EXECUTE plus(40, 1 + 1)").await, "42");
    assert_eq!(failure(&client, "EXECUTE plus(1)").await.0, SqlState::SYNTAX_ERROR);
    assert_eq!(failure(&client, "PREPARE plus AS SELECT 1").await.0, SqlState::DUPLICATE_PSTATEMENT);
    client.batch_execute("DEALLOCATE plus").await.unwrap();
    assert_eq!(failure(&client, "EXECUTE plus(1, 2)").await.0, SqlState::INVALID_SQL_STATEMENT_NAME);
    client.batch_execute("PREPARE one AS SELECT 1; DEALLOCATE ALL").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_gives_its_rows_piece_by_piece() {
    let (_dir, _server, mut client) = start().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT value FROM generate_series(1, 10000)", &[]).await.unwrap();
    let mut sum = 0;
    for expected in [4096, 4096, 1808, 0] {
        let rows = transaction.query_portal(&portal, 4096).await.unwrap();
        assert_eq!(rows.len(), expected);
        sum += rows.iter().map(|row| row.get::<_, i64>(0)).sum::<i64>();
    }
    assert_eq!(sum, 10_000 * 10_001 / 2);
    transaction.commit().await.unwrap();
    let stream = client.query_raw("SELECT value FROM generate_series(1, 5000)", Vec::<i32>::new()).await.unwrap();
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().len(), 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_never_ends_is_cancelled_and_the_connection_goes_on() {
    let (_dir, server, client) = start().await;
    let endless = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b, \
                   generate_series(1, 1000000) c WHERE a.value + b.value = c.value + 7";
    let cancel = client.cancel_token();
    let cancelling = async {
        let running = "SELECT count(*) FROM system.queries WHERE surface = 'postgres' AND user_name = 'tester' AND state = 'running'";
        while server.rows(running).await[0][0] != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel_query(NoTls).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.simple_query(endless), cancelling);
    assert_eq!(answer.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(value(&client, "SELECT 1").await, "1");
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    let (code, message, _) = failure(&client, endless).await;
    assert_eq!(code, SqlState::QUERY_CANCELED);
    assert!(message.contains("statement timeout"), "{message}");
    assert_eq!(texts(&client, "SELECT state, count(*) FROM system.queries GROUP BY state").await, [["running", "1"]]);
}

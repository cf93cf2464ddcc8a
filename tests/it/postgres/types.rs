//! Values in text and in binary.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use tokio_postgres::types::Type;

use super::client::{add_points, rows, start, texts, value};

/// Expression, OID, text as PostgreSQL 15 writes it.
const VALUES: [(&str, Type, &str); 22] = [
    ("true", Type::BOOL, "t"),
    ("CAST(7 AS SMALLINT)", Type::INT2, "7"),
    ("CAST(-7 AS INT)", Type::INT4, "-7"),
    ("9223372036854775807", Type::INT8, "9223372036854775807"),
    ("arrow_cast(18446744073709551615, 'UInt64')", Type::NUMERIC, "18446744073709551615"),
    ("CAST(1.5 AS REAL)", Type::FLOAT4, "1.5"),
    ("0.1e0", Type::FLOAT8, "0.1"),
    ("CAST('NaN' AS DOUBLE)", Type::FLOAT8, "NaN"),
    ("CAST(1.50 AS DECIMAL(10,2))", Type::NUMERIC, "1.50"),
    ("'text'", Type::TEXT, "text"),
    ("arrow_cast('low', 'Dictionary(Int32, Utf8)')", Type::TEXT, "low"),
    ("DATE '2026-11-18'", Type::DATE, "2026-11-18"),
    ("TIMESTAMP '2026-11-18 11:06:40.5'", Type::TIMESTAMP, "2026-11-18 11:06:40.5"),
    ("TIMESTAMPTZ '2026-11-18T11:06:40Z'", Type::TIMESTAMPTZ, "2026-11-18 11:06:40+00"),
    ("INTERVAL '1 day 2 hours'", Type::INTERVAL, "1 day 02:00:00"),
    ("X'00ff'", Type::BYTEA, "\\x00ff"),
    ("[1, 2, NULL]", Type::INT8_ARRAY, "{1,2,NULL}"),
    ("['a', 'b c', '']", Type::TEXT_ARRAY, "{a,\"b c\",\"\"}"),
    ("[[1], [2]]", Type::JSON, "[[1],[2]]"),
    ("map(['k'], [1])", Type::JSON, "{\"k\":1}"),
    ("named_struct('a', 1, 'b', 'x')", Type::JSON, "{\"a\":1,\"b\":\"x\"}"),
    ("NULL", Type::TEXT, "NULL"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_value_has_a_type_that_clients_know_and_the_text_of_postgresql() {
    let (_dir, _server, client) = start().await;
    for (expression, expected, text) in VALUES {
        let sql = format!("SELECT {expression} AS v");
        assert_eq!(texts(&client, &sql).await, [[text]], "{sql}");
        let statement = client.prepare(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(statement.columns()[0].type_(), &expected, "{sql}");
        // Binary, through the client's own decoding.
        client.query(&statement, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_values_are_what_they_say() {
    let (_dir, server, client) = start().await;
    add_points(&server).await;
    let sql = "SELECT true, CAST(7 AS SMALLINT), CAST(8 AS INT), 9, CAST(0.5 AS REAL), 0.25, 'x', DATE '2026-11-18', \
               TIMESTAMP '2026-11-18 11:06:40', TIMESTAMPTZ '2026-11-18T11:06:40Z', [1, NULL], map(['k'], [1]), X'00ff'";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (7, 8, 9));
    assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5), row.get::<_, &str>(6)), (0.5, 0.25, "x"));
    let date = NaiveDate::from_ymd_opt(2026, 11, 18).unwrap();
    let time: NaiveDateTime = date.and_hms_opt(11, 6, 40).unwrap();
    assert_eq!(row.get::<_, NaiveDate>(7), date);
    assert_eq!(row.get::<_, NaiveDateTime>(8), time);
    assert_eq!(row.get::<_, DateTime<Utc>>(9), time.and_utc());
    assert_eq!(row.get::<_, Vec<Option<i64>>>(10), [Some(1), None]);
    assert_eq!(row.get::<_, serde_json::Value>(11), serde_json::json!({ "k": 1 }));
    assert_eq!(row.get::<_, Vec<u8>>(12), [0, 255]);
    // A view of ours: labels, times, doubles and a map.
    let row = client.query_one("SELECT * FROM metrics ORDER BY time LIMIT 1", &[]).await.unwrap();
    assert_eq!(row.get::<_, f64>("value"), 0.5);
    assert_eq!(row.get::<_, serde_json::Value>("attributes")["k\"ey"], "va,lue");
    assert!(row.get::<_, DateTime<Utc>>("time") < Utc::now());
    assert_eq!(row.get::<_, Option<&str>>("gpu_id"), Some("GPU-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_called_as_in_postgresql() {
    let (_dir, _server, client) = start().await;
    let statement =
        client.prepare("SELECT 1, 1, count(*), now(), 'x' AS \"X\", max(value) FROM metrics").await.unwrap();
    let names: Vec<_> = statement.columns().iter().map(|column| column.name()).collect();
    assert_eq!(names, ["?column?", "?column?", "count", "now", "X", "max"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_many_rows_streams() {
    let (_dir, _server, client) = start().await;
    let rows = rows(&client, "SELECT value, value * 2 FROM generate_series(1, 100000)").await;
    assert_eq!(rows.len(), 100_000);
    assert_eq!(value(&client, "SELECT count(*) FROM generate_series(1, 100000)").await, "100000");
}

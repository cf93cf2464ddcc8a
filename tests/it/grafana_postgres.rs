//! What Grafana's PostgreSQL data source sends, word for word, over the simple protocol as it does.
//!
//! The statements of the query builder are those of `postgresMetaQuery.ts`, the macros are expanded as in `macros.go`, both
//! of `grafana-postgresql-datasource`.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    otlp::{export, gauge, label, point},
    postgres::client::{connect, start, texts, value},
    server::Server,
};

const MINUTE: u64 = 60_000_000_000;

/// The schemas that the builder leaves out.
const SYSTEM_SCHEMAS: &str = "'_timescaledb_cache',
                             '_timescaledb_catalog',
                             '_timescaledb_internal',
                             '_timescaledb_config',
                             'timescaledb_information',
                             'timescaledb_experimental'";

/// `buildSchemaConstraint()`.
const SCHEMA_CONSTRAINT: &str = r#"
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )"#;

/// `getSchema(table)`.
fn columns_of(table: &str) -> String {
    format!(
        "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\"
    FROM information_schema.columns
    WHERE
      CASE WHEN array_length(parse_ident('{table}'),1) = 2
        THEN quote_ident(table_schema) = (parse_ident('{table}'))[1]
          AND quote_ident(table_name) = (parse_ident('{table}'))[2]
        ELSE quote_ident(table_name) = '{table}'
          AND {SCHEMA_CONSTRAINT}
      END"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_source_finds_the_version_and_the_extension() {
    let (_dir, _server, client) = start().await;
    assert_eq!(value(&client, "SELECT current_setting('server_version_num')::int/100 as version").await, "1500");
    let extension = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'";
    assert_eq!(texts(&client, extension).await.len(), 1);
    client.simple_query("-- ping").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_builder_finds_schemas_tables_and_columns() {
    let (_dir, _server, client) = start().await;
    let schemas = "SELECT schema_name AS \"name\"
    FROM information_schema.schemata
    WHERE schema_name NOT IN ('information_schema',
                              'pg_catalog',
                              'pg_toast',
                              '_timescaledb_cache',
                              '_timescaledb_catalog',
                              '_timescaledb_internal',
                              '_timescaledb_config',
                              'timescaledb_information',
                              'timescaledb_experimental')
    ORDER BY schema_name";
    assert_eq!(texts(&client, schemas).await, [["public"], ["raw"], ["reports"], ["system"]]);
    let of_schema = "SELECT quote_ident(table_name) AS \"table\"
      FROM information_schema.tables
      WHERE quote_ident(table_schema) = 'raw'
      ORDER BY 1";
    let raw = texts(&client, of_schema).await.concat();
    assert!(["histograms", "samples", "series"].iter().all(|table| raw.iter().any(|found| found == table)), "{raw:?}");
    let tables = format!(
        "SELECT
    CASE WHEN {SCHEMA_CONSTRAINT}
      THEN quote_ident(table_name)
      ELSE quote_ident(table_schema) || '.' || quote_ident(table_name)
    END AS \"table\"
    FROM information_schema.tables
    WHERE quote_ident(table_schema) NOT IN ('information_schema',
                             'pg_catalog',
                             {SYSTEM_SCHEMAS})
    ORDER BY CASE WHEN {SCHEMA_CONSTRAINT} THEN 0 ELSE 1 END, 1"
    );
    let tables: Vec<_> = texts(&client, &tables).await.concat();
    let place =
        |name: &str| tables.iter().position(|table| table == name).unwrap_or_else(|| panic!("{name}: {tables:?}"));
    assert!(place("gpu") < place("raw.samples"), "the search path comes first: {tables:?}");
    let gpu = texts(&client, &columns_of("gpu")).await;
    for (column, data_type) in [
        ("\"time\"", "timestamp with time zone"),
        ("\"value\"", "double precision"),
        ("role", "text"),
        ("attributes", "json"),
    ] {
        let plain = column.trim_matches('"');
        let found =
            gpu.iter().find(|row| row[0].trim_matches('"') == plain).unwrap_or_else(|| panic!("{column}: {gpu:?}"));
        assert_eq!(found[1], data_type, "{column}");
    }
    let samples = texts(&client, &columns_of("raw.samples")).await;
    assert!(samples.iter().any(|row| row[0].trim_matches('"') == "series_id" && row[1] == "bigint"), "{samples:?}");
}

/// Two GPUs, ten points each, a minute apart, from 2026-11-25T10:00:00Z on.
async fn dashboards() -> (tempfile::TempDir, Server, Client) {
    let (dir, server) = crate::server::start();
    let start = 1_795_600_800_000_000_000;
    let points = (0..2).flat_map(|gpu| {
        (0..10).map(move |minute| {
            let labels = vec![label("hw.id", &format!("GPU-{gpu}")), label("host.name", "h1")];
            point(start + minute * MINUTE, 0.1 * (gpu + 1) as f64, labels)
        })
    });
    let sent = export(&server, vec![gauge("hw.gpu.utilization", points.collect())]).await;
    assert_eq!(sent.0, 0, "{sent:?}");
    let client = connect(&server).await;
    (dir, server, client)
}

const TIME_FILTER: &str = "\"time\" BETWEEN '2026-11-25T10:00:00Z' AND '2026-11-25T10:10:00.123Z'";

/// The names of the columns and the rows of an answer.
async fn frame(client: &Client, sql: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut names = vec![];
    let mut rows = vec![];
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                names = columns.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|n| row.get(n).unwrap_or("NULL").to_owned()).collect());
            }
            _ => {}
        }
    }
    (names, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn panels_get_time_series_and_tables() {
    let (_dir, _server, client) = dashboards().await;
    // $__timeGroupAlias without timescaledb: seconds, as a number.
    let grouped = format!(
        "SELECT\n  floor(extract(epoch from time)/300)*300 AS \"time\",\n  gpu_id AS metric,\n  avg(value) AS \"value\"\n\
         FROM gpu\nWHERE\n  {TIME_FILTER} AND\n  role = 'gpu.utilization'\nGROUP BY 1, 2\nORDER BY 1"
    );
    let (names, rows) = frame(&client, &grouped).await;
    assert_eq!(names, ["time", "metric", "value"]);
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0][0], "1795600800");
    // $__time, $__timeFilter: raw points.
    let points = format!("SELECT time AS \"time\", gpu_id, value FROM gpu WHERE {TIME_FILTER} ORDER BY time LIMIT 50");
    let (names, rows) = frame(&client, &points).await;
    assert_eq!(names, ["time", "gpu_id", "value"]);
    assert_eq!((rows.len(), rows[0][0].as_str()), (20, "2026-11-25 10:00:00+00"));
    // $__timeEpoch, $__unixEpochFilter, $__unixEpochGroup over a column of seconds.
    let epochs = "SELECT floor((epoch)/60)*60 AS \"time\", count(*) AS n FROM \
                  (SELECT extract(epoch from time) AS epoch FROM gpu) AS points \
                  WHERE epoch >= 1795600800 AND epoch <= 1795601400 GROUP BY 1 ORDER BY 1";
    assert_eq!(frame(&client, epochs).await.1.len(), 10);
    let epoch = "SELECT extract(epoch from time) as \"time\" FROM gpu ORDER BY 1 LIMIT 1";
    assert_eq!(frame(&client, epoch).await.1, [["1795600800"]]);
    // $__timeFrom and $__timeTo.
    let between = "SELECT count(*) FROM gpu WHERE time >= '2026-11-25T10:00:00Z' AND time < '2026-11-25T10:05:00Z'";
    assert_eq!(value(&client, between).await, "10");
    // A table, and one value as an alert rule wants it.
    let table = "SELECT host_name, gpu_id, round(avg(value)::numeric, 2) AS mean FROM gpu GROUP BY host_name, gpu_id ORDER BY 2";
    assert_eq!(frame(&client, table).await.1, [["h1", "GPU-0", "0.10"], ["h1", "GPU-1", "0.20"]]);
    let alert = format!("SELECT avg(value) AS value FROM gpu WHERE {TIME_FILTER}");
    assert!((value(&client, &alert).await.parse::<f64>().unwrap() - 0.15).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn panels_group_by_time_bucket_where_timescaledb_is_found() {
    let (_dir, _server, client) = dashboards().await;
    // $__timeGroupAlias(time, '5m') and $__timeGroup(time, $__interval) with timescaledb.
    let sql = format!(
        "SELECT\n  time_bucket('300.000s',time) AS \"time\",\n  gpu_id AS metric,\n  avg(value) AS \"value\"\nFROM gpu\n\
         WHERE\n  {TIME_FILTER}\nGROUP BY 1, 2\nORDER BY 1, 2"
    );
    let (names, rows) = frame(&client, &sql).await;
    assert_eq!(names, ["time", "metric", "value"]);
    let times: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
    let (first, second) = ("2026-11-25 10:00:00+00", "2026-11-25 10:05:00+00");
    assert_eq!(times, [first, first, second, second]);
    let counted =
        "SELECT time_bucket('60.000s',time), count(*) FROM gpu GROUP BY time_bucket('60.000s',time) ORDER BY 1";
    assert_eq!(frame(&client, counted).await.1.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_and_variables_are_answered() {
    let (_dir, _server, client) = dashboards().await;
    let annotations = "SELECT\n  time AS \"time\",\n  time + INTERVAL '5 minutes' AS timeend,\n  metric AS text,\n  gpu_id AS tags\n\
                       FROM\n  gpu\nWHERE\n  time BETWEEN '2026-11-25T10:00:00Z' AND '2026-11-25T10:10:00Z'\nORDER BY time LIMIT 2";
    let (names, rows) = frame(&client, annotations).await;
    assert_eq!(names, ["time", "timeend", "text", "tags"]);
    assert_eq!(rows[0][..3], ["2026-11-25 10:00:00+00", "2026-11-25 10:05:00+00", "hw.gpu.utilization"]);
    let variable = "SELECT DISTINCT gpu_id FROM gpu WHERE host_name IN ('h1') ORDER BY 1";
    assert_eq!(texts(&client, variable).await, [["GPU-0"], ["GPU-1"]]);
    let pairs = "SELECT gpu_id AS __text, gpu_id AS __value FROM gpu GROUP BY gpu_id ORDER BY 1";
    assert_eq!(frame(&client, pairs).await.0, ["__text", "__value"]);
    let regular = "SELECT count(*) FROM gpu WHERE gpu_id ~ 'GPU-[01]' AND host_name = ANY(ARRAY['h1', 'h2'])";
    assert_eq!(value(&client, regular).await, "20");
}

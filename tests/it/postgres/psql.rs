//! psql itself, where it is installed, and the statements that it sends, everywhere.

use std::process::{Command, Output};

use super::client::{add_points, start, texts};
use crate::server::Server;

/// Runs psql, or says that there is none.
fn psql(server: &Server, commands: &[&str]) -> Option<Output> {
    let (host, port) = server.postgres.rsplit_once(':').unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "tester", "-d", "driftwatt"]);
    for command in commands {
        psql.args(["-c", command]);
    }
    match psql.output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("not tried with psql itself: {error}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_describes_and_copies() {
    let (_dir, server, _client) = start().await;
    add_points(&server).await;
    for (command, expected) in [
        (r"\l", "driftwatt"),
        (r"\dn", "reports"),
        (r"\dt raw.*", "samples"),
        (r"\dt", "samples"),
        (r"\dv", "gpu"),
        (r"\d", "gpu"),
        (r"\d gpu", "timestamp with time zone"),
        (r"\d gpu", "json"),
        (r"\d raw.samples", "double precision"),
        (r"\d+ raw.samples", "bigint"),
        (r"\d+ gpu", "In the unit of the role"),
        (r"\dt+ raw.*", "Number points as received"),
        (r"\dv+", "Every number point with its labels"),
        (r"\df", "List of functions"),
        (r"\dx", "timescaledb"),
        (r"\du", "List of roles"),
        (r"\dn+", "Telemetry as received"),
        (r"\copy (select 1 as a, 'b,c' as b) to stdout csv header", "a,b\n1,\"b,c\"\n"),
        (r"\copy (select value from generate_series(1, 3)) to stdout", "1\n2\n3\n"),
    ] {
        let Some(output) = psql(&server, &[command]) else { return };
        let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains(expected), "{command}: {said}{wrong}");
    }
    let prepared = ["PREPARE plus (int) AS SELECT $1 + 1 AS sum", "EXECUTE plus(41)", "DEALLOCATE plus"];
    let Some(output) = psql(&server, &prepared) else { return };
    assert!(String::from_utf8_lossy(&output.stdout).contains("42"), "{output:?}");
}

/// What psql 15 sends for `\d gpu`, with the oid of the view in place of `{oid}`.
const DESCRIBE: [&str; 4] = [
    "SELECT c.relchecks, c.relkind, c.relhasindex, c.relhasrules, c.relhastriggers, c.relrowsecurity, c.relforcerowsecurity, false AS relhasoids, c.relispartition, '', c.reltablespace, CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, c.relpersistence, c.relreplident, am.amname\nFROM pg_catalog.pg_class c\n LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid)\nLEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid)\nWHERE c.oid = '{oid}';",
    "SELECT a.attname,\n  pg_catalog.format_type(a.atttypid, a.atttypmod),\n  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)\n   FROM pg_catalog.pg_attrdef d\n   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),\n  a.attnotnull,\n  (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t\n   WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation,\n  a.attidentity,\n  a.attgenerated\nFROM pg_catalog.pg_attribute a\nWHERE a.attrelid = '{oid}' AND a.attnum > 0 AND NOT a.attisdropped\nORDER BY a.attnum;",
    "SELECT c.oid::pg_catalog.regclass\nFROM pg_catalog.pg_class c, pg_catalog.pg_inherits i\nWHERE c.oid = i.inhparent AND i.inhrelid = '{oid}'\n  AND c.relkind != 'p' AND c.relkind != 'I'\nORDER BY inhseqno;",
    "SELECT pol.polname, pol.polpermissive,\n  CASE WHEN pol.polroles = '{0}' THEN NULL ELSE pg_catalog.array_to_string(array(select rolname from pg_catalog.pg_roles where oid = any (pol.polroles) order by 1),',') END,\n  pg_catalog.pg_get_expr(pol.polqual, pol.polrelid),\n  pg_catalog.pg_get_expr(pol.polwithcheck, pol.polrelid),\n  CASE pol.polcmd\n    WHEN 'r' THEN 'SELECT'\n    WHEN 'a' THEN 'INSERT'\n    WHEN 'w' THEN 'UPDATE'\n    WHEN 'd' THEN 'DELETE'\n    END AS cmd\nFROM pg_catalog.pg_policy pol\nWHERE pol.polrelid = '{oid}' ORDER BY 1;",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_psql_asks_to_describe_a_view_is_answered_without_psql_too() {
    let (_dir, _server, client) = start().await;
    let find = "SELECT c.oid,\n  n.nspname,\n  c.relname\nFROM pg_catalog.pg_class c\n     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace\nWHERE c.relname OPERATOR(pg_catalog.~) '^(gpu)$' COLLATE pg_catalog.default\n  AND pg_catalog.pg_table_is_visible(c.oid)\nORDER BY 2, 3;";
    let found = texts(&client, find).await;
    assert_eq!((found.len(), found[0][1].as_str(), found[0][2].as_str()), (1, "public", "gpu"));
    let answers = DESCRIBE.map(|sql| sql.replace("{oid}", &found[0][0]));
    let class = texts(&client, &answers[0]).await;
    assert_eq!(class[0][1], "v");
    let columns = texts(&client, &answers[1]).await;
    assert_eq!(columns[0][..2], ["time", "timestamp with time zone"]);
    assert!(columns.iter().any(|column| column[0] == "attributes" && column[1] == "json"), "{columns:?}");
    for empty in &answers[2..] {
        assert!(texts(&client, empty).await.is_empty(), "{empty}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_columns_have_comments() {
    let (_dir, _server, client) = start().await;
    // As DBeaver and Grafana read them, and as psql does.
    let joined = "SELECT c.relname, a.attname, d.description FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
         JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = a.attnum \
         WHERE n.nspname = 'public' AND c.relname = 'gpu' AND a.attname IN ('role', 'value') ORDER BY a.attname";
    let found = texts(&client, joined).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0][2].starts_with("What the value is") && found[1][2].contains("unit of the role"), "{found:?}");
    let called = "SELECT pg_catalog.obj_description(c.oid, 'pg_class'), pg_catalog.col_description(c.oid, 1) \
         FROM pg_catalog.pg_class c WHERE c.relname = 'increases'";
    let found = texts(&client, called).await;
    assert!(found[0][0].contains("what a counter gained") && found[0][1] == "Name as received", "{found:?}");
}

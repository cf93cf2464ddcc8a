//! A week of 50 million samples of one metric.

use std::{path::Path, time::Instant};

use anyhow::ensure;
use datafusion::arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};
use driftwatt_store::{Compaction, Store};

use crate::{
    Compared, ROUNDS, ROUNDS_OF_A_SCAN, asked, compare, count,
    fleet::{DAYS, Fleet, METRIC, START_US, TICKS_PER_DAY},
    open, times,
};

async fn fill(store: &Store, fleet: &mut Fleet) -> anyhow::Result<u64> {
    let mut point_count = 0;
    for _day in 0..DAYS {
        for _part in 0..4 {
            let batch = fleet.batch(TICKS_PER_DAY / 4);
            point_count += batch.samples.len() as u64;
            store.append(batch).await?;
            store.flush().await?;
        }
    }
    store.compact(Compaction::Full).await?;
    Ok(point_count)
}

/// Means by host and `more`, with the number of values last, and what DuckDB is to be asked for the same.
fn means<'a>(name: &'a str, more: [&str; 2]) -> Compared<'a> {
    let end = START_US + DAYS as i64 * 86_400_000_000;
    let [ours, theirs] = more;
    let and = |column: &str| if column.is_empty() { String::new() } else { format!(", {column}") };
    let groups = if ours.is_empty() { "1" } else { "1, 2" };
    let sql = format!(
        "SELECT host_name{}, avg(value) AS mean, count(value) AS points FROM metrics WHERE metric = '{METRIC}' \
         AND time >= to_timestamp_micros({START_US}) AND time < to_timestamp_micros({end}) \
         GROUP BY {groups} ORDER BY {groups}",
        and(ours)
    );
    let duckdb_sql = format!(
        "SELECT d.host_name{}, avg(coalesce(s.scaled / pow(10, s.exponent), s.value)) AS mean, count(*) AS points \
         FROM read_parquet({{samples}}, hive_partitioning = true) s \
         JOIN read_parquet({{series}}, hive_partitioning = true) d \
         ON s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date \
         WHERE s.metric = '{METRIC}' GROUP BY {groups} ORDER BY {groups}",
        and(theirs)
    );
    Compared { name, sql, duckdb_sql, rounds: ROUNDS_OF_A_SCAN }
}

/// Fills a store with a fleet of `host_count` and asks.
///
/// # Errors
/// The store, a query, or a wrong answer.
pub(crate) async fn ask(dir: &Path, host_count: usize) -> anyhow::Result<()> {
    let store = open(dir).await?;
    let mut fleet = Fleet::new(host_count);
    let started = Instant::now();
    let point_count = fill(&store, &mut fleet).await?;
    let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
    println!("{point_count} samples stored and merged in {:.1} s", started.elapsed().as_secs_f64());
    let ids = fleet.ids();
    let hour = |run: usize| {
        let from = START_US + (run as i64 * 37 % (24 * DAYS as i64)) * 3_600_000_000;
        let id = ids[run * 97 % ids.len()];
        format!(
            "SELECT time, value FROM raw.samples WHERE metric = '{METRIC}' AND series_id = {id} \
             AND time >= to_timestamp_micros({from}) AND time < to_timestamp_micros({})",
            from + 3_600_000_000
        )
    };
    let selective = times(&ctx, ROUNDS, hour, |answer| {
        ensure!(count(answer) == 240, "{} rows of an hour instead of 240", count(answer));
        Ok(())
    });
    let selective = selective.await?;
    println!("one series, one hour: p50 {:.1} ms, p99 {:.1} ms", selective.ms(0.5), selective.ms(0.99));
    let check = |answer: &[RecordBatch]| {
        let last = answer.iter().map(|batch| batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>());
        let points: i64 = last.flat_map(|column| column.values().to_vec()).sum();
        ensure!(points == point_count as i64, "{points} samples are in the means");
        Ok(())
    };
    let hourly = ["time_bucket('1 hour', time) AS hour", "time_bucket(INTERVAL 1 HOUR, s.time) AS hour"];
    let asked = [
        asked(&ctx, means("mean by host over the week", [""; 2]), check).await?,
        asked(&ctx, means("mean by host and hour over the week", hourly), check).await?,
    ];
    drop(ctx);
    store.close().await?;
    compare(dir, &asked).await
}

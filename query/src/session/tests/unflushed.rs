//! What is read of points that no file holds yet.

use datafusion::physical_plan::{ExecutionPlan, collect};

use super::*;

/// Rows that came out of the scans of unflushed points.
fn rows_read(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().filter(|_| plan.name() == "UnflushedExec").and_then(|metrics| metrics.output_rows());
    own.unwrap_or(0) + plan.children().into_iter().map(rows_read).sum::<usize>()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_unflushed_points_those_of_the_series_and_times_asked_for_are_read() {
    let fixture = fixture().await;
    let hosts: Vec<String> = (0..50).map(|n| format!("h{n}")).collect();
    let of_host = |host: &String| series("m", Kind::Gauge, &[("host.id", host)]);
    let mut batch = WriteBatch { series: hosts.iter().map(of_host).collect(), ..WriteBatch::default() };
    for n in 0..5_000_u32 {
        // Two days, a point of each series every 15 minutes or so.
        let time = START + i64::from(n / 50) * 900_000_000;
        batch.samples.push(n % 50, 0, time, f64::from(n).to_bits(), SampleColumns::DOUBLE);
    }
    fixture.store.append(batch).await.unwrap();
    let one = "attributes['host.id'] = 'h7'";
    for (condition, found, read_max) in [
        (one.to_owned(), 100, 100),
        (format!("{one} AND time < '2026-11-18T12:06:40Z'"), 4, 4),
        ("time >= '2026-11-18T12:06:40Z' AND time <= '2026-11-18T12:21:40Z'".to_owned(), 100, 100),
        ("series_id = 1".to_owned(), 0, 0),
        (format!("{one} AND value > 4000"), 20, 100),
        ("attributes['host.id'] IN ('h7', 'h8') AND value > 4000 OR value = 7".to_owned(), 41, 5_000),
    ] {
        let sql = format!("SELECT value FROM metrics WHERE metric = 'm' AND ({condition})");
        let plan = fixture.ctx.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
        let batches = collect(Arc::clone(&plan), fixture.ctx.task_ctx()).await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), found, "{condition}");
        let read = rows_read(&plan);
        assert!((found..=read_max).contains(&read), "{read} rows read: {condition}");
    }
}

//! Zeros of a profiler that has lost its counters.

use super::*;

/// One card, scraped every 15 seconds: duty cycle in percent, then engine, tensor and DRAM activity.
async fn scraped(fixture: &Fixture, id: &str, moments: &[(f64, f64, f64, f64)]) {
    let on = |metric| Sent::new(metric, "", &[("UUID", id), ("gpu", "0"), ("Hostname", "n1"), ("modelName", "H100")]);
    let points =
        |pick: fn(&(f64, f64, f64, f64)) -> f64| (0..).zip(moments).map(|(n, at)| (15 * n, pick(at))).collect();
    fixture
        .send(&[
            (on("DCGM_FI_DEV_GPU_UTIL"), points(|at| at.0)),
            (on("DCGM_FI_PROF_GR_ENGINE_ACTIVE"), points(|at| at.1)),
            (on("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"), points(|at| at.2)),
            (on("DCGM_FI_PROF_DRAM_ACTIVE"), points(|at| at.3)),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_of_a_lost_profiler_are_missing_and_those_of_an_idle_card_are_not() {
    let fixture = fixture().await;
    let (busy, lost, idle, no_tensor) =
        ((90.0, 0.8, 0.4, 0.6), (90.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), (50.0, 0.5, 0.0, 0.3));
    let losing: Vec<_> = [vec![busy; 10], vec![lost; 50], vec![busy; 10]].concat();
    let resting: Vec<_> = [vec![busy; 10], vec![idle; 50], vec![no_tensor; 10]].concat();
    scraped(&fixture, "GPU-00000000-0000-4000-8000-000000000021", &losing).await;
    scraped(&fixture, "GPU-00000000-0000-4000-8000-000000000022", &resting).await;
    // A card whose duty cycle arrives at other moments than the rest.
    let id = "GPU-00000000-0000-4000-8000-000000000023";
    let on = |metric| Sent::new(metric, "", &[("UUID", id)]);
    let every = |first: i64, value| (0..60).map(|n| (first + 15 * n, value)).collect::<Vec<_>>();
    fixture.send(&[(on("DCGM_FI_DEV_GPU_UTIL"), every(7, 70.0)), (on("DCGM_FI_PROF_SM_ACTIVE"), every(0, 0.0))]).await;
    let means = "SELECT right(gpu_id, 2), role, round(avg(value), 6), count(value), \
                 sum(CASE WHEN quality = 'missing' THEN 1 ELSE 0 END), sum(reported * 0) FROM gpu \
                 WHERE role LIKE '%_active' GROUP BY 1, 2 ORDER BY 1, 2";
    let expected = [
        json!(["21", "gpu.dram_active", 0.6, 20, 50, 0.0]),
        json!(["21", "gpu.engine_active", 0.8, 20, 50, 0.0]),
        json!(["21", "gpu.tensor_active", 0.4, 20, 50, 0.0]),
        json!(["22", "gpu.dram_active", 0.128571, 70, 0, 0.0]),
        json!(["22", "gpu.engine_active", 0.185714, 70, 0, 0.0]),
        json!(["22", "gpu.tensor_active", 0.057143, 70, 0, 0.0]),
        json!(["23", "gpu.sm_active", null, 0, 60, 0.0]),
    ];
    for _ in 0..2 {
        assert_eq!(fixture.table(means).await, expected);
        fixture.store.flush().await.unwrap();
    }
    // A question about a part of a step gets the same answer.
    let part = format!(
        "SELECT DISTINCT quality FROM gpu WHERE role = 'gpu.sm_active' AND time >= to_timestamp_micros({}) \
         AND time < to_timestamp_micros({})",
        START + 60_000_000,
        START + 80_000_000
    );
    assert_eq!(fixture.table(&part).await, [json!(["missing"])]);
    let scans = fixture.scans("SELECT avg(value) FROM gpu WHERE role = 'gpu.utilization'").await;
    assert!(!scans.iter().any(|scan| scan.contains("profiling")), "{scans:?}");
}

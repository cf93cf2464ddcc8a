//! The report's aggregates, computed in SQL.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::{Dimension, HourlyPoint, Stats, Usage};
use crate::{
    PriceBook,
    error::Result,
    rows::{Rows, SIMULATED},
    window::{HOUR_US, Window},
};

/// Simulated or not, dimension, name: real rows sort first and the two never meet.
pub(super) type Key = (bool, Dimension, String);

/// All rows of one window.
#[derive(Default)]
pub(super) struct WindowUsage {
    pub(super) rows: BTreeMap<Key, Usage>,
    pub(super) row_count: u64,
    pub(super) queries: Vec<String>,
}

const GPU_KEY: &str = "coalesce(host_name, '') || '/' || gpu_id";
const MODEL_KEY: &str = "model_name || coalesce(' ' || model_version, '')";
const ROLES: &str = "'gpu.utilization', 'gpu.memory.used', 'cpu.utilization', 'memory.used'";

/// Reads the usage of every resource in `window`.
pub(super) async fn usage(ctx: &SessionContext, window: Window, prices: Option<&PriceBook>) -> Result<WindowUsage> {
    let mut all = WindowUsage::default();
    let gpu_keys = [
        (Dimension::Service, "service_name"),
        (Dimension::Model, MODEL_KEY),
        (Dimension::Host, "host_name"),
        (Dimension::Gpu, GPU_KEY),
    ];
    for (dimension, key) in gpu_keys {
        add_stats(ctx, &mut all, "gpu", dimension, key, window).await?;
    }
    for (dimension, key) in &gpu_keys[..3] {
        add_stats(ctx, &mut all, "system", *dimension, key, window).await?;
    }
    add_gpu_hours(ctx, &mut all, window, prices).await?;
    add_host_hours(ctx, &mut all, window, prices).await?;
    Ok(all)
}

async fn add_stats(
    ctx: &SessionContext,
    all: &mut WindowUsage,
    view: &str,
    dimension: Dimension,
    key: &str,
    window: Window,
) -> Result<()> {
    let query = format!(
        "SELECT simulated, name, role, count(*) AS sample_count, avg(value) AS average, \
         percentile_cont(value, 0.95) AS p95, max(value) AS peak FROM ({}) \
         WHERE name IS NOT NULL GROUP BY simulated, name, role",
        values_query(view, key, window)
    );
    let rows = Rows::query(ctx, &query).await?;
    let (simulated, names, roles) = (rows.flags("simulated")?, rows.texts("name")?, rows.texts("role")?);
    let (counts, averages) = (rows.integers("sample_count")?, rows.numbers("average")?);
    let (p95s, peaks) = (rows.numbers("p95")?, rows.numbers("peak")?);
    for row in 0..rows.len() {
        let name = names[row].clone().unwrap_or_default();
        let usage = all.rows.entry((simulated[row], dimension, name)).or_default();
        let sample_count = counts[row].unwrap_or(0).unsigned_abs();
        let stats = Stats { average: averages[row], p95: p95s[row], peak: peaks[row], sample_count };
        match roles[row].as_deref() {
            Some("gpu.utilization") => usage.gpu_utilization = stats,
            Some("gpu.memory.used") => usage.gpu_memory = stats,
            Some("cpu.utilization") => usage.cpu_utilization = stats,
            _ => usage.memory = stats,
        }
        // Every sample has a host, service and model at most once, so one dimension counts each sample once.
        if dimension == Dimension::Host {
            all.row_count += sample_count;
        }
    }
    all.queries.push(query);
    Ok(())
}

/// SQL for the values of every resource; the memory of MIG slices of one card and moment is one value, their sum.
fn values_query(view: &str, key: &str, window: Window) -> String {
    let select = |columns: &str, condition: &str| {
        format!(
            "SELECT {columns}, {key} AS name, role, value FROM {view} WHERE role IN ({ROLES}) AND {} \
             AND value IS NOT NULL AND NOT isnan(value){condition}",
            window.condition("time")
        )
    };
    if view != "gpu" {
        return select(&format!("{SIMULATED} AS simulated"), "");
    }
    // The flag is read after the union: the engine plans a flag that cannot be null differently on both sides of it.
    let flag = "attributes['driftwatt.simulated'] AS flag";
    let whole = select(flag, " AND (mig_id IS NULL OR role <> 'gpu.memory.used')");
    let slices =
        select(&format!("{flag}, host_name, gpu_id, time"), " AND mig_id IS NOT NULL AND role = 'gpu.memory.used'");
    format!(
        "SELECT coalesce(flag = 'true', false) AS simulated, name, role, value FROM ({whole} UNION ALL \
         SELECT flag, name, role, sum(value) AS value FROM ({slices}) \
         GROUP BY flag, name, role, host_name, gpu_id, time)"
    )
}

/// SQL for samples received and the median interval between them, per group of `keys`.
fn interval_query(view: &str, role: &str, columns: &str, keys: &str, window: Window) -> String {
    format!(
        "SELECT {keys}, sum(CASE WHEN step IS NULL OR step > 0 THEN 1 ELSE 0 END) AS received, \
         median(CASE WHEN step > 0 THEN CAST(step AS DOUBLE) END) AS step_us FROM (SELECT *, CAST(time AS BIGINT) - \
         lag(CAST(time AS BIGINT)) OVER (PARTITION BY {keys} ORDER BY time) AS step FROM (SELECT {columns}, time \
         FROM {view} WHERE role = '{role}' AND {} AND value IS NOT NULL)) GROUP BY {keys}",
        window.condition("time")
    )
}

async fn add_gpu_hours(
    ctx: &SessionContext,
    all: &mut WindowUsage,
    window: Window,
    prices: Option<&PriceBook>,
) -> Result<()> {
    let columns = format!(
        "{SIMULATED} AS simulated, host_name AS host, {GPU_KEY} AS gpu, gpu_model, service_name AS service, \
         {MODEL_KEY} AS model"
    );
    let query =
        interval_query("gpu", "gpu.utilization", &columns, "simulated, host, gpu, gpu_model, service, model", window);
    let rows = Rows::query(ctx, &query).await?;
    let (simulated, gpu_models) = (rows.flags("simulated")?, rows.texts("gpu_model")?);
    let (received, steps) = (rows.integers("received")?, rows.numbers("step_us")?);
    let names = [
        (Dimension::Service, rows.texts("service")?),
        (Dimension::Model, rows.texts("model")?),
        (Dimension::Host, rows.texts("host")?),
        (Dimension::Gpu, rows.texts("gpu")?),
    ];
    let mut gpus: BTreeMap<Key, std::collections::BTreeSet<Option<String>>> = BTreeMap::new();
    let mut unknown: std::collections::BTreeSet<Key> = std::collections::BTreeSet::new();
    for row in 0..rows.len() {
        // One sample has no interval: its hours are not known and count as none.
        let seen_us = received[row].unwrap_or(0) as f64 * steps[row].unwrap_or(0.0);
        let hours = (seen_us / HOUR_US as f64).min(window.hours());
        let price = prices.and_then(|prices| prices.gpu(gpu_models[row].as_deref()?));
        for (dimension, column) in &names {
            let Some(name) = &column[row] else { continue };
            let key = (simulated[row], *dimension, name.clone());
            let usage = all.rows.entry(key.clone()).or_default();
            usage.gpu_hours += hours;
            gpus.entry(key.clone()).or_default().insert(names[3].1[row].clone());
            match price {
                Some(price) => *usage.gpu_cost.get_or_insert(0.0) += price * hours,
                None => drop(unknown.insert(key)),
            }
        }
    }
    for (key, gpus) in gpus {
        if let Some(usage) = all.rows.get_mut(&key) {
            usage.gpu_count = gpus.len() as u64;
            usage.coverage = Some((usage.gpu_hours / (gpus.len() as f64 * window.hours())).min(1.0));
            // A sum with an unknown part is unknown; showing the known part would read as the whole.
            usage.gpu_cost = usage.gpu_cost.filter(|_| !unknown.contains(&key));
        }
    }
    all.queries.push(query);
    Ok(())
}

async fn add_host_hours(
    ctx: &SessionContext,
    all: &mut WindowUsage,
    window: Window,
    prices: Option<&PriceBook>,
) -> Result<()> {
    let columns = format!("{SIMULATED} AS simulated, host_name AS host");
    let query = interval_query("system", "cpu.utilization", &columns, "simulated, host", window);
    let rows = Rows::query(ctx, &query).await?;
    let (simulated, hosts) = (rows.flags("simulated")?, rows.texts("host")?);
    let (received, steps) = (rows.integers("received")?, rows.numbers("step_us")?);
    for row in 0..rows.len() {
        let Some(host) = &hosts[row] else { continue };
        let seen_us = received[row].unwrap_or(0) as f64 * steps[row].unwrap_or(0.0);
        let hours = (seen_us / HOUR_US as f64).min(window.hours());
        let usage = all.rows.entry((simulated[row], Dimension::Host, host.clone())).or_default();
        usage.cpu_cost = prices.and_then(|prices| prices.host(host)).map(|price| price * hours);
        usage.coverage = usage.coverage.or(Some(hours / window.hours()));
    }
    all.queries.push(query);
    Ok(())
}

/// Mean utilisation by hour.
pub(super) async fn hourly(ctx: &SessionContext, window: Window) -> Result<Vec<HourlyPoint>> {
    let mut points: BTreeMap<(bool, i64), HourlyPoint> = BTreeMap::new();
    for (view, role) in [("gpu", "gpu.utilization"), ("system", "cpu.utilization")] {
        let query = format!(
            "SELECT simulated, hour, avg(value) AS average FROM (SELECT {SIMULATED} AS simulated, \
             (CAST(time AS BIGINT) - {}) / {HOUR_US} AS hour, value FROM {view} WHERE role = '{role}' AND {} \
             AND value IS NOT NULL AND NOT isnan(value)) GROUP BY simulated, hour",
            window.start_us,
            window.condition("time")
        );
        let rows = Rows::query(ctx, &query).await?;
        let (simulated, hours, averages) = (rows.flags("simulated")?, rows.integers("hour")?, rows.numbers("average")?);
        for row in 0..rows.len() {
            let key = (simulated[row], hours[row].unwrap_or(0));
            let point = points.entry(key).or_insert(HourlyPoint {
                hour: key.1,
                simulated: key.0,
                gpu_utilization: None,
                cpu_utilization: None,
            });
            if view == "gpu" {
                point.gpu_utilization = averages[row];
            } else {
                point.cpu_utilization = averages[row];
            }
        }
    }
    Ok(points.into_values().collect())
}

//! What the weekly job reads: every scan of a table of points that its questions execute, counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{Session, TableProvider},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
    prelude::SessionContext,
};

use super::*;
use crate::{
    test_session::{Sample, labels, session},
    window::{HOUR_US, MINUTE_US},
};

/// A table of points that remembers each scan of it, with the conditions that came with it.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn TableProvider>,
    scans: Scans,
}

type Scans = Arc<Mutex<Vec<String>>>;

#[async_trait]
impl TableProvider for Watched {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let conditions: Vec<String> = filters.iter().map(ToString::to_string).collect();
        self.scans.lock().unwrap().push(conditions.join(" AND "));
        self.inner.scan(state, projection, &[], limit).await
    }
}

async fn watch(ctx: &SessionContext, table: &str) -> Scans {
    let scans = Scans::default();
    let inner = ctx.deregister_table(table).unwrap().unwrap();
    ctx.register_table(table, Arc::new(Watched { inner, scans: Arc::clone(&scans) })).unwrap();
    scans
}

/// How often each of `roles` is scanned; a scan without a condition on roles is one of all.
fn scans_by_role(scans: &Scans, roles: &[&'static str]) -> BTreeMap<&'static str, usize> {
    let scans = scans.lock().unwrap();
    let reads = |scan: &&String, role: &str| !scan.contains("role") || scan.contains(&format!("\"{role}\""));
    roles.iter().map(|role| (*role, scans.iter().filter(|scan| reads(scan, role)).count())).collect()
}

fn of_all_roles(from_hour: i64, until_hour: i64) -> Vec<Sample> {
    let card = labels(&[
        ("host_name", "h"),
        ("gpu_id", "g"),
        ("gpu_model", "L4"),
        ("service_name", "chat"),
        ("k8s_pod", "chat-1"),
        ("scope", "node"),
    ]);
    let at = |minute: i64| {
        let duty = if minute % 2 == 0 { 0.3 } else { 0.5 };
        let values = [
            ("gpu.utilization", duty),
            ("gpu.memory.used", 4e9),
            ("gpu.power", 100.0),
            ("gpu.energy", minute as f64 * 6_000.0),
            ("gpu.sm_active", 0.2),
            ("gpu.memory.total", 2.4e10),
            ("cpu.utilization", 0.5),
            ("memory.used", 2e9),
            ("collector.cpu.usage", 0.1),
            ("latency.e2e", 1.0),
            ("input.tokens", 100.0),
        ];
        let card = card.clone();
        values.map(move |(role, value)| Sample {
            time_us: minute * MINUTE_US,
            role,
            value,
            labels: card.clone(),
            simulated: false,
        })
    };
    (from_hour * 60..until_hour * 60).flat_map(at).collect()
}

#[tokio::test]
async fn the_points_of_a_week_are_read_once() {
    let window = Window::new(100 * HOUR_US, 110 * HOUR_US).unwrap();
    let prices = PriceBook::parse("currency = \"USD\"\ngpu_hour = { L4 = 1.0 }").unwrap();
    let request =
        WeeklyRequest { window, zone: Tz::UTC, prices: Some(prices), holidays: vec![], now_us: window.end_us };
    let ctx = session(&of_all_roles(90, 110), &[]);
    let (gpu, system, inputs) = (watch(&ctx, "gpu").await, watch(&ctx, "system").await, watch(&ctx, "inputs").await);
    let latency = watch(&ctx, "latency").await;
    let report = weekly(&ctx, None, &request).await.unwrap();
    assert!(report.row_count > 0 && report.fleets[0].before.is_some());
    // Once in this window and once in the week before it, which is another. Advice on the window is made of the same minutes.
    let cards = ["gpu.utilization", "gpu.memory.used", "gpu.power", "gpu.energy", "gpu.sm_active"];
    let found = scans_by_role(&gpu, &cards);
    assert!(found.values().all(|count| *count == 2), "{found:?}\n{:#?}", gpu.lock().unwrap());
    // What only advice asks for is of this window.
    assert_eq!(scans_by_role(&gpu, &["gpu.memory.total", "gpu.power.limit"]).into_values().max(), Some(1));
    let found = scans_by_role(&system, &["cpu.utilization", "memory.total", "cpu.count", "collector.cpu.usage"]);
    assert!(found.values().all(|count| *count == 2), "{found:?}\n{:#?}", system.lock().unwrap());
    let found = scans_by_role(&latency, &["latency.e2e"]);
    assert!(found.values().all(|count| *count == 2), "{found:?}\n{:#?}", latency.lock().unwrap());
    // Hosts, pods and containers have series of their own: each is read by the question that asks for its scope.
    let memory: Vec<String> =
        system.lock().unwrap().iter().filter(|scan| scan.contains("\"memory.used\"")).cloned().collect();
    let of_hosts = memory.iter().filter(|scan| scan.contains("\"node\"") && !scan.contains("\"pod\"")).count();
    let of_pods = memory.iter().filter(|scan| scan.contains("\"pod\"") && !scan.contains("\"node\"")).count();
    assert_eq!((of_hosts, of_pods, memory.len()), (2, 2, 4), "{memory:#?}");
    let found = scans_by_role(&inputs, &["input.tokens"]);
    assert!(found.values().all(|count| *count == 2), "{found:?}\n{:#?}", inputs.lock().unwrap());
}

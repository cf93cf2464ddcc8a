//! What planning one panel of a dashboard costs, by step: the part of a short query that no data explains.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use datafusion::{error::Result, prelude::SessionContext};
use driftwatt_query::{Config, session};
use driftwatt_store::Store;

const ROUNDS: u32 = 20;
const ROUNDS_QUICK: u32 = 1;

const TIMES: &str = "time >= '2026-11-16T09:00:00Z' AND time < '2026-11-16T10:00:00Z'";

fn panels() -> [(&'static str, String); 4] {
    let minute = "date_bin(INTERVAL '1 minute', time)";
    [
        (
            "gpu, a role by card and minute",
            format!(
                "SELECT {minute} AS time, gpu_id, avg(value) AS value FROM gpu WHERE role = 'gpu.utilization' \
                 AND host_name = 'gpu-00-000' AND {TIMES} GROUP BY 1, 2 ORDER BY 1, 2"
            ),
        ),
        (
            "gpu, a role as it is",
            format!(
                "SELECT time, gpu_id, value FROM gpu WHERE role = 'gpu.memory.used' AND host_name = 'gpu-00-000' \
                 AND {TIMES} ORDER BY time"
            ),
        ),
        (
            "metrics, the ten first hosts",
            format!(
                "SELECT host_name, avg(value) AS value FROM metrics WHERE metric = 'hw.gpu.utilization' AND {TIMES} \
                 GROUP BY host_name ORDER BY value DESC LIMIT 10"
            ),
        ),
        (
            "latency, a role by model",
            format!(
                "SELECT {minute} AS time, model_name, avg(value) AS value FROM latency WHERE role = 'latency.request' \
                 AND {TIMES} GROUP BY 1, 2 ORDER BY 1, 2"
            ),
        ),
    ]
}

/// Time by step, summed over rounds.
#[derive(Default)]
struct Steps(BTreeMap<String, Duration>);

impl Steps {
    fn add(&mut self, step: &str, since: Instant) -> Instant {
        *self.0.entry(step.to_owned()).or_default() += since.elapsed();
        Instant::now()
    }

    fn report(&self, name: &str, rounds: u32) {
        let total: Duration = self.0.iter().filter(|(step, _)| !step.starts_with("  ")).map(|(_, time)| *time).sum();
        println!("{name}: {:.1} ms", ms(total, rounds));
        let mut steps: Vec<_> = self.0.iter().collect();
        steps.sort_by_key(|(_, time)| std::cmp::Reverse(**time));
        for (step, time) in steps.into_iter().filter(|(_, time)| ms(**time, rounds) >= 0.1) {
            println!("  {:8.2} ms {step}", ms(*time, rounds));
        }
    }
}

fn ms(time: Duration, rounds: u32) -> f64 {
    time.as_secs_f64() * 1e3 / f64::from(rounds)
}

async fn plan(ctx: &SessionContext, sql: &str, steps: &mut Steps) -> Result<()> {
    let begin = Instant::now();
    let state = ctx.state();
    let begin = steps.add("state", begin);
    let plan = state.create_logical_plan(sql).await?;
    let begin = steps.add("logical plan", begin);
    let mut of_rule = begin;
    let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_plan, rule| {
        of_rule = steps.add(&format!("  analyzer {}", rule.name()), of_rule);
    })?;
    let begin = steps.add("analyzer", begin);
    of_rule = begin;
    let optimized = state.optimizer().optimize(analyzed, &state, |_plan, rule| {
        of_rule = steps.add(&format!("  optimizer {}", rule.name()), of_rule);
    })?;
    let begin = steps.add("optimizer", begin);
    let physical = state.query_planner().create_physical_plan(&optimized, &state).await?;
    steps.add("physical plan", begin);
    if std::env::var_os("PLANNING_PLANS").is_some() && steps.0.len() < 60 {
        println!(
            "{}\n{}",
            optimized.display_indent(),
            datafusion::physical_plan::displayable(physical.as_ref()).indent(false)
        );
    }
    Ok(())
}

async fn run(rounds: u32) -> Result<()> {
    let outer = |error: Box<dyn std::error::Error + Send + Sync>| datafusion::error::DataFusionError::External(error);
    let dir = tempfile::tempdir()?;
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.map_err(|error| outer(error.into()))?;
    let ctx = session(&store, &Config::default()).await.map_err(|error| outer(error.into()))?;
    for (name, sql) in panels() {
        // The first plans the view.
        plan(&ctx, &sql, &mut Steps::default()).await?;
        let mut steps = Steps::default();
        for _ in 0..rounds {
            plan(&ctx, &sql, &mut steps).await?;
        }
        steps.report(name, rounds);
    }
    drop(Arc::clone(&store));
    Ok(())
}

fn main() -> Result<()> {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(if quick { ROUNDS_QUICK } else { ROUNDS }))
}

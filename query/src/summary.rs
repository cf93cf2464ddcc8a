//! What a query cost: files, row groups and rows read and left out, time, memory spilled. The short form of
//! `EXPLAIN ANALYZE`, for programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::{
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    physical_plan::{
        ExecutionPlan,
        metrics::{MetricValue, MetricsSet},
    },
};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    error::Result,
    json::{columns, elapsed_ms},
};

/// Operators of a plan that are listed; a deeper one is counted in the sums only.
const OPERATORS_MAX: usize = 200;

/// Sums over a plan.
#[derive(Debug, Default)]
struct Totals {
    compute_ns: usize,
    scanned_rows: usize,
    /// Sums of counters, and of what pruning left and left out, by the names of the metrics.
    counts: BTreeMap<String, usize>,
    pruned: BTreeMap<String, (usize, usize)>,
    spill_count: usize,
    spilled_bytes: usize,
    spilled_rows: usize,
    files: BTreeSet<String>,
    operators: Vec<Value>,
}

/// Reads the whole `answer` of `plan`, and says what it cost.
///
/// # Errors
/// Those of the query.
pub(crate) async fn summary(mut answer: Answer, plan: &Arc<dyn ExecutionPlan>) -> Result<Value> {
    let mut rows = 0;
    while let Some(batch) = answer.next().await.transpose()? {
        rows += batch.num_rows();
    }
    let mut totals = Totals::default();
    totals.add(plan.as_ref(), 0);
    let count = |name: &str| totals.counts.get(name).copied().unwrap_or_default();
    let pruned = |name: &str| {
        let (pruned, matched) = totals.pruned.get(name).copied().unwrap_or_default();
        json!({ "total": pruned + matched, "pruned": pruned })
    };
    let summary = json!({
        "rows": rows,
        "elapsed_ms": elapsed_ms(answer.started()),
        "compute_ms": milliseconds(totals.compute_ns),
        "scan": {
            "files": totals.files.len(),
            "file_ranges": pruned("files_ranges_pruned_statistics"),
            "row_groups": pruned("row_groups_pruned_statistics"),
            "page_rows": pruned("page_index_rows_pruned"),
            "size_bytes": count("bytes_scanned"),
            "rows_filtered": count("pushdown_rows_pruned"),
            "rows": totals.scanned_rows,
        },
        "spill": { "count": totals.spill_count, "size_bytes": totals.spilled_bytes, "rows": totals.spilled_rows },
    });
    Ok(json!({ "columns": columns(&answer.schema()), "summary": summary, "operators": totals.operators }))
}

fn milliseconds(nanoseconds: usize) -> f64 {
    (nanoseconds as f64 / 1e3).round() / 1e3
}

impl Totals {
    fn add(&mut self, plan: &dyn ExecutionPlan, depth: usize) {
        let metrics = plan.metrics().unwrap_or_default();
        let compute_ns = metrics.elapsed_compute().unwrap_or_default();
        let rows = metrics.output_rows();
        let spilled_bytes = metrics.spilled_bytes().unwrap_or_default();
        self.compute_ns += compute_ns;
        self.spill_count += metrics.spill_count().unwrap_or_default();
        self.spilled_bytes += spilled_bytes;
        self.spilled_rows += metrics.spilled_rows().unwrap_or_default();
        self.add_values(&metrics);
        let children = plan.children();
        if children.is_empty() {
            self.scanned_rows += rows.unwrap_or_default();
            self.add_files(plan);
        }
        if self.operators.len() < OPERATORS_MAX {
            self.operators.push(json!({
                "name": plan.name(), "depth": depth, "rows": rows,
                "compute_ms": milliseconds(compute_ns), "spilled_bytes": spilled_bytes,
            }));
        }
        for child in children {
            self.add(child.as_ref(), depth + 1);
        }
    }

    fn add_values(&mut self, metrics: &MetricsSet) {
        for metric in metrics.iter() {
            match metric.value() {
                MetricValue::Count { name, count } => {
                    *self.counts.entry(name.to_string()).or_default() += count.value();
                }
                MetricValue::PruningMetrics { name, pruning_metrics } => {
                    let sums = self.pruned.entry(name.to_string()).or_default();
                    sums.0 += pruning_metrics.pruned();
                    sums.1 += pruning_metrics.matched();
                }
                _ => {}
            }
        }
    }

    fn add_files(&mut self, plan: &dyn ExecutionPlan) {
        let source = plan.downcast_ref::<DataSourceExec>().map(|exec| exec.data_source());
        let Some(config) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) else { return };
        // A large file is read in several ranges.
        let files = config.file_groups.iter().flat_map(|group| group.files());
        self.files.extend(files.map(|file| file.object_meta.location.to_string()));
    }
}

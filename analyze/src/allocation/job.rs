//! Training jobs: what each had and what it used, in one row.

use std::collections::BTreeMap;

use super::{Line, LineKind, Resource};
use crate::price_book::Cost;

/// Label of the job key (Slurm job, Kubernetes job, `hpc_job` of dcgm-exporter).
pub const JOB: &str = "job";

/// One training job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobRow {
    /// Job key.
    pub job: String,
    /// GPU-hours it had.
    pub allocated_gpu_hours: f64,
    /// GPU-hours it was busy; none where no use is known.
    pub used_gpu_hours: Option<f64>,
    /// Of the hours it had, the part whose use is known.
    pub used_coverage: f64,
    /// Cost of everything it had, CPU and memory included, without what was distributed.
    pub cost: Cost,
}

impl JobRow {
    /// Busy part of the hours whose use is known.
    pub fn gpu_efficiency(&self) -> Option<f64> {
        let known = self.allocated_gpu_hours * self.used_coverage;
        self.used_gpu_hours.filter(|_| known > 0.0).map(|used| used / known)
    }
}

/// One row per job key, by key.
pub fn training_jobs(lines: &[Line]) -> Vec<JobRow> {
    let mut rows: BTreeMap<&str, (JobRow, f64, f64)> = BTreeMap::new();
    let had = |line: &&Line| line.asset.is_some() && matches!(line.kind, LineKind::Workload | LineKind::Shared);
    for line in lines.iter().filter(had) {
        let Some(job) = line.labels.get(JOB).filter(|job| !job.is_empty()) else { continue };
        let (row, used, known) = rows.entry(job).or_default();
        row.job.clone_from(job);
        row.cost += line.cost;
        if line.resource == Some(Resource::Gpu) {
            row.allocated_gpu_hours += line.hours;
            *used += line.used_hours;
            *known += line.used_known_hours;
        }
    }
    rows.into_values()
        .map(|(row, used, known)| JobRow {
            used_gpu_hours: (known > 0.0).then_some(used),
            used_coverage: if row.allocated_gpu_hours > 0.0 { known / row.allocated_gpu_hours } else { 0.0 },
            ..row
        })
        .collect()
}

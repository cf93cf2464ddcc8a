//! What every GPU did in each minute of a window, and whose it was: one pass over the points, and one array per GPU.
//!
//! A minute of a GPU takes 14 bytes, so a week of 1 000 GPUs takes 141 MB. MIG slices add up to their card.

mod grid;
mod jobs;
mod read;
pub(crate) mod sharers;
mod slices;
#[cfg(test)]
mod tests;
mod told;

use std::ops::Range;

use serde::Serialize;

pub(crate) use jobs::POD_JOB;
use sharers::Sharer;

use crate::{
    gpu_state::GpuSample,
    window::{MINUTE_US, Window},
};

/// The holder of a minute of which no series says whose it was.
pub const NOBODY: u16 = u16::MAX;

/// Every GPU that a series names in a window, by whether it is simulated, host and id.
#[derive(Debug, Clone)]
pub struct GpuMinutes {
    /// The window, from a whole minute to a whole minute.
    pub window: Window,
    /// The GPUs.
    pub gpus: Vec<Gpu>,
    /// Who held them.
    pub holders: Vec<Holder>,
    /// Points read.
    pub row_count: u64,
    /// The SQL that read them.
    pub queries: Vec<String>,
}

/// One GPU.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// Host name; empty where not sent.
    pub host: String,
    /// UUID or id.
    pub gpu_id: String,
    /// Model.
    pub model: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Whether the data comes from a generator.
    pub simulated: bool,
    /// Most that had it, or one MIG slice of it, at once: above 1 whose work it was is not known.
    pub shared_by: u64,
    /// MIG slices that report apart, with their usual minutes between two points.
    pub slices: Vec<(String, usize)>,
    /// Who is told to have parts of it, where several series say the same of it or some speak of slices.
    pub(crate) sharers: Vec<Sharer>,
    /// Mean duty of each minute, 0 to 1; NaN where there is none.
    pub duty: Vec<f32>,
    /// Most memory in use in each minute, bytes; NaN where there is none.
    pub memory: Vec<f32>,
    /// Last power of each minute, watts; NaN where there is none.
    pub power: Vec<f32>,
    /// Index into [`GpuMinutes::holders`], or [`NOBODY`].
    pub holder: Vec<u16>,
}

/// Whose work it was, as the labels of its series say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Holder {
    /// Service name.
    pub service: Option<String>,
    /// Team or owner.
    pub team: Option<String>,
    /// Kubernetes namespace.
    pub namespace: Option<String>,
    /// Kubernetes pod.
    pub pod: Option<String>,
    /// Model name.
    pub model: Option<String>,
    /// Model version.
    pub model_version: Option<String>,
    /// Training job: `hpc_job`, `slurm.job.id` or `k8s.job.name` of the series, or else the Kubernetes job of the pod.
    pub job: Option<String>,
}

/// SQL for the job that a series names.
pub(crate) const JOB: &str =
    "nullif(coalesce(attributes['hpc_job'], attributes['slurm.job.id'], attributes['k8s.job.name']), '')";

impl Holder {
    /// All labels, in one order.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &Option<String>> {
        let Self { service, team, namespace, pod, model, model_version, job } = self;
        [service, team, namespace, pod, model, model_version, job].into_iter()
    }
}

/// Median step between `seen` minutes, which are in order; 1 where there is none.
pub(crate) fn usual_step(seen: &[usize]) -> usize {
    let mut steps: Vec<usize> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let middle = steps.len() / 2;
    if steps.is_empty() { 1 } else { *steps.select_nth_unstable(middle).1 }
}

impl GpuMinutes {
    /// Which of the minutes are in `window`, which is of whole minutes.
    pub(crate) fn inside(&self, window: Window) -> Range<usize> {
        let count = (self.window.end_us - self.window.start_us) / MINUTE_US;
        let minute = |time_us: i64| ((time_us - self.window.start_us) / MINUTE_US).clamp(0, count) as usize;
        minute(window.start_us)..minute(window.end_us)
    }
}

impl Gpu {
    /// Whether MIG slices of it report apart.
    pub fn is_sliced(&self) -> bool {
        !self.slices.is_empty()
    }

    /// Whether anything was reported in `minute`.
    pub(crate) fn is_seen(&self, minute: usize) -> bool {
        !(self.duty[minute].is_nan() && self.memory[minute].is_nan() && self.power[minute].is_nan())
    }

    /// Minutes in which anything was reported.
    pub(crate) fn seen(&self) -> Vec<usize> {
        (0..self.duty.len()).filter(|minute| self.is_seen(*minute)).collect()
    }

    /// Usual minutes between two points of MIG slice `slice`, or of the card.
    pub(crate) fn step_minutes(&self, slice: Option<&str>) -> usize {
        let of_slice = slice.and_then(|slice| self.slices.iter().find(|(name, _)| name == slice));
        of_slice.map_or_else(|| usual_step(&self.seen()), |(_, step)| *step)
    }

    /// Hours with a duty.
    pub fn measured_hours(&self) -> f64 {
        self.duty.iter().filter(|duty| !duty.is_nan()).count() as f64 / 60.0
    }

    /// The minutes of `window`, which it was read for, that `wanted` names, as samples.
    pub fn samples(&self, window: Window, wanted: impl Fn(usize) -> bool) -> impl Iterator<Item = GpuSample> {
        let known = |value: f32| (!value.is_nan()).then_some(f64::from(value));
        (0..self.duty.len()).filter(move |minute| wanted(*minute)).map(move |minute| GpuSample {
            time_us: window.start_us + minute as i64 * MINUTE_US,
            duty: known(self.duty[minute]),
            memory_bytes: known(self.memory[minute]),
            power_watts: known(self.power[minute]),
            ..GpuSample::default()
        })
    }

    /// Mean duty of the minutes that have one.
    pub fn mean_duty(&self) -> Option<f64> {
        let measured = || self.duty.iter().filter(|duty| !duty.is_nan());
        let count = measured().count();
        (count > 0).then(|| measured().map(|duty| f64::from(*duty)).sum::<f64>() / count as f64)
    }
}

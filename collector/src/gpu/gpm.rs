//! GPU performance monitoring: how much of the card worked, from the hardware's own counters (Hopper and later).
//!
//! Two samples make a value, the mean of the time between them; here that is the time between two looks. The counters can
//! be taken by another profiler, and then stand still: zeros while the GPU is busy are no values.
//!
//! Source: NVML, `nvmlGpmMetricsGet`, whose percentages are 0–100 and whose throughput is in MiB/s.

use std::collections::{HashMap, HashSet};

use nvml_wrapper::{
    Nvml,
    enums::gpm::GpmMetricId,
    error::NvmlError,
    gpm::{GpmSample, gpm_metrics_get},
};
use opentelemetry::KeyValue;

use super::value::{error_type, ok};
use crate::reading::Sample;

const SM_ACTIVE: &str = "driftwatt.gpu.sm.active";

const SHARES: [(&str, GpmMetricId); 5] = [
    ("driftwatt.gpu.engine.active", GpmMetricId::GraphicsUtil),
    (SM_ACTIVE, GpmMetricId::SmUtil),
    ("driftwatt.gpu.sm.occupancy", GpmMetricId::SmOccupancy),
    ("driftwatt.gpu.tensor.active", GpmMetricId::AnyTensorUtil),
    ("driftwatt.gpu.dram.active", GpmMetricId::DramBwUtil),
];

const THROUGHPUTS: [(Throughput, GpmMetricId); 4] = [
    (("driftwatt.gpu.pcie.throughput", "transmit"), GpmMetricId::PcieTxPerSec),
    (("driftwatt.gpu.pcie.throughput", "receive"), GpmMetricId::PcieRxPerSec),
    (("driftwatt.gpu.nvlink.throughput", "transmit"), GpmMetricId::NvlinkTotalTxPerSec),
    (("driftwatt.gpu.nvlink.throughput", "receive"), GpmMetricId::NvlinkTotalRxPerSec),
];

/// A metric and its direction.
type Throughput = (&'static str, &'static str);

const MEBIBYTE: f64 = 1_048_576.0;

/// What the time between two looks was used for.
#[derive(Debug, Default)]
pub(super) struct Profile {
    shares: Vec<(&'static str, f64)>,
    /// Bytes per second.
    pub(super) throughputs: Vec<(Throughput, f64)>,
}

impl Profile {
    pub(super) fn push_shares(&self, attributes: &[KeyValue], sample: &mut Sample) {
        for (metric, share) in &self.shares {
            sample.push(metric, *share, attributes);
        }
    }
}

/// The samples of the look before, by GPU and slice.
pub(super) struct Gpm<'nvml> {
    nvml: &'nvml Nvml,
    before: HashMap<String, GpmSample<'nvml>>,
    seen: HashSet<String>,
}

impl<'nvml> Gpm<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Self {
        Self { nvml, before: HashMap::new(), seen: HashSet::new() }
    }

    /// The profile since the look before, empty with the first and where there is none. `duty` is the GPU's duty cycle.
    pub(super) fn read(
        &mut self,
        key: &str,
        support: Result<bool, NvmlError>,
        take: impl FnOnce() -> Result<GpmSample<'nvml>, NvmlError>,
        duty: Option<f64>,
        sample: &mut Sample,
    ) -> Profile {
        let is_supported = support.and_then(|supported| if supported { Ok(()) } else { Err(NvmlError::NotSupported) });
        let taken = is_supported.and_then(|()| take());
        let Some(now) = ok(sample, SM_ACTIVE, taken) else { return Profile::default() };
        let before = self.before.remove(key);
        let profile = before.map_or_else(Profile::default, |before| self.between(&before, &now, duty, sample));
        self.before.insert(key.to_owned(), now);
        self.seen.insert(key.to_owned());
        profile
    }

    /// Forgets the samples of what was not read in this look: the time until it is read again belongs to no value.
    pub(super) fn end_look(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.before.retain(|key, _| seen.contains(key));
    }

    fn between(
        &self,
        before: &GpmSample<'nvml>,
        now: &GpmSample<'nvml>,
        duty: Option<f64>,
        sample: &mut Sample,
    ) -> Profile {
        let ids: Vec<_> = SHARES.iter().map(|(_, id)| *id).chain(THROUGHPUTS.iter().map(|(_, id)| *id)).collect();
        let Some(values) = ok(sample, SM_ACTIVE, gpm_metrics_get(self.nvml, before, now, &ids)) else {
            return Profile::default();
        };
        let mut values = values.into_iter();
        let mut profile = Profile::default();
        for ((metric, _), value) in SHARES.iter().zip(values.by_ref()) {
            match value {
                // A little over the whole is how the counters are read, one after the other.
                Ok(percent) if (0.0..=101.0).contains(&percent.value) => {
                    profile.shares.push((metric, (percent.value / 100.0).min(1.0)));
                }
                Ok(_) => sample.fail(metric, "blank"),
                Err(error) => sample.fail(metric, error_type(&error)),
            }
        }
        for ((throughput, _), value) in THROUGHPUTS.iter().zip(values) {
            // Left to the links, which may have other ways.
            if let Ok(rate) = value
                && (0.0..1e9).contains(&rate.value)
            {
                profile.throughputs.push((*throughput, rate.value * MEBIBYTE));
            }
        }
        let stands_still = !profile.shares.is_empty() && profile.shares.iter().all(|(_, share)| *share == 0.0);
        if stands_still && duty.is_some_and(|duty| duty > 0.0) {
            sample.fail(SM_ACTIVE, "profiler_lost");
            return Profile::default();
        }
        profile
    }
}

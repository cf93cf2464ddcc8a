//! MIG slices: instances that a GPU is divided into, each with memory and multiprocessors of its own.

use std::collections::BTreeSet;

use nvml_wrapper::{
    Device, Nvml,
    error::{NvmlError, nvml_try},
};
use opentelemetry::KeyValue;

use super::value::{error_type, ok};
use crate::reading::Sample;

/// More slices than any card has: seven instances of one compute instance each.
const SLICES_MAX: u32 = 64;

/// One compute instance of a GPU instance.
pub(super) struct Slice<'nvml> {
    pub(super) device: Device<'nvml>,
    /// The GPU instance.
    pub(super) instance_id: u32,
    /// Several compute instances may share a GPU instance, whose memory counts once.
    pub(super) is_first_of_instance: bool,
    /// Such as `2g.20gb`.
    profile: Option<String>,
}

impl Slice<'_> {
    /// The attributes of the card and those of the slice.
    pub(super) fn attributes(&self, card: &[KeyValue]) -> Vec<KeyValue> {
        let mut attributes = card.to_vec();
        attributes.push(KeyValue::new("driftwatt.gpu.mig.id", self.instance_id.to_string()));
        if let Some(profile) = &self.profile {
            attributes.push(KeyValue::new("driftwatt.gpu.mig.profile", profile.clone()));
        }
        attributes
    }
}

/// Whether the GPU is divided now. Most cannot be, which is no failure.
pub(super) fn is_enabled(device: &Device<'_>) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current == 1)
}

pub(super) fn slices<'nvml>(nvml: &'nvml Nvml, gpu: &Device<'nvml>, sample: &mut Sample) -> Vec<Slice<'nvml>> {
    let count = ok(sample, "mig.device", gpu.mig_device_count()).unwrap_or(0);
    let mut instances = BTreeSet::new();
    let mut slices = Vec::new();
    for index in 0..count.min(SLICES_MAX) {
        let device = match gpu.mig_device_by_index(index) {
            Ok(device) => device,
            // There is room for a slice, but none.
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => continue,
            Err(error) => {
                sample.fail("mig.device", error_type(&error));
                continue;
            }
        };
        let Some(instance_id) = ok(sample, "mig.device", gpu_instance_id(nvml, &device)) else { continue };
        let name = ok(sample, "hw.model", device.name());
        let profile = name.and_then(|name| Some(name.rsplit_once(" MIG ")?.1.to_owned()));
        slices.push(Slice { device, instance_id, is_first_of_instance: instances.insert(instance_id), profile });
    }
    slices
}

#[expect(unsafe_code, reason = "the wrapper loads this function, but has no method for it")]
fn gpu_instance_id(nvml: &Nvml, slice: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml.lib().nvmlDeviceGetGpuInstanceId.as_ref().map_err(|_| NvmlError::FunctionNotFound)?;
    let mut id = 0;
    // SAFETY: the function is of the library that is loaded while `nvml` lives, the handle is of that library and used
    // for this call only, and `id` is written before the call returns.
    nvml_try(unsafe { call(slice.handle(), &raw mut id) })?;
    Ok(id)
}

//! XID errors: what the driver reports of a GPU that went wrong, or of a program on it that did.
//!
//! The driver delivers them as events to whoever has registered before. They are collected with each look; those that
//! come while no process reads GPUs are not seen. Of several at once the driver may give the code of the last to all.
//!
//! Source: NVML, `nvmlEventSetWait_v2`; "XID Errors" of the NVIDIA driver documentation.

use std::collections::{BTreeMap, HashMap};

use nvml_wrapper::{Device, EventSet, Nvml, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError};
use opentelemetry::KeyValue;

use super::value::error_type;
use crate::reading::Sample;

const METRIC: &str = "driftwatt.gpu.xid.errors";

/// Events taken from one GPU in one look; more stay for the next.
const EVENTS_MAX: usize = 64;

/// Codes of all GPUs that are counted apart; further ones are counted as `other`.
const CODES_MAX: usize = 1024;

/// Events so far, by GPU and code. They outlive the library, and the GPU: a card that fell off the bus is one of them.
#[derive(Debug, Default)]
pub(super) struct XidCounts(BTreeMap<(String, String), (Vec<KeyValue>, u64)>);

impl XidCounts {
    fn add(&mut self, id: &str, attributes: &[KeyValue], code: String) {
        let is_full = self.0.len() >= CODES_MAX && !self.0.contains_key(&(id.to_owned(), code.clone()));
        let code = if is_full { "other".to_owned() } else { code };
        let (_, count) = self.0.entry((id.to_owned(), code.clone())).or_insert_with(|| {
            let mut all = attributes.to_vec();
            all.push(KeyValue::new("driftwatt.gpu.xid", code));
            (all, 0)
        });
        *count += 1;
    }

    pub(super) fn push(&self, sample: &mut Sample) {
        for (attributes, count) in self.0.values() {
            sample.push(METRIC, *count as f64, attributes);
        }
    }
}

struct Watched<'nvml> {
    /// One for each GPU, because the wrapper gives up a whole set when one registration fails.
    events: EventSet<'nvml>,
    attributes: Vec<KeyValue>,
}

/// The event sets of the GPUs.
#[derive(Default)]
pub(super) struct Xids<'nvml>(HashMap<String, Watched<'nvml>>);

impl<'nvml> Xids<'nvml> {
    /// Registers for the events of `device`, if that is not done yet.
    pub(super) fn watch(
        &mut self,
        nvml: &'nvml Nvml,
        device: &Device<'nvml>,
        id: &str,
        attributes: &[KeyValue],
        sample: &mut Sample,
    ) {
        if self.0.contains_key(id) {
            return;
        }
        match register(nvml, device) {
            Ok(events) => {
                self.0.insert(id.to_owned(), Watched { events, attributes: attributes.to_vec() });
            }
            Err(error) => sample.fail(METRIC, error_type(&error)),
        }
    }

    /// Counts what has happened since the look before, without waiting for more.
    pub(super) fn collect(&mut self, counts: &mut XidCounts, sample: &mut Sample) {
        self.0.retain(|id, watched| {
            for _ in 0..EVENTS_MAX {
                match watched.events.wait(0) {
                    Ok(event) => {
                        let code = match event.event_data {
                            Some(XidError::Value(code)) => code.to_string(),
                            Some(XidError::Unknown) => "unknown".to_owned(),
                            None => continue,
                        };
                        counts.add(id, &watched.attributes, code);
                    }
                    Err(NvmlError::Timeout) => return true,
                    Err(error) => {
                        // Registered anew once the GPU is there again.
                        sample.fail(METRIC, error_type(&error));
                        return false;
                    }
                }
            }
            true
        });
    }
}

#[cfg(target_os = "linux")]
fn register<'nvml>(nvml: &'nvml Nvml, device: &Device<'nvml>) -> Result<EventSet<'nvml>, NvmlError> {
    let events = nvml.create_event_set()?;
    device.register_events(EventTypes::CRITICAL_XID_ERROR, events).map_err(|error| error.error)
}

#[cfg(not(target_os = "linux"))]
fn register<'nvml>(_: &'nvml Nvml, _: &Device<'nvml>) -> Result<EventSet<'nvml>, NvmlError> {
    Err(NvmlError::NotSupported)
}

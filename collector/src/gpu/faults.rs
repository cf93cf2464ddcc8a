//! Memory faults of a GPU: errors that ECC saw, and rows that were replaced because of them.

use nvml_wrapper::{
    Device,
    enum_wrappers::device::{EccCounter, MemoryError},
    enums::device::SampleValue,
    structs::device::FieldId,
    sys_exports::field_id::{
        NVML_FI_DEV_REMAPPED_COR, NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING, NVML_FI_DEV_REMAPPED_UNC,
    },
};
use opentelemetry::KeyValue;

use super::value::{known_long, ok};
use crate::reading::Sample;

/// Field of the library, metric, what caused it.
const ROWS: [(u32, &str, Option<&str>); 4] = [
    (NVML_FI_DEV_REMAPPED_COR, "driftwatt.gpu.rows_remapped", Some("corrected")),
    (NVML_FI_DEV_REMAPPED_UNC, "driftwatt.gpu.rows_remapped", Some("uncorrected")),
    (NVML_FI_DEV_REMAPPED_PENDING, "driftwatt.gpu.rows_remapped.pending", None),
    (NVML_FI_DEV_REMAPPED_FAILURE, "driftwatt.gpu.rows_remapped.failed", None),
];

pub(super) fn read(device: &Device<'_>, attributes: &[KeyValue], sample: &mut Sample) {
    // Since the driver was loaded: the counts over the life of a card are not written at once.
    for (word, kind) in [("corrected", MemoryError::Corrected), ("uncorrected", MemoryError::Uncorrected)] {
        let count = ok(sample, "hw.errors", device.total_ecc_errors(kind, EccCounter::Volatile));
        if let Some(count) = count.and_then(|count| known_long(sample, "hw.errors", count)) {
            sample.push("hw.errors", count, &with(attributes, "error.type", word));
        }
    }
    let fields = device.field_values_for(&ROWS.map(|(field, ..)| FieldId(field)));
    let Some(values) = ok(sample, "driftwatt.gpu.rows_remapped", fields) else { return };
    for ((_, metric, cause), value) in ROWS.into_iter().zip(values) {
        let value = ok(sample, metric, value.and_then(|field| field.value));
        let value = match value {
            Some(SampleValue::U32(value)) => known_long(sample, metric, u64::from(value)),
            Some(SampleValue::U64(value)) => known_long(sample, metric, value),
            Some(SampleValue::I64(value)) => u64::try_from(value).ok().and_then(|v| known_long(sample, metric, v)),
            Some(SampleValue::F64(_)) | None => None,
        };
        match (value, cause) {
            (Some(rows), Some(cause)) => sample.push(metric, rows, &with(attributes, "error.type", cause)),
            (Some(flag), None) => sample.push(metric, f64::from(u8::from(flag > 0.0)), attributes),
            (None, _) => {}
        }
    }
}

/// The attributes with one more.
pub(super) fn with(attributes: &[KeyValue], key: &'static str, value: &'static str) -> Vec<KeyValue> {
    let mut all = attributes.to_vec();
    all.push(KeyValue::new(key, value));
    all
}

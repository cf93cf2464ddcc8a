//! The same readings of the GPU of this machine, with its own driver: `--features gpu`, where there is one.

use crate::receiver::{Collector, Export};

/// The ids of the GPUs that have a memory.
fn cards(export: &Export) -> Vec<String> {
    let limits = export.0.iter().filter(|point| point.metric == "hw.gpu.memory.limit");
    limits
        .filter(|p| !p.attributes.contains_key("driftwatt.gpu.mig.id"))
        .map(|p| p.attributes["hw.id"].clone())
        .collect()
}

#[test]
fn a_real_card_is_read_without_a_sentinel_or_a_value_out_of_range() {
    let folder = tempfile::tempdir().expect("a folder");
    let collector = Collector::start_in(folder.path(), "interval = \"2s\"\ngpu_links = true\n");
    let exports = collector.until("a GPU of this machine", |export| !cards(export).is_empty());
    let mut later = collector.until("its energy", |export| export.value("hw.energy", &[]).is_some());
    let export = later.pop().or_else(|| exports.last().cloned()).expect("an export");
    let count = export.value("driftwatt.collector.gpu.device.count", &[]);
    assert_eq!((export.stuck(), count), (Some(0.0), Some(cards(&export).len() as f64)));
    for id in cards(&export) {
        assert!(id.starts_with("GPU-"), "{id}");
        let values = export.of_gpu(&id);
        println!("{id}: {values:#?}");
        for (name, value) in &values {
            // A blank, however it got through, would be far above.
            assert!(value.is_finite() && (0.0..1e15).contains(value), "{name} {value}");
            let is_share = name.contains("utilization") || name.contains(".active") || name.contains("occupancy");
            assert!(!is_share || *value <= 1.0, "{name} {value}");
        }
        let value = |name: &str| values.get(name).copied().unwrap_or(f64::NAN);
        assert!((1e9..1e13).contains(&value("hw.gpu.memory.limit")), "bytes");
        assert!((5.0..2000.0).contains(&value("hw.power")), "watts");
        assert!((5.0..120.0).contains(&value("hw.temperature")), "degrees");
    }
}

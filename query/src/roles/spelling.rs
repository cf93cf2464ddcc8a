//! The spellings of one metric: OpenTelemetry's dotted name, and what Prometheus makes of it.

use super::unit::prometheus_suffix;

/// Every name under which a metric called `name` (unit `unit`) may arrive, `name` first.
///
/// Dotted names become underscores, with or without the unit, and `_total` for counters: exporters and collectors differ in
/// which suffixes they add. A counter that the table names with `_total` is also known without it, as OpenTelemetry's
/// Prometheus receiver may leave it.
pub(crate) fn spellings(name: &str, unit: &str, counter: bool) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if let Some(bare) = name.strip_suffix("_total") {
        names.push(bare.to_owned());
        return names;
    }
    if !name.contains('.') {
        if counter {
            names.push(format!("{name}_total"));
        }
        return names;
    }
    let underscored: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect();
    let mut stems = vec![underscored.clone()];
    if let Some(suffix) = prometheus_suffix(unit).filter(|suffix| !(counter && *suffix == "ratio"))
        && !underscored.ends_with(&format!("_{suffix}"))
    {
        stems.push(format!("{underscored}_{suffix}"));
    }
    for stem in stems {
        if counter && !stem.ends_with("_total") {
            names.push(format!("{stem}_total"));
        }
        names.push(stem);
    }
    names
}

/// An attribute key as Prometheus spells it.
pub(crate) fn label(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_worlds_meet() {
        let check = |name, unit, counter, expected: &[&str]| assert_eq!(spellings(name, unit, counter), expected);
        check(
            "hw.gpu.utilization",
            "1",
            false,
            &["hw.gpu.utilization", "hw_gpu_utilization", "hw_gpu_utilization_ratio"],
        );
        check(
            "hw.energy",
            "J",
            true,
            &["hw.energy", "hw_energy_total", "hw_energy", "hw_energy_joules_total", "hw_energy_joules"],
        );
        check("vllm:prompt_tokens_total", "{token}", true, &["vllm:prompt_tokens_total", "vllm:prompt_tokens"]);
        check("DCGM_FI_DEV_GPU_UTIL", "%", false, &["DCGM_FI_DEV_GPU_UTIL"]);
        assert_eq!(label("hw.gpu.task"), "hw_gpu_task");
    }
}

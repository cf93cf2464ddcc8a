//! MIG profiles of NVIDIA's data-centre cards.
//!
//! Source: NVIDIA Multi-Instance GPU User Guide, "Supported MIG Profiles".

use serde::Serialize;

/// One way to slice a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Name, as `1g.10gb`.
    pub name: &'static str,
    /// Compute slices, of seven.
    pub compute_slices: u32,
    /// Memory, GB as NVIDIA names them.
    pub memory_gb: u32,
    /// Instances that fit one card.
    pub instance_count: u32,
}

const fn profile(name: &'static str, compute_slices: u32, memory_gb: u32, instance_count: u32) -> Profile {
    Profile { name, compute_slices, memory_gb, instance_count }
}

const A100_40: [Profile; 6] = [
    profile("1g.5gb", 1, 5, 7),
    profile("1g.10gb", 1, 10, 4),
    profile("2g.10gb", 2, 10, 3),
    profile("3g.20gb", 3, 20, 2),
    profile("4g.20gb", 4, 20, 1),
    profile("7g.40gb", 7, 40, 1),
];
/// A100 80 GB and H100 80 GB have the same profiles.
const EIGHTY: [Profile; 6] = [
    profile("1g.10gb", 1, 10, 7),
    profile("1g.20gb", 1, 20, 4),
    profile("2g.20gb", 2, 20, 3),
    profile("3g.40gb", 3, 40, 2),
    profile("4g.40gb", 4, 40, 1),
    profile("7g.80gb", 7, 80, 1),
];
const H200: [Profile; 6] = [
    profile("1g.18gb", 1, 18, 7),
    profile("1g.35gb", 1, 35, 4),
    profile("2g.35gb", 2, 35, 3),
    profile("3g.71gb", 3, 71, 2),
    profile("4g.71gb", 4, 71, 1),
    profile("7g.141gb", 7, 141, 1),
];
const B200: [Profile; 6] = [
    profile("1g.23gb", 1, 23, 7),
    profile("1g.45gb", 1, 45, 4),
    profile("2g.45gb", 2, 45, 3),
    profile("3g.90gb", 3, 90, 2),
    profile("4g.90gb", 4, 90, 1),
    profile("7g.180gb", 7, 180, 1),
];

/// The profiles of a card, smallest first; none for a card that is not in the tables, or an A100 or H100 whose size is unknown.
pub fn profiles(gpu_model: &str, gpu_memory_bytes: Option<f64>) -> Option<&'static [Profile]> {
    let model = gpu_model.to_uppercase();
    let gigabytes = gpu_memory_bytes.map(|bytes| bytes / 1e9);
    let is = |low: f64, high: f64| gigabytes.is_some_and(|size| (low..high).contains(&size));
    let has = |part: &str| model.contains(part);
    match () {
        () if has("GH200") || has("GB200") => None,
        () if has("B200") => Some(&B200),
        () if has("H200") => Some(&H200),
        () if has("H100") && (has("80GB") || is(76.0, 90.0)) => Some(&EIGHTY),
        () if has("A100") && (has("80GB") || is(76.0, 90.0)) => Some(&EIGHTY),
        () if has("A100") && (has("40GB") || is(38.0, 45.0)) => Some(&A100_40),
        () => None,
    }
}

/// The smallest profile below the whole card with at least `memory_bytes` and `compute_share` of the card.
pub fn smallest(
    gpu_model: &str,
    gpu_memory_bytes: Option<f64>,
    memory_bytes: f64,
    compute_share: f64,
) -> Option<Profile> {
    let fits = |profile: &&Profile| {
        f64::from(profile.memory_gb) * 1e9 >= memory_bytes
            && f64::from(profile.compute_slices) / 7.0 >= compute_share
            && profile.compute_slices < 7
    };
    profiles(gpu_model, gpu_memory_bytes)?.iter().find(fits).copied()
}

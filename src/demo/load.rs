//! What the simulated week is like: load by hour and weekday, the rollout, and the images that grow.

use driftwatt_analyze::simulated_fleet::Rng;

use super::layout::{Behaviour, Service};

pub(crate) const MINUTE_NANOS: u64 = 60_000_000_000;
pub(crate) const HOUR_NANOS: u64 = 60 * MINUTE_NANOS;
pub(crate) const DAY_NANOS: u64 = 24 * HOUR_NANOS;

/// When the new version of `code-llm` starts to roll out, hours after the start of the week.
pub(crate) const ROLLOUT_HOUR: u64 = 84;
/// When images start to grow: the last two days.
pub(crate) const GROWTH_HOUR: u64 = 120;

/// Expected load of `service` at a time, 0 to about 1.2, without noise.
pub(crate) fn load(service: &Service, time_unix_nanos: u64) -> f64 {
    let days = time_unix_nanos / DAY_NANOS;
    let hour = (time_unix_nanos % DAY_NANOS) as f64 / HOUR_NANOS as f64;
    let swing = (std::f64::consts::TAU * (hour - service.peak_hour) / 24.0).cos();
    // Squared, because nights are long and flat and peaks are not.
    let daily = 0.08 + 0.92 * (0.5 + 0.5 * swing).powi(2);
    // The epoch was a Thursday; of 0 = Monday, Saturday and Sunday are 5 and 6.
    let weekend = (days + 3) % 7 >= 5;
    daily * if weekend { service.weekend } else { 1.0 }
}

/// Model version of the `instance`-th host of `service`: hosts of `code-llm` change one after another, six hours apart.
pub(crate) fn model_version(service: &Service, instance: u64, hour: u64) -> &'static str {
    match service.name {
        "code-llm" if hour >= ROLLOUT_HOUR + 6 * instance => "2.1.0",
        "code-llm" => "2.0.0",
        "chat-llm" => "3.1.0",
        _ => "1.0.0",
    }
}

/// Share of 4K images: 3 % before the growth, then up over a day to 85 %.
pub(crate) fn share_of_4k(hour: f64) -> f64 {
    let progress = ((hour - GROWTH_HOUR as f64) / 24.0).clamp(0.0, 1.0);
    0.03 + 0.82 * progress
}

/// Pixels of one image: a common resolution, cropped a little.
pub(crate) fn draw_pixels(rng: &mut Rng, hour: f64) -> f64 {
    let (width, height) = if rng.uniform() < share_of_4k(hour) {
        (3840.0, 2160.0)
    } else {
        [(1280.0, 720.0), (1600.0, 900.0), (1920.0, 1080.0)][(rng.next_u64() % 3) as usize]
    };
    let crop = 0.8 + 0.2 * rng.uniform();
    (width * crop).round() * height
}

/// How much more a GPU works on today's images than on those of the first day.
pub(crate) fn image_work(service: &Service, hour: f64) -> f64 {
    match service.behaviour {
        Behaviour::Image => 1.0 + 0.9 * (share_of_4k(hour) - 0.03) / 0.82,
        Behaviour::Llm | Behaviour::IdleHeld => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::layout::SERVICES, *};

    #[test]
    fn nights_are_quiet_and_weekends_follow_the_service() {
        let monday = 1_763_337_600_000_000_000; // 2025-11-17T00:00:00Z
        let at = |service: usize, day: u64, hour: u64| {
            load(&SERVICES[service], monday + day * DAY_NANOS + hour * HOUR_NANOS)
        };
        assert!(at(0, 0, 14) > 0.99);
        assert!(at(0, 0, 2) < 0.1);
        assert!((at(1, 5, 13) / at(1, 4, 13) - 0.2).abs() < 1e-9, "Saturday of code-llm");
        assert!((at(2, 6, 19) / at(2, 0, 19) - 1.2).abs() < 1e-9, "Sunday of image-upscale");
    }

    #[test]
    fn the_rollout_reaches_one_host_after_another() {
        let code = &SERVICES[1];
        assert_eq!(model_version(code, 0, ROLLOUT_HOUR - 1), "2.0.0");
        assert_eq!(model_version(code, 0, ROLLOUT_HOUR), "2.1.0");
        assert_eq!(model_version(code, 1, ROLLOUT_HOUR), "2.0.0");
        assert_eq!(model_version(code, 1, ROLLOUT_HOUR + 6), "2.1.0");
    }
}

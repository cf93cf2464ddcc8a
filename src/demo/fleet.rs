//! One week of a simulated fleet at one-minute steps, as OTLP requests of one host and one hour each.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use super::{
    containers,
    host::SimulatedHost,
    layout::{Behaviour, GPU_SERVICE, SERVICES, instances},
    load::{DAY_NANOS, HOUR_NANOS, MINUTE_NANOS},
};

const WEEK_HOURS: u64 = 7 * DAY_NANOS / HOUR_NANOS;
const HOST_COUNT: u64 = GPU_SERVICE.len() as u64;

/// The simulated week: everything follows from a seed and an end time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fleet {
    seed: u64,
    start_unix_nanos: u64,
    hours: u64,
}

impl Fleet {
    /// The seven days up to `end_unix_nanos`, which is floored to a minute; the last point is one minute before it.
    pub(crate) fn new(seed: u64, end_unix_nanos: u64) -> Self {
        Self::with_hours(seed, end_unix_nanos, WEEK_HOURS)
    }

    /// The same of fewer hours.
    pub(crate) fn with_hours(seed: u64, end_unix_nanos: u64, hours: u64) -> Self {
        let end = end_unix_nanos - end_unix_nanos % MINUTE_NANOS;
        Self { seed, start_unix_nanos: end.saturating_sub(hours * HOUR_NANOS), hours }
    }

    /// Time of the first point, UTC nanoseconds.
    pub(crate) fn start_unix_nanos(&self) -> u64 {
        self.start_unix_nanos
    }

    /// Number of requests that [`Fleet::requests`] yields.
    pub(crate) fn request_count(&self) -> u64 {
        self.hours * HOST_COUNT
    }

    /// Number of data points in all requests.
    pub(crate) fn point_count(&self) -> u64 {
        self.hours * (0..GPU_SERVICE.len()).map(points_per_hour).sum::<u64>()
    }

    /// The requests, hour by hour and in each hour host by host.
    pub(crate) fn requests(&self) -> impl Iterator<Item = ExportMetricsServiceRequest> + Send + use<> {
        let fleet = *self;
        let mut hosts: Vec<SimulatedHost> =
            (0..GPU_SERVICE.len()).map(|host| SimulatedHost::new(fleet.seed, host, fleet.start_unix_nanos)).collect();
        (0..fleet.request_count()).map(move |index| {
            let host = (index % HOST_COUNT) as usize;
            ExportMetricsServiceRequest { resource_metrics: hosts[host].hour(index / HOST_COUNT) }
        })
    }
}

/// Points that one host sends in an hour: three of its own and five per GPU a minute, and what its services and their pods send.
fn points_per_hour(host: usize) -> u64 {
    let services: u64 = instances(host)
        .iter()
        .map(|(service, _)| match SERVICES[*service].behaviour {
            // Duration, queue and time to first token every minute.
            Behaviour::Llm => 60 * 3,
            // Pixels every five minutes.
            Behaviour::Image => 60 * 2 + 12,
            Behaviour::IdleHeld => 60 * 2,
        })
        .sum();
    let pods = instances(host).len() as u64 * containers::POINTS_PER_HOUR;
    60 * (3 + 5 * GPU_SERVICE[host].len() as u64) + services + pods
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use opentelemetry_proto::tonic::{
        common::v1::{KeyValue, any_value::Value as AnyValue},
        metrics::v1::{Metric, metric::Data, number_data_point::Value},
    };

    use prost::Message as _;

    use super::*;

    const END: u64 = 1_763_942_400_000_000_000; // 2025-11-24T00:00:00Z

    fn metrics(request: &ExportMetricsServiceRequest) -> impl Iterator<Item = (&[KeyValue], &Metric)> {
        request.resource_metrics.iter().flat_map(|resource| {
            let attributes = &resource.resource.as_ref().unwrap().attributes[..];
            resource.scope_metrics.iter().flat_map(move |scope| scope.metrics.iter().map(move |m| (attributes, m)))
        })
    }

    fn point_times(metric: &Metric) -> Vec<u64> {
        match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => gauge.data_points.iter().map(|point| point.time_unix_nano).collect(),
            Data::Sum(sum) => sum.data_points.iter().map(|point| point.time_unix_nano).collect(),
            Data::Histogram(histogram) => histogram.data_points.iter().map(|point| point.time_unix_nano).collect(),
            Data::ExponentialHistogram(histogram) => {
                histogram.data_points.iter().map(|point| point.time_unix_nano).collect()
            }
            Data::Summary(_) => panic!("no summaries are sent"),
        }
    }

    fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
        let found = attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            AnyValue::StringValue(text) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        let week = |seed| Fleet::with_hours(seed, END, 2).requests().collect::<Vec<_>>();
        assert_eq!(week(1), week(1));
        assert_ne!(week(1), week(2));
    }

    #[test]
    fn counts_are_those_announced_and_times_lie_in_the_span() {
        let fleet = Fleet::with_hours(1, END + 17, 2);
        let requests: Vec<_> = fleet.requests().collect();
        assert_eq!(requests.len() as u64, fleet.request_count());
        let times: Vec<u64> = requests.iter().flat_map(metrics).flat_map(|(_, metric)| point_times(metric)).collect();
        assert_eq!(times.len() as u64, fleet.point_count());
        assert_eq!(times.iter().min(), Some(&fleet.start_unix_nanos()));
        assert_eq!(times.iter().max(), Some(&(END - MINUTE_NANOS)));
    }

    #[test]
    fn a_request_stays_far_below_the_usual_limit_of_four_mebibytes() {
        let largest = Fleet::with_hours(1, END, 1).requests().map(|request| request.encoded_len()).max();
        assert!(largest.unwrap() < 1 << 20, "{largest:?} bytes");
    }

    #[test]
    fn the_rollout_changes_the_version_in_mid_week() {
        let fleet = Fleet::new(1, END);
        let version = |hour| {
            let resources = SimulatedHost::new(1, 3, fleet.start_unix_nanos()).hour(hour);
            text(&resources[0].resource.as_ref().unwrap().attributes, "driftwatt.model.version").unwrap().to_owned()
        };
        assert_eq!((version(83), version(84)), ("2.0.0".to_owned(), "2.1.0".to_owned()));
    }

    #[test]
    fn a_week_has_two_million_points() {
        let fleet = Fleet::new(1, END);
        assert_eq!((fleet.request_count(), fleet.point_count()), (1344, 2_235_744));
        assert_eq!(END - fleet.start_unix_nanos(), 7 * DAY_NANOS);
    }

    #[test]
    fn every_resource_says_that_it_is_simulated() {
        for request in Fleet::with_hours(1, END, 2).requests() {
            for (resource, _) in metrics(&request) {
                assert_eq!(text(resource, "driftwatt.simulated"), Some("true"));
                assert_eq!(text(resource, "deployment.environment.name"), Some("simulated"));
                assert!(text(resource, "host.name").unwrap().starts_with("sim-host-"));
            }
        }
    }

    #[test]
    fn thirty_two_gpus_report_and_the_idle_pool_holds_its_memory() {
        let mut gpus = BTreeSet::new();
        for request in Fleet::with_hours(1, END, 1).requests() {
            for (resource, metric) in metrics(&request) {
                let points = match metric.data.as_ref().unwrap() {
                    Data::Gauge(gauge) => &gauge.data_points,
                    Data::Sum(sum) => &sum.data_points,
                    _ => continue,
                };
                let idle = text(resource, "service.name") == Some("batch-embed");
                for point in points {
                    match (metric.name.as_str(), point.value.as_ref().unwrap()) {
                        ("hw.gpu.utilization", Value::AsDouble(ratio)) => {
                            gpus.insert(text(&point.attributes, "hw.id").unwrap().to_owned());
                            assert!((0.0..=1.0).contains(ratio));
                            assert!(!idle || *ratio <= 0.03, "idle at {ratio}");
                        }
                        ("hw.gpu.memory.usage", Value::AsInt(bytes)) if idle => assert_eq!(*bytes, 30 << 30),
                        _ => {}
                    }
                }
            }
        }
        assert_eq!(gpus.len(), 32);
    }

    #[test]
    fn images_grow_in_the_last_two_days_and_latency_with_them() {
        let fleet = Fleet::new(1, END);
        // The same hour of day before and after the growth, simulated without the days between.
        let mut means = [[0.0; 2]; 2];
        for (index, hour) in [(0, 90), (1, 162)] {
            let mut host = SimulatedHost::new(1, 5, fleet.start_unix_nanos());
            let request = ExportMetricsServiceRequest { resource_metrics: host.hour(hour) };
            for (_, metric) in metrics(&request) {
                match metric.data.as_ref().unwrap() {
                    Data::ExponentialHistogram(pixels) => {
                        means[index][0] = mean(pixels.data_points.iter().map(|p| (p.sum, p.count)))
                    }
                    Data::Histogram(latency) => {
                        means[index][1] = mean(latency.data_points.iter().map(|p| (p.sum, p.count)))
                    }
                    _ => {}
                }
            }
        }
        assert!(means[1][0] > 3.0 * means[0][0], "pixels {means:?}");
        assert!(means[1][1] > 3.0 * means[0][1], "latency {means:?}");
    }

    fn mean(points: impl Iterator<Item = (Option<f64>, u64)>) -> f64 {
        let (sum, count) = points.fold((0.0, 0), |(sum, count), point| (sum + point.0.unwrap(), count + point.1));
        sum / count as f64
    }
}

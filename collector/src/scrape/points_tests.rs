//! Points of whole pages, in the shape that exporters give them.

use super::*;
use crate::scrape::exposition::{Format, parse};

const NOW_MS: i64 = 1_800_000_000_000;

fn read(text: &str, format: Format) -> Points {
    points(&parse(text, format), &TargetLabels::default(), NOW_MS)
}

/// The points of a page without a fault, by name.
fn page(text: &str, format: Format) -> Vec<Point> {
    let parsed = parse(text, format);
    assert_eq!((parsed.first_error, parsed.is_complete), (None, true));
    let read = points(&parsed, &TargetLabels::default(), NOW_MS);
    assert_eq!(read.error_count, 0);
    read.points
}

#[track_caller]
fn one<'p>(points: &'p [Point], metric: &str) -> &'p Point {
    let found: Vec<_> = points.iter().filter(|point| &*point.metric == metric).collect();
    assert_eq!(found.len(), 1, "{metric}");
    found[0]
}

fn attribute<'p>(point: &'p Point, name: &str) -> &'p str {
    point.attributes.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

#[test]
fn a_page_of_the_dcgm_exporter() {
    let points = page(include_str!("testdata/dcgm.txt"), Format::Text);
    assert_eq!(points.len(), 6);
    let used = one(&points, "DCGM_FI_DEV_FB_USED");
    assert_eq!(
        (&used.value, attribute(used, "UUID"), attribute(used, "pod")),
        (&Value::Gauge(40960.0), "GPU-aaaa", "resnet-0")
    );
    // A counter by its type, whatever its name ends in.
    assert_eq!(one(&points, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION").value, Value::Sum(123_456_789.0));
    assert_eq!(attribute(one(&points, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"), "GPU_I_ID"), "7");
}

#[test]
fn a_page_of_the_nvidia_smi_exporter() {
    let points = page(include_str!("testdata/nvidia_smi.txt"), Format::Text);
    assert_eq!(points.len(), 5);
    assert_eq!(one(&points, "nvidia_smi_memory_used_bytes").value, Value::Gauge(1_073_741_824.0));
    assert_eq!(&*one(&points, "nvidia_smi_utilization_gpu_ratio").description, "utilization.gpu [%]");
}

#[test]
fn a_page_of_vllm() {
    let points = page(include_str!("testdata/vllm.txt"), Format::Text);
    assert_eq!(one(&points, "vllm:prompt_tokens_total").value, Value::Sum(12000.0));
    assert_eq!(one(&points, "vllm:prompt_tokens_created").value, Value::Gauge(1_700_000_000.123_4));
    let latency = one(&points, "vllm:e2e_request_latency_seconds");
    let expected =
        Value::Histogram { bounds: vec![0.3, 1.0, 2.5], counts: vec![2, 18, 18, 4], count: 42, sum: Some(63.5) };
    assert_eq!(latency.value, expected);
    assert_eq!((attribute(latency, "model_name"), attribute(latency, "le")), ("llama-8b", ""));
    // Its name says counter and its type says histogram: the type is right.
    assert!(matches!(one(&points, "vllm:iteration_tokens_total").value, Value::Histogram { count: 100, .. }));
    assert_eq!(points.len(), 8);
}

#[test]
fn a_page_of_the_node_exporter() {
    let points = page(include_str!("testdata/node_exporter.txt"), Format::Text);
    let Value::Summary { count: 1200, sum, quantiles } = &one(&points, "go_gc_duration_seconds").value else {
        panic!("no summary")
    };
    assert_eq!((*sum, quantiles.len(), quantiles[1]), (0.25, 3, (0.5, 3e-5)));
    assert!(quantiles[2].1.is_nan());
    let space = one(&points, "node_filesystem_avail_bytes");
    assert_eq!((attribute(space, "device"), attribute(space, "mountpoint")), ("C:\\data", "/mnt/\"odd\""));
    assert_eq!(one(&points, "promhttp_metric_handler_requests_total").value, Value::Sum(7.0));
    assert_eq!(points.iter().filter(|point| &*point.metric == "node_cpu_seconds_total").count(), 2);
}

#[test]
fn an_open_metrics_page_has_start_times_units_and_more_types() {
    let points = page(include_str!("testdata/openmetrics.txt"), Format::OpenMetrics);
    let requests = one(&points, "app_requests_total");
    assert_eq!((&requests.value, requests.start_ms), (&Value::Sum(12.0), 1_700_000_000_000));
    let latency = one(&points, "app_latency_seconds");
    assert_eq!((&*latency.unit, &*latency.description, latency.start_ms), ("s", "Time to answer.", 1_700_000_000_000));
    let expected = Value::Histogram { bounds: vec![0.1, 1.0], counts: vec![3, 6, 1], count: 10, sum: Some(4.5) };
    assert_eq!(latency.value, expected);
    assert_eq!(one(&points, "app_build_info").value, Value::Gauge(1.0));
    assert_eq!(points.iter().filter(|point| &*point.metric == "app_mode").count(), 2);
    let queue: Vec<_> = points.iter().filter(|point| point.metric.starts_with("app_queue")).collect();
    assert!(queue.len() == 4 && queue.iter().all(|point| matches!(point.value, Value::Gauge(_))));
    assert!(points.iter().all(|point| !point.metric.ends_with("_created")));
}

#[test]
fn what_does_not_fit_is_left_out_and_counted() {
    let check = |text: &str, kept: usize, error_count: usize| {
        let read = read(text, Format::Text);
        assert_eq!((read.points.len(), read.error_count), (kept, error_count), "{text}");
    };
    check("a 1\na 2\nb 1", 2, 1);
    check("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1", 1, 1);
    let histogram = |lines: &str| format!("# TYPE h histogram\n{lines}g 1\n");
    check(&histogram("h_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 4\nh_count 4\n"), 1, 3);
    check(&histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 4\nh_count 5\n"), 1, 3);
    check(&histogram("h_bucket{le=\"1\"} 1.5\nh_bucket{le=\"+Inf\"} 4\n"), 1, 2);
    check(&histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 4\n"), 1, 3);
    check(&histogram("h_bucket{le=\"one\"} 1\nh_bucket{le=\"+Inf\"} 4\nh_sum 1\n"), 2, 1);
    check(&histogram("h_bucket 1\nh_sum 1\n"), 1, 2);
    check(&histogram("h_sum 1\nh_count 2\n"), 2, 0);
    check("# TYPE s summary\ns{quantile=\"1.5\"} 1\ns_count 1\n", 0, 2);
    check("# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\n", 0, 2);
}

#[test]
fn not_a_number_is_a_marker_and_a_time_of_the_page_stands() {
    let points = page("a NaN\nb 1 1700000000000\n", Format::Text);
    assert!(points[0].is_stale && points[0].time_ms == NOW_MS);
    assert!(!points[1].is_stale && points[1].has_own_time && points[1].time_ms == 1_700_000_000_000);
}

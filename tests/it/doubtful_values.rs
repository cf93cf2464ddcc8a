//! Values that cannot be meant so: left out or converted, and shown, never averaged in silence.

use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, Sum, metric::Data};
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt, start},
    write_request::{Request, TimeSeries, now_ms, sample, write},
};

fn in_unit(unit: &str, metric: Metric) -> Metric {
    Metric { unit: unit.to_owned(), ..metric }
}

/// One point of `seconds` ago.
fn on(seconds: u64, value: f64, attributes: &[(&str, &str)]) -> Vec<NumberDataPoint> {
    let attributes = attributes.iter().map(|(key, value)| label(key, value)).collect();
    vec![point(now_nanos() - seconds * 1_000_000_000, value, attributes)]
}

async fn warnings(server: &Server, kind: &str) -> Vec<Vec<Value>> {
    server.rows(&format!("SELECT metric, gpu_id, message FROM system.role_warnings WHERE kind = '{kind}'")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_changes_or_is_missing_is_understood_and_shown() {
    let (_dir, server) = start();
    let (api, gpu) = ([("service.name", "api"), ("host.name", "h1")], [("hw.id", "GPU-1"), ("hw.type", "gpu")]);
    let metrics = [
        // A new release of the sender says seconds.
        ("ms", gauge("http.server.request.duration", on(40, 250.0, &api))),
        ("s", gauge("http.server.request.duration", on(20, 0.25, &api))),
        // Said or not, the unit of this one is the same.
        ("", gauge("hw.power", on(40, 300.0, &gpu))),
        ("W", gauge("hw.power", on(20, 310.0, &gpu))),
        // Of a name without a convention the unit is what the sender says.
        ("", gauge("driftwatt.input.sharpness", on(40, 1.0, &api))),
        ("dB", gauge("driftwatt.input.sharpness", on(20, 2.0, &api))),
        // A unit that measures something else.
        ("By", gauge("hw.temperature", on(20, 60.0, &gpu))),
    ];
    let metrics = metrics.into_iter().map(|(unit, metric)| in_unit(unit, metric)).collect();
    assert_eq!(export(&server, metrics).await.0, 0);
    let seen = "SELECT value, unit FROM latency UNION ALL SELECT value, unit FROM gpu";
    let seen = server.rows(&format!("SELECT * FROM ({seen}) ORDER BY value")).await;
    assert_eq!(json!(seen), json!([[0.25, "s"], [0.25, "s"], [60.0, "Cel"], [300.0, "W"], [310.0, "W"]]));
    assert_eq!(
        json!(server.rows("SELECT value, unit FROM inputs ORDER BY value").await),
        json!([[1.0, ""], [2.0, "dB"]])
    );

    let changed = "SELECT metric, message FROM system.role_warnings WHERE kind = 'unit_changed' ORDER BY metric";
    let message = |units: &str| format!("the unit was {units}; each value was converted by the unit it came with");
    let expected = [
        [json!("driftwatt.input.sharpness"), json!(message("dB and no unit"))],
        [json!("http.server.request.duration"), json!(message("ms and s"))],
    ];
    assert_eq!(server.rows(changed).await, expected);
    let contradicts = warnings(&server, "unit_contradicts").await;
    assert_eq!((contradicts.len(), &contradicts[0][0]), (1, &json!("hw.temperature")), "{contradicts:?}");
    assert!(contradicts[0][2].as_str().unwrap().starts_with("declared unit By contradicts Cel"), "{contradicts:?}");
    let unsaid = "SELECT metric FROM system.role_series WHERE declared_unit = '' AND role IS NOT NULL ORDER BY metric";
    assert_eq!(server.rows(unsaid).await, [[json!("driftwatt.input.sharpness")], [json!("hw.power")]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_values_are_kept_apart_and_counted() {
    let (_dir, server) = start();
    let gpu = [("hw.id", "GPU-1"), ("hw.type", "gpu")];
    let series = |name: &str, unit, values: &[f64]| {
        let points = values.iter().zip(1..).flat_map(|(value, n)| on(10 * n, *value, &gpu)).collect();
        in_unit(unit, gauge(name, points))
    };
    let metrics = vec![
        series("hw.gpu.utilization", "1", &[0.5, 40.0, -0.1]),
        series("hw.power", "W", &[300.0, 1e9]),
        series("hw.temperature", "Cel", &[60.0, 4_294_967_295.0]),
        series("hw.gpu.memory.usage", "By", &[1e9, -1.0]),
    ];
    assert_eq!(export(&server, metrics).await.0, 0);
    // OTLP refuses infinity at the door. Prometheus has it, and this role has no upper bound.
    let mut request = Request::new();
    let samples = vec![sample(2e9, now_ms() - 1000), sample(f64::INFINITY, now_ms())];
    let labels = [("__name__", "nv_gpu_memory_used_bytes"), ("gpu_uuid", "GPU-2")];
    request.add(&labels, TimeSeries { samples, ..TimeSeries::default() });
    assert_eq!(write(&server, &request).await.status, 204);

    let means = "SELECT role, gpu_id, avg(value), count(value), count(*) FROM gpu GROUP BY 1, 2 ORDER BY 1, 2";
    let expected = json!([
        ["gpu.memory.used", "GPU-1", 1e9, 1, 2],
        ["gpu.memory.used", "GPU-2", 2e9, 1, 2],
        ["gpu.power", "GPU-1", 300.0, 1, 2],
        ["gpu.temperature", "GPU-1", 60.0, 1, 2],
        ["gpu.utilization", "GPU-1", 0.5, 1, 3],
    ]);
    assert_eq!(json!(server.rows(means).await), expected);
    let kinds = "SELECT DISTINCT quality FROM gpu WHERE value IS NULL";
    assert_eq!(server.rows(kinds).await, [[json!("implausible")]]);
    let mut warned = warnings(&server, "implausible_values").await;
    warned.sort_by_key(|row| row[0].to_string());
    let message =
        |count, value| format!("{count} values are implausible for this role and do not count, such as {value}");
    let expected = json!([
        ["hw.gpu.memory.usage", "GPU-1", message(1, "-1.0")],
        ["hw.gpu.utilization", "GPU-1", message(2, "40.0")],
        ["hw.power", "GPU-1", message(1, "1000000000.0")],
        ["hw.temperature", "GPU-1", message(1, "4294967295.0")],
        ["nv_gpu_memory_used_bytes", "GPU-2", message(1, "inf")],
    ]);
    assert_eq!(json!(warned), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_senders_for_one_card_the_one_above_in_the_table_counts_and_both_are_shown() {
    let (_dir, server) = start();
    let uuid = "GPU-2f5a1c60-93cf-4b51-8d8e-0d9c4b7a0001";
    let device = [("hw.id", uuid), ("hw.type", "gpu")];
    let utilization = [40, 20].into_iter().flat_map(|seconds| on(seconds, 0.5, &device)).collect();
    assert_eq!(export(&server, vec![in_unit("1", gauge("hw.gpu.utilization", utilization))]).await.0, 0);
    let mut request = Request::new();
    // Its clock lies between the points of the other; it goes on when the other has stopped.
    let samples = vec![sample(52.0, now_ms() - 30_000), sample(70.0, now_ms() - 10_000)];
    let labels = [("Hostname", "n1"), ("UUID", uuid), ("__name__", "DCGM_FI_DEV_GPU_UTIL"), ("pod", "p")];
    request.add(&labels, TimeSeries { samples, ..TimeSeries::default() });
    assert_eq!(write(&server, &request).await.status, 204);
    let seen = "SELECT source, value, reported, attribution FROM gpu ORDER BY time";
    let expected = json!([
        ["OpenTelemetry hw", 0.5, 0.5, "exact"],
        ["DCGM exporter", null, 0.52, "device_copy"],
        ["OpenTelemetry hw", 0.5, 0.5, "exact"],
        ["DCGM exporter", 0.7, 0.7, "exact"],
    ]);
    assert_eq!(json!(server.rows(seen).await), expected);
    let shown = warnings(&server, "two_sources").await;
    let message = "OpenTelemetry hw holds, DCGM exporter does not count";
    assert_eq!(shown, [[json!("DCGM_FI_DEV_GPU_UTIL"), json!(uuid), json!(message)]]);
    let args = ["roles", "check", "--server", &format!("http://{}", server.http)];
    let output = driftwatt().args(args).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(message), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_one_card_with_values_of_their_own_are_shown() {
    let (_dir, server) = start();
    let now = now_ms();
    let mut request = Request::new();
    for (pod, utilization, power) in [("a", 30.0, 300.0), ("b", 50.0, 300.0), ("c", 0.0, 300.0)] {
        for (name, value) in [("DCGM_FI_DEV_GPU_UTIL", utilization), ("DCGM_FI_DEV_POWER_USAGE", power)] {
            let labels = [("Hostname", "n1"), ("UUID", "GPU-1"), ("__name__", name), ("exported_pod", pod)];
            let samples = vec![sample(value, now - 15_000), sample(value, now)];
            request.add(&labels, TimeSeries { samples, ..TimeSeries::default() });
        }
    }
    assert_eq!(write(&server, &request).await.status, 204);
    // One card still draws its power once; of the utilisation one pod's stands until pods can be told from copies.
    let counted = "SELECT role, count(value), count(reported), max(value) FROM gpu GROUP BY role ORDER BY role";
    let rows = server.rows(counted).await;
    assert_eq!(rows[0], [json!("gpu.power"), json!(2), json!(6), json!(300.0)]);
    assert_eq!((&rows[1][1], &rows[1][2]), (&json!(2), &json!(6)), "{rows:?}");
    let message = "the series that share this GPU had different values at 2 times: the exporter measures each pod apart, \
                   and only one of them counts";
    let expected = [[json!("DCGM_FI_DEV_GPU_UTIL"), json!("GPU-1"), json!(message)]];
    assert_eq!(warnings(&server, "shared_values_differ").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_wrong_and_enums_that_are_unknown_are_refused_with_a_count() {
    let (_dir, server) = start();
    let now = now_nanos();
    let hour = 3_600_000_000_000;
    let at = |time| vec![point(time, 1.0, vec![])];
    let sum = |name: &str, aggregation_temporality| Metric {
        name: name.to_owned(),
        data: Some(Data::Sum(Sum { data_points: at(now), aggregation_temporality, is_monotonic: true })),
        ..Metric::default()
    };
    // Ten minutes of skew are taken as they are.
    let metrics = vec![
        gauge("ahead", at(now + hour)),
        gauge("a_little_ahead", at(now + 540_000_000_000)),
        gauge("behind", at(now - hour)),
        gauge("of_1970", at(hour)),
        sum("of_a_later_version", 7),
        sum("unsaid", 0),
    ];
    let (rejected, message) = export(&server, metrics).await;
    assert_eq!(rejected, 4, "{message}");
    let mut request = Request::new();
    for (name, time) in [("ahead", now_ms() + 3_600_000), ("in_seconds", now_ms() / 1000)] {
        request.add(&[("__name__", name)], TimeSeries { samples: vec![sample(1.0, time)], ..TimeSeries::default() });
    }
    assert_eq!(write(&server, &request).await.status, 400);
    let counted = "SELECT reason, metric, sum(count) FROM rejections GROUP BY 1, 2 ORDER BY 1, 2";
    let expected = json!([
        ["temporality_missing", "of_a_later_version", 1],
        ["temporality_missing", "unsaid", 1],
        ["timestamp_too_new", "ahead", 2],
        ["timestamp_too_old", "in_seconds", 1],
        ["timestamp_too_old", "of_1970", 1],
    ]);
    assert_eq!(json!(server.rows(counted).await), expected);
    let stored = server.rows("SELECT DISTINCT metric FROM raw.samples ORDER BY metric").await;
    assert_eq!(stored, [[json!("a_little_ahead")], [json!("behind")]]);
}

//! One load of GPUs, told by three senders over three inlets, read back from the view `gpu`.
//!
//! Sent are OpenTelemetry's `hw.*` metrics by OTLP, the page of the DCGM exporter by remote write 1.0 as Prometheus makes
//! it of that page (and by OTLP as the OpenTelemetry Collector does), and the page of the nvidia_smi exporter from a web server
//! that `driftwatt collect` scrapes.

use std::{collections::BTreeMap, fmt::Write as _};

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{AggregationTemporality, Metric, NumberDataPoint, Sum, metric::Data},
};
use serde_json::{Value, json};

use crate::{
    exporter::{Exporter, collect, until},
    otlp::{export, gauge, label, point},
    server::Server,
    write_request::{FirstTimeSeries, Label, MetricMetadata, WriteRequest, now_ms, sample, write_first},
};

/// As the driver spells them. The nvidia_smi exporter leaves `GPU-` out.
const UUIDS: [&str; 3] = [
    "GPU-2f5a1c60-93cf-4b51-8d8e-0d9c4b7a0001",
    "GPU-7b19e0d4-5a3c-4f0e-9a11-6c2f3e5d0002",
    "GPU-e3c4d5f6-1b2a-4c3d-8e4f-a0b1c2d30003",
];
const MODEL: &str = "NVIDIA H100 80GB HBM3";
const MEMORY_TOTAL_MIB: u64 = 81_559;
const SCRAPES: u64 = 4;
const SCRAPE_INTERVAL_MS: i64 = 15_000;
const MIB: u64 = 1 << 20;

/// What the driver says of one GPU at one moment, in the driver's units.
#[derive(Debug, Clone, Copy)]
struct Reading {
    uuid: &'static str,
    gpu: usize,
    time_ms: i64,
    utilization_percent: u64,
    encoder_percent: u64,
    decoder_percent: u64,
    memory_percent: u64,
    memory_used_mib: u64,
    power_mw: u64,
    energy_mj: u64,
    temperature: u64,
    memory_temperature: u64,
    sm_clock_mhz: u64,
    memory_clock_mhz: u64,
}

/// The script: the GPUs of each scrape.
///
/// The percentages are such that the nvidia_smi exporter gives the nearest double. It multiplies by 0.01, so that ten of the
/// hundred and one are off by one unit in the last place (35 % is 0.35000000000000003 on its page).
fn load(first_ms: i64) -> Vec<Vec<Reading>> {
    let percents = [0, 7, 29, 33, 55, 56, 58, 91, 99, 100, 14, 3];
    let percent = |n: usize| percents[n % percents.len()];
    let reading = |scrape: u64, gpu: usize| {
        let step = scrape as usize * UUIDS.len() + gpu;
        Reading {
            uuid: UUIDS[gpu],
            gpu,
            time_ms: first_ms + scrape as i64 * SCRAPE_INTERVAL_MS,
            utilization_percent: percent(step),
            encoder_percent: percent(step + 5),
            decoder_percent: percent(step + 2),
            memory_percent: percent(step + 7),
            memory_used_mib: 40_960 + 1013 * step as u64,
            // nvidia-smi prints hundredths of a watt.
            power_mw: 68_310 + 57_070 * step as u64,
            energy_mj: 123_456_789_013 + 4_567_891 * step as u64,
            temperature: 31 + 4 * step as u64,
            memory_temperature: 40 + 3 * step as u64,
            sm_clock_mhz: 1980 - 15 * step as u64,
            memory_clock_mhz: 2619,
        }
    };
    (0..SCRAPES).map(|scrape| (0..UUIDS.len()).map(|gpu| reading(scrape, gpu)).collect()).collect()
}

/// Roles that all three senders know.
///
/// OpenTelemetry has no names for the clocks, the temperature of the memory, the duty cycle of the memory and free memory.
/// The nvidia_smi exporter has the profiling metrics (SM, tensor and DRAM active) for MIG slices only, OpenTelemetry not at all.
fn of_all(reading: &Reading) -> Vec<(&'static str, f64, &'static str, Option<&'static str>)> {
    let ratio = |percent: u64| percent as f64 / 100.0;
    vec![
        ("gpu.utilization", ratio(reading.utilization_percent), "1", Some("duty_cycle")),
        ("gpu.encoder.utilization", ratio(reading.encoder_percent), "1", None),
        ("gpu.decoder.utilization", ratio(reading.decoder_percent), "1", None),
        ("gpu.memory.used", (reading.memory_used_mib * MIB) as f64, "By", None),
        ("gpu.memory.total", (MEMORY_TOTAL_MIB * MIB) as f64, "By", None),
        ("gpu.power", reading.power_mw as f64 / 1000.0, "W", None),
        ("gpu.energy", reading.energy_mj as f64 / 1000.0, "J", None),
        ("gpu.temperature", reading.temperature as f64, "Cel", None),
    ]
}

/// Roles that the two exporters know.
fn of_exporters(reading: &Reading) -> Vec<(&'static str, f64, &'static str, Option<&'static str>)> {
    vec![
        ("gpu.memory.copy_utilization", reading.memory_percent as f64 / 100.0, "1", Some("duty_cycle")),
        ("gpu.memory.free", ((MEMORY_TOTAL_MIB - reading.memory_used_mib) * MIB) as f64, "By", None),
        ("gpu.memory.temperature", reading.memory_temperature as f64, "Cel", None),
        ("gpu.clock.sm", (reading.sm_clock_mhz * 1_000_000) as f64, "Hz", None),
        ("gpu.clock.memory", (reading.memory_clock_mhz * 1_000_000) as f64, "Hz", None),
    ]
}

type Meaning = fn(&Reading) -> Vec<(&'static str, f64, &'static str, Option<&'static str>)>;

/// The rows of the view that a script must give, in the order of [`rows`].
fn expected(load: &[Vec<Reading>], meaning: Meaning) -> Vec<Vec<Value>> {
    let mut rows: BTreeMap<(&str, &str, i64), Vec<Value>> = BTreeMap::new();
    for reading in load.iter().flatten() {
        for (role, value, unit, rung) in meaning(reading) {
            let (value, time, id) = (json!(value), json!(reading.time_ms), json!(reading.uuid));
            let said = [json!(unit), json!("exact"), json!("ok"), json!("device"), json!(rung)];
            let mut row = vec![json!(role), id, time, value.clone()];
            row.extend(said);
            row.extend([value, json!(1.0), Value::Null]);
            rows.insert((role, reading.uuid, reading.time_ms), row);
        }
    }
    rows.into_values().collect()
}

/// The rows of the roles that `meaning` names.
async fn rows(server: &Server, meaning: Meaning) -> Vec<Vec<Value>> {
    let first = &load(0)[0][0];
    let roles: Vec<String> = meaning(first).iter().map(|(role, ..)| format!("'{role}'")).collect();
    let sql = format!(
        "SELECT role, gpu_id, CAST(date_part('epoch', time) * 1000 AS BIGINT), value, unit, attribution, quality, scope, rung, \
         reported, share, mig_id FROM gpu WHERE role IN ({}) ORDER BY role, gpu_id, time",
        roles.join(", ")
    );
    server.rows(&sql).await
}

fn up_down(name: &str, data_points: Vec<NumberDataPoint>, is_monotonic: bool) -> Metric {
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    let data = Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic });
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

/// The `hw.*` metrics of one scrape.
fn open_telemetry(readings: &[Reading], start_ms: i64) -> Vec<Metric> {
    let attributes = |reading: &Reading, task: &[KeyValue]| {
        let device = [("hw.id", reading.uuid), ("hw.type", "gpu"), ("hw.vendor", "NVIDIA"), ("hw.model", MODEL)];
        device.iter().map(|(key, value)| label(key, value)).chain(task.iter().cloned()).collect::<Vec<_>>()
    };
    let points = |task: &[KeyValue], value: &dyn Fn(&Reading) -> f64| {
        let at = |reading: &Reading| NumberDataPoint {
            start_time_unix_nano: start_ms as u64 * 1_000_000,
            ..point(reading.time_ms as u64 * 1_000_000, value(reading), attributes(reading, task))
        };
        readings.iter().map(at).collect::<Vec<_>>()
    };
    let task = |name: &str| [label("hw.gpu.task", name)];
    let mut utilization = points(&task("general"), &|r| r.utilization_percent as f64 / 100.0);
    utilization.extend(points(&task("encoder"), &|r| r.encoder_percent as f64 / 100.0));
    utilization.extend(points(&task("decoder"), &|r| r.decoder_percent as f64 / 100.0));
    let metrics = [
        ("1", gauge("hw.gpu.utilization", utilization)),
        ("By", up_down("hw.gpu.memory.usage", points(&[], &|r| (r.memory_used_mib * MIB) as f64), false)),
        ("By", up_down("hw.gpu.memory.limit", points(&[], &|_| (MEMORY_TOTAL_MIB * MIB) as f64), false)),
        ("W", gauge("hw.power", points(&[], &|r| r.power_mw as f64 / 1000.0))),
        ("J", up_down("hw.energy", points(&[], &|r| r.energy_mj as f64 / 1000.0), true)),
        ("Cel", gauge("hw.temperature", points(&[], &|r| r.temperature as f64))),
    ];
    metrics.into_iter().map(|(unit, metric)| Metric { unit: unit.to_owned(), ..metric }).collect()
}

/// The page of the DCGM exporter, with the pod that it found on the first GPU.
fn dcgm_page(readings: &[Reading]) -> String {
    let mut page = String::new();
    let mut family = |name: &str, kind: &str, value: &dyn Fn(&Reading) -> String| {
        writeln!(page, "# HELP {name} As DCGM says.\n# TYPE {name} {kind}").unwrap();
        for reading in readings {
            let (gpu, uuid) = (reading.gpu, reading.uuid);
            let pod =
                if gpu == 0 { ",container=\"main\",namespace=\"train\",pod=\"resnet-0\",pod_uid=\"\"" } else { "" };
            writeln!(
                page,
                "{name}{{gpu=\"{gpu}\",UUID=\"{uuid}\",pci_bus_id=\"00000000:3{gpu}:00.0\",device=\"nvidia{gpu}\",\
                 modelName=\"{MODEL}\",Hostname=\"node-1\",DCGM_FI_DRIVER_VERSION=\"580.95.05\"{pod}}} {}",
                value(reading)
            )
            .unwrap();
        }
    };
    family("DCGM_FI_DEV_SM_CLOCK", "gauge", &|r| r.sm_clock_mhz.to_string());
    family("DCGM_FI_DEV_MEM_CLOCK", "gauge", &|r| r.memory_clock_mhz.to_string());
    family("DCGM_FI_DEV_MEMORY_TEMP", "gauge", &|r| r.memory_temperature.to_string());
    family("DCGM_FI_DEV_GPU_TEMP", "gauge", &|r| r.temperature.to_string());
    family("DCGM_FI_DEV_POWER_USAGE", "gauge", &|r| format!("{:.6}", r.power_mw as f64 / 1000.0));
    family("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", &|r| r.energy_mj.to_string());
    family("DCGM_FI_DEV_GPU_UTIL", "gauge", &|r| r.utilization_percent.to_string());
    family("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", &|r| r.memory_percent.to_string());
    family("DCGM_FI_DEV_ENC_UTIL", "gauge", &|r| r.encoder_percent.to_string());
    family("DCGM_FI_DEV_DEC_UTIL", "gauge", &|r| r.decoder_percent.to_string());
    family("DCGM_FI_DEV_FB_FREE", "gauge", &|r| (MEMORY_TOTAL_MIB - r.memory_used_mib).to_string());
    family("DCGM_FI_DEV_FB_USED", "gauge", &|r| r.memory_used_mib.to_string());
    family("DCGM_FI_DEV_FB_TOTAL", "gauge", &|_| MEMORY_TOTAL_MIB.to_string());
    page
}

/// What Prometheus makes of a page: series with the labels of the target, those of the exporter that clash as `exported_…`.
fn remote_write(page: &str, time_ms: i64) -> WriteRequest {
    let mut request = WriteRequest::default();
    for line in page.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            let metric_type = if kind == "counter" { 1 } else { 2 };
            let metric_family_name = name.to_owned();
            request.metadata.push(MetricMetadata { metric_type, metric_family_name, ..MetricMetadata::default() });
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once('{').unwrap();
            let (labels, value) = rest.split_once("} ").unwrap();
            let mut all: BTreeMap<String, String> = BTreeMap::new();
            for pair in labels.split(',') {
                let (key, text) = pair.split_once('=').unwrap();
                let clashes = ["container", "namespace", "pod"].contains(&key);
                let key = if clashes { format!("exported_{key}") } else { key.to_owned() };
                all.insert(key, text.trim_matches('"').to_owned());
            }
            let of_target = [("__name__", name), ("job", "dcgm"), ("instance", "10.0.0.7:9400"), ("pod", "dcgm-x7")];
            all.extend(of_target.map(|(key, text)| (key.to_owned(), text.to_owned())));
            let labels = all.into_iter().filter(|(_, text)| !text.is_empty());
            let labels = labels.map(|(name, value)| Label { name, value }).collect();
            let samples = vec![sample(value.parse().unwrap(), time_ms)];
            request.timeseries.push(FirstTimeSeries { labels, samples, ..FirstTimeSeries::default() });
        }
    }
    request
}

/// The same as OTLP metrics, as the Prometheus receiver of the OpenTelemetry Collector sends them on.
fn by_collector(request: &WriteRequest) -> Vec<Metric> {
    let of_series = |series: &FirstTimeSeries| {
        let text = |name: &str| series.labels.iter().find(|label| label.name == name).unwrap().value.clone();
        let name = text("__name__");
        let attributes = series.labels.iter().filter(|label| !["__name__", "job", "instance"].contains(&&*label.name));
        let attributes = attributes.map(|found| label(&found.name, &found.value)).collect();
        let points = vec![point(series.samples[0].timestamp as u64 * 1_000_000, series.samples[0].value, attributes)];
        let family = request.metadata.iter().find(|family| family.metric_family_name == name).unwrap();
        if family.metric_type == 1 { up_down(&name, points, true) } else { gauge(&name, points) }
    };
    request.timeseries.iter().map(of_series).collect()
}

/// A number as Go prints it: from 21 digits or six decimals on with an exponent, such as 7.06740224e+08.
fn go_number(value: f64) -> String {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap();
    match exponent.parse::<i32>().unwrap() {
        exponent @ 6.. => format!("{digits}e+{exponent:02}"),
        _ => value.to_string(),
    }
}

/// The page of the nvidia_smi exporter. It gives no times itself; here the page has them, so that the rows can be compared.
fn nvidia_smi_page(readings: &[Reading]) -> String {
    let mut page = String::from("# TYPE nvidia_smi_command_exit_code gauge\nnvidia_smi_command_exit_code 0\n");
    let mut family = |name: &str, kind: &str, value: &dyn Fn(&Reading) -> f64| {
        writeln!(page, "# HELP nvidia_smi_{name} {name}\n# TYPE nvidia_smi_{name} {kind}").unwrap();
        for reading in readings {
            let uuid = reading.uuid.strip_prefix("GPU-").unwrap();
            let value = go_number(value(reading));
            writeln!(page, "nvidia_smi_{name}{{uuid=\"{uuid}\"}} {value} {}", reading.time_ms).unwrap();
        }
    };
    family("utilization_gpu_ratio", "gauge", &|r| r.utilization_percent as f64 * 0.01);
    family("utilization_memory_ratio", "gauge", &|r| r.memory_percent as f64 * 0.01);
    family("utilization_encoder_ratio", "gauge", &|r| r.encoder_percent as f64 * 0.01);
    family("utilization_decoder_ratio", "gauge", &|r| r.decoder_percent as f64 * 0.01);
    family("memory_used_bytes", "gauge", &|r| (r.memory_used_mib * MIB) as f64);
    family("memory_free_bytes", "gauge", &|r| ((MEMORY_TOTAL_MIB - r.memory_used_mib) * MIB) as f64);
    family("memory_total_bytes", "gauge", &|_| (MEMORY_TOTAL_MIB * MIB) as f64);
    family("power_draw_watts", "gauge", &|r| r.power_mw as f64 / 1000.0);
    family("energy_joules_total", "counter", &|r| r.energy_mj as f64 / 1000.0);
    family("temperature_gpu", "gauge", &|r| r.temperature as f64);
    family("temperature_memory", "gauge", &|r| r.memory_temperature as f64);
    family("clocks_current_sm_clock_hz", "gauge", &|r| (r.sm_clock_mhz * 1_000_000) as f64);
    family("clocks_current_memory_clock_hz", "gauge", &|r| (r.memory_clock_mhz * 1_000_000) as f64);
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn one_load_gives_the_same_rows_over_three_inlets() {
    let dirs = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let servers = [0, 1, 2, 3].map(|n: usize| Server::start(&dirs[n].path().join("data")));
    let [by_otlp, by_remote_write, by_scrape, dcgm_by_otlp] = &servers;
    let first_ms = now_ms() - 120_000;
    let load = load(first_ms);

    let exporter = Exporter::start().await;
    exporter.put("/metrics", nvidia_smi_page(&load[0]));
    let scrape = format!("[[collector.scrape]]\njob = \"smi\"\ntargets = [\"{}\"]\n", exporter.url("/metrics"));
    let _collector = collect(&dirs[2], by_scrape, &scrape);
    for (number, readings) in load.iter().enumerate() {
        assert_eq!(export(by_otlp, open_telemetry(readings, first_ms - 1_000_000)).await, (0, String::new()));
        let dcgm = remote_write(&dcgm_page(readings), readings[0].time_ms);
        let answer = write_first(by_remote_write, &dcgm).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
        assert_eq!(export(dcgm_by_otlp, by_collector(&dcgm)).await, (0, String::new()));
        exporter.put("/metrics", nvidia_smi_page(readings));
        let scraped = "SELECT count(*) FROM raw.samples WHERE metric = 'nvidia_smi_clocks_current_memory_clock_hz'";
        until(by_scrape, scraped, &[vec![json!((number + 1) * UUIDS.len())]]).await;
    }

    let (all, more) = (expected(&load, of_all), expected(&load, of_exporters));
    assert_eq!(all.len(), 8 * UUIDS.len() * load.len());
    for server in &servers {
        for _ in 0..2 {
            assert_eq!(rows(server, of_all).await, all, "{}", server.log());
            server.flush().await;
        }
        assert!(server.rows("SELECT * FROM system.role_warnings").await.is_empty());
        assert_eq!(server.rows("SELECT count(*) FROM rejections").await, [[json!(0)]]);
    }
    for server in [by_remote_write, by_scrape, dcgm_by_otlp] {
        assert_eq!(rows(server, of_exporters).await, more);
    }
    // Whose work it was only one of them can know.
    let pods = "SELECT DISTINCT gpu_id, host_name, gpu_model, k8s_namespace, k8s_pod, k8s_container FROM gpu \
                WHERE k8s_container IS NOT NULL";
    let pod = [UUIDS[0], "node-1", MODEL, "train", "resnet-0", "main"].map(Value::from).to_vec();
    assert_eq!(by_remote_write.rows(pods).await, [pod]);
}

/// One card of seven slices, as each exporter says it: memory and activity by slice, in the driver's units.
fn sliced_pages(time_ms: i64) -> [String; 2] {
    let (mut dcgm, mut smi) = (String::new(), String::new());
    let bare = UUIDS[0].strip_prefix("GPU-").unwrap();
    let mut family = |dcgm_name: &str, smi_name: &str, values: &dyn Fn(u64) -> (String, f64)| {
        writeln!(dcgm, "# TYPE {dcgm_name} gauge").unwrap();
        writeln!(smi, "# TYPE {smi_name} gauge").unwrap();
        for slice in 0..7 {
            let (by_dcgm, by_smi) = values(slice);
            // The instances of seven 1g slices are called 7 to 13.
            let id = slice + 7;
            writeln!(
                dcgm,
                "{dcgm_name}{{gpu=\"0\",UUID=\"{}\",pci_bus_id=\"00000000:30:00.0\",device=\"nvidia0\",\
                 modelName=\"{MODEL}\",GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"{id}\",Hostname=\"node-1\"}} {by_dcgm}",
                UUIDS[0]
            )
            .unwrap();
            let by_smi = go_number(by_smi);
            writeln!(smi, "{smi_name}{{gpu_instance_id=\"{id}\",uuid=\"{bare}\"}} {by_smi} {time_ms}").unwrap();
        }
    };
    family("DCGM_FI_DEV_FB_USED", "nvidia_smi_mig_memory_used_bytes", &|slice| {
        let mib = 1000 + 37 * slice;
        (mib.to_string(), (mib * MIB) as f64)
    });
    family("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "nvidia_smi_mig_graphics_activity_ratio", &|slice| {
        let share = slice as f64 / 8.0;
        (format!("{share:.6}"), share)
    });
    family("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "nvidia_smi_mig_tensor_activity_ratio", &|slice| {
        let share = slice as f64 / 16.0;
        (format!("{share:.6}"), share)
    });
    [dcgm, smi]
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_a_card_give_the_same_rows_by_both_exporters() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let servers = [0, 1].map(|n: usize| Server::start(&dirs[n].path().join("data")));
    let [by_remote_write, by_scrape] = &servers;
    let time_ms = now_ms() - 60_000;
    let [dcgm, smi] = sliced_pages(time_ms);
    assert_eq!(write_first(by_remote_write, &remote_write(&dcgm, time_ms)).await.status, 204);
    let exporter = Exporter::start().await;
    exporter.put("/metrics", smi);
    let scrape = format!("[[collector.scrape]]\njob = \"smi\"\ntargets = [\"{}\"]\n", exporter.url("/metrics"));
    let _collector = collect(&dirs[1], by_scrape, &scrape);
    until(by_scrape, "SELECT count(*) FROM raw.samples WHERE metric LIKE 'nvidia_smi_mig%'", &[vec![json!(21)]]).await;

    let share = |slice: u64, parts: f64| json!(slice as f64 / parts);
    let expected: Vec<Vec<Value>> = (0..7)
        .flat_map(|slice| {
            let row = |role: &str, value: Value, unit: &str, rung: Option<&str>| {
                let id = json!((slice + 7).to_string());
                let said = [json!(unit), json!("exact"), json!("ok"), json!("mig"), json!(rung)];
                [vec![json!(role), json!(UUIDS[0]), id, json!(time_ms), value], said.to_vec()].concat()
            };
            [
                row("gpu.engine_active", share(slice, 8.0), "1", Some("engine_active")),
                row("gpu.memory.used", json!(((1000 + 37 * slice) * MIB) as f64), "By", None),
                row("gpu.tensor_active", share(slice, 16.0), "1", Some("tensor_active")),
            ]
        })
        .collect();
    let rows = "SELECT role, gpu_id, mig_id, CAST(date_part('epoch', time) * 1000 AS BIGINT), value, unit, attribution, quality, \
                scope, rung FROM gpu ORDER BY CAST(mig_id AS INT), role";
    for server in &servers {
        assert_eq!(server.rows(rows).await, expected);
        let used: u64 = (0..7).map(|slice| (1000 + 37 * slice) * MIB).sum();
        let sum = "SELECT sum(value) FROM gpu WHERE role = 'gpu.memory.used'";
        assert_eq!(server.rows(sum).await, [[json!(used as f64)]]);
    }
    // The profile of a slice is on the page of one of them only, so only there it is known which share of the card it is.
    let shares = "SELECT DISTINCT mig_profile, round(share, 9) FROM gpu";
    assert_eq!(by_remote_write.rows(shares).await, [[json!("1g.10gb"), json!(0.142857143)]]);
    assert_eq!(by_scrape.rows(shares).await, [[Value::Null, Value::Null]]);
}

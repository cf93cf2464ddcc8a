//! The role views over points as their sources send them.

use std::collections::HashMap;

use super::*;
use crate::roles::RoleTable;

mod derived;
mod profiling;

/// A series as a source sends it.
struct Sent<'a> {
    metric: &'a str,
    unit: &'a str,
    attributes: Vec<(String, String)>,
}

impl<'a> Sent<'a> {
    fn new(metric: &'a str, unit: &'a str, attributes: &[(&str, &str)]) -> Self {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { metric, unit, attributes }
    }

    fn series(&self, kind: Kind) -> Arc<Series> {
        self.series_as(kind, Temporality::Unspecified)
    }

    fn series_as(&self, kind: Kind, temporality: Temporality) -> Arc<Series> {
        let text = |(key, value): &(String, String)| (key.clone(), AttributeValue::String(value.clone()));
        Series::new(SeriesDefinition {
            metric: self.metric.into(),
            unit: self.unit.into(),
            description: "".into(),
            kind,
            temporality,
            monotonic: false,
            bounds: vec![],
            resource: vec![("service.name".into(), AttributeValue::String("chat".into()))].into(),
            scope_name: "".into(),
            scope_version: "".into(),
            scope: vec![].into(),
            point: self.attributes.iter().map(text).collect(),
        })
    }
}

impl Fixture {
    /// Stores the points `(seconds after START, value)` of each series.
    async fn send(&self, sent: &[(Sent<'_>, Vec<(i64, f64)>)]) {
        let mut batch = WriteBatch::default();
        for (number, (sent, points)) in (0..).zip(sent) {
            batch.series.push(sent.series(Kind::Gauge));
            for (second, value) in points {
                batch.samples.push(number, 0, START + second * 1_000_000, value.to_bits(), SampleColumns::DOUBLE);
            }
        }
        self.store.append(batch).await.unwrap();
    }

    async fn table(&self, sql: &str) -> Vec<Value> {
        let answer = crate::answer(&self.ctx, &Config { rows_max: 100_000, ..Config::default() }, sql, "json").await;
        let answer: Value = serde_json::from_str(&answer.unwrap_or_else(|error| panic!("{sql}: {error}"))).unwrap();
        answer["rows"].as_array().unwrap().clone()
    }
}

/// What a source value is in the unit of its role, said here a second time.
fn expected(from: &str, to: &str, scale_free: f64) -> (f64, f64) {
    match (from, to) {
        (from, to) if from == to || to == "*" => (scale_free, scale_free),
        ("%", "1") => (37.0, 0.37),
        ("MiBy", "By") => (3.0, 3_145_728.0),
        ("MiBy/s", "By/s") => (3.0, 3_145_728.0),
        ("ms", "s") | ("mJ", "J") => (3.0, 0.003),
        ("us", "s") | ("uJ", "J") => (3.0, 0.000_003),
        ("ns", "s") => (3.0, 0.000_000_003),
        ("MHz", "Hz") => (3.0, 3_000_000.0),
        other => panic!("say what one {other:?} is"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_gives_its_role_and_canonical_value_under_every_spelling() {
    let fixture = fixture().await;
    let table = RoleTable::shipped().unwrap();
    let mut sent = Vec::new();
    let mut wanted = HashMap::new();
    for row in &table.rows {
        let example = row.metric.strip_suffix('*').map(|start| vec![format!("{start}example")]);
        for name in example.as_ref().unwrap_or(&row.spellings) {
            let prometheus = !name.contains('.');
            let mut attributes: Vec<(String, String)> = Vec::new();
            for condition in &row.when {
                let key = &condition.keys[wanted.len() % condition.keys.len()];
                let key = if prometheus { crate::roles::label(key) } else { key.clone() };
                attributes.push((key, condition.value.clone()));
            }
            let device = format!("GPU-{:036}", wanted.len());
            attributes.push((if prometheus { "UUID" } else { "hw.id" }.to_owned(), device.clone()));
            let (value, canonical) = expected(&row.unit, &row.definition.unit, 0.5);
            let unit = if prometheus || row.unit == "*" { "" } else { &row.unit };
            let metric: &'static str = Box::leak(name.clone().into_boxed_str());
            sent.push((Sent { metric, unit, attributes }, vec![(0, value)]));
            let role = if row.role.ends_with('*') { row.role.replace('*', "example") } else { row.role.clone() };
            let unit = if row.definition.unit == "*" { "" } else { &row.definition.unit };
            wanted
                .insert(device, json!([row.definition.view.name(), role, canonical, unit, "ok", row.source.as_ref()]));
        }
    }
    fixture.send(&sent).await;
    let views = ["gpu", "system", "latency", "inputs", "models"];
    let arms = views.map(|view| format!("SELECT gpu_id, '{view}', role, value, unit, quality, source FROM {view}"));
    let mut found = HashMap::new();
    for row in fixture.table(&arms.join(" UNION ALL ")).await {
        let row = row.as_array().unwrap();
        let again = found.insert(row[0].as_str().unwrap().to_owned(), Value::from(row[1..].to_vec()));
        assert_eq!(again, None, "{row:?} is in two views or twice in one");
    }
    for (sent, _) in &sent {
        let device = &sent.attributes.last().unwrap().1;
        assert_eq!(found.get(device), wanted.get(device), "{} {:?}", sent.metric, sent.attributes);
    }
    assert_eq!(found.len(), wanted.len());
}

const DCGM: &str = "gpu=0,UUID=GPU-2f5a1c60-0000-4000-8000-000000000001,device=nvidia0,modelName=NVIDIA H100 80GB HBM3,\
                    Hostname=node-1,exported_pod=chat-0,exported_namespace=prod,exported_container=main";

/// view; metric; declared unit; attributes; value; then the role, canonical value and unit that it must have.
const SENT: &str = "
gpu; DCGM_FI_DEV_GPU_UTIL; ; DCGM; 57; gpu.utilization; 0.57; 1
gpu; DCGM_FI_DEV_FB_USED; ; DCGM; 81000; gpu.memory.used; 84934656000; By
gpu; DCGM_FI_DEV_BOARD_POWER_WATTS; ; DCGM; 412.5; gpu.power; 412.5; W
gpu; DCGM_FI_PROF_PIPE_TENSOR_ACTIVE; ; DCGM; 0.021; gpu.tensor_active; 0.021; 1
gpu; nvidia_smi_utilization_gpu_ratio; ; uuid=2f5a1c60-0000-4000-8000-000000000002; 0.57; gpu.utilization; 0.57; 1
gpu; hw.gpu.utilization; 1; hw.id=G; 0.57; gpu.utilization; 0.57; 1
gpu; hw_gpu_utilization_ratio; ; hw_id=H,hw_gpu_task=general; 0.57; gpu.utilization; 0.57; 1
gpu; hw.power; W; hw.id=G,hw.type=gpu; 301.5; gpu.power; 301.5; W
gpu; gpu_memory_used_MiB; ; hostname=n,index=0,devicename=A100,uuid=GPU-1; 2; gpu.memory.used; 2097152; By
gpu; gpu_energy_consumed; ; gpu_uuid=72ff; 5000000; gpu.energy; 5; J
system; system.memory.usage; By; state=used; 7; memory.used; 7; By
system; system_memory_usage_bytes; ; state=cached; 8; memory.cached; 8; By
system; node_cpu_seconds_total; ; cpu=0,mode=idle; 9.5; cpu.time; 9.5; s
system; kube_pod_container_resource_requests; ; resource=nvidia_com_gpu,unit=integer; 2; gpu.request; 2; {gpu}
system; container_memory_working_set_bytes; ; pod=p,container=c; 4096; memory.working_set; 4096; By
latency; rpc.server.duration; ms; rpc.system=grpc; 250; latency.e2e; 0.25; s
latency; http.server.request.duration; ms; http.route=/a; 40; latency.e2e; 0.04; s
latency; nv_inference_request_duration_us; ; model=resnet,version=2; 1500000; time.request; 1.5; s
latency; vllm:kv_cache_usage_perc; ; engine=0,model_name=m; 0.9; kv_cache.utilization; 0.9; 1
latency; ray_serve_deployment_queued_queries; ; deployment=d; 4; queue.length; 4; 1
inputs; driftwatt.input.sharpness; dB; k=v; 12; input.sharpness; 12; dB
models; driftwatt.model.accuracy; 1; k=v; 0.93; model.accuracy; 0.93; 1
";

#[tokio::test(flavor = "multi_thread")]
async fn what_sources_really_send_is_understood() {
    let fixture = fixture().await;
    let cases: Vec<Vec<&str>> = SENT.trim().lines().map(|line| line.split("; ").collect()).collect();
    for case in &cases {
        let pairs = if case[3] == "DCGM" { DCGM } else { case[3] };
        let pairs: Vec<_> = pairs.split(',').filter_map(|pair| pair.split_once('=')).collect();
        fixture.send(&[(Sent::new(case[1], case[2], &pairs), vec![(0, case[4].parse().unwrap())])]).await;
    }
    for case in &cases {
        let found =
            fixture.table(&format!("SELECT role, value, unit FROM {} WHERE metric = '{}'", case[0], case[1])).await;
        assert_eq!(found, [json!([case[5], case[6].parse::<f64>().unwrap(), case[7]])], "{}", case[1]);
    }
    let labels = "SELECT gpu_id, gpu_model, host_name, k8s_pod, k8s_namespace, k8s_container, source FROM gpu \
                  WHERE metric = 'DCGM_FI_DEV_GPU_UTIL' OR metric LIKE 'nvidia%' ORDER BY gpu_id";
    let (first, second) = ("GPU-2f5a1c60-0000-4000-8000-000000000001", "GPU-2f5a1c60-0000-4000-8000-000000000002");
    assert_eq!(
        fixture.table(labels).await,
        [
            json!([first, "NVIDIA H100 80GB HBM3", "node-1", "chat-0", "prod", "main", "DCGM exporter"]),
            json!([second, null, null, null, null, null, "nvidia_smi exporter"]),
        ]
    );
    let model = "SELECT model_name, model_version FROM latency WHERE metric LIKE 'nv_%'";
    assert_eq!(fixture.table(model).await, [json!(["resnet", "2"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_load_reads_the_same_whoever_reports_it() {
    let id = "00000000-0000-4000-8000-000000000003";
    let uuid = format!("GPU-{id}");
    let otel = [("hw.id", uuid.as_str()), ("hw.type", "gpu"), ("hw.vendor", "NVIDIA")];
    let dcgm = [("gpu", "0"), ("UUID", uuid.as_str()), ("pci_bus_id", "00000000:71:00.0")];
    let smi = [("uuid", id)];
    let load = [
        vec![
            (Sent::new("hw.gpu.utilization", "1", &otel), 0.57),
            (Sent::new("hw.gpu.memory.usage", "By", &otel), 34_359_738_368.0),
            (Sent::new("hw.power", "W", &otel), 301.25),
            (Sent::new("hw.energy", "J", &otel), 12_345.678),
            (Sent::new("hw.temperature", "Cel", &otel), 61.0),
        ],
        vec![
            (Sent::new("DCGM_FI_DEV_GPU_UTIL", "", &dcgm), 57.0),
            (Sent::new("DCGM_FI_DEV_FB_USED", "", &dcgm), 32_768.0),
            (Sent::new("DCGM_FI_DEV_POWER_USAGE", "", &dcgm), 301.25),
            (Sent::new("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", &dcgm), 12_345_678.0),
            (Sent::new("DCGM_FI_DEV_GPU_TEMP", "", &dcgm), 61.0),
        ],
        vec![
            (Sent::new("nvidia_smi_utilization_gpu_ratio", "", &smi), 0.57),
            (Sent::new("nvidia_smi_memory_used_bytes", "", &smi), 34_359_738_368.0),
            (Sent::new("nvidia_smi_power_draw_watts", "", &smi), 301.25),
            (Sent::new("nvidia_smi_energy_joules_total", "", &smi), 12_345.678),
            (Sent::new("nvidia_smi_temperature_gpu", "", &smi), 61.0),
        ],
    ];
    let mut read = Vec::new();
    for sent in load {
        let fixture = fixture().await;
        let sent: Vec<_> = sent.into_iter().map(|(sent, value)| (sent, vec![(0, value)])).collect();
        fixture.send(&sent).await;
        let rows = "SELECT time, role, value, unit, gpu_id, quality, attribution, scope, share FROM gpu ORDER BY role";
        read.push(fixture.table(rows).await);
    }
    assert_eq!(read[0].len(), 5);
    assert_eq!(read[0], read[1]);
    assert_eq!(read[0], read[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_none_say_why_and_never_count() {
    let fixture = fixture().await;
    let util = |id| Sent::new("DCGM_FI_DEV_GPU_UTIL", "", &[("UUID", id)]);
    let power = Sent::new("DCGM_FI_DEV_POWER_USAGE", "W", &[("UUID", "A")]);
    fixture
        .send(&[
            (util("A"), vec![(0, 40.0), (1, 9_223_372_036_854_775_794.0), (2, 140_737_488_355_328.0), (3, 400.0)]),
            (power, vec![(0, -3.0), (1, f64::NAN), (2, 300.0)]),
        ])
        .await;
    let mut batch = WriteBatch { series: vec![util("A").series(Kind::Gauge)], ..WriteBatch::default() };
    batch.samples.push(0, 0, START + 4_000_000, 0, SampleColumns::NO_VALUE);
    fixture.store.append(batch).await.unwrap();
    let rows = fixture.table("SELECT role, value, reported, quality FROM gpu ORDER BY role, time").await;
    assert_eq!(
        rows,
        [
            json!(["gpu.power", null, -3.0, "implausible"]),
            json!(["gpu.power", null, null, "implausible"]),
            json!(["gpu.power", 300.0, 300.0, "ok"]),
            json!(["gpu.utilization", 0.4, 0.4, "ok"]),
            json!(["gpu.utilization", null, null, "blank"]),
            json!(["gpu.utilization", null, null, "blank"]),
            json!(["gpu.utilization", null, 4.0, "implausible"]),
            json!(["gpu.utilization", null, null, "stale"]),
        ]
    );
}

fn on_pod<'a>(metric: &'a str, pod: &str) -> Sent<'a> {
    let attributes = [
        ("UUID", "GPU-00000000-0000-4000-8000-000000000001"),
        ("pod", pod),
        ("pod_uid", pod),
        ("gpu", "0"),
        ("k8s.pod.labels.app", pod),
    ];
    Sent::new(metric, "", &attributes)
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_pods_on_one_card_sum_to_one_card() {
    let fixture = fixture().await;
    let mut sent = Vec::new();
    for pod in 0..8 {
        let pod = format!("pod-{pod}");
        sent.push((on_pod("DCGM_FI_DEV_GPU_UTIL", &pod), vec![(0, 60.0), (15, 80.0)]));
        sent.push((on_pod("DCGM_FI_DEV_FB_USED", &pod), vec![(0, 1000.0), (15, 1000.0)]));
    }
    fixture.send(&sent).await;
    for _ in 0..2 {
        let sums = "SELECT role, sum(value), count(value), count(*) FROM gpu GROUP BY role, time ORDER BY role, time";
        assert_eq!(
            fixture.table(sums).await,
            [
                json!(["gpu.memory.used", 1_048_576_000.0, 1, 8]),
                json!(["gpu.memory.used", 1_048_576_000.0, 1, 8]),
                json!(["gpu.utilization", 0.6, 1, 8]),
                json!(["gpu.utilization", 0.8, 1, 8]),
            ]
        );
        let told = "SELECT attribution, count(*), min(shared_by) FROM gpu GROUP BY attribution ORDER BY attribution";
        assert_eq!(fixture.table(told).await, [json!(["device_copy", 28, 8]), json!(["exact", 4, 8])]);
        let of_one_pod = "SELECT attribution, value, reported FROM gpu WHERE k8s_pod = 'pod-5' AND role = 'gpu.utilization' \
                          UNION ALL SELECT attribution, value, reported FROM gpu WHERE k8s_pod = 'pod-6' AND value > 0";
        let copies = fixture.table(of_one_pod).await;
        assert!(copies.len() <= 4 && copies.iter().all(|row| row[2] != 0.0), "{copies:?}");
        fixture.store.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_follow_each_other_on_a_card_all_count() {
    let fixture = fixture().await;
    fixture
        .send(&[
            (on_pod("DCGM_FI_DEV_GPU_UTIL", "a"), vec![(0, 10.0), (15, 10.0)]),
            (on_pod("DCGM_FI_DEV_GPU_UTIL", "b"), vec![(15, 10.0), (30, 20.0), (45, 20.0)]),
            (on_pod("DCGM_FI_DEV_GPU_UTIL", "c"), vec![(60, 30.0)]),
        ])
        .await;
    let seen = "SELECT sum(value), count(*) FROM gpu GROUP BY time ORDER BY time";
    let rows = fixture.table(seen).await;
    assert_eq!(rows, [json!([0.1, 1]), json!([0.1, 2]), json!([0.2, 1]), json!([0.2, 1]), json!([0.3, 1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mig_slices_sum_to_the_card_and_its_power_counts_once() {
    let fixture = fixture().await;
    let slice = |metric, n: usize| {
        let id = n.to_string();
        Sent::new(
            metric,
            "",
            &[
                ("UUID", "GPU-00000000-0000-4000-8000-000000000007"),
                ("GPU_I_ID", &id),
                ("GPU_I_PROFILE", "1g.10gb"),
                ("modelName", "NVIDIA H100"),
            ],
        )
    };
    let mut sent = Vec::new();
    for n in 0..7 {
        sent.push((slice("DCGM_FI_DEV_FB_USED", n), vec![(0, 100.0)]));
        sent.push((slice("DCGM_FI_PROF_GR_ENGINE_ACTIVE", n), vec![(0, 0.5)]));
        sent.push((slice("DCGM_FI_DEV_POWER_USAGE", n), vec![(0, 350.0)]));
    }
    fixture.send(&sent).await;
    let sums = "SELECT role, sum(value), round(sum(value * share), 3), avg(value) FROM gpu GROUP BY role ORDER BY role";
    assert_eq!(
        fixture.table(sums).await,
        [
            json!(["gpu.engine_active", 3.5, 0.5, 0.5]),
            json!(["gpu.memory.used", 734_003_200.0, 104_857_600.0, 104_857_600.0]),
            json!(["gpu.power", 350.0, 350.0, 350.0]),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_reports_itself_goes_before_its_slices() {
    let fixture = fixture().await;
    let uuid = ("uuid", "00000000-0000-4000-8000-000000000008");
    let slice = |n| Sent::new("nvidia_smi_mig_memory_used_bytes", "", &[uuid, ("gpu_instance_id", n)]);
    fixture
        .send(&[
            (Sent::new("nvidia_smi_memory_used_bytes", "", &[uuid]), vec![(0, 300.0)]),
            (slice("1"), vec![(0, 100.0), (15, 110.0)]),
            (slice("2"), vec![(0, 200.0), (15, 220.0)]),
        ])
        .await;
    let seen =
        fixture.table("SELECT sum(value), count(value), sum(reported) FROM gpu GROUP BY time ORDER BY time").await;
    assert_eq!(seen, [json!([300.0, 1, 600.0]), json!([330.0, 2, 330.0])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_of_one_device_count_once_and_are_shown() {
    let fixture = fixture().await;
    let id = "00000000-0000-4000-8000-000000000009";
    let uuid = format!("GPU-{id}");
    let now = now_seconds();
    let otel = Sent::new("hw.gpu.utilization", "1", &[("hw.id", &uuid)]);
    let dcgm = Sent::new("DCGM_FI_DEV_GPU_UTIL", "", &[("UUID", &uuid), ("pod", "p")]);
    let smi = Sent::new("nvidia_smi_utilization_gpu_ratio", "", &[("uuid", id)]);
    fixture
        .send(&[
            (otel, vec![(now, 0.5), (now + 15, 0.5)]),
            (dcgm, vec![(now, 50.0), (now + 15, 50.0), (now + 30, 70.0)]),
            (smi, vec![(now, 0.5)]),
        ])
        .await;
    let seen = fixture.table("SELECT sum(value), count(*) FROM gpu GROUP BY time ORDER BY time").await;
    assert_eq!(seen, [json!([0.5, 3]), json!([0.5, 2]), json!([0.7, 1])]);
    let warned = fixture.table("SELECT kind, gpu_id, message FROM system.role_warnings").await;
    assert_eq!(warned[0][0], "two_sources", "{warned:?}");
    assert!(warned[0][2].as_str().unwrap().starts_with("OpenTelemetry hw holds"), "{warned:?}");
    assert_eq!(warned.len(), 1, "{warned:?}");
}

/// Now, as seconds after START.
fn now_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_micros() as i64 / 1_000_000 - START / 1_000_000 - 60
}

#[tokio::test(flavor = "multi_thread")]
async fn doubtful_units_scales_and_profiling_zeros_are_warnings() {
    let fixture = fixture().await;
    let now = now_seconds();
    let on = |metric, unit, id| Sent::new(metric, unit, &[("UUID", id)]);
    let points = |values: &[f64]| (0..).zip(values).map(|(n, value)| (now + n, *value)).collect::<Vec<_>>();
    fixture
        .send(&[
            (on("DCGM_FI_DEV_GPU_UTIL", "", "small"), points(&[0.4, 0.9])),
            (on("DCGM_FI_DEV_GPU_UTIL", "", "idle"), points(&[0.0, 0.0])),
            (on("DCGM_FI_DEV_GPU_UTIL", "", "busy"), points(&[40.0, 90.0])),
            (on("DCGM_FI_PROF_SM_ACTIVE", "", "busy"), points(&[0.0, 0.0])),
            (on("DCGM_FI_PROF_DRAM_ACTIVE", "", "busy"), points(&[0.0, 0.0])),
            (on("DCGM_FI_PROF_SM_ACTIVE", "", "idle"), points(&[0.0, 0.0])),
            (on("DCGM_FI_DEV_FB_USED", "W", "odd"), points(&[5.0])),
        ])
        .await;
    let warned = fixture.table("SELECT kind, metric, gpu_id FROM system.role_warnings ORDER BY kind").await;
    assert_eq!(
        warned,
        [
            json!(["percent_never_above_1", "DCGM_FI_DEV_GPU_UTIL", "small"]),
            json!(["profiling_lost", "DCGM_FI_PROF_DRAM_ACTIVE", "busy"]),
            json!(["unit_contradicts", "DCGM_FI_DEV_FB_USED", "odd"]),
        ]
    );
    let unmapped = "SELECT metric, role FROM system.role_series WHERE role IS NULL";
    assert!(fixture.table(unmapped).await.is_empty());
    fixture.send(&[(on("my.gpu.utilization", "1", "x"), points(&[1.0]))]).await;
    let suggested =
        fixture.table("SELECT metric, role_suggestion(metric) FROM system.role_series WHERE role IS NULL").await;
    assert!(suggested[0][1].as_str().unwrap().starts_with("gpu.utilization, as "), "{suggested:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_a_role_reads_the_metrics_of_that_role_only() {
    let fixture = fixture().await;
    for (condition, names, scan_count) in [
        ("role = 'gpu.utilization'", vec!["DCGM_FI_DEV_GPU_UTIL_RATIO", "hw_gpu_utilization_ratio"], 2),
        ("role IN ('gpu.energy', 'gpu.xid', 'gpu.pstate', 'gpu.health')", vec!["hw_energy_joules_total"], 2),
        // Also from energy, whose series are compared with those that report power.
        ("role IN ('gpu.power', 'gpu.energy')", vec!["hw_energy_joules_total"], 5),
        ("role = 'gpu.sm_active'", vec!["DCGM_FI_PROF_SM_ACTIVE"], 2),
    ] {
        let scans = fixture.scans(&format!("SELECT avg(value) FROM gpu WHERE {condition}")).await;
        assert_eq!(scans.len(), scan_count, "{scans:?}");
        for scan in scans {
            for name in &names {
                assert!(scan.contains("metric IN") && scan.contains(name), "{name} in {scan}");
            }
            assert!(!scan.contains("DCGM_FI_DEV_FB_USED"), "{scan}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arms_that_cannot_have_the_role_are_dropped_first() {
    let fixture = fixture().await;
    let state = fixture.ctx.state();
    for (asked, arm_count) in [
        ("gpu WHERE role = 'gpu.utilization'", 1),
        ("gpu WHERE role IN ('gpu.sm_active', 'gpu.power')", 3),
        ("gpu WHERE role = 'no.such.role'", 1),
        ("system WHERE role = 'cpu.utilization'", 2),
        ("system WHERE role = 'disk.io.rate'", 1),
        ("latency WHERE role = 'latency.e2e' AND time > now()", 4),
        ("latency WHERE role = 'requests.rate'", 1),
        ("inputs WHERE role = 'input.sharpness'", 3),
    ] {
        let plan = fixture.ctx.sql(&format!("SELECT avg(value) FROM {asked}")).await.unwrap().into_unoptimized_plan();
        let plan = ArmsOfRole.analyze(plan, state.config_options()).unwrap().display_indent().to_string();
        // Each arm has points of one kind.
        let points = plan.lines().filter(|line| line.contains("TableScan") && !line.contains("raw.series"));
        assert_eq!(points.count(), arm_count, "{asked}: {plan}");
    }
}

/// The engine's rule that moves `attributes['…']` towards the scan would give two columns one name below points of counters.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_every_view_are_grouped_by_any_attribute() {
    let fixture = fixture().await;
    let on = |metric, tenant| Sent::new(metric, "s", &[("tenant", tenant)]);
    let metric = "gen_ai.server.time_to_first_token";
    fixture.send(&[(on(metric, "a"), vec![(0, 1.0), (1, 3.0)]), (on(metric, "b"), vec![(0, 5.0)])]).await;
    for view in View::ALL.map(View::name) {
        let sql =
            format!("SELECT attributes['tenant'], avg(value) FROM {view} GROUP BY attributes['tenant'] ORDER BY 1");
        let expected = if view == "latency" { vec![json!(["a", 2.0]), json!(["b", 5.0])] } else { vec![] };
        assert_eq!(fixture.table(&sql).await, expected, "{view}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_says_nothing_about_the_metrics_of_other_rows() {
    let fixture = fixture().await;
    let on = |metric| Sent::new(metric, "", &[("UUID", "A")]);
    fixture
        .send(&[(on("DCGM_FI_DEV_GPU_UTIL"), vec![(0, 1.0)]), (on("DCGM_FI_DEV_POWER_USAGE"), vec![(0, 2.0)])])
        .await;
    let of = |role: &str| format!("SELECT metric FROM gpu WHERE role = '{role}'");
    let both = format!("{} UNION ALL {}", of("gpu.power"), of("gpu.utilization"));
    let renamed = "SELECT 'DCGM_FI_DEV_GPU_UTIL' AS metric, role FROM gpu WHERE role = 'gpu.power'";
    let beside = format!("SELECT s.metric FROM raw.series s JOIN ({}) p ON s.metric <> p.metric", of("gpu.power"));
    let of_other =
        "SELECT s.metric FROM raw.series s LEFT JOIN (SELECT role FROM gpu) p ON true WHERE p.role = 'gpu.power'";
    for (left, sum) in [(both.as_str(), 3.0), (renamed, 1.0), (&beside, 1.0), (of_other, 3.0)] {
        let joined = format!("SELECT sum(r.value) FROM ({left}) l JOIN raw.samples r ON l.metric = r.metric");
        assert_eq!(fixture.doubles(&joined).await, [Some(sum)], "{joined}");
    }
}

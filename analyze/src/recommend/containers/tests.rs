//! Two weeks of containers whose need is known.

use super::*;
use crate::{
    recommend::{ManifestRequest, RecommendReport, recommend},
    test_session::{Sample, SeriesRow, labels, session},
    window::{MINUTE_US, Window},
};

const DAYS: i64 = 14;
const GIB: f64 = 1_073_741_824.0;

/// A container of a pod, every five minutes, with what it uses by the minute and what it asks for.
#[derive(Clone)]
struct Pod {
    name: &'static str,
    namespace: &'static str,
    container: &'static str,
    use_of: fn(i64) -> Option<(f64, f64)>,
    today: ContainerResources,
}

fn asks(cpu: f64, memory_gib: f64) -> ContainerResources {
    ContainerResources {
        cpu_request: Some(cpu),
        memory_request: Some(memory_gib * GIB),
        cpu_limit: Some(cpu * 2.0),
        memory_limit: Some(memory_gib * GIB),
    }
}

impl Pod {
    fn sample(&self, minute: i64, role: &'static str, value: f64) -> Sample {
        let names = [("k8s_pod", self.name), ("k8s_namespace", self.namespace), ("k8s_container", self.container)];
        Sample { time_us: minute * MINUTE_US, role, value, labels: labels(&names), simulated: false }
    }

    fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for minute in (0..DAYS * 1_440).step_by(5) {
            if let Some((cpu, memory)) = (self.use_of)(minute) {
                samples.push(self.sample(minute, "cpu.usage", cpu));
                samples.push(self.sample(minute, "memory.working_set", memory));
            }
            let of = &self.today;
            for (role, value) in [
                ("cpu.request", of.cpu_request),
                ("memory.request", of.memory_request),
                ("cpu.limit", of.cpu_limit),
                ("memory.limit", of.memory_limit),
            ] {
                samples.extend(value.map(|value| self.sample(minute, role, value)));
            }
        }
        samples
    }

    fn row(&self, deployment: &'static str) -> SeriesRow {
        SeriesRow {
            last_us: DAYS * DAY_US - 1,
            labels: labels(&[("k8s_pod", self.name), ("k8s_namespace", self.namespace)]),
            attributes: vec![("k8s.deployment.name", deployment)],
            ..SeriesRow::default()
        }
    }
}

fn request(prices: Option<&str>) -> RecommendRequest {
    RecommendRequest {
        window: Window::new(0, DAYS * DAY_US).unwrap(),
        zone: chrono_tz::UTC,
        prices: prices.map(|text| PriceBook::parse(text).unwrap()),
        manifests: Some(ManifestRequest::default()),
        holidays: vec![],
        now_us: DAYS * DAY_US,
    }
}

async fn asked(samples: &[Sample], rows: &[SeriesRow], prices: Option<&str>) -> RecommendReport {
    recommend(&session(samples, rows), None, &request(prices)).await.unwrap()
}

fn of<'a>(report: &'a RecommendReport, subject: &str) -> &'a ContainerVerdict {
    let found = report.containers.verdicts.iter().find(|of| of.subject == subject);
    found.unwrap_or_else(|| panic!("{subject}: {}", report.to_text()))
}

/// Quiet but for nine o'clock on Tuesdays, when it needs 2 CPUs.
fn tuesdays(minute: i64) -> Option<(f64, f64)> {
    // The epoch was a Thursday.
    let is_busy = (minute / 1_440 + 3) % 7 == 1 && minute / 60 % 24 == 9;
    Some((if is_busy { 2.0 } else { 0.1 }, 2.0 * GIB))
}

fn file<'a>(of: &'a ContainerVerdict, name: &str) -> &'a str {
    let folders = &of.manifests.as_ref().unwrap().folders;
    let mut files = folders.iter().flat_map(|folder| &folder.change.files);
    &files.find(|file| file.name == name).unwrap_or_else(|| panic!("{name}: {folders:?}")).text
}

#[tokio::test]
async fn the_hour_that_comes_once_a_week_is_covered_and_the_rest_given_back() {
    let pod = |name| Pod { name, namespace: "prod", container: "server", use_of: tuesdays, today: asks(8.0, 16.0) };
    let pods = [pod("api-1"), pod("api-2")];
    let samples: Vec<Sample> = pods.iter().flat_map(Pod::samples).collect();
    let rows: Vec<SeriesRow> = pods.iter().map(|pod| pod.row("api")).collect();
    let report = asked(&samples, &rows, Some("currency = \"EUR\"\nvcpu_hour = 0.03\ngb_hour = 0.004")).await;
    let api = of(&report, "prod/api/server");
    assert_eq!((api.verdict_name(), api.pod_count), ("shrink", 2), "{}", api.why());
    let change = api.change().unwrap();
    // 2 CPUs x 1.15 although 167 of 168 hours use a tenth; 2 GiB x 1.15 = 2355.2 MiB, rounded up.
    assert!((change.to.cpu_request.unwrap() - 2.3).abs() < 1e-9, "{change:?}");
    assert_eq!(change.to.memory_request, Some(2_356.0 * 1_048_576.0));
    assert_eq!((change.to.cpu_limit, change.to.memory_limit), (Some(16.0), Some(16.0 * GIB)), "limits stay");
    // Two pods for a week: (8 - 2.3) CPUs and 16 GiB less 2356 MiB, 336 hours.
    let (cpu_hours, gb_hours) = (5.7 * 336.0, (16.0 * GIB - 2_356.0 * 1_048_576.0) / 1e9 * 336.0);
    assert!((change.cpu_hours.unwrap().expected - cpu_hours).abs() < 1e-6 * cpu_hours, "{change:?}");
    assert!((change.saving.unwrap().expected - (cpu_hours * 0.03 + gb_hours * 0.004)).abs() < 1e-6 * cpu_hours);
    assert_eq!(
        change.numbers,
        [Some(2.0), Some(2.0 * GIB), Some(0.0)],
        "nothing of the two weeks is above the new requests"
    );
    let to = file(api, "do-resources.yaml");
    assert!(to.contains("cpu: \"2300m\"") && to.contains("memory: \"2356Mi\""), "{to}");
    assert!(file(api, "undo-resources.yaml").contains("cpu: \"8\"\n              memory: \"16384Mi\""));
    let quota = &report.containers.quotas[0];
    // Two pods and one of a rollout.
    assert!((quota.needed.cores.unwrap() - 6.9).abs() < 1e-9 && quota.is_change, "{quota:?}");
    let text = report.to_text();
    assert!(text.contains("8.00 → 2.30 cores") && text.contains("16.00 → 2.30 GiB"), "{text}");
    assert!(text.contains(&format!("{} (prod/api/server)", api.id.as_ref().unwrap())), "{text}");
    let html = report.to_html();
    crate::page::look(&html, "recommend-requests");
    assert!(
        html.contains("Requests of containers") && html.contains("2356 MiB") || html.contains("2.30 GiB"),
        "{html}"
    );
}

#[tokio::test]
async fn a_kill_raises_and_what_is_not_measured_is_not_judged() {
    let killed = Pod {
        name: "etl-1",
        namespace: "prod",
        container: "worker",
        use_of: |_| Some((1.0, 3.0 * GIB)),
        today: asks(1.2, 4.0),
    };
    // Half of the days are missing.
    let silent =
        Pod { name: "web-1", use_of: |minute| (minute / 1_440 % 2 == 0).then_some((0.1, GIB)), ..killed.clone() };
    let unasked = Pod { name: "new-1", today: ContainerResources::default(), ..killed.clone() };
    let old = Pod { name: "old-1", ..killed.clone() };
    let mut samples: Vec<Sample> = [&killed, &silent, &unasked, &old].into_iter().flat_map(Pod::samples).collect();
    for minute in (0..DAYS * 1_440).step_by(60) {
        // Killed on the third day, and once long before the window.
        let is_after = minute > 3 * 1_440;
        samples.push(killed.sample(minute, "container.restarts", if is_after { 1.0 } else { 0.0 }));
        samples.push(old.sample(minute, "container.restarts", 5.0));
        samples.push(old.sample(minute, "container.oom_killed", 1.0));
        if is_after {
            samples.push(killed.sample(minute, "container.oom_killed", 1.0));
        }
    }
    let rows = [killed.row("etl"), silent.row("web"), unasked.row("new"), old.row("old")];
    let report = asked(&samples, &rows, None).await;
    let etl = of(&report, "prod/etl/worker");
    assert_eq!((etl.verdict_name(), etl.used.oom_count), ("raise", 1), "{}", etl.why());
    // 4 GiB x 1.2, limit and request.
    let to = etl.change().unwrap().to;
    let bumped = (4.0 * 1_024.0 * 1.2_f64).ceil() * 1_048_576.0;
    assert_eq!((to.memory_request, to.memory_limit, to.cpu_request), (Some(bumped), Some(bumped), Some(1.2)));
    assert!(etl.why().contains("one container was killed for lack of memory"), "{}", etl.why());
    let web = of(&report, "prod/web/worker");
    assert_eq!((web.verdict_name(), web.change()), ("unknown", None), "{}", web.why());
    assert!(web.why().contains("only 5") && web.why().contains("90 % is needed"), "{}", web.why());
    let new = of(&report, "prod/new/worker");
    assert_eq!((new.verdict_name(), new.change().unwrap().cpu_hours), ("raise", None), "{}", new.why());
    assert!(report.to_text().contains("none → 1.15 cores"), "{}", report.to_text());
    // The old kill forbids nothing: 3 GiB x 1.15 fits 4 GiB less a tenth.
    let old = of(&report, "prod/old/worker");
    assert_eq!((old.used.oom_count, old.verdict_name()), (0, "shrink"), "{}", old.why());
}

#[tokio::test]
async fn an_autoscaler_by_cpu_keeps_the_request_and_a_quota_that_is_too_small_is_named() {
    let pod = Pod {
        name: "api-7d9c-x1",
        namespace: "prod",
        container: "server",
        use_of: |_| Some((0.5, 2.0 * GIB)),
        today: asks(4.0, 16.0),
    };
    let mut samples = pod.samples();
    let told = |minute: i64, role, value, pairs: &[(&'static str, &str)]| Sample {
        time_us: minute * MINUTE_US,
        role,
        value,
        labels: labels(&[pairs, &[("k8s_namespace", "prod")]].concat()),
        simulated: false,
    };
    let hpa = [("horizontalpodautoscaler", "keda-hpa-api")];
    for (role, value) in [
        ("replicas.min", 2.0),
        ("replicas.max", 8.0),
        ("replicas.current", 2.0),
        ("replicas.target_cpu_utilization", 0.7),
    ] {
        samples.push(told(10, role, value, &hpa));
    }
    for (resource, value) in [("requests.cpu", 10.0), ("requests.memory", 64.0 * GIB)] {
        samples.push(told(10, "quota.hard", value, &[("resourcequota", "team"), ("resource", resource)]));
    }
    // Another one that knows nothing of CPU is not mixed with it.
    let other = [("resourcequota", "another"), ("resource", "requests.memory")];
    samples.push(told(10, "quota.hard", GIB, &other));
    // As kube-state-metrics tells it: the pod's ReplicaSet, its Deployment, and what the autoscaler scales.
    let mut owned = pod.row("");
    owned.attributes = vec![("owner_kind", "ReplicaSet"), ("owner_name", "api-7d9c")];
    let row = |attributes| SeriesRow {
        last_us: DAYS * DAY_US - 1,
        labels: labels(&[("k8s_namespace", "prod")]),
        attributes,
        ..SeriesRow::default()
    };
    let owner = row(vec![("replicaset", "api-7d9c"), ("owner_kind", "Deployment"), ("owner_name", "api")]);
    let scaled = row(vec![("horizontalpodautoscaler", "keda-hpa-api"), ("scaletargetref_name", "api")]);
    let report = asked(&samples, &[owned, owner, scaled], None).await;
    let api = of(&report, "prod/api/server");
    assert_eq!((api.verdict_name(), api.workload.as_deref()), ("shrink", Some("Deployment api")), "{}", api.why());
    let to = api.change().unwrap().to;
    assert_eq!((to.cpu_request, to.memory_request), (Some(4.0), Some(2_356.0 * 1_048_576.0)));
    assert!(api.why().contains("an HPA scales by CPU over requests"), "{}", api.why());
    // Eight pods may run, and two more while they roll out: 10 x 4 CPUs where 10 are allowed.
    let quota = &report.containers.quotas[0];
    assert_eq!((quota.needed.cores, quota.hard.cores, quota.name.as_deref()), (Some(40.0), Some(10.0), Some("team")));
    assert_eq!(quota.hard.memory_bytes, Some(64.0 * GIB));
    assert!(quota.why.contains("a rollout of all would be refused"), "{}", quota.why);
    let folder = &quota.manifests.as_ref().unwrap().folders[0];
    assert!(folder.change.files[0].text.contains("requests.cpu: \"40\""), "{folder:?}");
    assert!(folder.readme.contains("kubectl -n prod patch resourcequota team"), "{}", folder.readme);
}

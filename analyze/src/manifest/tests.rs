use std::str::FromStr as _;

use serde_json::{Value, json};

use super::{schema::violations, *};
use crate::{
    autoscaler::{Behavior, HpaSpec, Metric, Resource},
    hpa_advice::{Candidate, FloorWindow},
    off_peak::CronLine,
    replay::Replay,
    sizing::{mig::profiles, requests::Quota},
};

fn target() -> Target {
    Target::new("prod", WorkloadKind::Deployment, "chat").unwrap()
}

/// Every kind of metric, and behavior with tolerances.
fn full_spec() -> HpaSpec {
    let labels = || [("service".to_owned(), "chat".to_owned())].into();
    let mut behavior = Behavior::default();
    behavior.scale_up.tolerance = Some(0.05);
    HpaSpec {
        min_replicas: 2,
        max_replicas: 10,
        metrics: vec![
            Metric::Utilization { resource: Resource::Cpu, percent: 70 },
            Metric::ResourceAverage { resource: Resource::Memory, per_pod_milli: 500_000_000_000 },
            Metric::Pods { name: "vllm:num_requests_waiting".into(), per_pod_milli: 2_500 },
            Metric::ExternalAverage { name: "queue".into(), labels: labels(), per_pod_milli: 5_000 },
            Metric::ExternalValue { name: "latency".into(), labels: Default::default(), value_milli: 300_000 },
        ],
        behavior: Some(behavior),
    }
}

fn small_spec() -> HpaSpec {
    let metrics = vec![
        Metric::Pods { name: "vllm:num_requests_waiting".into(), per_pod_milli: 2_500 },
        Metric::Utilization { resource: Resource::Cpu, percent: 70 },
    ];
    HpaSpec { min_replicas: 2, max_replicas: 10, metrics, behavior: None }
}

/// What a chart of `helm create` can say of it.
fn cpu_spec() -> HpaSpec {
    let metrics = vec![Metric::Utilization { resource: Resource::Cpu, percent: 70 }];
    HpaSpec { metrics, ..small_spec() }
}

fn text<'a>(change: &'a Change, name: &str) -> &'a str {
    &change.files.iter().find(|file| file.name == name).unwrap_or_else(|| panic!("{name} in {change:?}")).text
}

/// Every file that a command names is there, and both directions have commands.
fn check_complete(change: &Change) {
    assert!(!change.apply.is_empty() && !change.undo.is_empty());
    for command in change.apply.iter().chain(&change.undo) {
        for word in command.split(' ').filter(|word| word.ends_with(".yaml")) {
            assert!(change.files.iter().any(|file| file.name == word), "{command}");
        }
    }
    let readme = change.readme();
    assert!(readme.contains("Nothing was applied") && readme.contains(&change.undo[0]));
}

#[test]
fn an_autoscaler_has_the_fields_of_the_api() {
    let object = hpa::object(&target(), "chat", &full_spec());
    assert_eq!(violations("HorizontalPodAutoscaler", &object), Vec::<String>::new());
    let metrics = &object["spec"]["metrics"];
    assert_eq!(metrics[0]["resource"]["target"], json!({ "type": "Utilization", "averageUtilization": 70 }));
    assert_eq!(metrics[1]["resource"]["target"]["averageValue"], "500000000");
    assert_eq!(metrics[2]["pods"]["target"]["averageValue"], "2500m");
    assert_eq!(metrics[3]["external"]["metric"]["selector"]["matchLabels"]["service"], "chat");
    assert_eq!(metrics[4]["external"]["target"], json!({ "type": "Value", "value": "300" }));
    assert_eq!(object["spec"]["behavior"]["scaleUp"]["tolerance"], "50m");
    assert_eq!(object["spec"]["behavior"]["scaleDown"].get("tolerance"), None);
}

#[test]
fn an_autoscaler_is_taken_back_with_the_replicas_before() {
    let new = hpa(&target(), "chat", None, &small_spec(), 7, "why\nproof").unwrap();
    check_complete(&new);
    assert_eq!(new.undo[0], "kubectl delete -f do-hpa.yaml");
    assert_eq!(text(&new, "undo-replicas.yaml"), "# the replicas before\nspec:\n  replicas: 7\n");
    assert!(text(&new, "do-hpa.yaml").starts_with("# why\n# proof\napiVersion: \"autoscaling/v2\"\n"));
    let changed = hpa(&target(), "chat", Some(&small_spec()), &full_spec(), 7, "why").unwrap();
    check_complete(&changed);
    assert_eq!(changed.undo, ["kubectl apply -f undo-hpa.yaml"]);
    let refused = hpa(&target(), "chat", None, &HpaSpec { min_replicas: 0, ..small_spec() }, 7, "");
    assert!(matches!(refused, Err(ManifestError::Spec(_))));
}

#[test]
fn a_scaled_object_has_the_fields_of_the_crd() {
    let windows = vec![FloorWindow { days: vec![0, 1, 2, 3, 4], from_hour: 9, to_hour: 18, replicas: 8 }];
    let candidate = |spec| Candidate { spec, windows: windows.clone(), replay: Replay::default() };
    let prometheus = PrometheusSource {
        server_address: "http://driftwatt.monitoring:9090".into(),
        selector: "service=\"chat\"".into(),
    };
    let small = candidate(HpaSpec { behavior: Some(Behavior::default()), ..small_spec() });
    let form =
        KedaForm { candidate: &small, time_zone: "Europe/Berlin", lead_minutes: 3, prometheus: Some(&prometheus) };
    let object = keda::object(&target(), "chat", Some("chat-hpa"), &form).unwrap();
    assert_eq!(violations("ScaledObject", &object), Vec::<String>::new());
    let triggers = &object["spec"]["triggers"];
    assert_eq!(triggers[0]["metadata"]["query"], "sum(vllm:num_requests_waiting{service=\"chat\"})");
    assert_eq!(triggers[0]["metadata"]["threshold"], "2.5");
    assert_eq!((&triggers[1]["type"], &triggers[1]["metadata"]["value"]), (&json!("cpu"), &json!("70")));
    let cron =
        json!({ "timezone": "Europe/Berlin", "start": "57 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": "8" });
    assert_eq!(triggers[2]["metadata"], cron);
    assert_eq!(object["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"], "chat-hpa");
    assert_eq!(object["spec"]["fallback"]["replicas"], 2);
    check_complete(&scaled_object(&target(), "chat", Some(("chat-hpa", &small_spec())), &form, 7, "why").unwrap());
    check_complete(&scaled_object(&target(), "chat", None, &form, 7, "why").unwrap());
    let without = KedaForm { prometheus: None, ..form };
    assert!(matches!(scaled_object(&target(), "chat", None, &without, 7, ""), Err(ManifestError::NoPrometheus { .. })));
    let value = candidate(full_spec());
    let unsupported = scaled_object(&target(), "chat", None, &KedaForm { candidate: &value, ..form }, 7, "");
    assert!(matches!(unsupported, Err(ManifestError::NoTrigger { .. })));
    let cpu = candidate(HpaSpec { metrics: small_spec().metrics[1..].to_vec(), ..small_spec() });
    let object = keda::object(&target(), "chat", None, &KedaForm { candidate: &cpu, ..without }).unwrap();
    assert_eq!(object["spec"].get("fallback"), None, "KEDA refuses one for CPU alone");
}

#[test]
fn patches_have_the_fields_of_a_workload_and_restore_what_was() {
    let change = replicas(&target(), 8, 6, "fewer");
    check_complete(&change);
    assert_eq!(text(&change, "do-replicas.yaml"), "# fewer\nspec:\n  replicas: 6\n");
    assert_eq!(text(&change, "undo-replicas.yaml"), "# as it was before\nspec:\n  replicas: 8\n");
    assert_eq!(change.apply, ["kubectl -n prod patch deployment chat --type strategic --patch-file do-replicas.yaml"]);
    let from = ContainerResources { cpu_request: Some(2.0), ..ContainerResources::default() };
    let to = ContainerResources {
        cpu_request: Some(1.2501),
        memory_request: Some(1_500.0 * 1_048_576.0 + 1.0),
        ..ContainerResources::default()
    };
    let change = resources(&target(), "server", &from, &to, "").unwrap();
    check_complete(&change);
    let container =
        "spec:\n  template:\n    spec:\n      containers:\n        - name: \"server\"\n          resources:\n";
    let body = "            limits: {}\n            requests:\n              cpu: \"1251m\"\n              memory: \"1572864001\"\n";
    assert_eq!(text(&change, "do-resources.yaml"), format!("{container}{body}"));
    let undo = "            limits: {}\n            requests:\n              cpu: \"2\"\n              memory: null\n";
    assert_eq!(text(&change, "undo-resources.yaml"), format!("# as it was before\n{container}{undo}"));
    let wrong = ContainerResources { cpu_request: Some(f64::NAN), ..from };
    assert!(matches!(resources(&target(), "server", &from, &wrong, ""), Err(ManifestError::Amount { .. })));
}

#[test]
fn bounds_and_quotas_are_patched_and_put_back() {
    let change = hpa_bounds("prod", "chat", (4, 10), (2, 12), "why").unwrap();
    check_complete(&change);
    assert_eq!(text(&change, "do-bounds.yaml"), "# why\nspec:\n  maxReplicas: 12\n  minReplicas: 2\n");
    assert!(text(&change, "undo-bounds.yaml").ends_with("  maxReplicas: 10\n  minReplicas: 4\n"));
    let sums = Quota { cores: Some(40.0), memory_bytes: Some(64.0 * 1_073_741_824.0) };
    let new = resource_quota("prod", None, &sums, "").unwrap();
    assert_eq!(
        (new.apply[0].as_str(), new.undo[0].as_str()),
        ("kubectl apply -f do-quota.yaml", "kubectl delete -f do-quota.yaml")
    );
    // Of memory nothing is told today, so an undo could not put it back.
    let known = Quota { cores: Some(8.5), memory_bytes: None };
    let patched = resource_quota("prod", Some(("team", &known)), &sums, "").unwrap();
    check_complete(&patched);
    assert_eq!(text(&patched, "do-quota.yaml"), "spec:\n  hard:\n    requests.cpu: \"40\"\n");
    assert!(text(&patched, "undo-quota.yaml").ends_with("    requests.cpu: \"8500m\"\n"));
    assert!(resource_quota("prod", None, &Quota { cores: Some(0.0), ..sums }, "").is_err());
}

#[test]
fn a_schedule_moves_with_its_zone_and_back() {
    let line = CronLine { schedule: "0 18 * * 5".into(), time_zone: "Europe/Berlin".into(), hour_count: 63 };
    let change = cron_job("ml", "train", ("0 9 * * *", None), &line, "cheaper at night").unwrap();
    check_complete(&change);
    assert_eq!(
        text(&change, "do-schedule.yaml"),
        "# cheaper at night\nspec:\n  schedule: \"0 18 * * 5\"\n  timeZone: \"Europe/Berlin\"\n"
    );
    assert!(text(&change, "undo-schedule.yaml").ends_with("  schedule: \"0 9 * * *\"\n  timeZone: null\n"));
    assert!(cron_job("ml", "Train!", ("0 9 * * *", None), &line, "").is_err());
}

#[test]
fn crontab_lines_are_read_by_cron_and_restored() {
    let line = |schedule: &str, hour_count| CronLine {
        schedule: schedule.into(),
        time_zone: "Europe/Berlin".into(),
        hour_count,
    };
    let change = crontab(&[line("0 18 * * 5", 63), line("0 18 * * 1,2,3,4", 15)], "train --share 50%");
    let text = text(&change, "off-peak.crontab");
    let expected = "# the window is open for 63 hours\nCRON_TZ=Europe/Berlin\n0 18 * * 5 train --share 50\\%\n\
                    # the window is open for 15 hours\nCRON_TZ=Europe/Berlin\n0 18 * * 1,2,3,4 train --share 50\\%\n";
    assert_eq!(text, expected);
    for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        let fields: Vec<&str> = line.split(' ').take(5).collect();
        assert!(croner::Cron::from_str(&fields.join(" ")).is_ok(), "{line}");
    }
    assert_eq!(change.undo, ["crontab before.crontab"]);
}

#[test]
fn helm_values_are_those_of_helm_create() {
    let refused = helm_values("chat", (7, 7), (None, Some(&small_spec())), "why").unwrap_err().to_string();
    assert!(refused.contains("has no value in a chart"), "{refused}");
    let change = helm_values("chat", (7, 7), (None, Some(&cpu_spec())), "why").unwrap();
    check_complete(&change);
    let lines = "autoscaling:\n  enabled: true\n  maxReplicas: 10\n  minReplicas: 2\n  targetCPUUtilizationPercentage: 70\n  \
         targetMemoryUtilizationPercentage: null\n";
    assert_eq!(text(&change, "do-values.yaml"), format!("# why\n{lines}"));
    assert_eq!(
        text(&change, "undo-values.yaml"),
        "# the values before\nautoscaling:\n  enabled: false\nreplicaCount: 7\n"
    );
}

#[test]
fn a_card_is_cut_and_made_whole_again() {
    let profile = profiles("NVIDIA H100 80GB HBM3", Some(80.0 * 1_073_741_824.0)).unwrap()[2];
    let cut = MigChange { node: "gpu-1", cards: (8, 8), profile, former_config: "all-disabled", container: "server" };
    let change = mig(&target(), &cut, "fits a slice").unwrap();
    check_complete(&change);
    assert_eq!(change.apply[1], "kubectl label node gpu-1 nvidia.com/mig.config=driftwatt-2g.20gb --overwrite");
    assert!(change.undo[1].contains("mig.config=all-disabled"));
    let parted = text(&change, "mig-parted.yaml");
    assert!(
        parted.contains("  driftwatt-2g.20gb:\n    - devices: \"all\"\n      mig-devices:\n        \"2g.20gb\": 3\n"),
        "{parted}"
    );
    assert!(
        text(&change, "do-mig-resource.yaml")
            .contains("nvidia.com/gpu: null\n              nvidia.com/mig-2g.20gb: \"1\"")
    );
}

#[test]
fn some_cards_of_a_node_are_cut_or_shared_and_the_others_stay_whole() {
    let profile = profiles("NVIDIA H100 80GB HBM3", Some(80.0 * 1_073_741_824.0)).unwrap()[2];
    let cut = MigChange { node: "gpu-1", cards: (2, 4), profile, former_config: "all-disabled", container: "server" };
    let change = mig(&target(), &cut, "").unwrap();
    assert!(change.apply[1].ends_with("nvidia.com/mig.config=driftwatt-2g.20gb-on-2 --overwrite"), "{change:?}");
    let parted = read(text(&change, "mig-parted.yaml"));
    let parts = &parted["mig-configs"]["driftwatt-2g.20gb-on-2"];
    assert_eq!(parts[0]["devices"], json!([0, 1]));
    assert_eq!((&parts[1]["devices"], &parts[1]["mig-enabled"]), (&json!([2, 3]), &json!(false)));
    let shared = time_slicing("gpu-1", 3, "three fit").unwrap();
    check_complete(&shared);
    assert_eq!(shared.undo, ["kubectl label node gpu-1 nvidia.com/device-plugin.config-"]);
    let resources = &read(text(&shared, "time-slicing.yaml"))["sharing"]["timeSlicing"]["resources"];
    assert_eq!(*resources, json!([{ "name": "nvidia.com/gpu", "replicas": 3 }]));
    assert!(time_slicing("gpu 1", 3, "").is_err());
}

/// The lines of the emitter's subset of YAML, read back.
fn read(text: &str) -> Value {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| (line.len() - line.trim_start().len(), line.trim_start()))
        .collect();
    let (value, rest) = read_block(&lines, 0);
    assert!(rest.is_empty(), "{rest:?}");
    value
}

fn read_block<'a>(lines: &'a [(usize, &'a str)], indent: usize) -> (Value, &'a [(usize, &'a str)]) {
    let mut rest = lines;
    if rest[0].1.starts_with("- ") {
        let mut items = Vec::new();
        while let Some((at, line)) = rest.first().filter(|(at, line)| *at == indent && line.starts_with("- ")) {
            let end = rest[1..].iter().position(|(next, _)| next <= at).map_or(rest.len(), |end| end + 1);
            let mut inner = rest[..end].to_vec();
            inner[0] = (indent + 2, &line[2..]);
            let is_map = !line[2..].starts_with(['"', '[', '{']) && line.contains(':');
            items.push(if is_map {
                read_block(&inner, indent + 2).0
            } else {
                serde_json::from_str(&line[2..]).unwrap()
            });
            rest = &rest[end..];
        }
        return (Value::Array(items), rest);
    }
    let mut map = serde_json::Map::new();
    while let Some((_, line)) = rest.first().filter(|(at, _)| *at == indent) {
        let (key, value) = match line.strip_prefix('"') {
            Some(quoted) => quoted.split_once("\":").unwrap(),
            None => line.split_once(':').unwrap(),
        };
        rest = &rest[1..];
        if value.is_empty() {
            let (inner, left) = read_block(rest, rest[0].0);
            map.insert(key.into(), inner);
            rest = left;
        } else {
            map.insert(key.into(), serde_json::from_str(value.trim_start()).unwrap());
        }
    }
    (Value::Object(map), rest)
}

#[test]
fn every_file_reads_back_as_its_kind() {
    let profile = profiles("NVIDIA H100 80GB HBM3", Some(80.0 * 1_073_741_824.0)).unwrap()[2];
    let cut = MigChange { node: "gpu-1", cards: (8, 8), profile, former_config: "all-disabled", container: "server" };
    let line = CronLine { schedule: "0 18 * * 5".into(), time_zone: "UTC".into(), hour_count: 63 };
    let sums = Quota { cores: Some(40.0), memory_bytes: Some(6.4e10) };
    let small = ContainerResources { cpu_request: Some(0.5), memory_limit: Some(1e9), ..ContainerResources::default() };
    let changes = [
        ("WorkloadPatch", Ok(replicas(&target(), 8, 6, "x"))),
        ("WorkloadPatch", resources(&target(), "c", &ContainerResources::default(), &small, "x")),
        ("CronJobPatch", cron_job("ml", "train", ("0 9 * * *", Some("UTC")), &line, "x")),
        ("HelmValues", helm_values("chat", (7, 6), (Some(&cpu_spec()), None), "x")),
        ("HorizontalPodAutoscaler", hpa(&target(), "chat", Some(&small_spec()), &full_spec(), 7, "x")),
        ("WorkloadPatch", mig(&target(), &cut, "x")),
        ("WorkloadPatch", mig(&target(), &MigChange { cards: (3, 8), ..cut }, "x")),
        ("DevicePlugin", time_slicing("gpu-1", 3, "x")),
        ("HpaBoundsPatch", hpa_bounds("prod", "chat", (4, 10), (2, 12), "x")),
        ("ResourceQuota", resource_quota("prod", None, &sums, "x")),
        ("ResourceQuotaPatch", resource_quota("prod", Some(("team", &Quota { cores: Some(8.5), ..sums })), &sums, "x")),
    ];
    for (kind, change) in changes {
        for file in change.unwrap().files {
            let kind = if file.name == "mig-parted.yaml" { "MigParted" } else { kind };
            assert_eq!(violations(kind, &read(&file.text)), Vec::<String>::new(), "{}\n{}", file.name, file.text);
        }
    }
}

#[test]
fn names_that_could_leave_a_command_are_refused() {
    for name in ["", "a b", "a;reboot", "$(id)", "-x", "x-", "A", "ä", "a\nb", "a/b", &"a".repeat(254)] {
        assert!(Target::new("prod", WorkloadKind::Deployment, name).is_err(), "{name:?}");
        assert!(Target::new(name, WorkloadKind::StatefulSet, "chat").is_err(), "{name:?}");
        assert!(
            resources(&target(), name, &ContainerResources::default(), &ContainerResources::default(), "").is_err()
        );
    }
    let hostile = replicas(&target(), 8, 6, "chat\nspec: {}\r---\u{2028}kind: Secret");
    assert_eq!(text(&hostile, "do-replicas.yaml"), "# chat\n# spec: {} --- kind: Secret\nspec:\n  replicas: 6\n");
}

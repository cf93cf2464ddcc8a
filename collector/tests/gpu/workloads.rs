//! Whose work it is: processes with their containers and pods, and the slices of a divided GPU.

use std::{collections::BTreeMap, fs};

use crate::{
    GPU, card, errors,
    receiver::{Collector, Export},
    stand_in::StandIn,
};

const MEMORY: &str = "driftwatt.gpu.process.memory.usage";
const UTILIZATION: &str = "driftwatt.gpu.process.utilization";
const CONTAINER: &str = "3f2a9c1e5b7d8f60413c2e9a7b6d5f4830c1e2d4a6b8f9071523c4d5e6f7a8b9";
const POD: &str = "5e1c9f1a-37d2-4b0e-9c55-0a1b2c3d4e5f";

/// The kernel's view of processes, of our making, and the setting that names it.
fn processes(stand_in: &StandIn) -> String {
    let proc_dir = stand_in.folder().join("proc");
    let process = |pid: &str, name: &str, cgroup: &str| {
        fs::create_dir_all(proc_dir.join(pid)).expect("a directory");
        fs::write(proc_dir.join(pid).join("comm"), format!("{name}\n")).expect("a file");
        fs::write(proc_dir.join(pid).join("cgroup"), cgroup).expect("a file");
    };
    let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod";
    let pod = format!("0::{slice}{}.slice/cri-containerd-{CONTAINER}.scope\n", POD.replace('-', "_"));
    process("4242", "python3", &pod);
    process("4243", "Xorg", "12:pids:/user.slice\n1:name=systemd:/user.slice/user-1000.slice\n");
    format!("proc_dir = {:?}\n", proc_dir.display().to_string())
}

fn of(export: &Export, metric: &str) -> BTreeMap<String, f64> {
    let of = export.0.iter().filter(|point| point.metric == metric);
    of.map(|point| (point.attributes["process.pid"].clone(), point.value)).collect()
}

fn pids<const N: usize>(values: [(&str, f64); N]) -> BTreeMap<String, f64> {
    values.map(|(pid, value)| (pid.to_owned(), value)).into()
}

#[test]
fn processes_have_their_share_memory_container_and_pod() {
    let lists = "0.processes 4242:1073741824 4244:-\n0.graphics 4243:2048\n";
    let with = |usage: &str| card(250_000) + lists + &format!("0.process_utilization {usage}\n");
    let stand_in = StandIn::build(&card(250_000));
    let collector = Collector::start_with(&stand_in, &processes(&stand_in));
    collector.until("a reading", |export| export.value("hw.power", &GPU).is_some());
    stand_in.play(&with("4242:1000:12 4242:2000:30 4244:2000:101 9999:1500:5"));
    let exports = collector.until("processes", |export| !of(export, UTILIZATION).is_empty());
    let export = exports.last().unwrap();
    assert_eq!(of(export, MEMORY), pids([("4242", 1_073_741_824.0), ("4243", 2048.0)]));
    let shares = pids([("4242", 0.3), ("4243", 0.0)]);
    assert_eq!(of(export, UTILIZATION), shares, "the newest value; none for a blank or for a process that is gone");
    assert!(errors(export, MEMORY, "blank").is_some() && errors(export, UTILIZATION, "blank").is_some());

    let told = &export.point(MEMORY, &[("process.pid", "4242")]).unwrap().attributes;
    let told = ["hw.id", "process.executable.name", "container.id", "k8s.pod.uid"].map(|key| told[key].as_str());
    assert_eq!(told, ["GPU-a", "python3", CONTAINER, POD]);
    let host = &export.point(MEMORY, &[("process.pid", "4243")]).unwrap().attributes;
    assert_eq!(host["process.executable.name"], "Xorg");
    assert!(!host.contains_key("container.id") && !host.contains_key("k8s.pod.uid"));

    // Nothing newer: a busy GPU's processes are unknown, those of an idle one are at 0.
    let unknown = collector.until("no newer samples", |export| of(export, UTILIZATION).is_empty());
    assert!(errors(unknown.last().unwrap(), UTILIZATION, "no_data").is_some());
    assert_eq!(of(unknown.last().unwrap(), MEMORY).len(), 2);
    stand_in.play(&with("4242:2000:30").replace("0.utilization 37 12", "0.utilization 0 0"));
    let idle = collector.until("an idle GPU", |export| of(export, UTILIZATION).len() == 3);
    assert!(of(idle.last().unwrap(), UTILIZATION).values().all(|share| *share == 0.0));
    stand_in.play(&with("4242:3000:64"));
    let newer = collector.until("a newer sample", |export| of(export, UTILIZATION).get("4242") == Some(&0.64));
    assert_eq!(newer.last().unwrap().value("hw.power", &GPU), Some(250.0));
}

#[test]
fn of_very_many_processes_those_with_most_memory_are_told() {
    let list: String = (1..=70).map(|pid| format!(" {pid}:{}", pid * 1024)).collect();
    let stand_in = StandIn::build(&(card(250_000) + "0.processes" + &list + "\n"));
    let exports = Collector::start_with(&stand_in, &processes(&stand_in))
        .until("processes", |export| !of(export, MEMORY).is_empty());
    let export = exports.last().unwrap();
    let told = of(export, MEMORY);
    assert_eq!(told.len(), 64);
    assert!(told.contains_key("70") && !told.contains_key("6"));
    assert!(errors(export, MEMORY, "limit").is_some());
}

#[test]
fn slices_have_memory_profile_and_processes_of_their_own() {
    // A divided card has no utilisation of its own; two slots share one instance, and five are empty.
    let card = card(250_000).replace("0.utilization 37 12\n", "")
        + "0.mig_mode 1\n0.gpm_support 1\n0.processes 4242:1\n\
           0.mig0.instance 1\n0.mig0.name NVIDIA H100 80GB HBM3 MIG 2g.20gb\n0.mig0.memory 20000 0 8000 12000\n\
           0.mig0.processes 4242:1024\n0.gi1.gpm.2 75\n0.gi1.gpm.1 80\n\
           0.mig3.instance 7\n0.mig3.name NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb\n0.mig3.memory 40000 0 40000 0\n\
           0.mig4.instance 7\n0.mig4.name NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb\n0.mig4.memory 40000 0 40000 0\n\
           0.mig4.processes 4243:2048\n0.mig5.instance error 999\n";
    let stand_in = StandIn::build(&card);
    let collector = Collector::start_with(&stand_in, &processes(&stand_in));
    let exports = collector.until("a profile", |export| export.value("driftwatt.gpu.sm.active", &GPU).is_some());
    let export = exports.last().unwrap();
    let own = export.of_gpu("GPU-a");
    let slice = |number: &str| -> BTreeMap<&str, f64> {
        let part = |name: &'_ str| name.split_once(' ').is_some_and(|(_, rest)| rest.split(' ').next() == Some(number));
        own.iter().filter(|(name, _)| part(name)).map(|(name, value)| (name.as_str(), *value)).collect()
    };
    let first = [
        ("driftwatt.gpu.engine.active 1", 0.8),
        ("driftwatt.gpu.memory.reserved 1", 0.0),
        ("driftwatt.gpu.process.memory.usage 1 4242", 1024.0),
        ("driftwatt.gpu.sm.active 1", 0.75),
        ("hw.gpu.memory.limit 1", 20_000.0),
        ("hw.gpu.memory.usage 1", 12_000.0),
        ("hw.gpu.memory.utilization 1", 0.6),
    ];
    assert_eq!(slice("1"), first.into());
    let second = [
        ("driftwatt.gpu.memory.reserved 7", 0.0),
        ("driftwatt.gpu.process.memory.usage 7 4243", 2048.0),
        ("hw.gpu.memory.limit 7", 40_000.0),
        ("hw.gpu.memory.usage 7", 0.0),
        ("hw.gpu.memory.utilization 7", 0.0),
    ];
    assert_eq!(slice("7"), second.into(), "the instance counts once, the processes of both its parts");
    assert!(!own.contains_key("driftwatt.gpu.process.memory.usage 4242"), "not once more for the card");
    assert_eq!(own["hw.gpu.memory.usage"], 42_509_247_488.0, "that of the card is there as well");
    assert!(!own.contains_key("hw.gpu.utilization general"));
    let limits: Vec<_> = export.0.iter().filter(|point| point.metric == "hw.gpu.memory.limit").collect();
    let profile = |id: &str| {
        let of = limits.iter().find(|point| point.attributes.get("driftwatt.gpu.mig.id").is_some_and(|own| own == id));
        of.unwrap().attributes["driftwatt.gpu.mig.profile"].clone()
    };
    assert_eq!((profile("1").as_str(), profile("7").as_str()), ("2g.20gb", "1c.3g.40gb"));
    assert!(errors(export, "mig.device", "other").is_some());
}

//! The container and the pod of a process, from the names of its control groups.
//!
//! Runtimes agree on 64 hexadecimal digits for a container and on `pod<uid>` for a pod, and on little else:
//! `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope` (systemd),
//! `/kubepods/burstable/pod<uid>/<id>` (cgroupfs), `/docker/<id>`, `/system.slice/docker-<id>.scope`,
//! `…-pod<uid>.slice:cri-containerd:<id>` (containerd with cgroup v1), `/machine.slice/libpod-<id>.scope/container`.
//!
//! Source: `man 7 cgroups`; the drivers of kubelet, containerd, CRI-O, Docker and Podman.

/// Whose a process is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) container_id: Option<String>,
    pub(crate) pod_uid: Option<String>,
}

/// Reads a `/proc/PID/cgroup`; version 1 has a line for each controller, version 2 one line.
pub(crate) fn owner(text: &str) -> Owner {
    let mut found = Owner::default();
    // `hierarchy:controllers:path`
    for path in text.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        let owner = owner_of_path(path);
        if owner.container_id.is_some() {
            return owner;
        }
        found.pod_uid = found.pod_uid.or(owner.pod_uid);
    }
    found
}

/// Reads the path of one control group.
pub(crate) fn owner_of_path(path: &str) -> Owner {
    let mut owner = Owner::default();
    // The innermost holds: a node may be a container itself.
    for part in path.split(['/', ':']) {
        if let Some(uid) = pod_uid(part) {
            owner = Owner { pod_uid: Some(uid), container_id: None };
        } else if let Some(id) = container_id(part) {
            owner.container_id = Some(id);
        }
    }
    owner
}

fn container_id(part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    // CRI-O keeps a monitor beside each container, which is not in it.
    if name.starts_with("crio-conmon-") {
        return None;
    }
    let id = name.rsplit('-').next()?;
    (id.len() == 64 && is_hex(id)).then(|| id.to_owned())
}

fn pod_uid(part: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    // systemd keeps `-` for nesting, so its names have `_` in a uid. Pods that a file on the node defines have a hash.
    let uid = name.get(name.rfind("pod")? + 3..)?.replace('_', "-");
    let groups: Vec<_> = uid.split('-').collect();
    let is_uuid = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    let is_hash = uid.len() == 32 && groups.len() == 1;
    ((is_uuid || is_hash) && groups.iter().all(|group| is_hex(group))).then_some(uid)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c1e5b7d8f60413c2e9a7b6d5f4830c1e2d4a6b8f9071523c4d5e6f7a8b9";
    const UID: &str = "5e1c9f1a-37d2-4b0e-9c55-0a1b2c3d4e5f";

    fn check(path: &str, pod: Option<&str>, container: Option<&str>) {
        let systemd_uid = UID.replace('-', "_");
        let path = path.replace("<id>", ID).replace("<uid>", UID).replace("<u_id>", &systemd_uid);
        let text = if path.contains('\n') { path.clone() } else { format!("0::{path}\n") };
        let expected = Owner { container_id: container.map(str::to_owned), pod_uid: pod.map(str::to_owned) };
        assert_eq!(owner(&text), expected, "{path}");
    }

    #[test]
    fn pods_of_the_kubelet_are_read_with_every_driver_and_runtime() {
        let both = (Some(UID), Some(ID));
        for path in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<u_id>.slice/cri-containerd-<id>.scope",
            "/kubepods.slice/kubepods-pod<u_id>.slice/crio-<id>.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<u_id>.slice/crio-<id>.scope/container",
            "/kubepods.slice/kubepods-pod<u_id>.slice/docker-<id>.scope",
            "/kubepods/burstable/pod<uid>/<id>",
            "/kubepods/pod<uid>/<id>",
            "/../../kubepods-pod<u_id>.slice/cri-containerd-<id>.scope",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod<u_id>.slice/cri-containerd-<id>.scope",
            "/system.slice/containerd.service/kubepods-burstable-pod<u_id>.slice:cri-containerd:<id>",
        ] {
            check(path, both.0, both.1);
        }
        let static_pod = "0123456789abcdef0123456789abcdef";
        check(&format!("/kubepods/burstable/pod{static_pod}/<id>"), Some(static_pod), Some(ID));
        // A node that is a container: the pod in it, not the node.
        let node = "f".repeat(64);
        check(&format!("/docker/{node}/kubepods/burstable/pod<uid>/<id>"), both.0, both.1);
        check(&format!("/docker/{node}/kubepods/burstable/pod<uid>"), Some(UID), None);
    }

    #[test]
    fn containers_without_pods_have_their_id() {
        for path in [
            "/docker/<id>",
            "/system.slice/docker-<id>.scope",
            "/machine.slice/libpod-<id>.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<id>.scope",
            "/ecs/0f1e2d3c4b5a/<id>",
        ] {
            check(path, None, Some(ID));
        }
    }

    #[test]
    fn version_1_has_a_line_for_each_controller() {
        let v1 =
            "12:pids:/kubepods/pod<uid>/<id>\n11:memory:/kubepods/pod<uid>/<id>\n1:name=systemd:/\n0::/system.slice\n";
        check(v1, Some(UID), Some(ID));
        check("5:cpu,cpuacct:/\n4:devices:/docker/<id>\n", None, Some(ID));
    }

    #[test]
    fn processes_of_the_host_and_look_alikes_are_nobodys() {
        for path in [
            "/",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/podman.service",
            "/system.slice/sshd.service",
            "/kubepods.slice/kubepods-burstable.slice",
            "/system.slice/crio-conmon-<id>.scope",
            "/docker/0123",
        ] {
            check(path, None, None);
        }
        check("garbage\n", None, None);
    }
}

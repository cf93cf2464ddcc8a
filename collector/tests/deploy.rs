//! The files of `deploy/`: they parse, and what they say to the collector is what it understands.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).expect("the file is there")
}

/// Lets the collector check arguments; those that name the installed settings get the file at `settings`.
fn check(arguments: &[&str], settings: &Path) {
    let installed = "/etc/driftwatt/collector.toml";
    let settings = settings.display().to_string();
    let arguments = arguments.iter().map(|argument| if *argument == installed { settings.as_str() } else { argument });
    let checked = Command::new(env!("CARGO_BIN_EXE_driftwatt-collector")).args(arguments).arg("--check").output();
    let checked = checked.expect("the collector starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// `Section.Key` to values of a systemd unit.
fn unit(text: &str) -> BTreeMap<String, String> {
    let (mut section, mut values) = (String::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => section = name.to_owned(),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {line}"));
                let before = values.insert(format!("{section}.{key}"), value.to_owned());
                assert_eq!(before, None, "{line}");
            }
        }
    }
    values
}

#[test]
fn the_unit_starts_the_collector_with_arguments_that_it_has() {
    let unit = unit(&text("driftwatt-collector.service"));
    let command: Vec<_> = unit["Service.ExecStart"].split(' ').collect();
    assert_eq!(command[0], "/usr/local/bin/driftwatt-collector");
    check(&command[1..], &file("collector.toml"));
    let state = format!("/var/lib/{}", unit["Service.StateDirectory"]);
    assert!(command.contains(&state.as_str()), "the buffer is where the unit may write");
    assert_eq!(unit["Install.WantedBy"], "multi-user.target");
}

/// Path to scalar of the documents of a YAML file of block maps, block lists, one-line lists and literal texts, which is
/// all that the manifest needs; anything else panics.
fn yaml(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    // Indentation, and the name of what is there.
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut items: BTreeMap<String, usize> = BTreeMap::new();
    let mut document = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if line == "---" {
            (document, open) = (document + 1, Vec::new());
            continue;
        }
        assert!(!line.contains('\t') && !line.ends_with(' '), "{line}");
        let (mut indentation, mut content) = (line.len() - content.len(), content);
        assert!(indentation % 2 == 0, "{line}");
        open.retain(|(outer, _)| *outer < indentation);
        while let Some(item) = content.strip_prefix("- ") {
            let list = path(document, &open);
            let index = items.entry(list).and_modify(|index| *index += 1).or_default();
            open.push((indentation, index.to_string()));
            (indentation, content) = (indentation + 2, item);
        }
        let Some((key, value)) = content.split_once(':').filter(|(_, v)| v.is_empty() || v.starts_with(' ')) else {
            values.insert(path(document, &open), content.to_owned());
            continue;
        };
        open.push((indentation, key.to_owned()));
        let place = path(document, &open);
        let mut value = value.trim().to_owned();
        if value == "|" {
            value.clear();
            while let Some(inner) = lines.next_if(|l| l.is_empty() || l.starts_with(&" ".repeat(indentation + 2))) {
                value += inner.get(indentation + 2..).unwrap_or_default();
                value.push('\n');
            }
        }
        if !value.is_empty() {
            assert_eq!(values.insert(place, value), None, "twice: {line}");
        }
    }
    values
}

fn path(document: usize, open: &[(usize, String)]) -> String {
    open.iter().fold(document.to_string(), |path, (_, name)| path + "/" + name)
}

#[test]
fn the_manifest_runs_the_collector_as_a_guest_with_settings_that_it_has() {
    let manifest = yaml(&text("daemonset.yaml"));
    let kinds: Vec<_> = (0..3).map(|document| manifest[&format!("{document}/kind")].as_str()).collect();
    assert_eq!(kinds, ["Namespace", "ConfigMap", "DaemonSet"]);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("collector.toml");
    fs::write(&settings, &manifest["1/data/collector.toml"]).expect("the settings are written");
    let pod = |key: &str| manifest.get(&format!("2/spec/template/spec/{key}")).map_or("", String::as_str);
    let arguments: Vec<String> = serde_json::from_str(pod("containers/0/args")).expect("a list");
    check(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &settings);

    assert_eq!((pod("hostPID"), pod("automountServiceAccountToken")), ("true", "false"));
    let container = |key: &str| pod(&format!("containers/0/{key}"));
    assert_eq!(container("securityContext/readOnlyRootFilesystem"), "true");
    assert_eq!(container("securityContext/capabilities/drop"), "[\"ALL\"]");
    assert_eq!(container("resources/limits/memory"), "256Mi");
    assert!(container("image").ends_with(env!("CARGO_PKG_VERSION")), "{}", container("image"));
    // What the settings name is mounted, and every mount has its volume.
    let mounts: BTreeMap<_, _> = (0..3)
        .map(|i| (container(&format!("volumeMounts/{i}/mountPath")), container(&format!("volumeMounts/{i}/name"))))
        .collect();
    let text = &manifest["1/data/collector.toml"];
    for key in ["cgroup_dir", "buffer_dir"] {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("the setting");
        let path = line.trim_start_matches([' ', '=']).trim_matches('"');
        assert!(mounts.contains_key(path), "{path} is not mounted");
    }
    let volumes: Vec<_> = (0..3).map(|i| pod(&format!("volumes/{i}/name"))).collect();
    assert!(mounts.values().all(|name| volumes.contains(name)), "{mounts:?} {volumes:?}");
}

#[test]
fn what_the_collector_does_not_know_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("collector.toml");
    fs::write(&settings, "[collector]\nintervall = \"15s\"\n").expect("the settings are written");
    let checked =
        Command::new(env!("CARGO_BIN_EXE_driftwatt-collector")).arg("--config").arg(&settings).arg("--check").output();
    let checked = checked.expect("the collector starts");
    assert!(!checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stderr).contains("intervall"), "{checked:?}");
}

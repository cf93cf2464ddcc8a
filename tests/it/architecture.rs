//! The dependency direction of the workspace, read from the manifests and the lock file (`ARCHITECTURE.md`, "Crate edges").

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Every edge between workspace crates that is allowed. A new one needs an ADR.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "driftwatt",
        &["driftwatt-analyze", "driftwatt-collector", "driftwatt-ingest", "driftwatt-query", "driftwatt-store"],
    ),
    ("driftwatt-analyze", &["driftwatt-store"]),
    ("driftwatt-collector", &[]),
    ("driftwatt-ingest", &["driftwatt-store"]),
    ("driftwatt-query", &["driftwatt-store"]),
    ("driftwatt-store", &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_toml(path: &Path) -> toml::Table {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Manifests of the root package and of every member, with their package name.
fn manifests() -> BTreeMap<String, toml::Table> {
    let workspace = read_toml(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap().clone();
    let members = members.iter().map(|member| read_toml(&root().join(member.as_str().unwrap()).join("Cargo.toml")));
    let mut manifests: Vec<toml::Table> = members.collect();
    manifests.push(workspace);
    let name = |manifest: &toml::Table| manifest["package"]["name"].as_str().unwrap().to_owned();
    manifests.into_iter().map(|manifest| (name(&manifest), manifest)).collect()
}

/// Names in every dependency table of a manifest, those under `[target.*]` included.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                // A renamed dependency hides its crate behind `package`.
                names.extend(table.iter().map(|(name, entry)| {
                    entry.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()
                }));
            }
            "target" => names.extend(table.values().filter_map(toml::Value::as_table).flat_map(dependencies)),
            _ => {}
        }
    }
    names
}

/// Edges of `manifests` that `ALLOWED` does not name, as text.
fn forbidden_edges(manifests: &BTreeMap<String, toml::Table>) -> Vec<String> {
    let mut forbidden = Vec::new();
    for (name, manifest) in manifests {
        let allowed = ALLOWED.iter().find(|(from, _)| from == name).map_or(&[][..], |(_, to)| to);
        for dependency in dependencies(manifest) {
            let internal = manifests.contains_key(&dependency);
            if internal && dependency != *name && !allowed.contains(&dependency.as_str()) {
                forbidden.push(format!("{name} -> {dependency}"));
            }
        }
    }
    forbidden
}

/// Packages of the lock file: (name, version, dependencies by name).
fn locked() -> Vec<(String, String, Vec<String>)> {
    let lock = read_toml(&root().join("Cargo.lock"));
    let packages = lock["package"].as_array().unwrap().iter();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    packages
        .map(|package| {
            let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
            // "name", or "name version" where there are several.
            let dependencies = dependencies.into_iter().flatten().map(text);
            let dependencies = dependencies.map(|entry| entry.split(' ').next().unwrap().to_owned());
            (text(&package["name"]), text(&package["version"]), dependencies.collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_along_the_allowed_edges() {
    let manifests = manifests();
    let unknown: Vec<_> = manifests.keys().filter(|name| !ALLOWED.iter().any(|(from, _)| from == name)).collect();
    assert!(unknown.is_empty(), "crates without a place in ARCHITECTURE.md: {unknown:?}");
    assert_eq!(manifests.len(), ALLOWED.len());
    assert_eq!(forbidden_edges(&manifests), Vec::<String>::new());
}

#[test]
fn a_forbidden_edge_is_found_wherever_it_is_written() {
    let query = "[package]\nname = 'driftwatt-query'\n";
    for (edge, found) in [
        ("[dependencies]\ndriftwatt-store = {}", false),
        ("[dependencies]\ndriftwatt-ingest = {}", true),
        ("[dev-dependencies]\nrenamed = { package = 'driftwatt-ingest' }", true),
        ("[target.'cfg(unix)'.dependencies]\ndriftwatt-ingest = {}", true),
    ] {
        let mut manifests = manifests();
        manifests.insert("driftwatt-query".into(), format!("{query}{edge}").parse().unwrap());
        assert_eq!(!forbidden_edges(&manifests).is_empty(), found, "{edge}");
    }
}

#[test]
fn the_collector_does_not_reach_the_engine() {
    let packages = locked();
    let mut reached = BTreeSet::from(["driftwatt-collector".to_owned()]);
    let mut open: Vec<String> = reached.iter().cloned().collect();
    while let Some(name) = open.pop() {
        for (_, _, dependencies) in packages.iter().filter(|(package, _, _)| *package == name) {
            open.extend(dependencies.iter().filter(|name| reached.insert((*name).clone())).cloned());
        }
    }
    assert!(reached.contains("opentelemetry_sdk"), "the walk over Cargo.lock works");
    let engine: Vec<_> = reached
        .iter()
        .filter(|name| ["datafusion", "deltalake", "arrow", "parquet"].iter().any(|engine| name.starts_with(engine)))
        .collect();
    assert!(engine.is_empty(), "the collector links {engine:?}");
}

#[test]
fn there_is_one_engine_in_the_lock_file() {
    let packages = locked();
    for name in ["arrow", "datafusion", "deltalake", "parquet", "object_store", "tonic", "prost"] {
        let versions: Vec<_> = packages.iter().filter(|package| package.0 == name).map(|package| &package.1).collect();
        assert_eq!(versions.len(), 1, "versions of {name}: {versions:?}");
    }
}

#[test]
fn main_stays_small() {
    let lines = fs::read_to_string(root().join("src/main.rs")).unwrap().lines().count();
    assert!(lines < 120, "src/main.rs has {lines} lines; move logic to a module");
}

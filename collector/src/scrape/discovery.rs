//! Targets from files in the format of Prometheus' `file_sd_configs`, in JSON: a list of `{"targets": [...], "labels": {...}}`.
//!
//! A file is read again when its modification time or size changed. One that cannot be read keeps the targets that it had.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config>

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::SystemTime,
};

use serde::Deserialize;

use super::owner::TargetLabels;
use crate::config::ScrapeJob;

/// What to scrape and the labels of its series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) labels: TargetLabels,
}

impl Target {
    /// The URL without user and password, for people.
    pub(crate) fn shown(&self) -> String {
        let rest = self.url.strip_prefix("http://").unwrap_or(&self.url);
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let host = rest[..authority_end].rfind('@').map_or(0, |at| at + 1);
        format!("http://{}", &rest[host..])
    }
}

/// Groups of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A file and what it said when it was last read.
#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    targets: BTreeSet<Target>,
}

/// The targets of one job.
#[derive(Debug)]
pub(crate) struct Discovery {
    job: ScrapeJob,
    files: Vec<WatchedFile>,
}

impl Discovery {
    pub(crate) fn new(job: ScrapeJob) -> Self {
        let file = |path: &PathBuf| WatchedFile { path: path.clone(), seen: None, targets: BTreeSet::new() };
        let files = job.files.iter().map(file).collect();
        Self { job, files }
    }

    pub(crate) fn job(&self) -> &ScrapeJob {
        &self.job
    }

    /// The targets as of now; every file that cannot be read is logged. Blocks on the disk.
    pub(crate) fn targets(&mut self) -> BTreeSet<Target> {
        let mut targets: BTreeSet<_> =
            self.job.targets.iter().map(|url| target(&self.job, url.clone(), &BTreeMap::new())).collect();
        for file in &mut self.files {
            if let Err(reason) = file.refresh(&self.job) {
                tracing::warn!(file = %file.path.display(), reason, "targets cannot be read; those known go on");
            }
            targets.extend(file.targets.iter().cloned());
        }
        targets
    }
}

impl WatchedFile {
    fn refresh(&mut self, job: &ScrapeJob) -> Result<(), String> {
        let metadata = std::fs::metadata(&self.path).map_err(|error| error.to_string())?;
        let version = (metadata.modified().map_err(|error| error.to_string())?, metadata.len());
        if self.seen == Some(version) {
            return Ok(());
        }
        // Remembered before it is read: a file that is wrong is reported once, and read again when it changed.
        self.seen = Some(version);
        let text = std::fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
        self.targets = read_groups(&text, job)?;
        Ok(())
    }
}

fn read_groups(text: &str, job: &ScrapeJob) -> Result<BTreeSet<Target>, String> {
    let groups: Vec<Group> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut targets = BTreeSet::new();
    for group in groups {
        for address in group.targets {
            if address.is_empty() || address.contains(['/', ' ']) {
                return Err(format!("target {address:?} is no host:port"));
            }
            let labelled =
                |name: &str, default: &str| group.labels.get(name).map_or(default, String::as_str).to_owned();
            let scheme = labelled("__scheme__", "http");
            if scheme != "http" {
                return Err(format!("target {address}: this build has no TLS, so the scheme must be http"));
            }
            let path = labelled("__metrics_path__", "/metrics");
            let slash = if path.starts_with('/') { "" } else { "/" };
            targets.insert(target(job, format!("http://{address}{slash}{path}"), &group.labels));
        }
    }
    Ok(targets)
}

fn target(job: &ScrapeJob, url: String, labels: &BTreeMap<String, String>) -> Target {
    let mut joined = job.labels.clone();
    joined.extend(labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    // These say how to scrape, not what it is.
    joined.retain(|name, value| !name.starts_with("__") && !value.is_empty());
    joined.entry("job".to_owned()).or_insert_with(|| job.job.clone());
    joined.entry("instance".to_owned()).or_insert_with(|| instance(&url));
    Target { url, labels: TargetLabels { labels: joined, honor_labels: job.honor_labels } }
}

/// Host and port of a URL, without user and password.
fn instance(url: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if has_port { host.to_owned() } else { format!("{host}:80") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawScrapeJob;

    fn job(files: Vec<PathBuf>) -> ScrapeJob {
        let raw = RawScrapeJob {
            job: Some("gpu".into()),
            targets: vec!["http://user:secret@h/metrics".into()],
            files,
            labels: BTreeMap::from([("rack".into(), "7".into())]),
            ..RawScrapeJob::default()
        };
        raw.validate(std::time::Duration::from_secs(15)).unwrap()
    }

    fn shown(targets: &BTreeSet<Target>) -> Vec<(String, Vec<String>)> {
        let labels =
            |target: &Target| target.labels.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        targets.iter().map(|target| (target.url.clone(), labels(target))).collect()
    }

    #[test]
    fn a_file_is_read_again_when_it_changed_and_keeps_its_targets_while_it_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("targets.json");
        let mut discovery = Discovery::new(job(vec![path.clone()]));
        assert_eq!(discovery.targets().len(), 1, "a file that is not there yet");
        let groups =
            r#"[{"targets": ["n1:9400", "n2:9400"], "labels": {"rack": "9", "__metrics_path__": "/m", "__x": "y"}}]"#;
        std::fs::write(&path, groups).unwrap();
        let targets = discovery.targets();
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let expected = [
            ("http://n1:9400/m".to_owned(), text(&["instance=n1:9400", "job=gpu", "rack=9"])),
            ("http://n2:9400/m".to_owned(), text(&["instance=n2:9400", "job=gpu", "rack=9"])),
            ("http://user:secret@h/metrics".to_owned(), text(&["instance=h:80", "job=gpu", "rack=7"])),
        ];
        assert_eq!(shown(&targets), expected);
        assert_eq!(targets.last().unwrap().shown(), "http://h/metrics", "no password for a log");
        for wrong in ["[{\"targets\": [\"n3", "[{\"targets\": [\"http://n3/\"]}]", "{}"] {
            std::fs::write(&path, wrong).unwrap();
            assert_eq!(discovery.targets(), targets, "{wrong}");
        }
        std::fs::write(&path, "[]").unwrap();
        assert_eq!(discovery.targets().len(), 1);
    }
}

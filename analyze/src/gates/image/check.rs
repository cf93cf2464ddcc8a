//! A folder or a manifest of images against the rules of its table.

use std::path::Path;

use datafusion::arrow::datatypes::Schema;

use super::{Damage, Header, ImageRules, ImageScan, images_listed, images_of, read_file};
use crate::gates::{
    checked::{BatchKind, CheckInputs, CheckedFile},
    contract::Table,
    digest::Lines,
    error::{Error, Result},
    file::batch_name,
    history::{BatchSummary, of_another_content},
    result::{Outcome, RuleResult},
    rule::{Rule, RuleKind},
    scan::{Facts, Problem, judge},
};

/// Ends of the names of manifests.
const MANIFESTS: [&str; 3] = ["txt", "lst", "manifest"];

/// Whether `path` is a folder or a manifest of images, by its kind and the end of its name.
pub(crate) fn is_of_images(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    path.is_dir() || MANIFESTS.iter().any(|known| end.eq_ignore_ascii_case(known))
}

/// Judges the images below a folder, or those that a manifest lists. Only headers are read, each once.
///
/// # Errors
/// [`Error::NoImageRule`] if the table has no rule `images`, [`Error::Read`] if the folder or the manifest cannot be read.
pub(crate) fn check_images(path: &Path, table: &Table, inputs: &CheckInputs) -> Result<CheckedFile> {
    let of_rule = |rule: &Rule| match &rule.kind {
        RuleKind::Images(rules) => {
            Some((rule.id.clone(), ImageScan::new(ImageRules { severity: rule.severity, ..rules.clone() })))
        }
        _ => None,
    };
    let mut scans: Vec<(String, ImageScan)> = table.rules.iter().filter_map(of_rule).collect();
    if scans.is_empty() {
        return Err(Error::NoImageRule { path: path.display().to_string(), table: table.name.clone() });
    }
    let (mut lines, mut images, mut size_bytes) = (Lines::new(), 0, 0);
    for (name, file) in images_of(path)? {
        let header = read_file(&file);
        let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
        lines.add(&digest_line(&name, bytes, &header));
        (images, size_bytes) = (images + 1, size_bytes + bytes);
        scans.iter_mut().for_each(|(_, scan)| scan.add(&name, header));
    }
    let digest = lines.finish();
    let history = of_another_content(&inputs.history, &digest);
    let past: Vec<_> = history.iter().map(|past| past.summary.clone()).collect();
    let facts = Facts { rows: images, schema: &Schema::empty(), now: inputs.now, history: &past };
    let mut results = Vec::new();
    for rule in &table.rules {
        match scans.iter().find(|(id, _)| *id == rule.id) {
            Some((_, scan)) => results.extend(scan.finish().into_iter().map(|result| named(rule, result))),
            None => results.push(of_table(rule, &facts)),
        }
    }
    let damaged = scans.first().map_or(&[][..], |(_, scan)| scan.damaged());
    Ok(CheckedFile {
        file: path.display().to_string(),
        kind: BatchKind::Images,
        table: table.name.clone(),
        digest,
        size_bytes,
        summary: BatchSummary { rows: images, columns: Vec::new() },
        name: batch_name(path),
        history,
        references: Vec::new(),
        damaged: damaged.iter().map(|(name, damage)| (name.clone(), damage.to_string())).collect(),
        outcome: Outcome::of(&results),
        results,
    })
}

/// The digest of the images below a folder, or of those that a manifest lists relative to the folder of `from`, where it stood, as
/// [`check_images`] gives it.
///
/// # Errors
/// [`Error::Read`] if the folder or the manifest cannot be read.
pub(crate) fn digest_of_images(path: &Path, from: &Path) -> Result<String> {
    let images = match path.is_dir() {
        true => images_of(path)?,
        false => images_listed(path, from.parent().unwrap_or(Path::new(".")))?,
    };
    let mut lines = Lines::new();
    for (name, file) in images {
        let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
        lines.add(&digest_line(&name, bytes, &read_file(&file)));
    }
    Ok(lines.finish())
}

fn digest_line(name: &str, bytes: u64, header: &std::result::Result<Header, Damage>) -> String {
    format!("{name}\t{bytes}\t{header:?}")
}

/// One rule of the contract has several results, which carry its name.
fn named(rule: &Rule, mut result: RuleResult) -> RuleResult {
    result.rule_id = format!("{}.{}", rule.id, result.metric);
    result.reason = result.reason.or_else(|| rule.description.clone().filter(|_| result.status.is_broken()));
    result
}

/// The number of images is judged like one of rows; there is no column to judge.
fn of_table(rule: &Rule, facts: &Facts<'_>) -> RuleResult {
    match rule.kind {
        RuleKind::RowCount(_) | RuleKind::RowCountOfPast { .. } => {
            let mut result = judge(rule, Ok(None), facts);
            for text in [&mut result.expected, &mut result.observed] {
                *text = text.replace("rows", "images");
            }
            result
        }
        _ => judge(rule, Err(&Problem::skipped("a rule about rows; these are images")), facts),
    }
}

//! The answer as text.

use std::collections::BTreeSet;

use super::{LineageReport, Made, MoveCard, TargetLineage, VersionAccuracy};
use crate::{
    format::significant,
    lineage::{
        deployment::{Evidence, Observation, Release},
        records::{ModelVersionRecord, RunState, Side, basis_text, confidence_text},
        rollback_advice::Advice,
        timeline::{Interval, Status, UnknownReason},
        version_card::{Estimate, Measure, Row, Verdict},
    },
    window::time_text,
};

/// Parameters, metrics and tags of a run that the text shows; JSON has all.
const PAIRS_SHOWN: usize = 12;
/// Data of a commit that the text shows; JSON has all.
const PLACES_SHOWN: usize = 10;

fn named(release: &Release) -> String {
    format!("{} {}", release.model, release.version)
}

fn all(releases: &[Release]) -> String {
    releases.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// What ran, in words.
pub(super) fn status(status: &Status) -> String {
    match status {
        Status::Known { release, basis, confidence } => {
            format!("{} ({} by {})", named(release), confidence_text(*confidence), basis_text(*basis))
        }
        Status::Mixed(releases) => format!("several at once: {}", all(releases)),
        Status::Flapping(releases) => format!("labels that swing between {}", all(releases)),
        Status::Uncertain(releases) if releases.is_empty() => "not settled".to_owned(),
        Status::Uncertain(releases) => format!("not settled: {}", all(releases)),
        Status::Unknown(UnknownReason::NoEvidence) => "not known: nothing was observed up to then".to_owned(),
        Status::Unknown(UnknownReason::NotSeen) => "not known: reports ended, and nothing tells more".to_owned(),
        Status::Unknown(UnknownReason::Withdrawn) => "not known: the alias was removed".to_owned(),
        Status::Unknown(UnknownReason::Future) => "not known: it lies ahead".to_owned(),
    }
}

/// A deployment that is stated for later.
pub(super) fn planned(observation: &Observation) -> String {
    let what = observation.release().map_or_else(|| "nothing".to_owned(), named);
    let by = match &observation.evidence {
        Evidence::Alias { alias, .. } => format!("alias {alias}"),
        Evidence::Mark { .. } => "mark".to_owned(),
        Evidence::Sighting { instance, .. } => format!("instance {instance}"),
    };
    format!("{what} from {} ({by})", time_text(observation.time_us))
}

pub(super) fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::LatencyMean => "mean latency, ms",
        Measure::LatencyP50 => "median latency, ms",
        Measure::LatencyP95 => "p95 latency, ms",
        Measure::LatencyInputsEqual => "mean latency at equal inputs, ms",
        Measure::CostPerRequest => "cost per request",
        Measure::ErrorShare => "share of errors",
        Measure::Accuracy => "accuracy",
        Measure::Drift => "drift of inputs",
    }
}

pub(super) fn verdict_name(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::NoDifference => "no difference",
        Verdict::Changed => "changed",
        Verdict::NotJudged(_) => "not judged",
    }
}

/// What to do, in a sentence.
pub(super) fn advice(advice: &Advice) -> String {
    let measures = |rows: &[Row]| rows.iter().map(|row| measure_name(row.measure)).collect::<Vec<_>>().join("; ");
    match advice {
        Advice::RollBack { to, reasons } => format!("go back to {}: worse in {}", named(to), measures(reasons)),
        Advice::Weigh { before, against, in_favour } => {
            format!("weigh: worse than {} in {}, better in {}", named(before), measures(against), measures(in_favour))
        }
        Advice::Keep { not_judged } if not_judged.is_empty() => "keep: nothing is worse".to_owned(),
        Advice::Keep { not_judged } => {
            let names = not_judged.iter().map(|measure| measure_name(*measure)).collect::<Vec<_>>().join("; ");
            format!("keep: nothing that was judged is worse (not judged: {names})")
        }
        Advice::NotEnough { missing } => format!("no advice: {}", missing.join("; ")),
    }
}

impl LineageReport {
    /// For people.
    pub fn to_text(&self) -> String {
        let mark = match self.data {
            (true, false) => " (SIMULATED)",
            (true, true) => " (real and SIMULATED telemetry)",
            _ => "",
        };
        let mut text = format!("{}{mark} at {}\n", self.request.service, time_text(self.at_us));
        for target in &self.targets {
            text += &self.target_text(target);
        }
        for finding in &self.findings {
            let severity = format!("{:?}", finding.severity).to_lowercase();
            text += &format!("{severity}: {}: {}\n", finding.subject, finding.kind);
        }
        match (&self.registry.read_us, &self.registry.failure) {
            (_, Some((since_us, why))) => text += &format!("registry: {why}, since {}\n", time_text(*since_us)),
            (Some(read_us), None) => text += &format!("registry: last read whole at {}\n", time_text(*read_us)),
            (None, None) => {}
        }
        self.notes.iter().for_each(|note| text += &format!("note: {note}\n"));
        clean(&text)
    }

    fn target_text(&self, target: &TargetLineage) -> String {
        let mut text = String::new();
        if let Some(environment) = &target.environment {
            text += &format!("environment {environment}\n");
        }
        match &target.held {
            Some(held) => {
                text += &format!("  runs       {}\n", self.interval_text(held));
                text += &format!("  since      {}\n", time_text(held.from_us));
                if let Some(claimed) = &held.claimed {
                    text += &format!("  stated     {}, which instances do not report\n", named(claimed));
                }
            }
            None => text += "  runs       not known: nothing was observed up to then\n",
        }
        target.made.iter().for_each(|made| text += &made_text(made));
        target.accuracy.iter().for_each(|of| text += &accuracy_text(of));
        target.last_move.iter().for_each(|moved| text += &move_text(moved));
        if target.history.len() > 1 {
            text += "  before\n";
            for interval in target.history.iter().rev().skip(1) {
                text += &format!("    {}  {}\n", time_text(interval.from_us), self.interval_text(interval));
            }
        }
        target.planned.iter().for_each(|planned| text += &format!("  planned    {planned}\n"));
        target.rejected.iter().for_each(|rejected| text += &format!("  not used   {rejected}\n"));
        text
    }

    fn interval_text(&self, interval: &Interval) -> String {
        let by = interval.status.release().and_then(|release| self.indirect.get(release));
        let by = by.map_or(String::new(), |attribute| format!(", named by {attribute}: the model may move without it"));
        format!("{}{by}", status(&interval.status))
    }
}

/// Names come from others: no control character reaches a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

fn made_text(made: &Made) -> String {
    let mut text = format!("  {}\n", named(&made.release));
    let mut line = |name: &str, value: String| text += &format!("    {name:<10} {value}\n");
    if let Some(version) = &made.version {
        if version.version != made.release.version {
            line("version", format!("{} in the registry, by a tag", version.version));
        }
        version_lines(version, &mut line);
    }
    if let Some(commit) = made.commit_id() {
        line("code", format!("commit {commit}"));
    }
    for place in made.at_commit.iter().take(PLACES_SHOWN) {
        let version = place.digest.as_ref().map_or(String::new(), |digest| format!(" at {digest}"));
        let stage = place.job.as_ref().map_or(String::new(), |job| {
            format!(", {} by {job}", if place.side == Some(Side::Output) { "written" } else { "read" })
        });
        line("at commit", format!("{} in {}{version}{stage}", place.name, place.namespace));
    }
    if made.at_commit.len() > PLACES_SHOWN {
        line("at commit", format!("and {} more (reports.dataset_places)", made.at_commit.len() - PLACES_SHOWN));
    }
    let mut shown = BTreeSet::new();
    for (name, side) in [("read", Some(Side::Input)), ("wrote", Some(Side::Output)), ("also at", None)] {
        for place in made.data.iter().filter(|place| place.side == side) {
            let version = place.digest.as_ref().map_or(String::new(), |digest| format!(" at {digest}"));
            let rows = place.row_count.map_or(String::new(), |rows| format!(", {rows} rows"));
            let text = format!("{} in {}{version}{rows}", place.name, place.namespace);
            // Two runs of a pipeline that read the same.
            if shown.insert((name, text.clone())) {
                line(name, text);
            }
        }
    }
    if let Some(deleted_us) = made.deleted_us {
        line("deleted", format!("the registry does not have it any more, seen at {}", time_text(deleted_us)));
    }
    made.missing.iter().for_each(|missing| line("missing", missing.clone()));
    text
}

fn version_lines(version: &ModelVersionRecord, line: &mut impl FnMut(&str, String)) {
    let status = version.status.as_deref().unwrap_or("status not told");
    let created = version.created_us.map_or(String::new(), |time_us| format!(", registered {}", time_text(time_us)));
    line("registry", format!("{status}{created}"));
    version.artifact_uri.iter().for_each(|uri| line("artifact", uri.clone()));
    if let (Some(run), RunState::Read) = (&version.run_id, version.run_state) {
        line("run", run.clone());
    }
    let mut pairs = |name: &str, pairs: Vec<String>| {
        if !pairs.is_empty() {
            let rest = pairs.len().saturating_sub(PAIRS_SHOWN);
            let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
            line(name, pairs.into_iter().take(PAIRS_SHOWN).collect::<Vec<_>>().join(", ") + &more);
        }
    };
    pairs("params", version.params.iter().map(|(key, value)| format!("{key}={value}")).collect());
    pairs("metrics", version.metrics.iter().map(|(key, value)| format!("{key}={value}")).collect());
    pairs("tags", version.tags.iter().map(|(key, value)| format!("{key}={value}")).collect());
    for dataset in &version.datasets {
        let context = dataset.context.as_ref().map_or(String::new(), |context| format!(" for {context}"));
        line("data", format!("{} at {}{context}", dataset.name, dataset.digest));
    }
}

fn sides_text(row: &Row) -> String {
    let side = |of: Option<Estimate>| match of {
        Some(of) if of.low < of.high => format!("{} ({} to {})", number(of.value), number(of.low), number(of.high)),
        Some(of) => number(of.value),
        None => "not known".to_owned(),
    };
    match (row.before, row.after, row.difference) {
        (Some(before), Some(after), Some(change)) => {
            let [before, after] = [before, after].map(|side| number(side.value));
            format!("{before} -> {after}, {} ({} to {})", signed(change.value), signed(change.low), signed(change.high))
        }
        (_, _, Some(change)) => {
            format!("{} ({} to {})", signed(change.value), signed(change.low), signed(change.high))
        }
        (None, Some(score), None) if row.measure == Measure::Drift => number(score.value),
        (None, None, None) => String::new(),
        (before, after, None) => format!("{} -> {}", side(before), side(after)),
    }
}

fn number(value: f64) -> String {
    significant(value, 5)
}

fn signed(value: f64) -> String {
    format!("{}{}", if value < 0.0 { "" } else { "+" }, number(value))
}

fn accuracy_text(of: &VersionAccuracy) -> String {
    let release = of.release.as_ref().map_or_else(|| "while it was not settled what ran".to_owned(), named);
    let interval = match of.interval {
        Some((low, high)) => format!(" ({low:.4} to {high:.4})"),
        None => " (of one minute: how sure that is, is not known)".to_owned(),
    };
    let plural = if of.count == 1 { "label" } else { "labels" };
    format!("  accuracy   {release}: {:.4}{interval} of {} {plural}\n", of.share, of.count)
}

fn move_text(moved: &MoveCard) -> String {
    let step = &moved.step;
    let kind = if step.rollback { "rollback" } else { "move" };
    let mut text =
        format!("  last {kind}  {} -> {} at {}\n", named(&step.from), named(&step.to), time_text(step.end_us));
    for row in moved.card.iter().flat_map(|card| &card.rows) {
        let sides = sides_text(row);
        let verdict = match &row.verdict {
            Verdict::NotJudged(why) => format!("not judged: {why}"),
            verdict => verdict_name(verdict).to_owned(),
        };
        let comma = if sides.is_empty() { "" } else { ": " };
        text += &format!("    {:<33} {sides}{comma}{verdict}\n", measure_name(row.measure));
    }
    moved.advice.iter().for_each(|found| text += &format!("    advice: {}\n", advice(found)));
    moved.notes.iter().for_each(|note| text += &format!("    note: {note}\n"));
    text
}

//! The diagnosis as text and as Markdown.

use super::{DiagnosisReport, ShownEvidence};
use crate::{diagnosis::verdict::Verdict, format::escape_markdown, window::time_text};

/// A verdict for people who have never seen the product.
pub(super) fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::None => "nothing changed",
        Verdict::Input => "other inputs",
        Verdict::Model => "the model",
        Verdict::System => "the machines",
        Verdict::Saturation => "too much work at once",
        Verdict::Mixed => "several causes",
        Verdict::Inconclusive => "cannot be told",
    }
}

/// When it changed.
pub(super) fn onset(report: &DiagnosisReport) -> String {
    match (&report.diagnosis.onset, &report.diagnosis.sides) {
        (Some(onset), sides) => {
            let between = [onset.interval.0, onset.interval.1].map(|minute| time_text(report.time(minute)));
            let mut text = format!("The change began at {}", time_text(report.time(onset.minute)));
            if onset.interval.0 != onset.interval.1 {
                text += &format!(" (between {} and {})", between[0], between[1]);
            }
            if let Some(sides) = sides {
                let side = |side: &std::ops::Range<usize>| {
                    format!("{} to {}", time_text(report.time(side.start)), time_text(report.time(side.end)))
                };
                text += &format!("; {} is compared with {}", side(&sides.before), side(&sides.after));
            }
            text + "."
        }
        _ => "No change was found.".to_owned(),
    }
}

/// What the reader has to know to judge it.
pub(super) fn notes(report: &DiagnosisReport) -> Vec<String> {
    let diagnosis = &report.diagnosis;
    let missing = diagnosis.missing.iter().map(|missing| missing.how_to_send().to_owned());
    let status = diagnosis.status.iter().map(|status| status.text());
    let mut notes: Vec<String> = missing.chain(diagnosis.reasons.iter().cloned()).chain(status).collect();
    notes.extend(report.reading.notes.iter().cloned());
    notes.push("seasons are not removed: a change that comes at this hour every week counts as one".into());
    let mut seen = std::collections::BTreeSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    notes
}

/// What it was made of.
pub(super) fn inputs(report: &DiagnosisReport) -> Vec<(String, String)> {
    let reading = &report.reading;
    let mut inputs = vec![("requests".to_owned(), reading.source.text())];
    inputs.extend(reading.latency_metric.iter().map(|metric| ("latency".to_owned(), metric.clone())));
    inputs.extend(reading.input_metrics.iter().map(|(role, metric)| (role.as_str().to_owned(), metric.clone())));
    let machines = match reading.machines.len() {
        0 => "none named".to_owned(),
        count if count <= 8 => reading.machines.join(", "),
        count => format!("{count} machines"),
    };
    inputs.push(("machines".to_owned(), machines));
    inputs.push(("points read".to_owned(), reading.point_count.to_string()));
    inputs
}

impl DiagnosisReport {
    /// Plain text for a terminal.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n\n", self.sentence);
        let diagnosis = &self.diagnosis;
        text += &format!("verdict     {} ({})\n", diagnosis.verdict.as_str(), verdict_words(diagnosis.verdict));
        text += &format!("confidence  {}\n", diagnosis.confidence.as_str());
        text += &format!("window      {}\n", self.reading.span.label());
        text += &format!("change      {}\n", onset(self));
        for (name, value) in inputs(self) {
            text += &format!("{name:<11} {value}\n");
        }
        if !self.evidence.is_empty() {
            text += "\nEvidence, in the order in which to look:\n";
        }
        for (at, evidence) in self.evidence.iter().enumerate() {
            text += &format!("\n{:>2}. {}{}\n", at + 1, evidence.finding, effect(evidence));
            if let Some(onset_us) = evidence.onset_us {
                text += &format!("    since        {}\n", time_text(onset_us));
            }
            text += &format!("    wrong if     {}\n    check next   {}\n", evidence.falsified_by, evidence.next_check);
            if let Some(sql) = &evidence.sql {
                text += &format!("    SQL          {sql}\n");
            }
        }
        text += "\nTo judge it:\n";
        for note in notes(self) {
            text += &format!("  - {note}\n");
        }
        // Names and values are what somebody sent.
        text.replace(|character: char| character.is_control() && character != '\n', " ")
    }

    /// Markdown, as for a ticket.
    pub fn to_markdown(&self) -> String {
        let diagnosis = &self.diagnosis;
        let (service, sentence) = (escape_markdown(&diagnosis.service), escape_markdown(&self.sentence));
        let mut text = format!("# {service}: what changed the latency?\n\n**{sentence}**\n\n");
        text += &format!(
            "Verdict: {} ({}), confidence {}. {} {}\n",
            diagnosis.verdict.as_str(),
            verdict_words(diagnosis.verdict),
            diagnosis.confidence.as_str(),
            self.reading.span.label(),
            onset(self)
        );
        if !self.evidence.is_empty() {
            text += "\n## Evidence\n";
        }
        for (at, evidence) in self.evidence.iter().enumerate() {
            text += &format!(
                "\n{}. {}{}  \n   Wrong if: {}.  \n   Check next: {}.\n",
                at + 1,
                escape_markdown(&evidence.finding),
                effect(evidence),
                evidence.falsified_by,
                evidence.next_check
            );
            if let Some(sql) = &evidence.sql {
                text += &format!("\n   ```sql\n   {}\n   ```\n", sql.replace(['\n', '\r', '`'], " "));
            }
        }
        text += "\n## To judge it\n\n";
        for note in notes(self) {
            text += &format!("- {}\n", escape_markdown(&note));
        }
        text += "\n## Made from\n\n";
        for (name, value) in inputs(self) {
            text += &format!("- {name}: {}\n", escape_markdown(&value));
        }
        text
    }
}

fn effect(evidence: &ShownEvidence) -> String {
    match (evidence.effect_ms, evidence.effect_interval_ms) {
        (Some(value), Some((low, high))) => format!(": {value:+.0} ms of the mean (95 %: {low:+.0} to {high:+.0})"),
        _ => String::new(),
    }
}

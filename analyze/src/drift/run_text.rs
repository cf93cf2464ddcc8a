//! A run as text for a terminal.

use super::{decision::Status, request::Filter, run::DriftRun, score::DriftScore, segments::MixShift};
use crate::{format::text_table, window::time_text};

/// New or vanished categories that a line names.
const CATEGORIES_SHOWN: usize = 5;

impl DriftRun {
    /// A table of all scores, then what of it needs words.
    pub fn to_text(&self) -> String {
        let (current, reference) = (self.request.current.span(), self.request.reference.span());
        let by = self.request.by.as_ref().map_or_else(String::new, |key| format!(" by {key}"));
        let mut text = format!(
            "{} features{by}, {} scores: {}\ncurrent   {} to {}\nreference {} to {} ({})\n\n",
            self.request.subjects.len(),
            self.scores.len(),
            self.counts(),
            time_text(current.start_us),
            time_text(current.end_us),
            time_text(reference.start_us),
            time_text(reference.end_us),
            self.request.reference_kind.as_str(),
        );
        let header =
            ["feature", "segment", "status", "PSI", "q", "reference", "current", "seasonal PSI", "seasonal status"];
        let rows: Vec<Vec<String>> = self.scores.iter().map(|score| self.row(score)).collect();
        text += &text_table(&header, 3, &rows);
        let lines = self.lines();
        if !lines.is_empty() {
            text += &format!("\n{}\n", lines.join("\n"));
        }
        text
    }

    /// `1 critical, 3 ok, 2 insufficient data`
    pub(crate) fn counts(&self) -> String {
        let statuses = [Status::Critical, Status::Warn, Status::Ok, Status::InsufficientData, Status::GateFailed];
        let count = |status: &Status| self.scores.iter().filter(|score| score.decision.status == *status).count();
        let mut parts: Vec<String> = statuses
            .iter()
            .filter(|status| count(status) > 0)
            .map(|status| format!("{} {}", count(status), status.as_str().replace('_', " ")))
            .collect();
        let refused = self.not_scored().count();
        if refused > 0 {
            parts.push(format!("{refused} not scored"));
        }
        if parts.is_empty() { "nothing was scored".into() } else { parts.join(", ") }
    }

    fn row(&self, score: &DriftScore) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.4}"));
        let season = self.season_of(score);
        let mark = if score.simulated() { " [SIMULATED]" } else { "" };
        vec![
            format!("{}{mark}", score.request.subject.label()),
            score.request.segment.as_ref().map_or_else(|| "all".into(), |segment| segment.value.clone()),
            score.decision.status.as_str().replace('_', " "),
            number(score.psi()),
            score.q_value.map_or_else(|| "–".into(), q_text),
            score.reference.value_count.to_string(),
            score.current.value_count.to_string(),
            number(season.and_then(DriftScore::psi)),
            season.map_or_else(|| "–".into(), |season| season.decision.status.as_str().replace('_', " ")),
        ]
    }

    /// What the table does not say: mix shifts, categories, slow drifts, features without a score.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![];
        for score in &self.scores {
            let name = score.request.subject.label();
            let is_told = score.decision.status.is_alarm() && score.request.segment.is_none();
            if let Some(weight) = score.weight_text().filter(|_| is_told) {
                lines.push(format!("{name}: {weight}"));
            }
            if let Some(shift) = score.mix_shift.as_ref().filter(|_| score.decision.status.is_alarm()) {
                lines.push(format!("{name}: {}", shift_text(shift)));
            }
            lines.extend(categories_text(&name, score));
            if let Some(season) = self.season_of(score).filter(|_| score.decision.status.is_alarm()) {
                let text = match season.decision.status {
                    Status::Warn | Status::Critical => "and from the same hours of the weeks before: it is new",
                    Status::Ok => "but not from the same hours of the weeks before: usual for this time, or slow",
                    Status::InsufficientData | Status::GateFailed => {
                        "and the same hours of the weeks before have too few values to say whether that is new"
                    }
                };
                let segment = segment_text(score.request.segment.as_ref());
                lines.push(format!("{name}{segment}: differs from the reference, {text}"));
            }
        }
        lines.extend(self.refused.iter().map(|refused| {
            let is_season = refused.reference_kind != self.request.reference_kind;
            let what = if is_season { "not compared with its season" } else { "not scored" };
            format!("{}{}: {what}: {}", refused.subject, segment_text(refused.segment.as_ref()), refused.reason)
        }));
        let alarm = self.scores.iter().find(|score| score.decision.status.is_alarm());
        if let Some(score) = alarm {
            let filter = score.request.segment.as_ref();
            let filter = filter.map_or_else(String::new, |segment| format!(" --where {}", segment.text()));
            lines.push(format!("Why: driftwatt drift --metric {}{filter} …", score.request.subject.label()));
        }
        lines
    }
}

/// ` of eu`, and nothing for the whole feature.
fn segment_text(segment: Option<&Filter>) -> String {
    segment.map_or_else(String::new, |segment| format!(" of {}", segment.value))
}

/// A q-value; one that a double cannot hold is not 0.
pub(crate) fn q_text(q_value: f64) -> String {
    if q_value > 0.0 { format!("{q_value:.1e}") } else { "< 1e-300".into() }
}

/// The split in words.
pub(crate) fn shift_text(shift: &MixShift) -> String {
    let kind = if shift.is_mostly_mix() { "mostly who sends (mix)" } else { "mostly what each sends (within)" };
    let mut largest: Vec<_> = shift.segments.iter().collect();
    largest.sort_by(|a, b| (b.mix + b.within).abs().total_cmp(&(a.mix + a.within).abs()));
    let named = largest.iter().take(3).map(|segment| {
        format!(
            "{} {:.1} % to {:.1} % of the values",
            segment.segment,
            segment.share.0 * 100.0,
            segment.share.1 * 100.0
        )
    });
    format!("{kind}: {:.4} mix, {:.4} within; {}", shift.mix, shift.within, named.collect::<Vec<_>>().join(", "))
}

fn categories_text(name: &str, score: &DriftScore) -> Vec<String> {
    let Some(change) = score.comparison.as_ref().and_then(|comparison| comparison.categories.as_ref()) else {
        return vec![];
    };
    let line = |what: &str, names: &[String], share: f64| {
        let shown = names.iter().take(CATEGORIES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(CATEGORIES_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!names.is_empty()).then(|| format!("{name}: {what} {shown}{more}, {:.2} % of the values", share * 100.0))
    };
    let of = [line("new", &change.new, change.new_share), line("vanished", &change.vanished, change.vanished_share)];
    of.into_iter().flatten().collect()
}

//! A run as one HTML page: the table of scores, then for each feature its distributions, where the score comes from, and how
//! it went.

use super::{
    decision::{Status, Thresholds},
    explain::BinContribution,
    other_scores::OtherValue,
    reference_window::season_text,
    run::DriftRun,
    run_text::{q_text, shift_text},
    score::DriftScore,
    timeline::Timeline,
};
use crate::{
    chart::{Bar, Caption, LineChart, PairedBars, Series, StackedBars, number},
    page::{Block, Cell, Column, Figure, Page, Section, Table, Tile},
    window::time_text,
};

/// Scores that get charts of their own, in the order of the run.
pub(super) const CHARTS_MAX: usize = 20;
/// Bins that a chart shows; of more the ones with the largest part.
const BINS_SHOWN: usize = 20;

impl DriftRun {
    /// The run as a page, made at `now_us`; `timelines` are those of `scores`, in their order.
    pub fn to_page(&self, timelines: &[Timeline], thresholds: &Thresholds, now_us: i64) -> Page {
        let (current, reference) = (self.request.current.span(), self.request.reference.span());
        let by = self.request.by.as_ref().map_or_else(String::new, |key| format!(" by {key}"));
        let title = match self.request.subjects.as_slice() {
            [one] => format!("Drift of {}{by}", one.label()),
            several => format!("Drift of {} features{by}", several.len()),
        };
        let words = self.lines();
        let mut first = vec![Block::Table(self.table())];
        if !words.is_empty() {
            first.push(Block::List(words));
        }
        let mut sections = vec![Section { heading: "Scores".into(), blocks: first }];
        for (at, score) in self.scores.iter().enumerate().take(CHARTS_MAX) {
            sections.push(self.score_section(at, score, timelines.get(at), thresholds));
        }
        let mut notes = vec![
            "PSI: sum of (q − p) ln(q / p) over bins that are the deciles of the reference; no outlier moves a bin."
                .to_owned(),
            "An alarm needs effect, noise, multiplicity, persistence and enough values together (docs/drift.md)."
                .into(),
            "Drift says that inputs changed, not that the model is worse for it.".into(),
        ];
        if self.scores.len() > CHARTS_MAX {
            notes.push(format!("{} of {} scores have charts; the table has all.", CHARTS_MAX, self.scores.len()));
        }
        Page {
            title,
            lead: vec![
                format!("{} – {}.", time_text(now_us), self.counts()),
                format!(
                    "Window {} to {} against {} to {} ({}).",
                    time_text(current.start_us),
                    time_text(current.end_us),
                    time_text(reference.start_us),
                    time_text(reference.end_us),
                    self.request.reference_kind.as_str()
                ),
            ],
            simulated: self.scores.iter().any(DriftScore::simulated),
            tiles: self.tiles(),
            sections,
            notes,
            inputs: vec![
                ("limits".into(), format!("PSI {} warn, {} critical", thresholds.psi_warn, thresholds.psi_critical)),
                ("false discovery rate".into(), thresholds.q_max.to_string()),
                ("program".into(), concat!("driftwatt ", env!("CARGO_PKG_VERSION")).into()),
            ],
        }
    }

    fn tiles(&self) -> Vec<Tile> {
        let count = |statuses: &[Status]| {
            let found = self.scores.iter().filter(|score| statuses.contains(&score.decision.status)).count();
            Some(found.to_string())
        };
        let tile = |label: &str, value, note: Option<String>| Tile { label: label.into(), value, note };
        let worst = self.status().as_str().replace('_', " ").to_uppercase();
        vec![
            tile(
                "verdict",
                Some(worst),
                Some(match self.scores.len() {
                    1 => "1 score".into(),
                    count => format!("{count} scores"),
                }),
            ),
            tile("critical", count(&[Status::Critical]), None),
            tile("warnings", count(&[Status::Warn]), None),
            tile("ok", count(&[Status::Ok]), None),
            tile("not judged", count(&[Status::InsufficientData, Status::GateFailed]), None),
        ]
    }

    fn table(&self) -> Table {
        let known = |value: Option<f64>| value.map_or_else(|| "unknown".into(), number);
        let row = |score: &DriftScore| {
            let status = |score: &DriftScore| score.decision.status.as_str().replace('_', " ");
            let name = score.request.subject.label();
            let season = self.season_of(score);
            let cells = [
                score
                    .request
                    .segment
                    .as_ref()
                    .map_or_else(|| name.clone(), |segment| format!("{name}, {}", segment.value)),
                status(score),
                psi_text(score),
                score.q_value.map_or_else(|| "–".into(), q_text),
                format!(
                    "{} → {}",
                    number(score.reference.value_count as f64),
                    number(score.current.value_count as f64)
                ),
                match (score.reference.median, score.current.median) {
                    (None, None) => "–".into(),
                    (before, now) => format!("{} → {}", known(before), known(now)),
                },
                season.map_or_else(|| "no season".into(), |season| format!("{} {}", psi_text(season), status(season))),
            ];
            cells.map(Cell::Text).into()
        };
        let names = ["feature", "status", "PSI", "q", "values before → now", "median before → now", "seasonal PSI"];
        // All but the name stand in one line each.
        let column = |(at, name): (usize, &str)| Column { name: name.into(), is_number: at > 0 };
        Table {
            caption: format!("Against the reference, and against {}", season_text(self.request.current.span())),
            columns: names.into_iter().enumerate().map(column).collect(),
            rows: self.scores.iter().map(row).collect(),
            query: None,
        }
    }

    fn score_section(
        &self,
        at: usize,
        score: &DriftScore,
        timeline: Option<&Timeline>,
        thresholds: &Thresholds,
    ) -> Section {
        let segment = score.request.segment.as_ref();
        let segment = segment.map_or_else(String::new, |segment| format!(", {} {}", segment.key, segment.value));
        let status = score.decision.status.as_str().replace('_', " ");
        let heading = format!("{}{segment}: {status}", score.request.subject.label());
        let mut blocks = vec![Block::List(score.decision.reasons.clone())];
        if let Some(weight) = score.weight_text() {
            blocks.push(Block::Paragraph(format!("Rank: {weight}; a weight is no part of a verdict.")));
        }
        if let Some(shift) = &score.mix_shift {
            blocks.push(Block::Paragraph(format!("The change is {}.", shift_text(shift))));
        }
        if !score.bins.is_empty() {
            blocks.push(Block::Figure(distributions(at, score)));
            blocks.push(Block::Figure(contributions(at, score)));
        }
        if !score.others.is_empty() {
            blocks.push(Block::Table(others(score)));
        }
        match timeline.filter(|timeline| timeline.ends_us.len() > 1) {
            Some(timeline) => blocks.push(Block::Figure(history(at, score, timeline, thresholds))),
            None => blocks.push(Block::Paragraph(
                "No timeline: fewer than two scores of windows of this length are stored in drift_scores.".into(),
            )),
        }
        Section { heading, blocks }
    }
}

/// What was asked for beside the score.
fn others(score: &DriftScore) -> Table {
    let row = |other: &OtherValue| {
        let value = match (other.value, other.reason) {
            (Some(value), _) => format!("{value:.4}"),
            (None, reason) => format!("not known: {}", reason.unwrap_or("no number")),
        };
        let p_value = other.p_value.map_or_else(|| "–".into(), |p| format!("{p:.1e}"));
        [other.name.as_str().to_owned(), value, p_value].map(Cell::Text).into()
    };
    // A reason is a sentence, which may break.
    let column = |name: &str| Column { name: name.into(), is_number: name == "p" };
    Table {
        caption: "Asked for beside it, no part of the decision".into(),
        columns: ["number", "value", "p"].map(column).into(),
        rows: score.others.iter().map(row).collect(),
        query: None,
    }
}

fn caption(id: &str, at: usize, score: &DriftScore, title: &str, description: String) -> Caption {
    Caption {
        id: format!("{id}-{at}"),
        title: format!("{title}: {}", score.request.subject.label()),
        description,
        simulated: score.simulated(),
    }
}

/// Bins in their order; where there are too many, those with the largest parts.
fn shown(bins: &[BinContribution]) -> Vec<&BinContribution> {
    let mut places: Vec<usize> = (0..bins.len()).collect();
    places.sort_by(|a, b| bins[*b].contribution.total_cmp(&bins[*a].contribution));
    places.truncate(BINS_SHOWN);
    places.sort_unstable();
    places.into_iter().map(|place| &bins[place]).collect()
}

fn cut(score: &DriftScore) -> String {
    if score.bins.len() > BINS_SHOWN {
        format!("; the {BINS_SHOWN} bins of {} with the largest part", score.bins.len())
    } else {
        String::new()
    }
}

fn distributions(at: usize, score: &DriftScore) -> Figure {
    let bins = shown(&score.bins);
    let described: Vec<String> = bins
        .iter()
        .map(|bin| {
            format!("{} {:.1} % before, {:.1} % now", bin.label, bin.share_reference * 100.0, bin.share_current * 100.0)
        })
        .collect();
    let chart = PairedBars {
        caption: caption("bins", at, score, "Distribution before and now", described.join("; ")),
        unit: "%".into(),
        names: ["reference".into(), "window under test".into()],
        rows: bins
            .iter()
            .map(|bin| (bin.label.clone(), [bin.share_reference, bin.share_current].map(|share| Some(share * 100.0))))
            .collect(),
    };
    Figure {
        svg: chart.to_svg(),
        caption: format!("Share of the values in each bin{}", cut(score)),
        query: Some(format!("{};\n{}", score.reference.query, score.current.query)),
    }
}

fn contributions(at: usize, score: &DriftScore) -> Figure {
    let bins = shown(&score.bins);
    let described: Vec<String> = bins.iter().map(|bin| format!("{} {:.4}", bin.label, bin.contribution)).collect();
    // Of a small PSI the parts are smaller still: percent can be read, and thousandths cannot.
    let all: f64 = score.bins.iter().map(|bin| bin.contribution).sum();
    let share = |bin: &BinContribution| if all > 0.0 { bin.contribution / all * 100.0 } else { 0.0 };
    let chart = StackedBars {
        caption: caption("parts", at, score, "Where the PSI comes from", described.join("; ")),
        unit: "%".into(),
        parts: vec!["part of the PSI".into()],
        bars: bins.iter().map(|bin| Bar { name: bin.label.clone(), parts: vec![Some(share(bin))] }).collect(),
    };
    let total = psi_number(score.psi());
    Figure { svg: chart.to_svg(), caption: format!("Parts of the PSI of {total}{}", cut(score)), query: None }
}

fn history(at: usize, score: &DriftScore, timeline: &Timeline, thresholds: &Thresholds) -> Figure {
    let count = timeline.ends_us.len();
    let line = |name: &str, value: f64| Series { name: name.into(), values: vec![Some(value); count] };
    let every = count.div_ceil(6).max(1);
    let ticks = timeline.ends_us.iter().enumerate().step_by(every);
    let worst = psi_number(timeline.psi.iter().flatten().copied().max_by(f64::total_cmp));
    let alarms = timeline.statuses.iter().filter(|status| ["warn", "critical"].contains(&status.as_str())).count();
    let last = psi_number(timeline.psi.last().copied().flatten());
    let description = format!("{count} scores, the largest {worst}, {alarms} of them alarms; the last {last}");
    let chart = LineChart {
        caption: caption("time", at, score, "Stored scores", description.clone()),
        unit: "PSI".into(),
        ticks: ticks.map(|(place, end_us)| (place, short_time(*end_us))).collect(),
        series: vec![
            Series { name: "PSI".into(), values: timeline.psi.clone() },
            line("warn limit", thresholds.psi_warn),
            line("critical limit", thresholds.psi_critical),
        ],
    };
    Figure { svg: chart.to_svg(), caption: format!("{description} (UTC)"), query: Some(timeline.query.clone()) }
}

fn psi_number(psi: Option<f64>) -> String {
    psi.map_or_else(|| "unknown".into(), |psi| format!("{psi:.4}"))
}

/// Three digits after the point: what is small is not 0.
fn psi_text(score: &DriftScore) -> String {
    score.psi().map_or_else(|| "unknown".into(), |psi| format!("{psi:.3}"))
}

/// `11-23 09:00`
fn short_time(time_us: i64) -> String {
    time_text(time_us).get(5..16).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_bins_those_with_the_largest_parts_are_shown_in_their_order() {
        let bin = |at: usize, contribution: f64| BinContribution {
            label: at.to_string(),
            share_reference: 0.0,
            share_current: 0.0,
            contribution,
        };
        // More bins than fit are alike, and the one that matters is the last.
        let mut bins: Vec<BinContribution> = (0..30).map(|at| bin(at, 0.0)).collect();
        bins.push(bin(30, 0.5));
        let labels: Vec<&str> = shown(&bins).iter().map(|bin| bin.label.as_str()).collect();
        assert_eq!((labels.len(), labels.last(), labels[0]), (BINS_SHOWN, Some(&"30"), "0"));
        assert_eq!(shown(&bins[..3]).len(), 3);
    }

    #[test]
    fn an_unknown_score_is_no_number() {
        assert_eq!((psi_number(None), psi_number(Some(0.5))), ("unknown".to_owned(), "0.5000".to_owned()));
    }
}

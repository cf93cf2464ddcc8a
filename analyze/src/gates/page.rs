//! The report of a checked batch as one HTML page.

use super::{
    advice::advice,
    checked::{BatchKind, CheckedFile},
    dataset::ContractTag,
    notice::BatchPlace,
    result::RuleResult,
};
use crate::{
    chart::{Bar, Caption, StackedBars, number},
    page::{Block, Cell, Column, Figure, Page, Section, Table, Tile},
    window::time_text,
};

impl CheckedFile {
    /// The report as a page, made at `now_us`.
    pub fn to_page(&self, contract: &ContractTag, place: &BatchPlace, now_us: i64) -> Page {
        let verdict = if self.accepts() { "may be used" } else { "may not be used" };
        let version = contract.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        let mut lead = vec![
            format!("{} – against {} of {}{version}.", time_text(now_us), self.table, contract.id),
            self.name_line(),
        ];
        lead.extend(match place {
            BatchPlace::Left => None,
            BatchPlace::Held(held) => Some(format!("Held back at {held}; nothing of it was changed.")),
            BatchPlace::Stored => Some("What was received stays in the tables; drift of it is not judged.".to_owned()),
            BatchPlace::NotMoved(why) => Some(format!("It could not be moved and is still where it was: {why}.")),
        });
        let mut sections = vec![self.broken_section()];
        sections.extend(self.shares_section());
        sections.extend(self.past_section());
        sections.push(self.rules_section());
        sections.extend(self.damaged_section());
        let mut inputs = vec![
            ("file".to_owned(), self.file.clone()),
            ("content".into(), format!("{}, {} bytes", self.digest, self.size_bytes)),
            ("contract".into(), format!("{}{version}", contract.id)),
            ("program".into(), concat!("driftwatt ", env!("CARGO_PKG_VERSION")).into()),
        ];
        inputs.extend(self.references.iter().map(|name| ("refers to".to_owned(), name.clone())));
        Page {
            title: format!("{} {verdict}", self.file_name()),
            lead,
            simulated: false,
            tiles: self.tiles(),
            sections,
            notes: self.notes(),
            inputs,
        }
    }

    /// The last part of the file's path; of points which they are, and when.
    pub(crate) fn file_name(&self) -> String {
        let file = self.file.trim_end_matches('/');
        match (self.kind, file.strip_prefix("metrics:")) {
            (BatchKind::Points, Some(points)) => points.replacen("{}", "", 1),
            _ => file.rsplit('/').next().unwrap_or(file).to_owned(),
        }
    }

    fn name_line(&self) -> String {
        if self.kind == BatchKind::Points {
            let dataset = self.name.dataset.as_deref().unwrap_or("unknown").replacen("{}", "", 1);
            return format!("Data set {dataset}: windows of this length.");
        }
        let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
        format!(
            "Data set {}, period {}, model {}.",
            known(self.name.dataset.clone()),
            known(self.name.period.map(|period| period.to_string())),
            known(self.name.model.clone())
        )
    }

    fn tiles(&self) -> Vec<Tile> {
        let tile =
            |label: &str, value: String, note: Option<String>| Tile { label: label.into(), value: Some(value), note };
        let outcome = &self.outcome;
        let of_rules = format!("{} passed, {} skipped", outcome.passed, outcome.skipped);
        vec![
            tile("outcome", outcome.status.as_str().to_uppercase(), Some(format!("{} rules", self.results.len()))),
            tile(self.kind.as_str(), number(self.rows() as f64), None),
            tile("rules failed", outcome.failed.to_string(), Some(of_rules)),
            tile("warnings", outcome.warned.to_string(), None),
            tile("not decided", outcome.errors.to_string(), None),
        ]
    }

    /// A list, not a table: sentences that a narrow screen can show.
    fn broken_section(&self) -> Section {
        let broken = self.broken();
        let line = |result: &&RuleResult| {
            let status = result.status.as_str().to_uppercase();
            format!("{status} {}. {}", result.finding(), advice(result))
        };
        let block = if broken.is_empty() {
            Block::Paragraph("No rule is broken.".into())
        } else {
            Block::List(broken.iter().map(line).collect())
        };
        Section { heading: "What is wrong, and what to do".into(), blocks: vec![block] }
    }

    /// Shares of the rows that break a rule, for the rules about rows.
    fn shares_section(&self) -> Option<Section> {
        let mut shares: Vec<(&RuleResult, f64)> = self
            .results
            .iter()
            .filter(|result| result.rows_checked > 0)
            .filter_map(|result| Some((result, result.rows_failed? as f64 * 100.0 / result.rows_checked as f64)))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares.truncate(12);
        if shares.is_empty() {
            return None;
        }
        let bar = |(result, share): &(&RuleResult, f64)| Bar {
            name: format!("{} ({})", result.rule_id, result.status),
            parts: vec![Some(*share)],
        };
        let described: Vec<String> =
            shares.iter().map(|(result, share)| format!("{} {} %", result.rule_id, number(*share))).collect();
        let chart = StackedBars {
            caption: Caption {
                id: "shares".into(),
                title: format!("Share of {} that break a rule", self.kind.as_str()),
                description: described.join(", "),
                simulated: false,
            },
            unit: "%".into(),
            parts: vec!["broken".into()],
            bars: shares.iter().map(bar).collect(),
        };
        let caption = format!("Percent of the {} that each rule looked at", self.kind.as_str());
        let figure = Figure { svg: chart.to_svg(), caption, query: None };
        Some(Section { heading: "How much".into(), blocks: vec![Block::Figure(figure)] })
    }

    fn past_section(&self) -> Option<Section> {
        if self.history.is_empty() {
            return None;
        }
        let mut bars: Vec<Bar> = self
            .history
            .iter()
            .map(|past| Bar { name: past.name.clone(), parts: vec![Some(past.summary.rows as f64)] })
            .collect();
        bars.push(Bar { name: "this one".into(), parts: vec![Some(self.rows() as f64)] });
        let described: Vec<String> = bars
            .iter()
            .map(|bar| format!("{} {}", bar.name, number(bar.parts.iter().flatten().sum::<f64>())))
            .collect();
        let chart = StackedBars {
            caption: Caption {
                id: "past".into(),
                title: format!("{} of this batch and of those before", self.kind.as_str()),
                description: described.join(", "),
                simulated: false,
            },
            unit: self.kind.as_str().into(),
            parts: vec![self.kind.as_str().into()],
            bars,
        };
        let caption = "Usable batches of the same data set and model, from old to new".into();
        let figure = Figure { svg: chart.to_svg(), caption, query: None };
        Some(Section { heading: "Against past batches".into(), blocks: vec![Block::Figure(figure)] })
    }

    fn rules_section(&self) -> Section {
        let row = |result: &RuleResult| {
            let of = |count: u64| number(count as f64);
            let broken = match result.rows_failed {
                Some(failed) => Cell::Text(format!("{} of {}", of(failed), of(result.rows_checked))),
                None => Cell::Text("–".into()),
            };
            let found = match &result.reason {
                Some(reason) if !result.status.is_broken() => format!("{}: {reason}", result.observed),
                _ => result.observed.clone(),
            };
            let text = |text: &str| Cell::Text(text.to_owned());
            vec![text(&result.rule_id), text(result.status.as_str()), text(&found), text(&result.expected), broken]
        };
        let column = |name: &str, is_number| Column { name: name.into(), is_number };
        let table = Table {
            caption: "Every rule, in the order of the contract".into(),
            columns: vec![
                column("rule", false),
                column("status", true),
                column("found", false),
                column("expected", false),
                column(&format!("{} broken", self.kind.as_str()), true),
            ],
            rows: self.results.iter().map(row).collect(),
            query: None,
        };
        Section { heading: "All rules".into(), blocks: vec![Block::Table(table)] }
    }

    fn damaged_section(&self) -> Option<Section> {
        if self.damaged.is_empty() {
            return None;
        }
        let rows = self.damaged.iter().map(|(name, damage)| vec![Cell::Text(name.clone()), Cell::Text(damage.clone())]);
        let table = Table {
            caption: "Files that are no images; the first hundred".into(),
            columns: ["file", "damage"].map(|name| Column { name: name.into(), is_number: false }).into(),
            rows: rows.collect(),
            query: None,
        };
        Some(Section { heading: "Damaged files".into(), blocks: vec![Block::Table(table)] })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.name.oddities.iter().map(|oddity| format!("Name: {oddity}.")).collect();
        if self.history.is_empty() && self.kind == BatchKind::Points {
            notes.push("No such window passed before, so rules that compare with one were skipped.".into());
        } else if self.history.is_empty() {
            notes.push(
                "No past batch was at hand, so rules that compare with one were skipped; give --data or --server, and a name \
                 with a data set."
                    .into(),
            );
        }
        notes.push("Rows are counted from 0. Keys are masked; no value of a row is in this page.".into());
        notes
    }
}

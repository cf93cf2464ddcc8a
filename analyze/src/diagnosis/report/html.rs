//! The diagnosis as a page.

use chrono::DateTime;

use super::{DiagnosisReport, minute_lines, sql, text};
use crate::{
    chart::{Caption, LineChart, Mark, Series},
    page::{Block, Cell, Column, Figure, Page, Section, Table, Tile},
    window::{MINUTE_US, time_text},
};

/// Names under a time axis.
const TICKS: usize = 6;

impl DiagnosisReport {
    /// The page: one self-contained file.
    pub fn to_html(&self) -> String {
        self.to_page().to_html()
    }

    fn to_page(&self) -> Page {
        Page {
            title: format!("What changed the latency of {}?", self.diagnosis.service),
            lead: vec![
                format!("{}. Read: {}.", self.reading.span.label(), self.reading.source.text()),
                text::onset(self),
            ],
            simulated: self.diagnosis.simulated,
            tiles: self.tiles(),
            sections: vec![
                Section { heading: "In one sentence".into(), blocks: vec![Block::Paragraph(self.sentence.clone())] },
                Section { heading: "What happened when".into(), blocks: self.figures() },
                Section { heading: "Evidence, in the order in which to look".into(), blocks: self.evidence_blocks() },
                Section { heading: "How the change divides".into(), blocks: vec![Block::Table(self.split_table())] },
            ],
            notes: text::notes(self),
            inputs: text::inputs(self),
        }
    }

    fn tiles(&self) -> Vec<Tile> {
        let tile = |label: &str, value: Option<String>, note: Option<String>| Tile { label: label.into(), value, note };
        let comparison = self.diagnosis.comparison.as_ref();
        let verdict = text::verdict_words(self.diagnosis.verdict).to_owned();
        let confidence = format!("confidence: {}", self.diagnosis.confidence.as_str());
        let p95 = comparison.and_then(|comparison| comparison.standardised.as_ref()?.p95_ms);
        let ms = |value: f64| format!("{value:+.0} ms");
        let range = |estimate: &crate::diagnosis::bootstrap::Estimate| {
            format!("95 %: {:+.0} to {:+.0} ms", estimate.interval.0, estimate.interval.1)
        };
        let of_parts = |value: fn(&crate::diagnosis::Comparison) -> &crate::diagnosis::bootstrap::Estimate| {
            let estimate = comparison.map(value);
            (estimate.map(|estimate| ms(estimate.value)), estimate.map(range))
        };
        let (inputs, inputs_range) = of_parts(|comparison| &comparison.input_ms);
        let (machines, machines_range) = of_parts(|comparison| &comparison.conditional_ms);
        vec![
            tile("Verdict", Some(verdict), Some(confidence)),
            tile(
                "p95 after the change",
                p95.map(|p95| format!("{:.0} ms", p95.1)),
                p95.map(|p95| format!("before: {:.0} ms", p95.0)),
            ),
            tile("From the inputs (mean)", inputs, inputs_range),
            tile("At equal inputs (mean)", machines, machines_range),
        ]
    }

    fn figures(&self) -> Vec<Block> {
        let marks = self.marks();
        let figure = |(at, lines): (usize, minute_lines::Lines)| {
            let caption = Caption {
                id: format!("lines-{at}"),
                title: lines.title.clone(),
                description: format!("{} by minute, with the change and deployments marked", lines.title),
                simulated: self.diagnosis.simulated,
            };
            let series = lines.lines.into_iter().map(|(name, values)| Series { name, values }).collect();
            let chart = LineChart { caption, unit: lines.unit.to_owned(), ticks: self.ticks(), series };
            let query =
                lines.subject.as_ref().and_then(|subject| sql::of(subject, &self.request.subject, &self.reading));
            Block::Figure(Figure { svg: chart.to_svg_marked(&marks), caption: lines.title, query })
        };
        minute_lines::lines(self).into_iter().enumerate().map(figure).collect()
    }

    /// Where the change and the events lie.
    fn marks(&self) -> Vec<Mark> {
        let count = self.reading.window.minute_count;
        let change =
            self.diagnosis.onset.iter().map(|onset| Mark { place: onset.minute as f64, name: "change".into() });
        let events =
            self.reading.window.events.iter().filter(|event| event.minute >= 0.0 && event.minute < count as f64);
        let events = events.map(|event| Mark { place: event.minute, name: event.what.clone() });
        change.chain(events.take(6)).collect()
    }

    fn ticks(&self) -> Vec<(usize, String)> {
        let count = self.reading.window.minute_count;
        let format = if count > 2 * 1440 { "%d %b %H:%M" } else { "%H:%M" };
        let name = |minute: usize| {
            let time = DateTime::from_timestamp_micros(self.reading.span.start_us + minute as i64 * MINUTE_US);
            time.map_or_else(String::new, |time| time.format(format).to_string())
        };
        (0..TICKS).map(|step| step * count / TICKS).map(|minute| (minute, name(minute))).collect()
    }

    fn evidence_blocks(&self) -> Vec<Block> {
        if self.evidence.is_empty() {
            return vec![Block::Paragraph("Nothing stands out.".into())];
        }
        let column = |name: &str, is_number| Column { name: name.into(), is_number };
        let rows = self.evidence.iter().map(|evidence| {
            let effect = match (evidence.effect_ms, evidence.effect_interval_ms) {
                (Some(value), Some((low, high))) => Cell::Text(format!("{value:+.0} ms ({low:+.0} to {high:+.0})")),
                _ => Cell::Text("–".into()),
            };
            let onset = evidence.onset_us.map_or(Cell::Text("–".into()), |time_us| Cell::Text(time_text(time_us)));
            let texts = [evidence.falsified_by, evidence.next_check].map(|text| Cell::Text(text.to_owned()));
            let [falsified, next] = texts;
            vec![Cell::Text(evidence.finding.clone()), effect, onset, falsified, next]
        });
        let queries: Vec<String> = self
            .evidence
            .iter()
            .filter_map(|evidence| evidence.sql.as_ref().map(|sql| format!("-- {}\n{sql}", evidence.finding)))
            .collect();
        vec![Block::Table(Table {
            caption: "What was found, what would show that it is wrong, and what to check next".into(),
            columns: vec![
                column("finding", false),
                column("effect on the mean (95 %)", true),
                column("since", true),
                column("it is wrong if", false),
                column("check next", false),
            ],
            rows: rows.collect(),
            query: (!queries.is_empty()).then(|| queries.join(";\n\n")),
        })]
    }

    /// Parts of the change of the mean; they add up.
    fn split_table(&self) -> Table {
        let columns = [("part of the change of the mean", false), ("ms", true)];
        let columns = columns.map(|(name, is_number)| Column { name: name.into(), is_number }).to_vec();
        let row = |name: String, ms: f64| vec![Cell::Text(name), Cell::Text(format!("{ms:+.1}"))];
        let rows = self.diagnosis.comparison.as_ref().map_or_else(Vec::new, |comparison| {
            let split = &comparison.split;
            let mut rows: Vec<_> = split.by_role.iter().map(|(role, ms)| row(role.as_str().to_owned(), *ms)).collect();
            let known = if split.server.is_some() { "" } else { " (not measured: no equal requests)" };
            rows.push(row(format!("the same request at the same load{known}"), split.system_ms));
            rows.push(row("all".into(), split.after_ms - split.before_ms));
            rows
        });
        Table { caption: "The parts add up to the change of the mean latency".into(), columns, rows, query: None }
    }
}

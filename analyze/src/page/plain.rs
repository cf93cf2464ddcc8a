//! A page without its charts, as Markdown and as text for a terminal.

use std::fmt::Write as _;

use super::{Block, Cell, Page, Section, Table, Tile};
use crate::format::{escape_markdown, markdown_table, shorten, text_table};

/// Longest name in a table for a terminal.
const NAME_WIDTH: usize = 24;
/// Longest other text there.
const TEXT_WIDTH: usize = 60;
/// Columns of a terminal that paragraphs are broken for.
const LINE_WIDTH: usize = 100;

impl Page {
    /// The page as Markdown, with the SQL under each table and in the place of each chart.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {}\n\n", escape_markdown(&self.title));
        if self.simulated {
            text += "**SIMULATED: this page holds data of the simulator, not of real machines.**\n\n";
        }
        for line in &self.lead {
            put(&mut text, format_args!("{}\n\n", escape_markdown(line)));
        }
        self.tiles.iter().for_each(|tile| put(&mut text, format_args!("- {}\n", escape_markdown(&tile.line()))));
        for section in &self.sections {
            put(&mut text, format_args!("\n## {}\n\n", escape_markdown(&section.heading)));
            section.blocks.iter().for_each(|block| block.write_markdown(&mut text));
        }
        write_markdown_list(&mut text, "Notes", &self.notes);
        let inputs: Vec<String> = self.inputs.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        write_markdown_list(&mut text, "Made from", &inputs);
        text
    }

    /// The page as text for a terminal, names cut to fit; the SQL of all tables at the end.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        if self.simulated {
            text += "SIMULATED: this report holds data of the simulator, not of real machines.\n";
        }
        self.lead.iter().for_each(|line| write_wrapped(&mut text, "", line));
        text.push('\n');
        let widest = self.tiles.iter().map(|tile| tile.label.chars().count()).max().unwrap_or(0);
        for tile in &self.tiles {
            let note = tile.note.as_ref().map_or_else(String::new, |note| format!("  ({note})"));
            let value = tile.value.as_deref().unwrap_or("unknown");
            write_wrapped(&mut text, &format!("  {:widest$}  ", tile.label), &format!("{value}{note}"));
        }
        for section in &self.sections {
            // A section of charts alone has nothing to say here.
            if section.blocks.iter().any(|block| !matches!(block, Block::Figure(_))) {
                put(&mut text, format_args!("\n{}\n", section.heading));
                section.blocks.iter().for_each(|block| block.write_text(&mut text));
            }
        }
        write_text_list(&mut text, "Notes", &self.notes);
        write_text_list(&mut text, "SQL of these numbers (driftwatt sql)", &self.queries());
        text
    }

    /// The SQL of each section; of queries that differ in one word the first, with the headings of all.
    fn queries(&self) -> Vec<String> {
        let mut queries: Vec<(String, &str)> = Vec::new();
        for (heading, sql) in self.sections.iter().flat_map(Section::queries) {
            match queries.iter_mut().find(|(_, known)| is_nearly(known, sql)) {
                Some((headings, _)) => *headings += &format!(", {heading}"),
                None => queries.push((heading.to_owned(), sql)),
            }
        }
        queries.into_iter().map(|(headings, sql)| format!("{headings}: {sql}")).collect()
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = text.write_fmt(arguments);
}

fn write_markdown_list(text: &mut String, heading: &str, items: &[String]) {
    if !items.is_empty() {
        put(text, format_args!("\n## {heading}\n\n"));
        items.iter().for_each(|item| put(text, format_args!("- {}\n", escape_markdown(item))));
    }
}

fn write_text_list(text: &mut String, heading: &str, items: &[String]) {
    if !items.is_empty() {
        put(text, format_args!("\n{heading}\n"));
        items.iter().for_each(|item| write_wrapped(text, "  ", item));
    }
}

fn write_query(text: &mut String, query: Option<&str>) {
    if let Some(query) = query {
        put(text, format_args!("```sql\n{query}\n```\n\n"));
    }
}

/// Whether two queries differ in one word.
fn is_nearly(one: &str, other: &str) -> bool {
    let (one, other) = (one.split(' ').collect::<Vec<_>>(), other.split(' ').collect::<Vec<_>>());
    one.len() == other.len() && one.iter().zip(&other).filter(|(a, b)| a != b).count() <= 1
}

/// `line` broken at spaces after `start`, later lines under the first word.
fn write_wrapped(text: &mut String, start: &str, line: &str) {
    let clean = line.replace(|character: char| character.is_control(), " ");
    let indent = " ".repeat(start.chars().count());
    let mut at = start.to_owned();
    let mut is_empty = true;
    for word in clean.split(' ') {
        let width = at.chars().count() + 1 + word.chars().count();
        if !is_empty && width > LINE_WIDTH {
            put(text, format_args!("{}\n", at.trim_end()));
            at.clone_from(&indent);
            is_empty = true;
        }
        if !is_empty {
            at.push(' ');
        }
        at += word;
        is_empty = false;
    }
    put(text, format_args!("{}\n", at.trim_end()));
}

impl Tile {
    fn line(&self) -> String {
        let note = self.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        format!("{}: {}{note}", self.label, self.value.as_deref().unwrap_or("unknown"))
    }
}

impl Section {
    fn queries(&self) -> Vec<(&str, &str)> {
        let query = |block| match block {
            &Block::Table(Table { ref query, .. }) | &Block::Figure(super::Figure { ref query, .. }) => {
                query.as_deref()
            }
            Block::Paragraph(_) | Block::List(_) => None,
        };
        self.blocks.iter().filter_map(query).map(|sql| (self.heading.as_str(), sql)).collect()
    }
}

impl Block {
    fn write_markdown(&self, text: &mut String) {
        match self {
            Self::Paragraph(paragraph) => put(text, format_args!("{}\n\n", escape_markdown(paragraph))),
            Self::List(items) => {
                items.iter().for_each(|item| put(text, format_args!("- {}\n", escape_markdown(item))));
                text.push('\n');
            }
            Self::Table(table) => table.write_markdown(text),
            // What a chart shows is also in a table, or else its query gives it.
            Self::Figure(figure) => {
                put(text, format_args!("{}\n\n", escape_markdown(&figure.caption)));
                write_query(text, figure.query.as_deref());
            }
        }
    }

    fn write_text(&self, text: &mut String) {
        match self {
            Self::Paragraph(paragraph) => write_wrapped(text, "  ", paragraph),
            Self::List(items) => items.iter().for_each(|item| write_wrapped(text, "  - ", item)),
            Self::Table(table) => {
                let (header, left_count) = table.header();
                let rows = table.cells(|at, cell| shorten(cell, if at == 0 { NAME_WIDTH } else { TEXT_WIDTH }));
                for line in text_table(&header, left_count, &rows).lines() {
                    put(text, format_args!("  {line}\n"));
                }
            }
            Self::Figure(_) => {}
        }
    }
}

impl Table {
    /// Names of the columns, and how many stand to the left.
    fn header(&self) -> (Vec<&str>, usize) {
        let names = self.columns.iter().map(|column| column.name.as_str()).collect();
        (names, self.columns.iter().take_while(|column| !column.is_number).count())
    }

    fn cells(&self, cut: impl Fn(usize, &str) -> String) -> Vec<Vec<String>> {
        let cell = |row: &Vec<Cell>, at: usize| match row.get(at) {
            Some(Cell::Text(text)) => cut(at, text),
            Some(Cell::Unknown) => "unknown".to_owned(),
            Some(Cell::Chart(_)) | None => "–".to_owned(),
        };
        self.rows.iter().map(|row| (0..self.columns.len()).map(|at| cell(row, at)).collect()).collect()
    }

    fn write_markdown(&self, text: &mut String) {
        let (header, left_count) = self.header();
        put(text, format_args!("{}\n\n", escape_markdown(&self.caption)));
        *text += &markdown_table(&header, left_count, &self.cells(|_, cell| cell.to_owned()));
        text.push('\n');
        write_query(text, self.query.as_deref());
    }
}

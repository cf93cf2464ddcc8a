//! The frame of every report: one HTML file with nothing to fetch and no script, for screens of any width, light and dark,
//! and for paper. All text is escaped; only charts go in as they are.

mod cell;
mod plain;

use std::fmt::Write as _;

pub(crate) use cell::{columns, number, number_or_dash, text};

use crate::{
    chart::{self, Svg},
    format::escape_html,
};

const STYLE: &str = "\
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:0}\
header,main,footer{max-width:72rem;margin:0 auto;padding:0 1rem}h1{font-size:1.6rem;line-height:1.25;margin:1.2rem 0 .3rem}\
h2{font-size:1.2rem;margin:2rem 0 .5rem}h1,h2,p,li,dd{overflow-wrap:anywhere}p.dim,footer,figcaption,.tile small{color:var(--dim)}\
.sim{color:var(--warn);font-weight:600}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:.75rem;margin:1rem 0;padding:0}\
.tile{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem;min-width:0}\
.tile dt{color:var(--dim);font-size:.85rem}.tile dd{margin:0;font-size:1.35rem;font-weight:600}.tile small{display:block;font-size:.85rem;font-weight:400}\
.scroll{overflow-x:auto;max-width:100%;margin:.6rem 0;container-type:inline-size}.scroll:focus-visible{outline:2px solid var(--link)}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:100%}\
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;white-space:nowrap}\
th{font-weight:600}th.text,td.text{text-align:left;white-space:normal;min-width:11rem;max-width:26rem;overflow-wrap:anywhere}\
caption{text-align:left;color:var(--dim);padding:.2rem 0}caption span{display:block;position:sticky;left:0;max-width:100cqi}\
figure{margin:1rem 0}figcaption{margin-top:.3rem}details{margin:.4rem 0}summary{cursor:pointer;color:var(--link)}\
pre{background:var(--panel);border:1px solid var(--line);padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}\
footer{border-top:1px solid var(--line);margin-top:2.5rem;padding:1rem;font-size:.85rem}\
footer dl{display:grid;grid-template-columns:minmax(6rem,max-content) minmax(0,1fr);gap:.1rem 1rem;margin:0}footer dd{margin:0}\
@media(max-width:40rem){th,td{padding:.3rem .45rem}th.text,td.text{min-width:7rem}}\
@media print{@page{margin:14mm}body{font-size:10pt}header,main,footer{max-width:none;padding:0}.scroll{overflow:visible}\
th,td{white-space:normal;padding:.15rem .4rem;font-size:8.5pt}th.text,td.text{min-width:5rem}svg.chart{min-width:0;max-width:100%}\
figure,.tile,tr{break-inside:avoid}h2{break-after:avoid}thead{display:table-header-group}\
details::details-content{display:block;content-visibility:visible;block-size:auto}\
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}";

/// A whole page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Title and first heading.
    pub title: String,
    /// Sentences below it: the window, the time zone, the coverage.
    pub lead: Vec<String>,
    /// Whether any of the data is simulated; then the page says so at the top.
    pub simulated: bool,
    /// The figures that matter most.
    pub tiles: Vec<Tile>,
    /// The parts, in order.
    pub sections: Vec<Section>,
    /// What the reader has to know to judge the figures: gaps, assumptions, missing inputs.
    pub notes: Vec<String>,
    /// What the page was made of, by name: table versions, price book, program.
    pub inputs: Vec<(String, String)>,
}

/// A figure in a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// What it is.
    pub label: String,
    /// Its value with unit; none is shown as "unknown".
    pub value: Option<String>,
    /// What it is compared with, or how it is covered.
    pub note: Option<String>,
}

/// A heading and what is under it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// What is under it.
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A paragraph.
    Paragraph(String),
    /// A list.
    List(Vec<String>),
    /// A table, which scrolls inside its box where it is too wide.
    Table(Table),
    /// A chart.
    Figure(Figure),
}

/// A chart with its words and the query behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The chart.
    pub svg: Svg,
    /// What it shows.
    pub caption: String,
    /// SQL that gives its numbers.
    pub query: Option<String>,
}

/// Rows under a header.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What it shows; also its name for readers who do not see it.
    pub caption: String,
    /// Columns.
    pub columns: Vec<Column>,
    /// Rows with one cell per column; a cell that is missing is shown as "–".
    pub rows: Vec<Vec<Cell>>,
    /// SQL that gives its numbers.
    pub query: Option<String>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, with the unit.
    pub name: String,
    /// Numbers stand to the right and do not break.
    pub is_number: bool,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Text or a formatted number.
    Text(String),
    /// A chart as large as a word.
    Chart(Svg),
    /// A value that is not known.
    Unknown,
}

/// `text` as it is, as a page that mail readers show alike: they drop style sheets, not `<pre>`.
pub fn of_text(title: &str, text: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title></head>\n\
         <body><h1 style=\"font:600 1.3rem sans-serif\">{title}</h1>\n\
         <pre style=\"font:13px/1.4 monospace;overflow-x:auto\">{}</pre></body></html>\n",
        escape_html(text),
        title = escape_html(title)
    )
}

/// `html`, a page of this module, with `note` above everything.
pub fn noted(html: &str, note: &str) -> String {
    let shown = format!("<body><p style=\"max-width:72rem;margin:1rem auto;padding:0 1rem\">{}</p>", escape_html(note));
    html.replacen("<body>", &shown, 1)
}

/// Checks a page of a test, and puts it into the folder `DRIFTWATT_LOOK_IN`, where that is set, to be looked at
/// (docs/delivery.md).
#[cfg(test)]
pub(crate) fn look(html: &str, name: &str) {
    tests::check_whole(html);
    if let Some(folder) = std::env::var_os("DRIFTWATT_LOOK_IN") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.html")), html).unwrap();
    }
}

impl Page {
    /// The page as one file, the same bytes for the same content.
    pub fn to_html(&self) -> String {
        let title = escape_html(&self.title);
        let mark = if self.simulated { " – SIMULATED" } else { "" };
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}{mark}</title>\n\
             <style>{}{STYLE}{}</style></head>\n<body><header><h1>{title}</h1>\n",
            chart::palette::style(),
            chart::STYLE
        );
        if self.simulated {
            html += "<p class=\"sim\">SIMULATED: this page holds data of the simulator, not of real machines.</p>\n";
        }
        for line in &self.lead {
            put(&mut html, format_args!("<p class=\"dim\">{}</p>\n", escape_html(line)));
        }
        html += "</header>\n<main>\n";
        if !self.tiles.is_empty() {
            html += "<dl class=\"tiles\">\n";
            self.tiles.iter().for_each(|tile| tile.write(&mut html));
            html += "</dl>\n";
        }
        for section in &self.sections {
            put(&mut html, format_args!("<section><h2>{}</h2>\n", escape_html(&section.heading)));
            section.blocks.iter().for_each(|block| block.write(&mut html));
            html += "</section>\n";
        }
        if !self.notes.is_empty() {
            html += "<section><h2>Notes</h2>\n";
            write_list(&mut html, &self.notes);
            html += "</section>\n";
        }
        html += "</main>\n";
        if !self.inputs.is_empty() {
            html += "<footer><p>Made from:</p><dl>\n";
            for (name, value) in &self.inputs {
                put(&mut html, format_args!("<dt>{}</dt><dd>{}</dd>\n", escape_html(name), escape_html(value)));
            }
            html += "</dl></footer>\n";
        }
        html + "</body></html>\n"
    }
}

fn put(html: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = html.write_fmt(arguments);
}

fn write_list(html: &mut String, items: &[String]) {
    *html += "<ul>\n";
    for item in items {
        put(html, format_args!("<li>{}</li>\n", escape_html(item)));
    }
    *html += "</ul>\n";
}

fn write_query(html: &mut String, query: Option<&String>) {
    if let Some(query) = query {
        put(
            html,
            format_args!(
                "<details><summary>SQL of these numbers</summary><pre>{}</pre></details>\n",
                escape_html(query)
            ),
        );
    }
}

impl Tile {
    fn write(&self, html: &mut String) {
        let value = self.value.as_deref().unwrap_or("unknown");
        put(html, format_args!("<div class=\"tile\"><dt>{}</dt><dd>{}", escape_html(&self.label), escape_html(value)));
        if let Some(note) = &self.note {
            put(html, format_args!("<small>{}</small>", escape_html(note)));
        }
        *html += "</dd></div>\n";
    }
}

impl Block {
    fn write(&self, html: &mut String) {
        match self {
            Self::Paragraph(text) => put(html, format_args!("<p>{}</p>\n", escape_html(text))),
            Self::List(items) => write_list(html, items),
            Self::Table(table) => table.write(html),
            Self::Figure(figure) => {
                // What scrolls can be reached by the keyboard.
                let (svg, caption) = (figure.svg.as_str(), escape_html(&figure.caption));
                put(
                    html,
                    format_args!(
                        "<figure><div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{caption}\">{svg}</div>\
                         <figcaption>{caption}</figcaption></figure>\n"
                    ),
                );
                write_query(html, figure.query.as_ref());
            }
        }
    }
}

impl Table {
    fn write(&self, html: &mut String) {
        // As wide as what is seen of the table, which may be wider and scrolls below it.
        let caption = escape_html(&self.caption);
        put(
            html,
            format_args!(
                "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{caption}\"><table>\
                 <caption><span>{caption}</span></caption>\n<thead><tr>"
            ),
        );
        let class = |column: &Column| if column.is_number { "" } else { " class=\"text\"" };
        for column in &self.columns {
            put(html, format_args!("<th scope=\"col\"{}>{}</th>", class(column), escape_html(&column.name)));
        }
        *html += "</tr></thead>\n<tbody>\n";
        for row in &self.rows {
            *html += "<tr>";
            for (at, column) in self.columns.iter().enumerate() {
                let text = match row.get(at) {
                    Some(Cell::Text(text)) => escape_html(text),
                    Some(Cell::Chart(svg)) => svg.as_str().to_owned(),
                    Some(Cell::Unknown) => "unknown".to_owned(),
                    None => "–".to_owned(),
                };
                let (open, close) = if at == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
                put(html, format_args!("<{open}{}>{text}</{close}>", class(column)));
            }
            *html += "</tr>\n";
        }
        *html += "</tbody></table></div>\n";
        if self.rows.is_empty() {
            *html += "<p class=\"dim\">No rows.</p>\n";
        }
        write_query(html, self.query.as_ref());
    }
}

#[cfg(test)]
pub(crate) mod tests;

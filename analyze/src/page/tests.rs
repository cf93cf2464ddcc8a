use super::*;
use crate::chart::{Bar, Caption, HeatMap, HeatRow, LineChart, Rung, Series, StackedBars, Waterfall, sparkline};

fn caption(id: &str, title: &str) -> Caption {
    Caption { id: id.into(), title: title.into(), description: format!("{title}, as an example"), simulated: true }
}

fn figure(svg: Svg, caption: &str) -> Block {
    let query = Some("SELECT hour, gpus FROM weekly_report('2026-W47') WHERE hour < 168 ORDER BY hour".into());
    Block::Figure(Figure { svg, caption: caption.into(), query })
}

#[expect(clippy::too_many_lines, reason = "an example page is one long value")]
/// A page with one of each, with long names, gaps and unknown values.
fn example() -> Page {
    let hours = |phase: f64| -> Vec<Option<f64>> {
        let value = |hour: u32| 14.0 + 12.0 * (f64::from(hour) / 24.0 * std::f64::consts::TAU + phase).sin();
        (0..168).map(|hour| (!(60..70).contains(&hour)).then(|| value(hour))).collect()
    };
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let line = LineChart {
        caption: caption("demand", "GPUs busy by hour of the week"),
        unit: "GPUs".into(),
        ticks: days.iter().enumerate().map(|(day, name)| (day * 24, (*name).to_owned())).collect(),
        series: vec![
            Series { name: "busy".into(), values: hours(0.0) },
            Series { name: "the week before".into(), values: hours(0.4) },
            Series { name: "held".into(), values: vec![Some(30.0); 168] },
        ],
    };
    let long = "inference-image-generation-with-a-name-that-is-too-long";
    let bars = StackedBars {
        caption: caption("states", "GPU-hours by state"),
        unit: "h".into(),
        parts: ["busy", "idle-held", "free", "no telemetry"].map(str::to_owned).to_vec(),
        bars: vec![
            Bar { name: long.into(), parts: vec![Some(800.0), Some(2_100.0), Some(120.0), Some(60.0)] },
            Bar { name: "chat".into(), parts: vec![Some(600.0), Some(200.0), None, Some(10.0)] },
            Bar { name: "silent".into(), parts: vec![None; 4] },
        ],
    };
    let rung = |name: &str, value, money, coverage| Rung { name: name.into(), value, money, coverage };
    let waterfall = Waterfall {
        caption: caption("waterfall", "GPU-hours from paid to productive"),
        unit: "GPU-hours".into(),
        currency: "EUR".into(),
        rungs: vec![
            rung("paid", Some(24_024.0), Some(84_084.0), Some(1.0)),
            rung("allocated", Some(21_000.0), Some(73_500.0), Some(0.98)),
            rung("held (memory)", Some(18_300.0), Some(64_050.0), Some(0.97)),
            rung("busy (duty)", Some(5_040.0), Some(17_640.0), Some(0.97)),
            rung("productive (SM)", None, None, None),
        ],
    };
    let row = |day: usize| {
        let value = |hour: usize| (day != 3 || hour < 9).then_some(((hour * 7 + day * 3) % 31) as f64);
        HeatRow { name: days[day].into(), values: (0..24).map(value).collect() }
    };
    let heat = HeatMap {
        caption: caption("heat", "Demand by day and hour"),
        unit: "GPUs".into(),
        max: 30.0,
        columns: (0..24).map(|hour| hour.to_string()).collect(),
        rows: (0..7).map(row).collect(),
    };
    let column = |name: &str, is_number| Column { name: name.into(), is_number };
    let text = |text: &str| Cell::Text(text.into());
    let table = Table {
        caption: "Services by cost".into(),
        columns: vec![
            column("service", false),
            column("GPUs", true),
            column("mean", true),
            column("p95", true),
            column("peak", true),
            column("GPU-hours", true),
            column("cost (EUR)", true),
            column("week", true),
        ],
        rows: vec![
            vec![
                text(long),
                text("143"),
                text("11.2 %"),
                text("64.0 %"),
                text("100.0 %"),
                text("24 024"),
                text("84 084.00"),
                Cell::Chart(sparkline("busy GPUs", &hours(0.0))),
            ],
            vec![
                text("<script>alert(1)</script>"),
                text("8"),
                Cell::Unknown,
                Cell::Unknown,
                Cell::Unknown,
                Cell::Unknown,
                Cell::Unknown,
            ],
        ],
        query: Some("SELECT * FROM weekly_report('2026-W47') WHERE dimension = 'service'".into()),
    };
    let tile = |label: &str, value: Option<&str>, note: &str| Tile {
        label: label.into(),
        value: value.map(str::to_owned),
        note: Some(note.into()),
    };
    Page {
        title: "Week 2026-W47 & what it cost".into(),
        lead: vec!["2026-11-16 to 2026-11-23, Europe/Berlin; compared with the week before.".into()],
        simulated: true,
        tiles: vec![
            tile("Cost", Some("EUR 84 084"), "+3.1 % against the week before"),
            tile("GPU-hours busy", Some("21 %"), "of 24 024 paid"),
            tile("Cost per million tokens", None, "no token counts arrive"),
            tile("Coverage", Some("97.9 %"), "3 hosts silent since Thursday"),
        ],
        sections: vec![
            Section {
                heading: "Where the GPU-hours went".into(),
                blocks: vec![figure(waterfall.to_svg(), "From paid to productive")],
            },
            Section {
                heading: "Demand".into(),
                blocks: vec![
                    figure(line.to_svg(), "GPUs busy by hour of the week"),
                    figure(heat.to_svg(), "Demand by day and hour"),
                ],
            },
            Section {
                heading: "Services".into(),
                blocks: vec![
                    Block::Paragraph("By cost, the largest first.".into()),
                    figure(bars.to_svg(), "GPU-hours by state"),
                    Block::Table(table),
                ],
            },
        ],
        notes: vec!["3 hosts sent nothing from Thursday 09:00; their hours are unknown, not 0.".into()],
        inputs: vec![
            (
                "price book".into(),
                "prices.toml, SHA-256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            ),
            ("table metrics".into(), "version 412".into()),
        ],
    }
}

#[test]
fn a_page_is_whole_and_fetches_nothing() {
    let html = example().to_html();
    assert_eq!(html, example().to_html(), "the same bytes every time");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    check_whole(&html);
}

/// Every element is closed, every name is there once, and nothing is fetched.
pub(crate) fn check_whole(html: &str) {
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</body></html>\n"));
    for banned in ["<script", "http://", "https://", "@import", "src=", "href=", "<link", "NaN", "inf"] {
        // The word `inference` is in the data, and a metric of Kubernetes ends in `info`.
        let text = html.replace("inference", "").replace("info", "");
        assert!(!text.contains(banned), "{banned}");
    }
    for tag in ["section", "table", "figure", "details", "dl", "svg", "div", "tr", "main", "footer", "header"] {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    // No id is there twice, and every name that is pointed to exists.
    let ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let unique: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    for list in html.split("aria-labelledby=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(list.split(' ').all(|id| unique.contains(id)), "{list}");
    }
    // Every image has a name.
    assert_eq!(html.matches("<svg").count(), html.matches("role=\"img\" aria-label").count());
}

#[test]
fn a_chart_is_words_and_its_query_in_markdown() {
    let page = example();
    let markdown = page.to_markdown();
    let figures = || {
        page.sections.iter().flat_map(|section| &section.blocks).filter_map(|block| match block {
            Block::Figure(figure) => Some(figure),
            _ => None,
        })
    };
    assert_eq!(figures().count(), 4);
    for figure in figures() {
        let query = figure.query.as_deref().unwrap();
        assert!(markdown.contains(&format!("{}\n\n```sql\n{query}\n```\n", figure.caption)), "{markdown}");
    }
}

#[test]
fn unknown_is_said_and_simulated_is_marked() {
    let html = example().to_html();
    assert!(html.contains("<dd>unknown<small>no token counts arrive</small>"));
    assert!(html.contains("<title>Week 2026-W47 &amp; what it cost – SIMULATED</title>"));
    let real = Page { simulated: false, title: "a".into(), ..Page::default() }.to_html();
    assert!(!real.contains("SIMULATED"));
}

#[test]
fn the_example_can_be_looked_at() {
    // Written where `docs/delivery.md` says, for the eyes of people and a browser.
    if let Some(file) = std::env::var_os("DRIFTWATT_LOOK") {
        std::fs::write(file, example().to_html()).unwrap();
    }
    assert!(example().to_html().len() > 20_000);
}

//! The page `docs/roles.md`, made from the table. The test below fails when it is stale.

use std::fmt::Write as _;

use super::*;

fn page(table: &RoleTable) -> String {
    let mut page = include_str!("roles_head.md").to_owned();
    let definitions = &table.definitions;
    page += "\n## Roles\n";
    for view in View::ALL {
        writeln!(
            page,
            "\n### `{}` ({} half)\n\n| role | unit | what it is |\n|---|---|---|",
            view.name(),
            view.dimension()
        )
        .unwrap();
        for (role, definition) in definitions.iter().filter(|(_, definition)| definition.view == view) {
            let mut about = definition.about.clone();
            if let Some(rung) = &definition.rung {
                write!(about, "; rung `{rung}`").unwrap();
            }
            match (definition.min, definition.max) {
                (Some(min), Some(max)) => write!(about, "; {min} to {max}").unwrap(),
                (Some(min), None) => write!(about, "; {min} or more").unwrap(),
                _ => {}
            }
            about += if definition.card { "; of the whole card" } else { "" };
            if definition.counter {
                write!(about, "; counts up since {}", said(definition.counts_since)).unwrap();
            }
            if let Some(rate) = &definition.rate {
                write!(about, "; per second it is `{rate}`").unwrap();
            }
            let rated = table.rows.iter().filter(|row| row.rate.as_ref().is_some_and(|rate| rate.role == **role));
            let mut counters: Vec<_> = rated.map(|row| format!("`{}`", row.role)).collect();
            counters.sort_unstable();
            counters.dedup();
            if !counters.is_empty() {
                write!(about, "; where no source reports it, {} per second", counters.join(" or ")).unwrap();
            }
            if let Some(Quotient { of, per, unless }) = &definition.quotient {
                let below: Vec<_> = per.iter().map(|per| format!("`{per}`")).collect();
                write!(about, "; where no source reports it, the increase of `{of}`").unwrap();
                for (keys, values) in unless {
                    write!(about, " but for `{}` = `{}`", keys.replace('|', "\\|"), values.replace('|', "\\|"))
                        .unwrap();
                }
                write!(about, " over that of {}", below.join(" or else ")).unwrap();
            }
            writeln!(page, "| `{role}` | `{}` | {about} |", definition.unit).unwrap();
        }
    }
    page += "\n## Sources, in order of precedence\n";
    let mut rank = 0;
    for row in &table.rows {
        if row.rank != rank {
            rank = row.rank;
            writeln!(
                page,
                "\n### {rank}. {}\n\n| metric | if | role | source unit | scope |\n|---|---|---|---|---|",
                row.source
            )
            .unwrap();
        }
        let conditions = row.conditions();
        let shown = if conditions.is_empty() { String::new() } else { format!("`{}`", conditions.replace('|', "\\|")) };
        writeln!(page, "| `{}` | {shown} | `{}` | `{}` | {} |", row.metric, row.role, row.unit, row.scope.name())
            .unwrap();
    }
    page
}

fn said(since: CountsSince) -> &'static str {
    match since {
        CountsSince::Driver => "the driver was loaded",
        CountsSince::Boot => "the machine or container started",
        CountsSince::Process => "the process began",
    }
}

#[test]
fn the_page_is_made_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/roles.md");
    let wanted = page(&RoleTable::shipped().unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/roles.md is stale; make it with: UPDATE_DOCS=1 cargo test --workspace --lib the_page_is_made"
    );
}

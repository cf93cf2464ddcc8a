//! The charts of the report.

use chrono::DateTime;

use super::Writer;
use crate::{
    chart::{self, Caption, LineChart, Series},
    money::Money,
    page::Figure,
    report::json::rung_name,
    rows::SIMULATED,
    window::HOUR_US,
};

/// GPU-hours from paid to productive.
pub(super) fn waterfall(writer: &Writer<'_>) -> Figure {
    let waterfall = &writer.fleet.week.waterfall;
    let rungs = waterfall.steps.iter().map(|step| chart::Rung {
        name: rung_name(step.rung).to_owned(),
        value: step.hours,
        money: step.cost.map(Money::units).filter(|_| writer.report.currency().is_some()),
        coverage: step.coverage,
    });
    let drawn = chart::Waterfall {
        caption: caption(
            writer,
            "waterfall",
            "GPU-hours from paid to productive",
            "What is left at each step, with its cost",
        ),
        unit: "GPU-hours".to_owned(),
        currency: writer.report.currency().unwrap_or_default().to_owned(),
        rungs: rungs.collect(),
    };
    Figure {
        svg: drawn.to_svg(),
        caption: "What is left of the paid GPU-hours at each step; what was lost since the step before is outlined"
            .to_owned(),
        query: None,
    }
}

/// Mean duty by the hour, beside that of the week before.
pub(super) fn hourly(writer: &Writer<'_>) -> Figure {
    let percent = |hours: &[Option<f64>]| hours.iter().map(|duty| duty.map(|duty| duty * 100.0)).collect::<Vec<_>>();
    let week = &writer.fleet.week.hourly;
    let mut series = vec![Series { name: "this week".to_owned(), values: percent(week) }];
    if let Some(before) = &writer.fleet.before {
        let values = percent(&before.hourly).into_iter().take(week.len()).collect();
        series.push(Series { name: "the week before".to_owned(), values });
    }
    let drawn = LineChart {
        caption: caption(
            writer,
            "hourly",
            "Mean use of GPUs by the hour",
            "Mean duty cycle of all measured GPUs, in percent",
        ),
        unit: "%".to_owned(),
        ticks: ticks(writer, week.len()),
        series,
    };
    Figure {
        svg: drawn.to_svg(),
        caption: format!("Mean duty of the GPUs by the hour, days in {}", writer.report.request.zone.name()),
        query: Some(hourly_query(writer)),
    }
}

/// SQL for the mean duty by the hour: slices of a card are added up in each minute, and only then minutes and cards are averaged.
fn hourly_query(writer: &Writer<'_>) -> String {
    let window = writer.report.request.window;
    format!(
        "SELECT date_trunc('hour', minute) AS hour, avg(busy) AS busy FROM (SELECT minute, host, gpu_id, sum(mean * share) AS busy \
         FROM (SELECT date_trunc('minute', time) AS minute, coalesce(host_name, '') AS host, gpu_id, mig_id, share, \
         avg(value) AS mean FROM gpu WHERE role = 'gpu.utilization' AND {}{SIMULATED} AND time >= {} AND time < {} \
         AND gpu_id IS NOT NULL AND value IS NOT NULL GROUP BY 1, 2, 3, 4, 5) GROUP BY 1, 2, 3) GROUP BY 1 ORDER BY 1",
        writer.not(),
        bound(window.start_us),
        bound(window.end_us)
    )
}

fn bound(time_us: i64) -> String {
    let time = DateTime::from_timestamp_micros(time_us).unwrap_or_default();
    format!("'{}'", time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// Local days, at most one tick in 24 hours.
fn ticks(writer: &Writer<'_>, hours: usize) -> Vec<(usize, String)> {
    let request = &writer.report.request;
    let step = if hours > 24 * 14 { 24 * 7 } else { 24 };
    let name = |hour: usize| {
        let time = DateTime::from_timestamp_micros(request.window.start_us + hour as i64 * HOUR_US)?;
        Some((hour, time.with_timezone(&request.zone).format("%a %d").to_string()))
    };
    (0..hours).step_by(step).filter_map(name).collect()
}

fn caption(writer: &Writer<'_>, id: &str, title: &str, description: &str) -> Caption {
    let kind = if writer.fleet.simulated { "simulated" } else { "real" };
    Caption {
        id: format!("{id}-{kind}"),
        title: title.to_owned(),
        description: description.to_owned(),
        simulated: writer.fleet.simulated,
    }
}

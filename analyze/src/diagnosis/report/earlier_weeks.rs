//! Whether a change of latency comes at this time every week: the same hour of the four weeks before, looked at in the same way.
//!
//! Nothing is taken off what the verdict stands on: inputs and latency at equal inputs of earlier weeks would have to be read for that, four
//! times of all. What is read is an hour on each side of the change in each week, of one metric.

use datafusion::prelude::SessionContext;

use super::{DiagnosisReport, ShownEvidence};
use crate::{
    diagnosis::reader::Subject,
    drift::Side,
    error::Result,
    rows::{Rows, literal},
    window::{DAY_US, HOUR_US, MINUTE_US, time_literal},
};

/// Weeks before that are looked at.
const WEEKS: i64 = 4;
const WEEK_US: i64 = 7 * DAY_US;
/// Of so many weeks a change must be known to be called usual, or not.
const WEEKS_MIN: usize = 2;
/// Longest time on each side of the change.
const SIDE_US_MAX: i64 = HOUR_US;
/// Minutes around the change that are left out.
const GUARD_US: i64 = 2 * MINUTE_US;
/// Requests of a side from which its mean says something.
const REQUESTS_MIN: f64 = 100.0;
/// Part of the present change that a week must have had.
const SHARE_MIN: f64 = 0.5;
/// Changes smaller than this are none.
const CHANGE_MIN: f64 = 0.05;

/// Says of `report` whether its change comes every week.
pub(super) async fn add(ctx: &SessionContext, report: &mut DiagnosisReport) -> Result<()> {
    let (Some(onset_us), Some(metric)) = (report.onset_us(), report.reading.latency_metric.clone()) else {
        return Ok(());
    };
    let weeks = weeks(ctx, &report.request.subject, &metric, onset_us).await?;
    if weeks.len() < WEEKS_MIN {
        report.reading.notes.push(not_known(weeks.len()));
        return Ok(());
    }
    let sql = query(report, &metric, onset_us, &weeks);
    let rows = Rows::query(ctx, &sql).await?;
    report.reading.queries.push(sql.clone());
    let (weeks, before, after) =
        (rows.integers("weeks_before")?, rows.numbers("before_ms")?, rows.numbers("after_ms")?);
    let (requests_before, requests_after) = (rows.numbers("requests_before")?, rows.numbers("requests_after")?);
    let is_enough = |requests: Option<f64>| requests.is_some_and(|requests| requests >= REQUESTS_MIN);
    let change = |row: usize| {
        let enough = is_enough(requests_before[row]) && is_enough(requests_after[row]);
        let (before, after) = (before[row]?, after[row]?);
        (enough && before > 0.0).then_some((weeks[row]?, after / before - 1.0))
    };
    let changes: Vec<(i64, f64)> = (0..rows.len()).filter_map(change).collect();
    let Some(&(_, now)) = changes.iter().find(|(week, _)| *week == 0) else { return Ok(()) };
    let earlier: Vec<(i64, f64)> = changes.into_iter().filter(|(week, _)| *week > 0).collect();
    match usual(now, &earlier) {
        None => report.reading.notes.push(not_known(earlier.len())),
        Some(false) => {
            report.reading.notes.push(format!("it does not come every week: {}", listed(now, &earlier)));
        }
        Some(true) => {
            report.sentence += " Latency changes like this at this time every week.";
            let evidence = ShownEvidence {
                finding: format!("it comes at this time every week: {}", listed(now, &earlier)),
                effect_ms: None,
                effect_interval_ms: None,
                onset_us: Some(onset_us),
                falsified_by: "weeks without this change at this time",
                next_check: "what runs or who asks at this time each week: schedules, batch jobs, working hours",
                sql: Some(sql),
            };
            report.evidence.insert(0, evidence);
        }
    }
    Ok(())
}

fn not_known(weeks: usize) -> String {
    let has = if weeks == 1 { "has" } else { "have" };
    format!(
        "whether it comes at this time every week is not known: {weeks} of the {WEEKS} weeks before {has} latency then"
    )
}

/// Weeks before that have series of the metric on the day: where there is nothing, no point is asked for.
async fn weeks(ctx: &SessionContext, subject: &Subject, metric: &str, onset_us: i64) -> Result<Vec<i64>> {
    let day = |week: i64| (onset_us - week * WEEK_US).div_euclid(DAY_US);
    let days: Vec<String> = (1..=WEEKS).map(|week| day(week).to_string()).collect();
    let query = format!(
        "SELECT DISTINCT CAST(date AS INT) AS day FROM raw.series WHERE metric = {} AND service_name = {} AND CAST(date AS INT) IN ({}) \
         AND date >= CAST({} AS DATE)",
        literal(metric),
        literal(&subject.service),
        days.join(", "),
        time_literal(onset_us - WEEKS * WEEK_US)
    );
    let found = Rows::query(ctx, &query).await?.integers("day")?;
    Ok((1..=WEEKS).filter(|week| found.contains(&Some(day(*week)))).collect())
}

/// Whether most of the `earlier` weeks had a change like `now`; none where too few are known.
fn usual(now: f64, earlier: &[(i64, f64)]) -> Option<bool> {
    if earlier.len() < WEEKS_MIN {
        return None;
    }
    let alike = |change: f64| now.abs() >= CHANGE_MIN && change / now >= SHARE_MIN;
    let count = earlier.iter().filter(|(_, change)| alike(*change)).count();
    Some(count >= WEEKS_MIN && 2 * count > earlier.len())
}

fn listed(now: f64, earlier: &[(i64, f64)]) -> String {
    let week = |(week, change): &(i64, f64)| {
        let plural = if *week == 1 { "week" } else { "weeks" };
        format!("{:+.0} % {week} {plural} before", 100.0 * change)
    };
    let weeks: Vec<String> = earlier.iter().map(week).collect();
    format!("mean latency changed by {} ({:+.0} % now)", weeks.join(", "), 100.0 * now)
}

/// Mean latency and requests on both sides of the change, of this week and of `weeks` before.
fn query(report: &DiagnosisReport, metric: &str, onset_us: i64, weeks: &[i64]) -> String {
    let (span, subject) = (report.reading.span, &report.request.subject);
    let filters = Side { windows: Vec::new(), filters: subject.filters.clone() }.filter_sql();
    let whose = format!("service_name = {}{filters} AND attributes['error.type'] IS NULL", literal(&subject.service));
    let start_us = span.start_us.max(onset_us - GUARD_US - SIDE_US_MAX);
    let end_us = span.end_us.min(onset_us + GUARD_US + SIDE_US_MAX);
    let times: Vec<String> = std::iter::once(&0)
        .chain(weeks)
        .map(|week| {
            let at = |time_us: i64| time_literal(time_us - week * WEEK_US);
            format!("(time > {} AND time <= {})", at(start_us), at(end_us))
        })
        .collect();
    // Every point at its time in this week.
    let week = format!("({} - CAST(time AS BIGINT)) / {WEEK_US}", onset_us + WEEK_US / 2);
    let points = format!(
        "SELECT {week} AS weeks_before, CAST(time AS BIGINT) + {week} * {WEEK_US} AS moment, coalesce(sum, value) AS latency, \
         coalesce(CAST(count AS DOUBLE), 1.0) AS requests FROM latency \
         WHERE role IN ('latency.e2e', 'latency.client', 'latency.inference') AND metric = {} AND {whose} AND value IS NOT NULL AND ({})",
        literal(metric),
        times.join(" OR ")
    );
    let (is_before, is_after) =
        (format!("moment <= {}", onset_us - GUARD_US), format!("moment > {}", onset_us + GUARD_US));
    format!(
        "SELECT weeks_before, 1000 * sum(latency) FILTER (WHERE {is_before}) / sum(requests) FILTER (WHERE {is_before}) AS before_ms, \
         1000 * sum(latency) FILTER (WHERE {is_after}) / sum(requests) FILTER (WHERE {is_after}) AS after_ms, \
         sum(requests) FILTER (WHERE {is_before}) AS requests_before, sum(requests) FILTER (WHERE {is_after}) AS requests_after \
         FROM ({points}) GROUP BY weeks_before ORDER BY weeks_before"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_weeks_had_is_usual() {
        for (now, earlier, expected) in [
            (0.4, &[(1, 0.38), (2, 0.45)][..], Some(true)),
            (0.4, &[(1, 0.38), (2, 0.01), (3, 0.3)], Some(true)),
            (0.4, &[(1, 0.38), (2, 0.01)], Some(false)),
            (0.4, &[(1, 0.1), (2, -0.4), (3, 0.0), (4, 0.5)], Some(false)),
            (-0.3, &[(1, -0.2), (2, -0.25)], Some(true)),
            (0.01, &[(1, 0.01), (2, 0.02)], Some(false)),
            (0.4, &[(1, 0.4)], None),
        ] {
            assert_eq!(usual(now, earlier), expected, "{now} {earlier:?}");
        }
        assert_eq!(
            listed(0.4, &[(1, 0.38), (3, -0.02)]),
            "mean latency changed by +38 % 1 week before, -2 % 3 weeks before (+40 % now)"
        );
    }
}

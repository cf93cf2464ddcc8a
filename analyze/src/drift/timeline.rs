//! Scores that earlier runs have stored, for a page.

use datafusion::prelude::SessionContext;

use super::{TABLE, page::CHARTS_MAX, score::DriftScore};
use crate::{
    error::Result,
    rows::{Rows, literal},
};

/// Stored scores of one feature at most; of more the newest.
const POINTS_MAX: usize = 200;

/// Stored scores of one feature, segment and filters against one kind of reference, oldest first: end of the window, PSI and
/// status.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    /// Ends of the windows under test, UTC microseconds.
    pub ends_us: Vec<i64>,
    /// PSI; none where a side was empty.
    pub psi: Vec<Option<f64>>,
    /// The statuses, as in the table.
    pub statuses: Vec<String>,
    /// The SQL that read them.
    pub query: String,
}

/// The timelines of those of `scores` that a page draws, in their order; none where nothing is stored, or only by a version that
/// did not say which filters a score had. Of a window that was scored several times the last score counts, and only windows as
/// long as the one of the score are taken.
///
/// # Errors
/// Query errors.
pub async fn timelines(ctx: &SessionContext, scores: &[DriftScore]) -> Result<Vec<Timeline>> {
    let tables = format!(
        "SELECT count(*) AS tables FROM information_schema.columns \
         WHERE table_schema = 'reports' AND table_name = '{TABLE}' AND column_name = 'filters'"
    );
    let tables = Rows::query(ctx, &tables).await?.integers("tables")?;
    if tables.first().copied().flatten().unwrap_or(0) == 0 {
        return Ok(vec![]);
    }
    let mut found = vec![];
    for score in scores.iter().take(CHARTS_MAX) {
        found.push(timeline(ctx, score).await?);
    }
    Ok(found)
}

async fn timeline(ctx: &SessionContext, score: &DriftScore) -> Result<Timeline> {
    let span = score.request.current.span();
    let segment = match &score.request.segment {
        Some(segment) => {
            format!("segment_key = {} AND segment_value = {}", literal(&segment.key), literal(&segment.value))
        }
        None => "segment_key IS NULL".into(),
    };
    let filters = match score.request.filters_text() {
        Some(filters) => format!("filters = {}", literal(&filters)),
        None => "filters IS NULL".into(),
    };
    let query = format!(
        "SELECT end_us, last_value(psi ORDER BY time) AS psi, last_value(status ORDER BY time) AS status FROM \
         (SELECT CAST(current_to AS BIGINT) AS end_us, CAST(current_from AS BIGINT) AS start_us, psi, status, time \
         FROM reports.{TABLE} WHERE subject = {} AND {segment} AND {filters} AND reference_kind = {} AND simulated = {}) \
         WHERE end_us - start_us = {} AND end_us <= {} GROUP BY end_us ORDER BY end_us DESC LIMIT {POINTS_MAX}",
        literal(&score.request.subject.label()),
        literal(score.request.reference_kind.as_str()),
        score.simulated(),
        span.end_us - span.start_us,
        span.end_us,
    );
    let rows = Rows::query(ctx, &query).await?;
    let mut points: Vec<_> = rows
        .integers("end_us")?
        .into_iter()
        .zip(rows.numbers("psi")?)
        .zip(rows.texts("status")?)
        .filter_map(|((end_us, psi), status)| Some((end_us?, psi, status?)))
        .collect();
    points.reverse();
    let mut timeline = Timeline { query, ..Timeline::default() };
    for (end_us, psi, status) in points {
        timeline.ends_us.push(end_us);
        timeline.psi.push(psi);
        timeline.statuses.push(status);
    }
    Ok(timeline)
}

//! Whether the inputs after a move are still those before.

use datafusion::prelude::SessionContext;

use crate::{
    drift::{Filter, Subject, between, decision::Status},
    error::Result,
    lineage::version_card::DriftReading,
    rows::Rows,
    window::Window,
};

/// Inputs that are compared: those with the most values.
const FEATURES_MAX: usize = 10;

/// The input that drifted most, or why there is none, and what to know of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct InputsDrift {
    pub(super) reading: Option<DriftReading>,
    /// Why there is none.
    pub(super) missing: Option<String>,
    pub(super) note: Option<String>,
}

/// Compares the metrics of the view `inputs` that the condition `whose`, and the same `filters`, select.
pub(super) async fn read(
    ctx: &SessionContext,
    whose: &str,
    filters: &[Filter],
    (before, after): (Window, Window),
) -> Result<InputsDrift> {
    let query = format!(
        "SELECT metric, count(*) AS row_count FROM inputs WHERE ({} OR {}) AND {whose} AND value IS NOT NULL AND metric IS NOT NULL \
         GROUP BY metric ORDER BY row_count DESC, metric LIMIT {FEATURES_MAX}",
        before.condition("time"),
        after.condition("time")
    );
    let names = Rows::query(ctx, &query).await?.texts("metric")?;
    let subjects: Vec<Subject> = names.into_iter().flatten().map(Subject::Metric).collect();
    let (scores, refused) = between(ctx, &subjects, filters, (before, after)).await?;
    let rank = |status: Status| match status {
        Status::Critical => 3,
        Status::Warn => 2,
        Status::Ok => 1,
        Status::InsufficientData | Status::GateFailed => 0,
    };
    let known = scores.iter().filter_map(|score| Some((score, score.comparison.as_ref()?)));
    let worst = known.max_by(|(one, a), (other, b)| {
        rank(one.decision.status).cmp(&rank(other.decision.status)).then(a.psi.total_cmp(&b.psi))
    });
    let Some((score, comparison)) = worst else {
        let missing = refused.first().map(|refused| format!("{}: {}", refused.subject, refused.reason));
        return Ok(InputsDrift { missing, ..InputsDrift::default() });
    };
    let status = score.decision.status;
    let is_drift = match status {
        Status::Critical | Status::Warn => Some(true),
        Status::Ok => Some(false),
        Status::InsufficientData | Status::GateFailed => None,
    };
    let (of, n) = (subjects.len(), comparison.n_reference.min(comparison.n_current));
    let note = format!(
        "drift is the PSI of {} after the move against before, {}, the most of {of} {}",
        score.request.subject.label(),
        status.as_str().replace('_', " "),
        if of == 1 { "input" } else { "inputs" }
    );
    let reading = DriftReading { score: comparison.psi, is_drift, n };
    Ok(InputsDrift { reading: Some(reading), missing: None, note: Some(note) })
}

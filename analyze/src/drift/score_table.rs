//! Scores as rows of the table `drift_scores`.

use datafusion::arrow::array::RecordBatch;

use super::{
    comparison::{Basis, CategoryChange, Comparison},
    numeric::NumericChange,
    score::{DriftScore, SideSummary},
};
use crate::{error::Result, result_table::ResultTable};

/// One row for each score, in their order.
pub(crate) fn score_table(scores: &[&DriftScore], now_us: i64) -> Result<RecordBatch> {
    let mut table = ResultTable::new(now_us, scores.len());
    add_question(&mut table, scores);
    add_sides(&mut table, scores);
    add_scores(&mut table, scores);
    let json = |of: &dyn Fn(&DriftScore) -> serde_json::Result<String>| {
        scores.iter().map(|score| of(score).map(Some)).collect::<serde_json::Result<Vec<_>>>()
    };
    let bins = json(&|score| serde_json::to_string(&score.bins))?;
    let parameters = json(&|score| serde_json::to_string(&score.request))?;
    table
        .texts("bins", bins)
        .texts("parameters", parameters)
        .texts("reference_query", scores.iter().map(|score| Some(score.reference.query.clone())))
        .texts("current_query", scores.iter().map(|score| Some(score.current.query.clone())));
    table.finish()
}

fn add_question(table: &mut ResultTable, scores: &[&DriftScore]) {
    let text = |of: &dyn Fn(&DriftScore) -> String| scores.iter().map(|score| Some(of(score))).collect::<Vec<_>>();
    let segment = |of: fn(&super::Filter) -> String| {
        scores.iter().map(|score| score.request.segment.as_ref().map(of)).collect::<Vec<_>>()
    };
    table
        .texts("subject", text(&|score| score.request.subject.label()))
        .texts("segment_key", segment(|segment| segment.key.clone()))
        .texts("segment_value", segment(|segment| segment.value.clone()))
        .texts("filters", scores.iter().map(|score| score.request.filters_text()))
        .texts("reference_kind", text(&|score| score.request.reference_kind.as_str().to_owned()))
        .texts("source", text(&|score| score.source_text().to_owned()))
        .integers("source_scale", scores.iter().map(|score| scale(score.comparison.as_ref()?)))
        .texts("status", text(&|score| score.decision.status.as_str().to_owned()))
        .numbers("severity", scores.iter().map(|score| score.decision.severity))
        .numbers("impact", scores.iter().map(|score| score.impact))
        .texts("confidence", text(&|score| score.decision.confidence.as_str().to_owned()))
        .texts("reasons", text(&|score| score.decision.reasons.join("\n")))
        .flags("simulated", scores.iter().map(|score| score.simulated()));
}

fn scale(comparison: &Comparison) -> Option<i64> {
    match comparison.basis {
        Basis::ExponentialHistogram { scale } => Some(i64::from(scale)),
        _ => None,
    }
}

fn add_sides(table: &mut ResultTable, scores: &[&DriftScore]) {
    type Side = fn(&DriftScore) -> &SideSummary;
    let sides: [(&str, Side); 2] = [("reference", |score| &score.reference), ("current", |score| &score.current)];
    for (name, side) in sides {
        let span = |score: &&DriftScore| side(score).side.span();
        table.moments(&format!("{name}_from"), scores.iter().map(|score| Some(span(score).start_us)));
        table.moments(&format!("{name}_to"), scores.iter().map(|score| Some(span(score).end_us)));
    }
    let count = |value: u64| i64::try_from(value).ok();
    for (name, side) in sides {
        let of = |value: fn(&SideSummary) -> u64| scores.iter().map(move |score| count(value(side(score))));
        table
            .integers(&format!("{name}_value_count"), of(|side| side.value_count))
            .integers(&format!("{name}_row_count"), of(|side| side.row_count))
            .numbers(&format!("{name}_coverage"), scores.iter().map(|score| Some(side(score).covered)))
            .numbers(&format!("{name}_median"), scores.iter().map(|score| side(score).median))
            .numbers(&format!("{name}_p95"), scores.iter().map(|score| side(score).p95));
    }
}

fn add_scores(table: &mut ResultTable, scores: &[&DriftScore]) {
    let score = |of: fn(&Comparison) -> f64| scores.iter().map(move |score| score.comparison.as_ref().map(of));
    let some = |of: fn(&Comparison) -> Option<f64>| scores.iter().map(move |score| of(score.comparison.as_ref()?));
    let change = |of: fn(&NumericChange) -> Option<f64>| scores.iter().map(move |score| of(score.numeric()?));
    let names = |of: fn(&CategoryChange) -> &Vec<String>| {
        let changed = |score: &&DriftScore| score.comparison.as_ref()?.categories.as_ref().map(of).cloned();
        scores.iter().map(|score| changed(score).map(|names| serde_json::json!(names).to_string())).collect::<Vec<_>>()
    };
    table
        .numbers("psi", score(|comparison| comparison.psi))
        .numbers("psi_excess", score(|comparison| comparison.psi_excess))
        .numbers("psi_noise", some(|comparison| comparison.psi_noise))
        .numbers("psi_p_value", some(|comparison| comparison.psi_p_value))
        .numbers("q_value", scores.iter().map(|score| score.q_value))
        .numbers("mix_shift", scores.iter().map(|score| Some(score.mix_shift.as_ref()?.mix)))
        .numbers("within_shift", scores.iter().map(|score| Some(score.mix_shift.as_ref()?.within)))
        .numbers("learnt_noise", scores.iter().map(|score| score.decision.learnt_noise))
        .integers("reference_window_count", scores.iter().map(|score| i64::try_from(score.reference_window_count).ok()))
        .integers("persistence_count", scores.iter().map(|score| Some(i64::from(score.decision.persistence_count))))
        .numbers("jensen_shannon", score(|comparison| comparison.jensen_shannon))
        .numbers("total_variation", score(|comparison| comparison.total_variation))
        .numbers("hellinger", score(|comparison| comparison.hellinger))
        .numbers("l_infinity", score(|comparison| comparison.l_infinity))
        .numbers("cramers_v", some(|comparison| comparison.cramers_v))
        .numbers("ks_lower", change(|numeric| Some(numeric.ks.0)))
        .numbers("ks_upper", change(|numeric| Some(numeric.ks.1)))
        .numbers("ks_p_value", change(|numeric| Some(numeric.ks_p_value)))
        .numbers("wasserstein", change(|numeric| numeric.wasserstein))
        .numbers("wasserstein_radius", change(|numeric| numeric.wasserstein_radius))
        .numbers("wasserstein_scaled", change(|numeric| numeric.wasserstein_scaled))
        .numbers("wasserstein_log", change(|numeric| numeric.wasserstein_log))
        .texts("new_categories", names(|change| &change.new))
        .texts("vanished_categories", names(|change| &change.vanished));
}

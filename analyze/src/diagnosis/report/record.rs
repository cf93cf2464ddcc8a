//! The diagnosis as JSON and as a row of the table `diagnoses`.

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use serde_json::{Value, json};

use super::DiagnosisReport;
use crate::{
    diagnosis::{Comparison, bootstrap::Estimate},
    error::Result,
    result_table::ResultTable,
    window::time_text,
};

/// Result table of this job.
pub const TABLE: &str = "diagnoses";

impl DiagnosisReport {
    /// Everything, as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let diagnosis = &self.diagnosis;
        let reading = &self.reading;
        let time = |time_us: Option<i64>| time_us.map(time_text);
        Ok(serde_json::to_string_pretty(&json!({
            "service": diagnosis.service,
            "simulated": diagnosis.simulated,
            "window": reading.span,
            "verdict": diagnosis.verdict.as_str(),
            "confidence": diagnosis.confidence.as_str(),
            "sentence": self.sentence,
            "onset": time(self.onset_us()),
            "onset_between": diagnosis.onset.as_ref().map(|onset| [onset.interval.0, onset.interval.1].map(|at| time_text(self.time(at)))),
            "comparison": diagnosis.comparison.as_ref().map(comparison),
            "evidence": self.evidence,
            "missing": diagnosis.missing.iter().map(|missing| missing.how_to_send()).collect::<Vec<_>>(),
            "reasons": diagnosis.reasons,
            "status": diagnosis.status.iter().map(|status| status.text()).collect::<Vec<_>>(),
            "source": reading.source,
            "latency_metric": reading.latency_metric,
            "input_metrics": reading.input_metrics.iter().map(|(role, metric)| json!({ "input": role.as_str(), "metric": metric })).collect::<Vec<_>>(),
            "machines": reading.machines,
            "notes": reading.notes,
            "point_count": reading.point_count,
            "queries": reading.queries,
        }))?)
    }

    /// The columns of the table.
    ///
    /// # Errors
    /// None in practice: the columns are of equal length.
    pub fn schema() -> Result<SchemaRef> {
        Ok(batch(None)?.schema())
    }

    /// The row of the table.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if the evidence cannot be written.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        batch(Some(self))
    }
}

fn estimate(estimate: Estimate) -> Value {
    json!({ "value": estimate.value, "low": estimate.interval.0, "high": estimate.interval.1 })
}

fn comparison(comparison: &Comparison) -> Value {
    let split = &comparison.split;
    let check = comparison.standardised.as_ref();
    json!({
        "requests_before": comparison.counts.0,
        "requests_after": comparison.counts.1,
        "mean_before_ms": split.before_ms,
        "mean_after_ms": split.after_ms,
        "p95_before_ms": check.and_then(|check| check.p95_ms).map(|p95| p95.0),
        "p95_after_ms": check.and_then(|check| check.p95_ms).map(|p95| p95.1),
        "p95_former_server_new_inputs_ms": check.and_then(|check| check.counterfactual_p95_ms),
        "input_ms": estimate(comparison.input_ms),
        "conditional_ms": estimate(comparison.conditional_ms),
        "load_ms": split.load_ms,
        "system_ms": split.system_ms,
        "by_input_ms": split.by_role.iter().map(|(role, ms)| json!({ "input": role.as_str(), "ms": ms })).collect::<Vec<_>>(),
        "check_input_ms": check.map(|check| check.input_ms),
        "check_conditional_ms": check.map(|check| check.conditional_ms),
        "comparable_share": split.supported_share,
        "work_growth": comparison.work_growth,
        "causes": comparison.causes.iter().map(|cause| json!({
            "verdict": cause.verdict.as_str(), "part_ms": estimate(cause.part_ms), "material": cause.material,
        })).collect::<Vec<_>>(),
        "categories": comparison.categories.iter().map(|change| json!({
            "label": change.label, "value": change.value, "share_before": change.shares.0, "share_after": change.shares.1,
            "is_new": change.is_new,
        })).collect::<Vec<_>>(),
        "signals": comparison.signals.iter().map(|signal| json!({
            "signal": signal.kind.as_str(), "on": signal.container.as_ref().map(|(_, value)| value), "unit": signal.kind.unit(),
            "before": signal.medians.0, "after": signal.medians.1, "score": signal.score, "in_time": signal.in_time,
            "correlation": signal.correlation,
        })).collect::<Vec<_>>(),
        "localised": comparison.localised.iter().map(|group| json!({
            "by": group.dimension.as_str(), "value": group.value, "share_removed": group.share_removed,
            "request_share": group.request_share, "is_local": group.is_local(),
        })).collect::<Vec<_>>(),
    })
}

fn batch(report: Option<&DiagnosisReport>) -> Result<RecordBatch> {
    let rows = || report.iter().copied();
    let compared = |of: fn(&Comparison) -> Option<f64>| {
        rows().map(move |report| report.diagnosis.comparison.as_ref().and_then(of))
    };
    let counted = |of: fn(&Comparison) -> u64| {
        rows().map(move |report| report.diagnosis.comparison.as_ref().and_then(|found| i64::try_from(of(found)).ok()))
    };
    let evidence = report.map(|report| serde_json::to_string(&report.evidence)).transpose()?;
    let source = report.map(|report| serde_json::to_string(&report.reading.source)).transpose()?;
    let now_us = report.map_or(0, |report| report.request.now_us);
    let mut table = ResultTable::new(now_us, rows().count());
    table
        .moments("window_from", rows().map(|report| Some(report.reading.span.start_us)))
        .moments("window_to", rows().map(|report| Some(report.reading.span.end_us)))
        .texts("service_name", rows().map(|report| Some(report.diagnosis.service.clone())))
        .flags("simulated", rows().map(|report| report.diagnosis.simulated))
        .texts("verdict", rows().map(|report| Some(report.diagnosis.verdict.as_str().to_owned())))
        .texts("confidence", rows().map(|report| Some(report.diagnosis.confidence.as_str().to_owned())))
        .texts("sentence", rows().map(|report| Some(report.sentence.clone())))
        .moments("onset", rows().map(DiagnosisReport::onset_us))
        .integers("requests_before", counted(|found| found.counts.0))
        .integers("requests_after", counted(|found| found.counts.1))
        .numbers("mean_before_ms", compared(|found| Some(found.split.before_ms)))
        .numbers("mean_after_ms", compared(|found| Some(found.split.after_ms)))
        .numbers("p95_before_ms", compared(|found| Some(found.standardised.as_ref()?.p95_ms?.0)))
        .numbers("p95_after_ms", compared(|found| Some(found.standardised.as_ref()?.p95_ms?.1)))
        .numbers("input_ms", compared(|found| Some(found.input_ms.value)))
        .numbers("input_low_ms", compared(|found| Some(found.input_ms.interval.0)))
        .numbers("input_high_ms", compared(|found| Some(found.input_ms.interval.1)))
        .numbers("conditional_ms", compared(|found| Some(found.conditional_ms.value)))
        .numbers("conditional_low_ms", compared(|found| Some(found.conditional_ms.interval.0)))
        .numbers("conditional_high_ms", compared(|found| Some(found.conditional_ms.interval.1)))
        .texts("missing", rows().map(|report| Some(missing(report))))
        .texts("evidence", rows().map(|_| evidence.clone()))
        .texts("source", rows().map(|_| source.clone()))
        .integers("point_count", rows().map(|report| i64::try_from(report.reading.point_count).ok()))
        .texts("query", rows().map(|report| Some(report.reading.queries.join(";\n"))));
    table.finish()
}

fn missing(report: &DiagnosisReport) -> String {
    report.diagnosis.missing.iter().map(|missing| missing.how_to_send()).collect::<Vec<_>>().join("; ")
}

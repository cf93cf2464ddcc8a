//! The answer as JSON.

use serde_json::{Value, json};

use super::{LineageReport, Made, MoveCard, TargetLineage, VersionAccuracy, text};
use crate::{
    error::Result,
    lineage::{
        deployment::{Release, Target},
        records::{DatasetPlace, DeploymentRecord, ModelVersionRecord, Side},
        timeline::Interval,
        version_card::{Estimate, Verdict},
    },
    window::Window,
};

/// With its seconds, since moves are that exact.
fn time(time_us: i64) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_micros(time_us)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

fn release(release: &Release) -> Value {
    json!({ "model": release.model, "version": release.version })
}

impl LineageReport {
    /// Everything, as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let data = match self.data {
            (true, false) => "simulated",
            (true, true) => "mixed",
            (false, true) => "real",
            (false, false) => "none",
        };
        let indirect: Vec<Value> = self
            .indirect
            .iter()
            .map(|(of, attribute)| json!({ "model": of.model, "version": of.version, "attribute": attribute }))
            .collect();
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                let severity = format!("{:?}", finding.severity).to_lowercase();
                json!({ "subject": finding.subject, "severity": severity, "finding": finding.kind.to_string() })
            })
            .collect();
        Ok(serde_json::to_string_pretty(&json!({
            "service": self.request.service,
            "at": time(self.at_us),
            "data": data,
            "environments": self.targets.iter().map(|target| self.target(target)).collect::<Vec<_>>(),
            "indirect_versions": indirect,
            "findings": findings,
            "registry": {
                "read": self.registry.read_us.and_then(time),
                "failing_since": self.registry.failure.as_ref().and_then(|(since_us, _)| time(*since_us)),
                "failure": self.registry.failure.as_ref().map(|(_, why)| why),
            },
            "notes": self.notes,
        }))?)
    }

    fn target(&self, target: &TargetLineage) -> Value {
        let of = Target { service: self.request.service.clone(), environment: target.environment.clone() };
        let interval = |held: &Interval| interval(&of, held);
        json!({
            "environment": target.environment,
            "runs": target.held.as_ref().map(interval),
            "made_of": target.made.iter().map(made).collect::<Vec<_>>(),
            "history": target.history.iter().map(interval).collect::<Vec<_>>(),
            "planned": target.planned,
            "not_used": target.rejected,
            "accuracy": target.accuracy.iter().map(accuracy).collect::<Vec<_>>(),
            "last_move": target.last_move.as_ref().map(moved),
        })
    }
}

fn accuracy(of: &VersionAccuracy) -> Value {
    json!({
        "model": of.release.as_ref().map(|release| &release.model),
        "version": of.release.as_ref().map(|release| &release.version),
        "labels": of.count,
        "share": of.share,
        "low": of.interval.map(|(low, _)| low),
        "high": of.interval.map(|(_, high)| high),
        "from": time(of.times_us.0),
        "until": time(of.times_us.1),
    })
}

fn interval(target: &Target, held: &Interval) -> Value {
    let row = DeploymentRecord::of_interval(target, held);
    json!({
        "from": time(row.from_us),
        "until": row.to_us.and_then(time),
        "status": row.status,
        "reason": row.reason,
        "model": row.model,
        "version": row.version,
        "basis": row.basis,
        "confidence": row.confidence,
        "candidates": row.candidates.iter().map(release).collect::<Vec<_>>(),
        "claimed": row.claimed.as_ref().map(release),
    })
}

fn made(made: &Made) -> Value {
    json!({
        "model": made.release.model,
        "version": made.release.version,
        "registry": made.version.as_ref().map(version),
        "deleted": made.deleted_us.and_then(time),
        "commit_id": made.commit_id(),
        "data": made.data.iter().map(place).collect::<Vec<_>>(),
        "at_commit": made.at_commit.iter().map(place).collect::<Vec<_>>(),
        "missing": made.missing,
    })
}

fn version(row: &ModelVersionRecord) -> Value {
    let datasets =
        row.datasets.iter().map(|one| json!({ "name": one.name, "digest": one.digest, "context": one.context }));
    json!({
        "source": row.source,
        "version": row.version,
        "read": time(row.time_us),
        "created": row.created_us.and_then(time),
        "status": row.status,
        "stage": row.stage,
        "artifact_uri": row.artifact_uri,
        "run_id": row.run_id,
        "run_state": row.run_state.as_str(),
        "params": row.params,
        "metrics": row.metrics,
        "tags": row.tags,
        "datasets": datasets.collect::<Vec<_>>(),
    })
}

fn place(place: &DatasetPlace) -> Value {
    let side = place.side.map(|side| match side {
        Side::Input => "input",
        Side::Output => "output",
    });
    json!({
        "side": side, "source": place.source, "namespace": place.namespace, "name": place.name, "digest": place.digest,
        "row_count": place.row_count, "size_bytes": place.size_bytes, "run_id": place.run_id, "job": place.job,
        "time": time(place.time_us),
    })
}

fn moved(card: &MoveCard) -> Value {
    let estimate =
        |found: Estimate| json!({ "value": found.value, "low": found.low, "high": found.high, "n": found.n });
    let window = |window: Window| json!([time(window.start_us), time(window.end_us)]);
    let rows = card.card.iter().flat_map(|card| &card.rows).map(|row| {
        let why = match &row.verdict {
            Verdict::NotJudged(why) => Some(why),
            _ => None,
        };
        json!({
            "measure": text::measure_name(row.measure), "before": row.before.map(estimate), "after": row.after.map(estimate),
            "difference": row.difference.map(estimate), "verdict": text::verdict_name(&row.verdict), "why": why,
        })
    });
    json!({
        "from": release(&card.step.from),
        "to": release(&card.step.to),
        "began": time(card.step.begin_us),
        "ended": time(card.step.end_us),
        "rollback": card.step.rollback,
        "before": card.windows.map(|(before, _)| window(before)),
        "after": card.windows.map(|(_, after)| window(after)),
        "measures": rows.collect::<Vec<_>>(),
        "advice": card.advice.as_ref().map(text::advice),
        "notes": card.notes,
    })
}

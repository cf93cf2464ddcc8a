//! The report as JSON, for programs.

use serde_json::{Map, Value, json};

use super::{FleetReport, WeeklyReport, columns::NUMBERS, rows::Row};
use crate::{
    error::Result,
    money::Money,
    waterfall::{Rung, Step, Waterfall},
};

impl WeeklyReport {
    /// The report as JSON; what is unknown is null.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let fleets: Vec<Value> = self.fleets.iter().map(|fleet| fleet.to_json()).collect();
        let report = json!({
            "data": self.data(), "window": self.request.window, "before": self.before,
            "time_zone": self.request.zone.name(), "currency": self.currency(), "fleets": fleets,
            "parameters": self.parameters(), "row_count": self.row_count, "queries": self.queries,
        });
        Ok(serde_json::to_string_pretty(&report)?)
    }

    /// What the report was made of, without the time at which it was.
    pub(super) fn parameters(&self) -> Value {
        let versions: Map<String, Value> =
            self.table_versions.iter().map(|(name, version)| (name.clone(), json!(version))).collect();
        json!({
            "window": self.request.window, "before": self.before, "time_zone": self.request.zone.name(),
            "prices": self.request.prices, "holidays": self.request.holidays, "table_versions": versions, "program": env!("CARGO_PKG_VERSION"),
        })
    }
}

impl FleetReport {
    fn to_json(&self) -> Value {
        let bill = &self.week.bill.allocation.bill;
        let savings: Vec<Value> = self
            .savings
            .iter()
            .map(|saving| {
                json!({
                    "service": saving.service, "replicas": saving.replicas.0, "proposed": saving.replicas.1,
                    "gpu_hours_a_week": saving.gpu_hours, "money_a_week": saving.money,
                    "confidence": saving.confidence, "why": saving.why,
                })
            })
            .collect();
        let risks: Vec<Value> =
            self.risks.iter().map(|risk| json!({ "service": risk.service, "risk": risk.what })).collect();
        let monitoring = self.week.bill.monitoring.and_then(|cost| cost.total());
        json!({
            "simulated": self.simulated,
            "bill": { "cost": bill.total().map(Money::units), "list": bill.list_total().map(Money::units),
                "known_part": bill.effective.units(), "unpriced_unit_hours": bill.unpriced_hours },
            "waterfall": waterfall_json(&self.week.waterfall),
            "rows": self.rows.iter().map(row_json).collect::<Vec<_>>(),
            "hourly_gpu_utilization": self.week.hourly,
            "savings": savings, "undo": self.undo, "risks": risks, "missing": self.week.missing,
            "monitoring_cost": monitoring.map(Money::units),
        })
    }
}

fn row_json(row: &Row) -> Value {
    let mut object = Map::new();
    object.insert("dimension".into(), json!(row.dimension));
    object.insert("name".into(), json!(row.name));
    for (name, of) in NUMBERS {
        object.insert(name.into(), json!(of(row)));
    }
    if let Err(reason) = &row.change {
        object.insert("no_change_because".into(), json!(reason.to_string()));
    }
    Value::Object(object)
}

/// Name of a step.
pub(super) fn rung_name(rung: Rung) -> &'static str {
    match rung {
        Rung::Paid => "paid",
        Rung::Allocated => "allocated",
        Rung::Held => "held",
        Rung::Busy => "busy",
        Rung::Productive => "productive",
    }
}

fn waterfall_json(waterfall: &Waterfall) -> Value {
    let step = |step: &Step| {
        json!({
            "step": rung_name(step.rung), "gpu_hours": step.hours, "cost": step.cost.map(Money::units),
            "coverage": step.coverage, "lost_gpu_hours": waterfall.lost_hours(step.rung),
        })
    };
    json!({
        "steps": waterfall.steps.iter().map(step).collect::<Vec<_>>(),
        "no_telemetry_gpu_hours": waterfall.no_telemetry_hours,
        "no_telemetry_cost": waterfall.no_telemetry_cost.map(Money::units),
        "cut_gpu_hours": waterfall.cut_hours,
    })
}

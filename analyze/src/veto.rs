//! What forbids a recommendation, whatever the demand says.

use serde::Serialize;

/// What is known about a service besides its demand.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// `service.criticality`.
    pub criticality: Option<String>,
    /// Whether an HPA owns the replicas.
    pub hpa_owns: bool,
    /// Containers killed for memory in the window.
    pub oom_count: u32,
    /// XID or uncorrected ECC errors in the window.
    pub xid_count: u32,
    /// Share of time that clocks were throttled.
    pub throttled_share: Option<f64>,
    /// Age of the youngest model version, days.
    pub version_age_days: Option<f64>,
    /// Whether usage was attributed from a copy of the device's telemetry, not the service's own.
    pub device_copy: bool,
    /// Whether replicas keep state.
    pub stateful: bool,
    /// Replicas.
    pub replica_count: u32,
    /// Share of GPU-minutes measured.
    pub coverage: f64,
    /// Days of known data.
    pub days: f64,
    /// Whether a whole weekend is in it.
    pub has_weekend: bool,
}

/// A reason not to propose.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Veto {
    /// `service.criticality` is high or critical.
    Criticality(String),
    /// An autoscaler sets the replicas.
    HpaOwns,
    /// Containers were killed for memory.
    RecentOom(u32),
    /// The driver reported errors.
    RecentXid(u32),
    /// Clocks were throttled for this share of time.
    Throttled(f64),
    /// A CPU limit held work back for this share of the worst hour.
    CpuThrottled(f64),
    /// An autoscaler scales by the use of this resource over its request.
    HpaScalesBy(&'static str),
    /// The model version is this many days old.
    YoungVersion(f64),
    /// The usage is a copy of the device's.
    DeviceCopy,
    /// One replica with state.
    StatefulSingle,
    /// Share measured.
    Coverage(f64),
    /// Days known.
    LittleData(f64),
    /// No weekend seen.
    NoWeekend,
}

const DAYS_MIN: f64 = 7.0;
const COVERAGE_MIN: f64 = 0.90;
const THROTTLED_SHARE_MAX: f64 = 0.05;
/// A week of 168 hours holds a few lost minutes; that many days less still count as full.
const DAYS_SLACK: f64 = 0.05;

/// Every veto that applies, gravest first.
pub fn vetoes(evidence: &Evidence) -> Vec<Veto> {
    let critical = |level: &&String| matches!(level.to_lowercase().as_str(), "high" | "critical");
    let throttled = evidence.throttled_share.filter(|share| *share > THROTTLED_SHARE_MAX);
    let young = evidence.version_age_days.filter(|days| *days < DAYS_MIN);
    let covered_days = DAYS_MIN * evidence.coverage.clamp(COVERAGE_MIN, 1.0) - DAYS_SLACK;
    [
        evidence.criticality.as_ref().filter(critical).cloned().map(Veto::Criticality),
        evidence.hpa_owns.then_some(Veto::HpaOwns),
        (evidence.oom_count > 0).then_some(Veto::RecentOom(evidence.oom_count)),
        (evidence.xid_count > 0).then_some(Veto::RecentXid(evidence.xid_count)),
        throttled.map(Veto::Throttled),
        young.map(Veto::YoungVersion),
        evidence.device_copy.then_some(Veto::DeviceCopy),
        (evidence.stateful && evidence.replica_count <= 1).then_some(Veto::StatefulSingle),
        (evidence.coverage < COVERAGE_MIN).then_some(Veto::Coverage(evidence.coverage)),
        (evidence.days < covered_days).then_some(Veto::LittleData(evidence.days)),
        (!evidence.has_weekend).then_some(Veto::NoWeekend),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Veto {
    /// Whether telemetry is missing, so that there is no verdict at all, not even "keep".
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Coverage(_))
    }

    /// Why, as a sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::Criticality(level) => format!("service.criticality is {level}: its owner decides"),
            Self::HpaOwns => "an HPA sets the replicas: change its bounds instead".into(),
            Self::RecentOom(count) => format!("{count} containers were killed for memory in the window"),
            Self::RecentXid(count) => format!("{count} XID or ECC errors in the window: the card may be failing"),
            Self::Throttled(share) => {
                format!("clocks were throttled {:.0} % of the time: duty understates work", share * 100.0)
            }
            Self::CpuThrottled(share) => {
                format!(
                    "a CPU limit held it back {:.0} % of its worst hour: its use understates its need",
                    share * 100.0
                )
            }
            Self::HpaScalesBy(resource) => {
                format!("an HPA scales by {resource} over requests: another request would move its replicas")
            }
            Self::YoungVersion(days) => format!("the model version is {days:.1} days old, 7 are needed"),
            Self::DeviceCopy => "usage is copied from the device, not measured for this service".into(),
            Self::StatefulSingle => "a single replica with state".into(),
            Self::Coverage(share) => format!("only {:.0} % of GPU time was measured, 90 % is needed", share * 100.0),
            Self::LittleData(days) => format!("{days:.1} days of data, 7 full days are needed: low confidence"),
            Self::NoWeekend => "no full weekend in the data: low confidence".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_veto_stands_alone() {
        let clean = Evidence { replica_count: 8, coverage: 0.95, days: 7.0, has_weekend: true, ..Evidence::default() };
        assert_eq!(vetoes(&clean), []);
        let cases = [
            (Evidence { criticality: Some("Critical".into()), ..clean.clone() }, Veto::Criticality("Critical".into())),
            (Evidence { hpa_owns: true, ..clean.clone() }, Veto::HpaOwns),
            (Evidence { oom_count: 2, ..clean.clone() }, Veto::RecentOom(2)),
            (Evidence { xid_count: 1, ..clean.clone() }, Veto::RecentXid(1)),
            (Evidence { throttled_share: Some(0.2), ..clean.clone() }, Veto::Throttled(0.2)),
            (Evidence { version_age_days: Some(6.9), ..clean.clone() }, Veto::YoungVersion(6.9)),
            (Evidence { device_copy: true, ..clean.clone() }, Veto::DeviceCopy),
            (Evidence { stateful: true, replica_count: 1, ..clean.clone() }, Veto::StatefulSingle),
            (Evidence { coverage: 0.89, ..clean.clone() }, Veto::Coverage(0.89)),
            (Evidence { days: 6.0, ..clean.clone() }, Veto::LittleData(6.0)),
            (Evidence { has_weekend: false, ..clean.clone() }, Veto::NoWeekend),
        ];
        for (evidence, expected) in cases {
            assert_eq!(vetoes(&evidence), std::slice::from_ref(&expected));
            assert!(expected.reason().len() > 20);
        }
        assert_eq!(vetoes(&Evidence { criticality: Some("low".into()), ..clean }), []);
    }
}

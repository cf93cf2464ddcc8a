//! The files that carry a verdict out and take it back, and the autoscaler that the demand would justify.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{RecommendRequest, autoscalers::Autoscaler, parting::Placement, workload::Workload};
use crate::{
    demand::{Calendar, Demand},
    hpa_advice::{Advice, AdviceRules, BoundsAdvice, Examined, HpaProposal, Warning, advise, bounds},
    manifest::{self, Change, Folder, KedaForm, PrometheusSource, WorkloadKind},
    recommendation::Verdict,
    sizing::ServiceShape,
    veto::Veto,
    window::{DAY_US, time_text},
};

/// Days until an autoscaler's proof is too old, as for other proposals.
const EXPIRES_DAYS: i64 = 14;

/// What is asked of manifests.
#[derive(Debug, Clone, Default)]
pub struct ManifestRequest {
    /// Prometheus that KEDA can query, as seen from the cluster.
    pub prometheus: Option<String>,
}

/// All files of one service, and what keeps others from being written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceManifests {
    /// Changes; an autoscaler stands instead of a number of replicas, not beside it.
    pub folders: Vec<Folder>,
    /// What the telemetry does not tell, what is not advised, and what to know before applying.
    pub notes: Vec<String>,
}

/// What they are made of.
pub(super) struct Made<'a> {
    pub(super) shape: &'a ServiceShape,
    pub(super) demand: &'a Demand,
    pub(super) verdict: &'a Verdict,
    pub(super) workload: Workload,
    /// None where no files are asked for.
    pub(super) placement: Option<Placement>,
    pub(super) autoscaler: Option<&'a Autoscaler>,
    pub(super) calendar: &'a Calendar,
    pub(super) request: &'a RecommendRequest,
}

impl Made<'_> {
    pub(super) fn manifests(
        &self,
        wanted: &ManifestRequest,
        bounds: Option<&Result<BoundsAdvice, String>>,
    ) -> ServiceManifests {
        let mut made = ServiceManifests { folders: vec![], notes: vec![] };
        if let Err(reason) = &self.workload.target {
            made.notes.push(format!("no files: {reason}"));
        }
        if let (Verdict::Shrink(found), Ok(target)) = (self.verdict, &self.workload.target) {
            if target.kind() == WorkloadKind::DaemonSet {
                made.notes.push("no file for replicas: a DaemonSet has a pod on each node it selects".into());
            } else {
                let change = manifest::replicas(target, found.current, found.proposed, &manifest::comment(found));
                made.folders.push(folder("replicas", change));
            }
            match self.placement.as_ref().map(|placement| placement.change(target, self.shape, found)) {
                Some(Ok(Some((name, change)))) => made.folders.push(folder(name, change)),
                Some(Err(reason)) => made.notes.push(reason),
                Some(Ok(None)) | None => {}
            }
        }
        if let (Some(autoscaler), Some(bounds)) = (self.autoscaler, bounds) {
            self.bounds_file(autoscaler, bounds, &mut made);
            return made;
        }
        match self.advice() {
            Ok(Advice::Change(proposal)) => self.autoscaler(&proposal, wanted, &mut made),
            Ok(Advice::Keep { reason, warnings }) => made.note_advice(&format!("no autoscaler: {reason}"), &warnings),
            Ok(Advice::Refused(warnings)) => made.note_advice("no autoscaler: no metric can carry one", &warnings),
            Ok(Advice::Unknown(reason)) => made.notes.push(format!("no autoscaler: {reason}")),
            Err(reason) => made.notes.push(format!("no autoscaler: {reason}")),
        }
        made
    }

    /// The advice, or why none is asked for.
    fn advice(&self) -> Result<Advice, String> {
        match self.verdict {
            Verdict::Unknown(reasons) => return Err(sentence(reasons)),
            Verdict::Vetoed(reasons) if reasons.iter().any(|veto| *veto != Veto::HpaOwns) => {
                return Err(sentence(reasons));
            }
            _ => {}
        }
        let examined = self.examined();
        advise(&examined, &AdviceRules::default()).map_err(|error| error.to_string())
    }

    fn examined(&self) -> Examined<'_> {
        Examined {
            shape: self.shape,
            demand: self.demand,
            zone: self.request.zone,
            calendar: self.calendar,
            requests: self.workload.requests,
            signals: self.workload.signals.clone(),
            existing: None,
            serves_llm: self.workload.serves_llm,
        }
    }

    /// What a replay says of the bounds of the autoscaler that there is, or why nothing.
    pub(super) fn bounds(&self, autoscaler: &Autoscaler) -> Result<BoundsAdvice, String> {
        let spec = autoscaler.spec()?;
        bounds(&self.examined(), &spec, &AdviceRules::default()).map_err(|error| error.to_string())?
    }

    fn bounds_file(&self, autoscaler: &Autoscaler, bounds: &Result<BoundsAdvice, String>, made: &mut ServiceManifests) {
        let advice = match bounds {
            Ok(advice) => advice,
            Err(reason) => return made.notes.push(format!("{}; not replayed: {reason}", autoscaler.text())),
        };
        made.note_advice(&format!("{}; {}", autoscaler.text(), advice.explanation), &advice.warnings);
        let forbids = match self.verdict {
            Verdict::Vetoed(reasons) => reasons.iter().any(|veto| *veto != Veto::HpaOwns),
            Verdict::Unknown(_) => true,
            Verdict::Keep(_) | Verdict::Shrink(_) => false,
        };
        let Some(found) = advice.proposed.filter(|_| !forbids) else { return };
        let Some(namespace) = &autoscaler.namespace else {
            return made.notes.push("no file for its bounds: its namespace is not told".into());
        };
        let comment = format!("{}: {}", autoscaler.name, advice.explanation);
        match manifest::hpa_bounds(namespace, &autoscaler.name, found.from, found.to, &comment) {
            Ok(change) => made.folders.push(folder("bounds", change)),
            Err(error) => made.notes.push(format!("no file for its bounds: {error}")),
        }
    }

    fn autoscaler(&self, proposal: &HpaProposal, wanted: &ManifestRequest, made: &mut ServiceManifests) {
        made.note_advice(&proposal.explanation, &proposal.warnings);
        let Ok(target) = &self.workload.target else { return };
        let until = time_text(self.request.now_us + EXPIRES_DAYS * DAY_US);
        let comment = format!(
            "{}\n{}\nholds until {until}",
            proposal.explanation,
            proposal.warnings.iter().map(|warning| format!("note: {}", warning.text())).collect::<Vec<_>>().join("\n")
        );
        let replicas = self.shape.replica_count;
        if let Some(flat) = &proposal.flat {
            match manifest::hpa(target, target.name(), None, &flat.spec, replicas, &comment) {
                Ok(change) => made.folders.push(folder("hpa", change)),
                Err(error) => made.notes.push(format!("no HorizontalPodAutoscaler: {error}")),
            }
        }
        let Some(candidate) = proposal.seasonal.as_ref().or(proposal.flat.as_ref()) else { return };
        let prometheus = wanted.prometheus.as_ref().map(|address| self.prometheus(address));
        let form = KedaForm {
            candidate,
            time_zone: proposal.zone.name(),
            lead_minutes: proposal.lead_minutes,
            prometheus: prometheus.as_ref(),
        };
        match manifest::scaled_object(target, target.name(), None, &form, replicas, &comment) {
            Ok(change) => made.folders.push(folder("keda", change)),
            Err(error) => made.notes.push(format!("no ScaledObject of KEDA: {error} (--prometheus URL)")),
        }
    }

    fn prometheus(&self, address: &str) -> PrometheusSource {
        // Values of labels as Prometheus quotes them.
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let namespace = self.workload.namespace.as_deref().map(|name| format!("namespace=\"{}\",", quoted(name)));
        let selector = format!("{}service=\"{}\"", namespace.unwrap_or_default(), quoted(&self.shape.service));
        PrometheusSource { server_address: address.to_owned(), selector }
    }
}

fn sentence(reasons: &[Veto]) -> String {
    reasons.iter().map(Veto::reason).collect::<Vec<_>>().join("; ")
}

impl ServiceManifests {
    fn note_advice(&mut self, what: &str, warnings: &[Warning]) {
        let texts: BTreeSet<String> = warnings.iter().map(Warning::text).collect();
        self.notes.extend([what.to_owned()].into_iter().chain(texts));
    }
}

/// The folder `name` of `change`, with what to know before it is applied.
fn folder(name: &'static str, change: Change) -> Folder {
    let instead = match name {
        "replicas" => "",
        "bounds" => {
            "Only the bounds change: metrics and behavior stay. An operator that owns the autoscaler (KEDA) sets them back: change them \
                 there.\n\n"
        }
        "mig" => {
            "The same replicas on fewer cards, instead of fewer replicas: do not apply the folder `replicas` as well.\n\
                 First put the configuration of mig-parted.yaml into the one that the MIG manager of the GPU operator reads.\n\n"
        }
        "sharing" => {
            "The same replicas on fewer cards, instead of fewer replicas: do not apply the folder `replicas` as well.\n\
                 First put time-slicing.yaml into the configuration of NVIDIA's device plugin under the name of the label.\n\
                 Time slices divide no memory: replicas that grow take it from each other.\n\n"
        }
        "hpa" => {
            "This stands instead of a fixed number of replicas: do not apply the folder `replicas` as well.\n\
                      Metrics per pod need an adapter for custom.metrics.k8s.io in the cluster.\n\n"
        }
        _ => {
            "This stands instead of the folders `hpa` and `replicas`: apply one of them.\n\
                  The query selects by the labels `namespace` and `service`: check that your Prometheus has them.\n\n"
        }
    };
    Folder::new(name, instead, change)
}

//! What is known about which release runs where: one observation for each thing that a source said or showed.

use std::collections::BTreeMap;

/// Where a release runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// `service.name`.
    pub service: String,
    /// `deployment.environment.name`; `None` where the telemetry does not say.
    pub environment: Option<String>,
}

/// One version of one model.
///
/// Two releases are the same if both texts are equal: a source that names versions in another way (`12` of a registry,
/// `2.1.0` of a package, an image digest) is translated before it becomes an observation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// Name of the model.
    pub model: String,
    /// Version as its source writes it.
    pub version: String,
}

/// What a source said or showed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// A registry's alias that the service follows names another release.
    Alias {
        /// Name of the alias, as in `champion`.
        alias: String,
        /// What it names; `None` where it was removed.
        release: Option<Release>,
        /// UTC microseconds of the last time that the alias was seen elsewhere: the move lies after it. Of the first
        /// poll, when the release was registered.
        not_before_us: i64,
    },
    /// A script or a person said that this release is deployed from now on.
    Mark {
        /// What is deployed.
        release: Release,
    },
    /// Telemetry of one instance carried this release without interruption.
    Sighting {
        /// `service.instance.id`, container or pod.
        instance: String,
        /// What its resource attributes say.
        release: Release,
        /// UTC microseconds of the last data point of the stretch.
        until_us: i64,
    },
}

/// One piece of evidence, at its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observation {
    /// Where.
    pub target: Target,
    /// UTC microseconds from which it holds; of a sighting its first data point.
    pub time_us: i64,
    /// What.
    pub evidence: Evidence,
    /// UTC microseconds at which it reached us; late evidence changes the past.
    pub received_us: i64,
}

/// Why an observation is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObservationError {
    /// No `service.name`.
    #[error("no service: set service.name in the resource attributes, or name it in the mark")]
    NoService,
    /// No model or version.
    #[error("no {what}: a release has a model and a version")]
    NoRelease {
        /// `model` or `version`.
        what: &'static str,
    },
    /// Ends before it begins.
    #[error("the stretch ends at {until_us} µs, before its start at {time_us} µs")]
    Reversed {
        /// Start, UTC microseconds.
        time_us: i64,
        /// End, UTC microseconds.
        until_us: i64,
    },
    /// A time before 1970, which is an unset field.
    #[error("time {time_us} µs is not after 1970: is the timestamp unset?")]
    NoTime {
        /// UTC microseconds.
        time_us: i64,
    },
    /// Telemetry from after the present: a clock is ahead.
    #[error("seen {ahead_us} µs in the future: set the clock of {instance:?} by NTP")]
    ClockAhead {
        /// Instance whose clock is ahead.
        instance: String,
        /// By how much.
        ahead_us: i64,
    },
}

impl Observation {
    /// Whether the observation can be used at all.
    ///
    /// # Errors
    /// [`ObservationError`] with what is missing or contradicts itself.
    pub fn check(&self) -> Result<(), ObservationError> {
        if self.target.service.trim().is_empty() {
            return Err(ObservationError::NoService);
        }
        if self.time_us <= 0 {
            return Err(ObservationError::NoTime { time_us: self.time_us });
        }
        let reversed = |time_us, until_us| Err(ObservationError::Reversed { time_us, until_us });
        match &self.evidence {
            Evidence::Alias { not_before_us, .. } if *not_before_us > self.time_us => {
                return reversed(*not_before_us, self.time_us);
            }
            Evidence::Sighting { until_us, .. } if *until_us < self.time_us => {
                return reversed(self.time_us, *until_us);
            }
            _ => {}
        }
        let Some(release) = self.release() else { return Ok(()) };
        for (what, text) in [("model", &release.model), ("version", &release.version)] {
            if text.trim().is_empty() {
                return Err(ObservationError::NoRelease { what });
            }
        }
        Ok(())
    }

    /// The release in question; `None` for an alias that was removed.
    pub fn release(&self) -> Option<&Release> {
        match &self.evidence {
            Evidence::Alias { release, .. } => release.as_ref(),
            Evidence::Mark { release } | Evidence::Sighting { release, .. } => Some(release),
        }
    }
}

/// How closely an attribute names the model that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closeness {
    /// The image: a service that loads its weights by alias changes models under one image.
    Image,
    /// The program around the model.
    Service,
    /// The model itself.
    Model,
}

/// A release as resource attributes tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedRelease {
    /// The release.
    pub release: Release,
    /// The attribute that the version comes from.
    pub attribute: &'static str,
    /// How closely that attribute names the model.
    pub closeness: Closeness,
}

/// Attributes that carry a version, the closest to the model first. `k8s.pod.label.*` are pod labels as the Kubernetes
/// attributes processor of the OpenTelemetry Collector writes them.
const VERSION_ATTRIBUTES: &[(&str, Closeness)] = &[
    ("driftwatt.model.version", Closeness::Model),
    ("driftwatt.model.artifact.digest", Closeness::Model),
    ("k8s.pod.label.model-version", Closeness::Model),
    ("service.version", Closeness::Service),
    ("k8s.pod.label.app.kubernetes.io/version", Closeness::Service),
    ("container.image.repo_digests", Closeness::Image),
    ("container.image.id", Closeness::Image),
    ("container.image.tags", Closeness::Image),
];

/// Attributes that carry a version, the closest to the model first.
pub(super) fn version_attributes() -> impl Iterator<Item = &'static str> {
    VERSION_ATTRIBUTES.iter().map(|(attribute, _)| *attribute)
}

/// Attributes that carry the name of the model, the closest first.
const MODEL_ATTRIBUTES: &[&str] =
    &["driftwatt.model.name", "k8s.pod.label.model-name", "gen_ai.request.model", "service.name"];

/// Labels that name whatever is newest, so that two different models carry the same one.
const MOVING_LABELS: &[&str] = &["latest", "stable", "main", "master", "dev", "unknown", "unknown_service"];

/// The release that a resource reports: the attribute closest to the model wins; empty values and labels that move
/// (`latest`) are passed over.
///
/// `None` where no attribute tells a version or a name.
///
/// Source: OpenTelemetry semantic conventions, resource attributes `service.*`, `container.*`, `k8s.*`, `gen_ai.*`.
pub fn release_of_resource(attributes: &BTreeMap<String, String>) -> Option<ReportedRelease> {
    // Lists (`container.image.tags`) are stored as JSON; of one with several values none is the version.
    let value = |key: &str| {
        let text = attributes.get(key)?.trim();
        let one = serde_json::from_str::<[String; 1]>(text).map_or(text.to_owned(), |[only]| only.trim().to_owned());
        (!one.is_empty() && !one.starts_with('[')).then_some(one)
    };
    let model = MODEL_ATTRIBUTES.iter().find_map(|key| value(key))?;
    VERSION_ATTRIBUTES.iter().find_map(|&(attribute, closeness)| {
        let version = value(attribute).filter(|text| !MOVING_LABELS.contains(&text.to_ascii_lowercase().as_str()))?;
        let release = Release { model: model.clone(), version };
        Some(ReportedRelease { release, attribute, closeness })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attributes: &[(&str, &str)], expected: Option<(&str, &str, Closeness)>) {
        let attributes = attributes.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let found = release_of_resource(&attributes);
        let found = found
            .as_ref()
            .map(|reported| (reported.release.model.as_str(), reported.release.version.as_str(), reported.closeness));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_attribute_closest_to_the_model_wins() {
        let service = ("service.name", "resize");
        check(&[service, ("service.version", "1.4")], Some(("resize", "1.4", Closeness::Service)));
        check(
            &[
                service,
                ("service.version", "1.4"),
                ("driftwatt.model.version", "12"),
                ("driftwatt.model.name", "resnet"),
            ],
            Some(("resnet", "12", Closeness::Model)),
        );
        check(&[service, ("container.image.id", "sha256:ab")], Some(("resize", "sha256:ab", Closeness::Image)));
        check(&[service, ("container.image.tags", "[\"1.4\"]")], Some(("resize", "1.4", Closeness::Image)));
        check(&[service, ("container.image.tags", "[\"latest\"]")], None);
        check(&[service, ("container.image.tags", "[\"1.4\",\"latest\"]")], None);
    }

    #[test]
    fn nothing_is_read_from_empty_or_moving_labels() {
        check(&[("service.name", "resize"), ("service.version", " "), ("container.image.tags", "Latest")], None);
        check(&[("service.version", "1.4")], None);
        check(&[], None);
    }

    #[test]
    fn an_observation_that_cannot_be_used_says_why() {
        let release = Release { model: "resnet".to_owned(), version: "2".to_owned() };
        let target = Target { service: "resize".to_owned(), environment: None };
        let good = Observation { target, time_us: 5, evidence: Evidence::Mark { release }, received_us: 5 };
        assert_eq!(good.check(), Ok(()));

        let mut no_service = good.clone();
        no_service.target.service.clear();
        assert_eq!(no_service.check(), Err(ObservationError::NoService));
        assert_eq!(Observation { time_us: 0, ..good.clone() }.check(), Err(ObservationError::NoTime { time_us: 0 }));
        let empty = Release { model: "resnet".to_owned(), version: String::new() };
        let no_version = Observation { evidence: Evidence::Mark { release: empty.clone() }, ..good.clone() };
        assert_eq!(no_version.check(), Err(ObservationError::NoRelease { what: "version" }));
        let reversed = Evidence::Sighting { instance: String::new(), release: empty, until_us: 4 };
        let reversed = Observation { evidence: reversed, ..good };
        assert_eq!(reversed.check(), Err(ObservationError::Reversed { time_us: 5, until_us: 4 }));
    }
}

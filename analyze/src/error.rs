//! What can go wrong in a job.
#![expect(missing_docs, reason = "the messages name the fields")]

use datafusion::error::DataFusionError;
use driftwatt_store::ErrorKind;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{text:?} is not a week like 2026-W47")]
    Week { text: String },
    #[error("the window is empty: it must end after it starts")]
    EmptyWindow,
    #[error(transparent)]
    PriceBook(#[from] crate::price_book::PriceBookError),
    #[error("{0:?} is neither a label column nor attributes['key']")]
    Filter(String),
    #[error(
        "the {side} window of {metric} holds simulated and real values, which are never scored together; add the filter driftwatt.simulated=true or =false"
    )]
    MixedSimulated { side: &'static str, metric: String },
    #[error("histograms of {metric} cannot be compared: {reason}")]
    Incomparable { metric: String, reason: String },
    #[error("{metric} has more than {limit} histogram points in a window; narrow the window or the filter")]
    TooManyHistograms { metric: String, limit: usize },
    #[error("the GPUs of the window have more than {limit} minutes; narrow it")]
    TooManyMinutes { limit: usize },
    #[error("{metric} has more than {limit} groups of category and time in a window; narrow the window or the filter")]
    TooManyCategories { metric: String, limit: usize },
    #[error(
        "{metric} has values in {found} of {weeks}, and a season needs {weeks_min} of them; compare with the seven days before \
         (--reference trailing) or with a window of your own (--reference FROM/TO)"
    )]
    TooFewWeeks { metric: String, found: usize, weeks: String, weeks_min: usize },
    #[error(
        "hourly states hold whole hours, and the window from {from} to {to} does not begin and end at one, UTC; ask for whole \
         hours, or compare the points (--source auto)"
    )]
    NotWholeHours { from: String, to: String },
    #[error(
        "{hours} hours of states are more than {hours_max}; compare shorter windows, or the points (--source auto)"
    )]
    TooManyHours { hours: usize, hours_max: usize },
    #[error(
        "hourly states are kept, and brought up to date when they are asked for: ask where results are recorded, over HTTP by POST"
    )]
    StatesNotKept,
    #[error(
        "hourly states are kept of metrics and of categories of a counter, not of the role {role}; name its metrics"
    )]
    StatesOfRole { role: String },
    #[error("no metric in the view inputs has values from {from} to {to}; name features with --metric")]
    NoFeatures { from: String, to: String },
    #[error("more than {limit} pods held GPUs in the window; narrow it")]
    TooManyHolders { limit: usize },
    #[error(
        "there is no recommendation {id:?} to decide on; `driftwatt recommend` shows them, and so does \
         SELECT time, id, subject FROM reports.recommendations WHERE id IS NOT NULL"
    )]
    UnknownRecommendation { id: String },
    #[error(
        "{id} cannot be accepted while {other} of the same service is: what that one comes to is measured from a day to eight \
         days after it was accepted, and both would count it"
    )]
    RecommendationWaits { id: String, other: String },
    #[error(transparent)]
    Ledger(#[from] crate::recommendation::LedgerError),
    #[error("a bill needs {what}")]
    NoBill { what: &'static str },
    #[error(transparent)]
    Allocation(#[from] crate::allocation::AllocationError),
    #[error(transparent)]
    Focus(Box<crate::focus::FocusError>),
    #[error("{minutes} minutes are more than {minutes_max}: ask about a shorter time")]
    DiagnosisWindow { minutes: usize, minutes_max: usize },
    #[error(
        "no latency or input of a service {service:?} was sent in that time{}",
        services_text(.known)
    )]
    UnknownService { service: String, known: Vec<String> },
    #[error(
        "{service} has simulated and real telemetry, which are never diagnosed together; add --where driftwatt.simulated=true or =false"
    )]
    MixedService { service: String },
    #[error("more than {limit} points would be read; ask about a shorter time, or narrow it with --where")]
    TooManyPoints { limit: u64 },
    #[error("this time cannot be diagnosed: {0}")]
    Diagnosis(#[from] crate::diagnosis::Error),
    #[error(
        "the telemetry of {service} names more than {limit} versions, instances and minutes of them; ask about fewer days"
    )]
    TooManyReleases { service: String, limit: usize },
    #[error(
        "nothing is known of a service {service:?}: no telemetry in {days} days, no mark, no alias that it follows{}",
        services_text(.known)
    )]
    UnknownLineage { service: String, days: u32, known: Vec<String> },
    #[error("ask about a moment that is not ahead, and about 1 to {days_max} days")]
    LineageTime { days_max: u32 },
    #[error("the mark cannot be used: {0}")]
    Mark(#[source] crate::lineage::deployment::ObservationError),
    #[error("work tree: {reason}")]
    WorkTree { reason: String },
    #[error("labels: {reason}")]
    Labels { reason: String },
    #[error("OpenLineage: {0}")]
    LineageEvent(#[from] crate::lineage::open_lineage::EventError),
    #[error("column {name} is missing or has an unexpected type")]
    Column { name: String },
    #[error("{file} is no file of rows: its name must end in .csv, .parquet, .jsonl, .ndjson or .json")]
    FileFormat { file: String },
    #[error("{file} cannot be read: {reason}")]
    BrokenFile { file: String, reason: String },
    #[error("the column {column} {reason}")]
    ImportColumn { column: String, reason: String },
    #[error("this is no record of a checked batch: {reason}")]
    Record { reason: String },
    #[error(transparent)]
    Gate(#[from] crate::gates::Error),
    #[error("datafusion: {0}")]
    DataFusion(#[from] DataFusionError),
    #[error("arrow: {0}")]
    Arrow(#[from] datafusion::arrow::error::ArrowError),
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("store: {0}")]
    Store(#[from] driftwatt_store::Error),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Week { .. }
            | Self::EmptyWindow
            | Self::PriceBook(_)
            | Self::Filter(_)
            | Self::MixedSimulated { .. }
            | Self::Incomparable { .. }
            | Self::TooManyHistograms { .. }
            | Self::TooManyHolders { .. }
            | Self::UnknownRecommendation { .. }
            | Self::RecommendationWaits { .. }
            | Self::Ledger(_)
            | Self::TooManyMinutes { .. }
            | Self::DiagnosisWindow { .. }
            | Self::UnknownService { .. }
            | Self::MixedService { .. }
            | Self::TooManyPoints { .. }
            | Self::TooManyReleases { .. }
            | Self::Diagnosis(_)
            | Self::Mark(_)
            | Self::LineageEvent(_)
            | Self::Labels { .. }
            | Self::WorkTree { .. }
            | Self::LineageTime { .. }
            | Self::UnknownLineage { .. }
            | Self::NoBill { .. }
            | Self::TooManyCategories { .. }
            | Self::TooFewWeeks { .. }
            | Self::NotWholeHours { .. }
            | Self::TooManyHours { .. }
            | Self::StatesNotKept
            | Self::StatesOfRole { .. }
            | Self::NoFeatures { .. }
            | Self::FileFormat { .. }
            | Self::BrokenFile { .. }
            | Self::ImportColumn { .. }
            | Self::Record { .. }
            | Self::Gate(_) => ErrorKind::Invalid,
            Self::DataFusion(error) => match error.find_root() {
                DataFusionError::ResourcesExhausted(_) => ErrorKind::Overloaded,
                _ => ErrorKind::Internal,
            },
            Self::Store(error) => error.kind(),
            Self::Allocation(_) | Self::Focus(_) | Self::Column { .. } | Self::Arrow(_) | Self::Json(_) => {
                ErrorKind::Internal
            }
        }
    }
}

/// Services that could have been meant.
fn services_text(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; services with metrics then: {}", known.join(", ")) }
}

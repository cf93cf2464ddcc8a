//! What is asked of the role of a series.

use super::{Conversion, Definition, Row, View};

/// The measures that a profiler of the GPU gives, by their rung. One client at a time owns its counters.
const PROFILING: [&str; 6] =
    ["engine_active", "sm_active", "sm_occupancy", "tensor_active", "dram_active", "pipe_active"];

/// Whether a profiler gives it.
pub(crate) fn is_profiling(definition: &Definition) -> bool {
    definition.view == View::Gpu && definition.rung.as_deref().is_some_and(|rung| PROFILING.contains(&rung))
}

/// Which meaning of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// What it reports, in whatever view.
    Any,
    /// The same, with what is needed to add it to others of its owner.
    Terms,
    /// What it reports, if that is in this view.
    Reported(View),
    /// The same, unless a profiler gives it.
    Plain(View),
    /// The same, if a profiler gives it.
    Profiling(View),
    /// What its increase per second is, if that is in this view.
    Rate(View),
}

/// What a series means.
pub(super) struct Meaning<'a> {
    pub(super) role: &'a str,
    pub(super) definition: &'a Definition,
    /// From the unit of what it reports.
    pub(super) conversion: Conversion,
}

impl Asked {
    /// As an argument of the function.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Terms => "terms".to_owned(),
            Self::Reported(view) => view.name().to_owned(),
            Self::Plain(view) => format!("plain {}", view.name()),
            Self::Profiling(view) => format!("profiling {}", view.name()),
            Self::Rate(view) => format!("rate {}", view.name()),
        }
    }

    /// What [`Asked::text`] gives.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let of_views = |make: fn(View) -> Self| View::ALL.map(make);
        let all = [Self::Reported, Self::Plain, Self::Profiling, Self::Rate].map(of_views);
        [Self::Any, Self::Terms].into_iter().chain(all.into_iter().flatten()).find(|asked| asked.text() == text)
    }

    pub(super) fn meaning(self, row: &Row) -> Option<Meaning<'_>> {
        let reported = Meaning { role: &row.role, definition: &row.definition, conversion: Conversion::NONE };
        let in_view = |view| row.definition.view == view;
        let is_profiling = is_profiling(&row.definition);
        match self {
            Self::Any | Self::Terms => Some(reported),
            Self::Reported(view) => in_view(view).then_some(reported),
            Self::Plain(view) => (in_view(view) && !is_profiling).then_some(reported),
            Self::Profiling(view) => (in_view(view) && is_profiling).then_some(reported),
            Self::Rate(view) => {
                let rate = row.rate.as_ref().filter(|rate| rate.definition.view == view)?;
                Some(Meaning { role: &rate.role, definition: &rate.definition, conversion: rate.conversion })
            }
        }
    }

    /// The role that a row gives, `*` at its end standing for more.
    pub(super) fn role(self, row: &Row) -> Option<&str> {
        self.meaning(row).map(|meaning| meaning.role)
    }
}

//! A side from the stored states of its hours.

use super::{
    refuse_mixed,
    windows::{SLOTS, Windows, slot_us},
};
use crate::{
    drift::{
        feature_state::FeatureState,
        hourly::{PointKind, SideStates, StateShelf},
        observed::{Observed, Values},
        request::{Side, Subject},
        score::SideSummary,
        statistics::moments_binned,
    },
    error::Result,
    window::{MINUTE_US, Window},
};

/// The merged states of a side, also by windows of `length_us` if that is given; `both` are the windows of both sides.
pub(crate) async fn states(
    shelf: &StateShelf<'_>,
    name: &'static str,
    subject: &Subject,
    side: &Side,
    both: &[Window],
    length_us: Option<i64>,
) -> Result<Observed> {
    let SideStates { kind, hours, query } = shelf.side(subject, side, both).await?;
    let (rows, simulated) = hours
        .values()
        .fold((0, 0), |(rows, simulated), hourly| (rows + hourly.row_count, simulated + hourly.simulated_count));
    let simulated = refuse_mixed(name, subject, simulated, rows - simulated)?;
    let parts = Windows::new(side, length_us);
    let mut merged = FeatureState::default();
    let mut windows: Vec<Option<FeatureState>> = vec![None; parts.len()];
    // Slots with data, in order of time as the hours are.
    let (mut slot_count, mut slot_next) = (0, 0);
    let (start_us, slot_us) = (side.span().start_us, slot_us(side));
    for (hour_us, hourly) in hours {
        merged.merge(&hourly.state);
        for minute in (0..60).filter(|minute| hourly.minutes >> minute & 1 == 1) {
            // Known to the minute: all slots that it touches.
            let from_us = hour_us + minute * MINUTE_US - start_us;
            let (first, last) = (from_us / slot_us, (from_us + MINUTE_US - 1) / slot_us);
            slot_count += (last + 1 - first.max(slot_next)).max(0);
            slot_next = slot_next.max(last + 1);
        }
        // Mostly a window is one hour, whose state it takes as it is.
        match parts.of(&mut windows, Some(hour_us)) {
            Some(Some(window)) => window.merge(&hourly.state),
            Some(empty) => *empty = Some(hourly.state),
            None => {}
        }
    }
    let of = |state: FeatureState| match kind {
        PointKind::Categories => Values::Categories(Box::new(state.categories)),
        PointKind::Samples | PointKind::Histograms => Values::Histograms(Box::new(state)),
    };
    let mean = mean(&merged);
    let values = of(merged);
    let summary = SideSummary {
        row_count: rows,
        value_count: values.count(),
        used_count: values.count(),
        covered: (slot_count as f64 / SLOTS as f64).min(1.0),
        simulated,
        mean,
        query,
        ..SideSummary::empty(side)
    };
    Ok(Observed {
        values,
        windows: windows.into_iter().map(|window| of(window.unwrap_or_default())).collect(),
        summary,
    })
}

/// Exact where all sums are known, else of values spread evenly in each bucket.
fn mean(state: &FeatureState) -> Option<f64> {
    if state.count() == 0 {
        return None;
    }
    if let Some(sum) = state.sum() {
        return Some(sum / state.count() as f64);
    }
    let bins = state.histogram.clone().align(state.histogram.clone()).ok()?;
    Some(moments_binned(&bins.edges, &bins.reference)?.0)
}

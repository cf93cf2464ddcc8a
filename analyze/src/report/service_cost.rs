//! What one service cost in a window, by the bill of the report, for whoever compares two windows of it.

use datafusion::prelude::SessionContext;

use super::{fleet::Week, labels::Dimension};
use crate::{PriceBook, error::Result, money::Money, window::Window};

/// The part of the bill that `service` pays in `window` of whole minutes, or why it is not known and what to do.
///
/// # Errors
/// Those of queries and of the bill.
pub(crate) async fn service_cost(
    ctx: &SessionContext,
    window: Window,
    now_us: i64,
    book: &PriceBook,
    (service, simulated): (&str, bool),
) -> Result<std::result::Result<Money, String>> {
    let (week, _minutes) = Week::read(ctx, window, now_us, book).await?;
    let Some(fleet) = week.fleets.get(&simulated) else {
        return Ok(Err("no GPU and no host sent telemetry: let the collector run on the machines".to_owned()));
    };
    let figures = fleet.figures.get(&(Dimension::Service, service.to_owned()));
    // Work without anything held is a row, too.
    let Some(figures) = figures.filter(|figures| !figures.cost().is_zero() || figures.gpu_hours > 0.0) else {
        return Ok(Err(format!(
            "no GPU and no pod on the bill names {service}: send service.name or the pod with the telemetry of GPUs, or \
             requests of pods with a price for vCPUs and memory"
        )));
    };
    Ok(figures.cost().total().ok_or_else(|| {
        let unpriced: Vec<&str> = fleet.bill.unpriced.keys().map(String::as_str).collect();
        format!("the price book has no price for all that it holds: {}", unpriced.join(", "))
    }))
}

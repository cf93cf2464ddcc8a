//! What a service cost on each side of a move.

use datafusion::prelude::SessionContext;

use super::requests::RequestCounts;
use crate::{PriceBook, error::Result, lineage::version_card::MinuteSums, report::service_cost, window::Window};

/// Cost and requests of both sides, or why not.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Costs {
    pub(super) sides: [MinuteSums; 2],
    /// Why there is none.
    pub(super) missing: Option<String>,
    pub(super) note: Option<String>,
}

/// What is asked of the bill.
pub(super) struct CostQuestion<'a> {
    pub(super) ctx: &'a SessionContext,
    pub(super) book: Option<&'a PriceBook>,
    pub(super) service: &'a str,
    pub(super) simulated: bool,
    /// Whether the service runs in one environment only, which the bill does not tell apart.
    pub(super) is_only: bool,
    /// Minutes between two reports of requests.
    pub(super) block_minutes: i64,
    pub(super) now_us: i64,
}

impl CostQuestion<'_> {
    pub(super) async fn read(&self, requests: &RequestCounts, sides: [Window; 2]) -> Result<Costs> {
        let missing = |why: &str| Costs { missing: Some(why.to_owned()), ..Costs::default() };
        let Some(book) = self.book else {
            return Ok(missing("no price book: name one with [analyze] prices (docs/cost.md)"));
        };
        if !self.is_only {
            return Ok(missing("a bill is of a service, and this one runs in several environments"));
        }
        let (mut sums, mut told) = ([MinuteSums::default(); 2], Vec::new());
        for (sums, side) in sums.iter_mut().zip(sides) {
            let asked = (self.service, self.simulated);
            match service_cost(self.ctx, side, self.now_us, book, asked).await? {
                Ok(cost) => {
                    *sums = requests.cost(side, cost.units(), self.block_minutes);
                    told.push(format!("{:.2} in {:.1} h", cost.units(), side.hours()));
                }
                Err(why) => return Ok(missing(&why)),
            }
        }
        if sums.iter().any(|side| side.n == 0.0) {
            return Ok(missing(
                "requests are not counted on both sides: send a histogram of their duration, or a counter",
            ));
        }
        let note = format!(
            "cost is what the bill charges to {} in {}, {} before and {} after, spread evenly over the minutes",
            self.service,
            book.currency.as_str(),
            told[0],
            told[1]
        );
        Ok(Costs { sides: sums, missing: None, note: Some(note) })
    }
}

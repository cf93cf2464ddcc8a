//! The bill as a file with the columns of FOCUS 1.2.

use chrono::{DateTime, Datelike, NaiveDate};

use super::WeeklyReport;
use crate::{
    error::{Error, Result},
    focus::{Origin, focus_rows, to_csv},
    price_book::Period,
};

impl WeeklyReport {
    /// The lines of the bill of the real fleet, or of the simulated one where there is no other, as FOCUS 1.2 CSV.
    ///
    /// The bill is that of the calendar month (UTC) in which the window starts, or of both months that it touches. Simulated
    /// charges have `simulated` as their provider.
    ///
    /// # Errors
    /// [`Error::NoBill`] without a price book or telemetry.
    pub fn to_focus(&self) -> Result<String> {
        let no_bill = |what: &'static str| Error::NoBill { what };
        let book = self.request.prices.as_ref().ok_or_else(|| no_bill("a price book: set `prices` or --prices"))?;
        let fleet = self.fleets.first().ok_or_else(|| no_bill("telemetry in this window"))?;
        let window = self.request.window;
        let charge_period = Period { start_us: window.start_us, end_us: window.end_us };
        let billing_period =
            Period { start_us: month_start(window.start_us, 0), end_us: month_start(window.end_us - 1, 1) };
        let origin = Origin {
            billing_account: "driftwatt".to_owned(),
            provider: if fleet.simulated { "simulated" } else { "driftwatt" }.to_owned(),
            charge_period,
            billing_period,
            sub_account: "team".to_owned(),
        };
        let rows =
            focus_rows(&fleet.week.bill.allocation, book, &origin).map_err(|error| Error::Focus(Box::new(error)))?;
        Ok(to_csv(&rows, &origin, book.currency))
    }
}

/// Start of the calendar month of `time_us`, or of that many months later.
fn month_start(time_us: i64, later: u32) -> i64 {
    let start = || {
        let time = DateTime::from_timestamp_micros(time_us)?;
        let first = NaiveDate::from_ymd_opt(time.year(), time.month(), 1)?;
        let month = first.checked_add_months(chrono::Months::new(later))?;
        Some(month.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
    };
    start().unwrap_or(time_us)
}

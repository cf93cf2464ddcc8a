//! Demand of a service in GPU-equivalents: how many fully busy GPUs its work would fill, minute by minute, and its envelope by
//! hour of the week.

use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use chrono_tz::Tz;
use serde::Serialize;

use crate::{gpu_state::Interval, window::MINUTE_US};

/// Buckets of an envelope: hours of a week, 0 = Monday 00:00 local time.
pub const HOUR_OF_WEEK_COUNT: usize = 168;
/// Of the rises from minute to minute, the one that counts as the burst slope.
const SLOPE_PERCENTILE: f64 = 0.999;
/// A minute is known when this share of the service's GPUs was measured.
const MEASURED_SHARE_MIN: f64 = 0.9;

/// Demand at minute resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// First minute, UTC microseconds.
    pub start_us: i64,
    /// GPUs held by the service.
    pub gpu_count: usize,
    busy: Vec<f64>,
    measured: Vec<f64>,
}

/// Days and times that do not stand for a usual week.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calendar {
    /// Local days left out of the envelope. The replay keeps them.
    pub holidays: Vec<NaiveDate>,
    /// Rollouts, `[start_us, end_us)`: twice the replicas run, so their minutes are left out and counted.
    pub deploys: Vec<(i64, i64)>,
}

/// Distribution of one hour of the week; GPU-equivalents, none without a minute.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bucket {
    /// Minutes in it.
    pub minute_count: usize,
    /// Median.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99.5th percentile.
    pub p99_5: Option<f64>,
    /// Largest minute.
    pub max: Option<f64>,
}

/// Demand by hour of the week.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Envelope {
    /// 168 buckets from Monday 00:00 local time.
    pub buckets: Vec<Bucket>,
    /// Burst slope: 99.9th percentile of the rise from one minute to the next, GPU-equivalents per minute.
    pub slope_per_minute: f64,
    /// Minutes left out as holidays.
    pub holiday_minute_count: usize,
    /// Minutes left out as deploys.
    pub deploy_minute_count: usize,
}

/// Days of a configuration, `YYYY-MM-DD`, each named once.
///
/// # Errors
/// [`HolidayError`], which names the entry and says what to do.
pub fn parse_holidays(texts: &[String]) -> Result<Vec<NaiveDate>, HolidayError> {
    let mut days = Vec::with_capacity(texts.len());
    for text in texts {
        // Two digits each, so that nobody reads 2026-1-12 as the first of December.
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|day| day.to_string() == *text);
        let Some(day) = day else { return Err(HolidayError::NoDay { text: text.clone() }) };
        if days.contains(&day) {
            return Err(HolidayError::Twice { day });
        }
        days.push(day);
    }
    Ok(days)
}

/// What answers say of `holidays`; none without one.
pub(crate) fn holidays_text(holidays: &[NaiveDate]) -> Option<String> {
    let days: Vec<String> = holidays.iter().map(NaiveDate::to_string).collect();
    (!days.is_empty()).then(|| format!("Holidays, which stand for no usual week: {}.", days.join(", ")))
}

/// A list of holidays that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HolidayError {
    /// Not a day of the calendar.
    #[error("{text:?} is no day: write YYYY-MM-DD, such as \"2026-12-25\", one for each year")]
    NoDay {
        /// The entry.
        text: String,
    },
    /// Named twice, so that one of them may be meant to be another.
    #[error("{day} is listed twice: remove one")]
    Twice {
        /// The day.
        day: NaiveDate,
    },
}

impl Demand {
    /// No GPU measured yet, over `[start_us, end_us)`.
    pub fn new(start_us: i64, end_us: i64) -> Self {
        let minutes = usize::try_from((end_us - start_us) / MINUTE_US).unwrap_or(0);
        Self { start_us, gpu_count: 0, busy: vec![0.0; minutes], measured: vec![0.0; minutes] }
    }

    /// Adds one GPU from its intervals, as [`crate::gpu_state::classify`] gives them.
    pub fn add_gpu(&mut self, intervals: &[Interval]) {
        self.gpu_count += 1;
        for interval in intervals {
            let Some(duty) = interval.duty else { continue };
            let mut from_us = interval.start_us.max(self.start_us);
            while from_us < interval.end_us {
                let minute = (from_us - self.start_us) / MINUTE_US;
                let to_us = interval.end_us.min(self.start_us + (minute + 1) * MINUTE_US);
                let Some(index) = usize::try_from(minute).ok().filter(|index| *index < self.busy.len()) else { break };
                let share = (to_us - from_us) as f64 / MINUTE_US as f64;
                self.busy[index] += duty * share;
                self.measured[index] += share;
                from_us = to_us;
            }
        }
    }

    /// GPU-equivalents per minute; none where less than 90 % of the GPUs were measured. What is missing up to there is taken to be
    /// as busy as the rest.
    pub fn minutes(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        let held = self.gpu_count as f64;
        self.busy.iter().zip(&self.measured).map(move |(busy, measured)| {
            (held > 0.0 && *measured >= MEASURED_SHARE_MIN * held).then(|| busy * held / measured)
        })
    }

    /// The mean of each minute and the ones before it, `minutes` in all.
    ///
    /// NVML looks at an instant, so one minute of N GPUs that are busy with probability u errs by √(N u (1 − u) / samples a minute),
    /// which is more than real load moves; five minutes err by less than half of it.
    pub fn averaged(&self, minutes: usize) -> Self {
        let running = |values: &[f64]| {
            let mut sums = vec![0.0; values.len()];
            for (index, sum) in sums.iter_mut().enumerate() {
                let window = &values[(index + 1).saturating_sub(minutes.max(1))..=index];
                *sum = window.iter().sum::<f64>() / window.len() as f64;
            }
            sums
        };
        Self { busy: running(&self.busy), measured: running(&self.measured), ..self.clone() }
    }

    /// Minutes of the window.
    pub fn minute_count(&self) -> usize {
        self.busy.len()
    }

    /// Share of GPU-minutes that were measured, 0 to 1.
    pub fn coverage(&self) -> f64 {
        self.measured.iter().sum::<f64>() / (self.busy.len() * self.gpu_count).max(1) as f64
    }

    /// Days with any known minute, in days of 1 440 known minutes.
    pub fn days(&self) -> f64 {
        self.minutes().flatten().count() as f64 / 1_440.0
    }

    /// Mean share of the held GPUs that was busy; none when nothing is known.
    pub fn mean_share(&self) -> Option<f64> {
        let known: Vec<f64> = self.minutes().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64 / self.gpu_count as f64)
    }

    /// 95th percentile of the share of the held GPUs that was busy.
    pub fn p95_share(&self) -> Option<f64> {
        let mut known: Vec<f64> = self.minutes().flatten().collect();
        percentile(&mut known, 0.95).map(|demand| demand / self.gpu_count as f64)
    }
}

impl Envelope {
    /// The envelope of `demand` in local time of `zone`, so that nine o'clock stays nine o'clock over a daylight-saving change.
    pub fn new(demand: &Demand, zone: Tz, calendar: &Calendar) -> Self {
        let mut hours: Vec<Vec<f64>> = vec![Vec::new(); HOUR_OF_WEEK_COUNT];
        let (mut holiday_minute_count, mut deploy_minute_count) = (0, 0);
        for (minute, value) in demand.minutes().enumerate() {
            let time_us = demand.start_us + minute as i64 * MINUTE_US;
            let (Some(value), Some(utc)) = (value, DateTime::from_timestamp_micros(time_us)) else { continue };
            let local = utc.with_timezone(&zone);
            if calendar.holidays.contains(&local.date_naive()) {
                holiday_minute_count += 1;
            } else if calendar.deploys.iter().any(|(start, end)| (*start..*end).contains(&time_us)) {
                deploy_minute_count += 1;
            } else {
                let hour = local.weekday().num_days_from_monday() * 24 + local.hour();
                hours[hour as usize].push(value);
            }
        }
        let buckets = hours.iter_mut().map(|values| Bucket::new(values)).collect();
        Self { buckets, slope_per_minute: slope(demand), holiday_minute_count, deploy_minute_count }
    }

    /// The hour of the week with the largest 99.5th percentile and that percentile.
    pub fn peak(&self) -> Option<(usize, f64)> {
        let known = self.buckets.iter().enumerate().filter_map(|(hour, bucket)| Some((hour, bucket.p99_5?)));
        known.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Hours of the week of which nothing is known.
    pub fn unknown_hour_count(&self) -> usize {
        self.buckets.iter().filter(|bucket| bucket.minute_count == 0).count()
    }
}

impl Bucket {
    fn new(values: &mut [f64]) -> Self {
        Self {
            minute_count: values.len(),
            p50: percentile(values, 0.5),
            p95: percentile(values, 0.95),
            p99_5: percentile(values, 0.995),
            max: values.iter().copied().reduce(f64::max),
        }
    }
}

/// The smallest value that at least `share` of `values` do not exceed (type 1: one that did occur).
///
/// Source: Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let rank = (share * values.len() as f64).ceil() as usize;
    Some(*values.select_nth_unstable_by(rank.clamp(1, values.len()) - 1, f64::total_cmp).1)
}

fn slope(demand: &Demand) -> f64 {
    let minutes: Vec<Option<f64>> = demand.minutes().collect();
    let mut rises: Vec<f64> = minutes.windows(2).filter_map(|pair| Some(pair[1]? - pair[0]?)).collect();
    // The largest of 20 000 sampled minutes measures the sampling; a burst of the fleet rises for several minutes.
    percentile(&mut rises, SLOPE_PERCENTILE).unwrap_or(0.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu_state::{Cause, GpuState};

    fn demand(start_us: i64, minutes: &[Option<f64>]) -> Demand {
        let mut demand = Demand::new(start_us, start_us + minutes.len() as i64 * MINUTE_US);
        let intervals: Vec<Interval> = minutes
            .iter()
            .enumerate()
            .map(|(minute, duty)| Interval {
                start_us: start_us + minute as i64 * MINUTE_US,
                end_us: start_us + (minute as i64 + 1) * MINUTE_US,
                state: if duty.is_some() { GpuState::Busy } else { GpuState::NoTelemetry },
                cause: Cause::Working,
                duty: *duty,
            })
            .collect();
        demand.add_gpu(&intervals);
        demand
    }

    #[test]
    fn replicas_add_up_and_missing_ones_make_the_minute_unknown() {
        let mut two = demand(0, &[Some(0.5), Some(0.25), None]);
        let half = |start_us, duty| Interval {
            start_us,
            end_us: start_us + MINUTE_US / 2,
            state: GpuState::Busy,
            cause: Cause::Working,
            duty: Some(duty),
        };
        two.add_gpu(&[half(0, 1.0), half(MINUTE_US / 2, 0.0)]);
        assert_eq!(two.minutes().collect::<Vec<_>>(), [Some(1.0), None, None]);
        assert!((two.coverage() - 3.0 / 6.0).abs() < 1e-9);
        let three = demand(0, &[Some(1.0), Some(0.0), Some(0.5)]);
        assert_eq!(three.averaged(2).minutes().collect::<Vec<_>>(), [Some(1.0), Some(0.5), Some(0.25)]);
    }

    #[test]
    fn nine_in_the_morning_stays_nine_when_the_clock_changes() {
        // 2026-03-29: Berlin moves from UTC+1 to UTC+2. The peak is at 09:00 local on the Saturday (08:00 UTC) and the Sunday (07:00 UTC).
        let start = DateTime::parse_from_rfc3339("2026-03-28T00:00:00Z").unwrap().timestamp_micros();
        let mut minutes = vec![Some(0.1); 2 * 1_440];
        minutes[8 * 60..9 * 60].fill(Some(0.8));
        minutes[1_440 + 7 * 60..1_440 + 8 * 60].fill(Some(0.9));
        let envelope = Envelope::new(&demand(start, &minutes), chrono_tz::Europe::Berlin, &Calendar::default());
        assert_eq!(envelope.buckets[5 * 24 + 9].p50, Some(0.8));
        assert_eq!(envelope.buckets[6 * 24 + 9].p50, Some(0.9));
        assert_eq!(envelope.buckets[6 * 24 + 2].minute_count, 0, "two o'clock did not exist");
        assert_eq!(envelope.peak(), Some((6 * 24 + 9, 0.9)));
        assert!(envelope.slope_per_minute.abs() < 1e-9, "two rises in two days are below its percentile");
        let calendar = Calendar {
            holidays: vec![NaiveDate::from_ymd_opt(2026, 3, 29).unwrap()],
            deploys: vec![(start, start + 10 * MINUTE_US)],
        };
        let without = Envelope::new(&demand(start, &minutes), chrono_tz::Europe::Berlin, &calendar);
        assert_eq!((without.peak(), without.deploy_minute_count), (Some((5 * 24 + 9, 0.8)), 10));
        assert_eq!(without.holiday_minute_count, 1_440 - 60, "a day of 23 hours");
    }

    #[test]
    fn holidays_are_days_of_the_calendar_once_each() {
        let read = |texts: &[&str]| {
            parse_holidays(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(&["2026-12-25", "2028-02-29"]).unwrap().len(), 2);
        for (texts, words) in [
            (["2026-12-25", "2026-02-29"], "\"2026-02-29\" is no day: write YYYY-MM-DD"),
            (["2026-1-12", "2026-12-25"], "\"2026-1-12\" is no day"),
            (["2026-12-25", "25.12.2026"], "\"25.12.2026\" is no day"),
            (["2026-12-25", "2026-12-25"], "2026-12-25 is listed twice"),
        ] {
            let error = read(&texts).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }
}

//! The seasonal minimum: fewest replicas by hour of the week, and the windows of a clock that hold it.

use chrono_tz::Tz;
use serde::Serialize;

use crate::{
    autoscaler::HourFloors,
    demand::{Envelope, HOUR_OF_WEEK_COUNT},
};

/// Hours of a day.
const DAY_HOURS: usize = 24;
const DAYS: usize = 7;

/// Replicas that are held on some days between two hours of local time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FloorWindow {
    /// Days, 0 = Monday.
    pub days: Vec<u32>,
    /// First hour.
    pub from_hour: u32,
    /// First hour after, up to 24.
    pub to_hour: u32,
    /// Fewest replicas.
    pub replicas: u32,
}

/// Fewest replicas of each hour of the week.
///
/// `ceil((p95 + slope × cold start) / (GPUs per replica × usable share))`, at least `replicas_min`: what usually serves plus what
/// demand rises by before a new replica does. An hour without data takes the largest of all.
pub(super) fn floors(
    envelope: &Envelope,
    gpus_per_replica: u32,
    usable_share: f64,
    cold_start_s: f64,
    replicas_min: u32,
) -> Vec<u32> {
    let burst = envelope.slope_per_minute * cold_start_s / 60.0;
    let usable = f64::from(gpus_per_replica) * usable_share;
    let of = |p95: f64| (((p95 + burst) / usable).ceil() as u32).max(replicas_min);
    let known: Vec<Option<u32>> = envelope.buckets.iter().map(|bucket| bucket.p95.map(of)).collect();
    let largest = known.iter().copied().flatten().max().unwrap_or(replicas_min);
    known.into_iter().map(|floor| floor.unwrap_or(largest)).collect()
}

/// Windows that hold `floors` above `base`, at most `count_max` of them; whether hours had to be merged.
///
/// Hours are merged by raising them to coarser steps, then to the largest of the day, then of the week: never by lowering one.
pub(super) fn windows(floors: &[u32], base: u32, count_max: usize) -> (Vec<FloorWindow>, bool) {
    let largest = floors.iter().copied().max().unwrap_or(base);
    let mut step = 1;
    while step <= largest.saturating_sub(base).max(1) {
        let raised: Vec<u32> = floors.iter().map(|floor| raise(*floor, base, step, largest)).collect();
        let found = of_days(&raised, base);
        if found.iter().any(FloorWindow::is_whole_week) {
            break;
        }
        if found.len() <= count_max {
            return (found, step > 1);
        }
        step *= 2;
    }
    let days: Vec<u32> =
        floors.chunks(DAY_HOURS).flat_map(|day| vec![day.iter().copied().max().unwrap_or(base); day.len()]).collect();
    let found = of_days(&days, base);
    if found.len() <= count_max && !found.iter().any(FloorWindow::is_whole_week) {
        return (found, true);
    }
    (Vec::new(), true)
}

fn raise(floor: u32, base: u32, step: u32, largest: u32) -> u32 {
    (base + floor.saturating_sub(base).div_ceil(step) * step).min(largest)
}

/// Runs of equal hours of each day; days with the same run share a window.
fn of_days(floors: &[u32], base: u32) -> Vec<FloorWindow> {
    let mut found: Vec<FloorWindow> = Vec::new();
    for (day, hours) in floors.chunks(DAY_HOURS).enumerate().take(DAYS) {
        let mut from = 0;
        for run in hours.chunk_by(|a, b| a == b) {
            let (from_hour, to_hour) = (from as u32, (from + run.len()) as u32);
            from += run.len();
            if run[0] <= base {
                continue;
            }
            let same = |window: &&mut FloorWindow| {
                (window.from_hour, window.to_hour, window.replicas) == (from_hour, to_hour, run[0])
            };
            match found.iter_mut().find(same) {
                Some(window) => window.days.push(day as u32),
                None => found.push(FloorWindow { days: vec![day as u32], from_hour, to_hour, replicas: run[0] }),
            }
        }
    }
    found
}

impl FloorWindow {
    /// No schedule but a minimum, which cron triggers cannot say: the window would end when it starts.
    fn is_whole_week(&self) -> bool {
        (self.from_hour, self.to_hour, self.days.len()) == (0, 24, DAYS)
    }

    /// What KEDA's cron trigger reports for it.
    pub(super) fn hour_floors(&self, start_us: i64, zone: Tz, lead_s: f64) -> HourFloors {
        let at = |hour: usize| {
            let (day, hour) = ((hour / DAY_HOURS) as u32, (hour % DAY_HOURS) as u32);
            if self.days.contains(&day) && (self.from_hour..self.to_hour).contains(&hour) { self.replicas } else { 0 }
        };
        HourFloors { start_us, zone, lead_s, replicas: (0..HOUR_OF_WEEK_COUNT).map(at).collect() }
    }

    /// Start and end as cron expressions (minute, hour, day of month, month, day of week), the start `lead_minutes` (under 60)
    /// ahead so that replicas are warm.
    ///
    /// Days of the week are 0 = Sunday to 6, which every cron reads alike.
    pub fn cron(&self, lead_minutes: u32) -> (String, String) {
        let lead = lead_minutes.min(59);
        // KEDA takes a window for open where its next end comes before its next start: days that touch are opened and closed once.
        let is_whole_day = (self.from_hour, self.to_hour) == (0, 24);
        let follows = |day: u32| is_whole_day && self.days.contains(&(day % DAYS as u32));
        let opens: Vec<u32> = self.days.iter().copied().filter(|day| !follows(day + DAYS as u32 - 1)).collect();
        let closes: Vec<u32> = self.days.iter().copied().filter(|day| !follows(day + 1)).collect();
        let start = match (lead, self.from_hour) {
            (0, hour) => format!("0 {hour} * * {}", weekdays(&opens, 0)),
            (lead, 0) => format!("{} 23 * * {}", 60 - lead, weekdays(&opens, DAYS as u32 - 1)),
            (lead, hour) => format!("{} {} * * {}", 60 - lead, hour - 1, weekdays(&opens, 0)),
        };
        let end = match self.to_hour {
            24 => format!("0 0 * * {}", weekdays(&closes, 1)),
            hour => format!("0 {hour} * * {}", weekdays(&closes, 0)),
        };
        (start, end)
    }
}

/// The days `later` days later, as cron writes them.
fn weekdays(days: &[u32], later: u32) -> String {
    if days.len() == DAYS {
        return "*".into();
    }
    let mut days: Vec<u32> = days.iter().map(|day| (day + 1 + later) % DAYS as u32).collect();
    days.sort_unstable();
    let is_run = days.len() > 2 && days.windows(2).all(|pair| pair[1] == pair[0] + 1);
    match (days.first(), days.last()) {
        (Some(first), Some(last)) if is_run => format!("{first}-{last}"),
        _ => days.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Bucket;

    fn week(of: impl Fn(usize, usize) -> u32) -> Vec<u32> {
        (0..HOUR_OF_WEEK_COUNT).map(|hour| of(hour / 24, hour % 24)).collect()
    }

    fn held(windows: &[FloorWindow], base: u32) -> Vec<u32> {
        week(|day, hour| {
            let open = |window: &&FloorWindow| {
                window.days.contains(&(day as u32)) && (window.from_hour..window.to_hour).contains(&(hour as u32))
            };
            windows.iter().filter(open).map(|window| window.replicas).max().unwrap_or(base)
        })
    }

    #[test]
    fn hours_take_p95_and_the_burst_and_unknown_ones_the_largest() {
        let mut buckets = vec![Bucket { minute_count: 60, p95: Some(1.0), ..Bucket::default() }; HOUR_OF_WEEK_COUNT];
        buckets[9].p95 = Some(6.0);
        buckets[10] = Bucket::default();
        let envelope = Envelope { buckets, slope_per_minute: 0.4, holiday_minute_count: 0, deploy_minute_count: 0 };
        // 1.0 + 0.4 x 1.5 = 1.6; / 0.8 = 2. 6.6 / 0.8 = 8.25.
        let floors = floors(&envelope, 1, 0.8, 90.0, 2);
        assert_eq!((floors[0], floors[9], floors[10]), (2, 9, 9));
    }

    #[test]
    fn working_hours_are_one_window() {
        let floors = week(|day, hour| if day < 5 && (9..18).contains(&hour) { 8 } else { 2 });
        let (found, merged) = windows(&floors, 2, 8);
        assert_eq!(found, [FloorWindow { days: vec![0, 1, 2, 3, 4], from_hour: 9, to_hour: 18, replicas: 8 }]);
        assert!(!merged);
        assert_eq!(found[0].cron(3), ("57 8 * * 1-5".into(), "0 18 * * 1-5".into()));
        assert_eq!(found[0].cron(0).0, "0 9 * * 1-5");
    }

    #[test]
    fn a_window_at_midnight_begins_the_day_before_and_ends_the_day_after() {
        let window = |days: &[u32]| FloorWindow { days: days.to_vec(), from_hour: 0, to_hour: 24, replicas: 4 };
        // Monday and Sunday: ahead of them are Sunday (0) and Saturday (6); after them Tuesday (2) and Monday (1).
        assert_eq!(window(&[0]).cron(5), ("55 23 * * 0".into(), "0 0 * * 2".into()));
        // Days that touch are one window: from Saturday 23:55 to Tuesday 0:00, and over the working week.
        assert_eq!(window(&[0, 6]).cron(5), ("55 23 * * 6".into(), "0 0 * * 2".into()));
        assert_eq!(window(&[0, 1, 2, 3, 4]).cron(3), ("57 23 * * 0".into(), "0 0 * * 6".into()));
        assert_eq!(window(&[0, 2]).cron(0), ("0 0 * * 1,3".into(), "0 0 * * 2,4".into()));
    }

    #[test]
    fn merging_never_lowers_an_hour() {
        let floors = week(|day, hour| 2 + ((day * 7 + hour * 5) % 11) as u32);
        for count_max in [1, 2, 7, 20, 60] {
            let (found, merged) = windows(&floors, 2, count_max);
            assert!(found.len() <= count_max && merged, "{count_max}: {}", found.len());
            // None is left where only the whole week would do, which the flat minimum says.
            let held = held(&found, 2);
            assert!(found.is_empty() || floors.iter().zip(&held).all(|(floor, held)| held >= floor), "{count_max}");
        }
        assert_eq!(held(&windows(&floors, 2, 168).0, 2), floors);
        assert_eq!(windows(&[2; HOUR_OF_WEEK_COUNT], 2, 8), (Vec::new(), false));
    }
}

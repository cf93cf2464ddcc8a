//! Latency buckets of the requests, by minute, from the histograms as they are stored.
//!
//! Explicit and exponential buckets go to one grid of eight cells an octave. What counts up is told apart from the point before
//! of its series. The unit is not looked at: the sums of the same points in the view, which are in seconds, say it.

use std::collections::HashSet;

use datafusion::arrow::{
    array::{Array as _, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use futures::StreamExt as _;

use super::Desk;
use crate::{
    diagnosis::latency_buckets::LatencyBuckets,
    error::{Error, Result},
    rows::literal,
    window::{MINUTE_US, time_literal},
};

/// Cells of an octave.
const CELLS_PER_OCTAVE: i32 = 8;
/// Exponents of two of the first and the last edge, in any unit of time.
const OCTAVES: (i32, i32) = (-20, 40);
/// How far before the window a point may lie from which a counter goes on.
const BEFORE_US: i64 = 10 * MINUTE_US;
/// Milliseconds of the units that durations are sent in: ns, µs, ms, s, min.
const UNITS_MS: [f64; 5] = [1e-6, 1e-3, 1.0, 1e3, 6e4];

/// One stored histogram point.
struct Histogram {
    bounds: Option<ArrayRef>,
    counts: Option<ArrayRef>,
    scale: Option<i32>,
    zero_count: i64,
    offset: i32,
}

/// The state of one series that counts up.
struct Before {
    series: i64,
    start_us: Option<i64>,
    cells: Vec<f32>,
    sum: f64,
}

fn grid(minute_count: usize) -> LatencyBuckets {
    let edges = OCTAVES.0 * CELLS_PER_OCTAVE..=OCTAVES.1 * CELLS_PER_OCTAVE;
    let edges = edges.map(|step| (f64::from(step) / f64::from(CELLS_PER_OCTAVE)).exp2()).collect();
    LatencyBuckets::new(edges, minute_count)
}

/// The buckets of `metric` in the series that are compared; none where it has none, or its unit does not show.
///
/// `total_s` is the sum of the same latencies in the view, seconds.
pub(super) async fn read(
    desk: &mut Desk<'_>,
    metric: &str,
    series: &HashSet<i64>,
    total_s: f64,
) -> Result<Option<LatencyBuckets>> {
    let query = format!(
        "SELECT series_id, start_time, time, temporality, sum, bounds, bucket_counts, scale, zero_count, positive_offset, \
         positive_counts FROM histograms WHERE metric = {} AND time > {} AND time <= {} AND {} AND count IS NOT NULL \
         ORDER BY series_id, time",
        literal(metric),
        time_literal(desk.span.start_us - BEFORE_US),
        time_literal(desk.span.end_us),
        desk.whose
    );
    let mut found = grid(desk.minute_count);
    let (mut scratch, mut before, mut sum) = (grid(1), None, 0.0);
    let mut batches = desk.ctx.sql(&query).await?.execute_stream().await?;
    desk.queries.push(query);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        desk.point_count += batch.num_rows() as u64;
        add(
            desk,
            &batch,
            series,
            &mut Counted { found: &mut found, scratch: &mut scratch, before: &mut before, sum: &mut sum },
        )?;
    }
    let known = found.count(0..desk.minute_count) > 0.0;
    let factor = 1e3 * total_s / sum;
    let unit = UNITS_MS.into_iter().find(|unit| (factor / unit - 1.0).abs() < 0.1);
    if known && unit.is_none() {
        desk.notes.push(format!("buckets of {metric} do not fit its sums: quantiles of latency are left out"));
    }
    Ok(unit.filter(|_| known).map(|unit| found.scaled(unit)))
}

/// What is counted so far.
struct Counted<'a> {
    found: &'a mut LatencyBuckets,
    scratch: &'a mut LatencyBuckets,
    before: &'a mut Option<Before>,
    sum: &'a mut f64,
}

fn add(desk: &Desk<'_>, batch: &RecordBatch, series: &HashSet<i64>, counted: &mut Counted<'_>) -> Result<()> {
    let column = |name: &str, data_type: DataType| {
        let found = batch.column_by_name(name).ok_or_else(|| Error::Column { name: name.to_owned() })?;
        Ok::<_, Error>(cast(found, &data_type)?)
    };
    let time_type = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let list = |item: DataType| DataType::List(std::sync::Arc::new(Field::new("element", item, true)));
    let (ids, sums) = (column("series_id", DataType::Int64)?, column("sum", DataType::Float64)?);
    let (starts, times) = (column("start_time", time_type())?, column("time", time_type())?);
    let temporality = column("temporality", DataType::Utf8)?;
    let (bounds, counts) =
        (column("bounds", list(DataType::Float64))?, column("bucket_counts", list(DataType::Int64))?);
    let (scales, zeros) = (column("scale", DataType::Int32)?, column("zero_count", DataType::Int64)?);
    let (offsets, positive) =
        (column("positive_offset", DataType::Int32)?, column("positive_counts", list(DataType::Int64))?);
    for row in 0..batch.num_rows() {
        let id = ids.as_primitive::<Int64Type>().value(row);
        if !series.contains(&id) {
            continue;
        }
        let scale = (!scales.is_null(row)).then(|| scales.as_primitive::<Int32Type>().value(row));
        let listed = if scale.is_some() { &positive } else { &counts };
        let histogram = Histogram {
            bounds: (!bounds.is_null(row)).then(|| bounds.as_list::<i32>().value(row)),
            counts: (!listed.is_null(row)).then(|| listed.as_list::<i32>().value(row)),
            scale,
            zero_count: if zeros.is_null(row) { 0 } else { zeros.as_primitive::<Int64Type>().value(row) },
            offset: if offsets.is_null(row) { 0 } else { offsets.as_primitive::<Int32Type>().value(row) },
        };
        let sum = if sums.is_null(row) { 0.0 } else { sums.as_primitive::<Float64Type>().value(row) };
        let start_us = (!starts.is_null(row)).then(|| starts.as_primitive::<TimestampMicrosecondType>().value(row));
        let time_us = times.as_primitive::<TimestampMicrosecondType>().value(row);
        let delta = temporality.as_string::<i32>().value(row) == "delta";
        counted.point(desk, &histogram, id, start_us, time_us, sum, delta);
    }
    Ok(())
}

impl Counted<'_> {
    #[expect(clippy::too_many_arguments, reason = "the columns of one row")]
    fn point(
        &mut self,
        desk: &Desk<'_>,
        histogram: &Histogram,
        series: i64,
        start_us: Option<i64>,
        time_us: i64,
        sum: f64,
        delta: bool,
    ) {
        self.scratch.clear();
        histogram.spread(self.scratch);
        let mut cells = self.scratch.minute(0).to_vec();
        let mut gained = sum;
        if !delta {
            let now = Before { series, start_us, cells: cells.clone(), sum };
            let last = self.before.replace(now).filter(|last| last.series == series);
            match last {
                // A new start, or a fall, is a counter that began anew.
                Some(last) if last.start_us == start_us && last.sum <= sum => {
                    cells.iter_mut().zip(&last.cells).for_each(|(cell, before)| *cell = (*cell - before).max(0.0));
                    gained -= last.sum;
                }
                Some(_) => {}
                None => return,
            }
        }
        if time_us <= desk.span.start_us {
            return;
        }
        let minute = ((time_us - desk.span.start_us - 1) / MINUTE_US) as usize;
        self.found.add_cells(minute, cells);
        *self.sum += gained;
    }
}

impl Histogram {
    /// Adds its counts to minute 0 of `cells`.
    fn spread(&self, cells: &mut LatencyBuckets) {
        let Some(counts) = &self.counts else { return };
        let counts = counts.as_primitive::<Int64Type>();
        if self.zero_count > 0 {
            cells.add(0, 0.0, 2f64.powi(OCTAVES.0), self.zero_count as f64);
        }
        let edge = |bucket: usize| match (self.scale, &self.bounds) {
            (Some(scale), _) => Some(f64::exp2((f64::from(self.offset) + bucket as f64) * (-f64::from(scale)).exp2())),
            (None, Some(bounds)) => {
                let bounds = bounds.as_primitive::<Float64Type>();
                match bucket {
                    0 => Some(0.0),
                    above if above <= bounds.len() => Some(bounds.value(above - 1)),
                    _ => Some(f64::INFINITY),
                }
            }
            (None, None) => None,
        };
        for (bucket, count) in counts.values().iter().enumerate().filter(|(_, count)| **count > 0) {
            if let (Some(low), Some(high)) = (edge(bucket), edge(bucket + 1)) {
                cells.add(0, low.max(0.0), high, *count as f64);
            }
        }
    }
}

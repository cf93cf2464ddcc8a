//! Two checks of the split that use no regression: cells of equal predicted cost, and p95 at the inputs of the other side.
//!
//! Cells are 25 quantile classes of predicted cost over both sides (fewer where requests are few). One dimension that carries
//! all inputs keeps cells narrow, where a grid of two inputs leaves its outer cells open.

use std::ops::Range;

use super::{cost_model::CostModel, onset::Sides, robust, service_window::ServiceWindow};

/// Most cells.
const CELLS_MAX: usize = 25;
/// Fewest requests of a cell on one side, below which it is not comparable.
const CELL_REQUESTS_MIN: f64 = 5.0;

/// The split as the cells see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standardised {
    /// Change of the mean from the shares of the cells, milliseconds.
    pub input_ms: f64,
    /// Change of the mean within the cells, milliseconds.
    pub conditional_ms: f64,
    /// Smaller side's share of requests in cells that both sides fill.
    pub coverage: f64,
    /// p95 of latency before and after, milliseconds; none where means of several requests came without buckets.
    pub p95_ms: Option<(f64, f64)>,
    /// p95 that the server of before would have had with the inputs of after; none where rows are means of several requests.
    pub counterfactual_p95_ms: Option<f64>,
}

/// One row: log predicted cost, latency, requests.
type Row = (f64, f64, f64);

/// Standardises both sides; none where either is empty or no cell is filled on both.
pub fn standardise(model: &CostModel, window: &ServiceWindow, sides: &Sides) -> Option<Standardised> {
    let (old, new) = (costs(model, window, &sides.before), costs(model, window, &sides.after));
    let mut pooled: Vec<f64> = old.iter().chain(&new).map(|row| row.0).collect();
    pooled.sort_unstable_by(f64::total_cmp);
    let cell_count = (old.len().min(new.len()) / 20).clamp(1, CELLS_MAX);
    let cuts: Vec<f64> =
        (1..cell_count).filter_map(|cut| robust::quantile_of_sorted(&pooled, cut as f64 / cell_count as f64)).collect();
    let cell = |cost: f64| cuts.partition_point(|&cut| cut < cost);
    let side = |rows: &[Row]| {
        let mut cells = vec![(0.0, 0.0); cell_count];
        for &(cost, latency, requests) in rows {
            cells[cell(cost)].0 += requests;
            cells[cell(cost)].1 += latency * requests;
        }
        cells
    };
    let (old_cells, new_cells) = (side(&old), side(&new));
    let filled = |index: usize| old_cells[index].0.min(new_cells[index].0) >= CELL_REQUESTS_MIN;
    let kept = |cells: &[(f64, f64)]| (0..cell_count).filter(|&i| filled(i)).map(|i| cells[i].0).sum::<f64>();
    let all = |rows: &[Row]| rows.iter().map(|row| row.2).sum::<f64>();
    let (old_kept, new_kept) = (kept(&old_cells), kept(&new_cells));
    if old_kept == 0.0 || new_kept == 0.0 {
        return None;
    }
    let (mut input_ms, mut conditional_ms) = (0.0, 0.0);
    for index in (0..cell_count).filter(|&index| filled(index)) {
        let of = |cells: &[(f64, f64)], kept: f64| (cells[index].0 / kept, cells[index].1 / cells[index].0);
        let ((w0, y0), (w1, y1)) = (of(&old_cells, old_kept), of(&new_cells, new_kept));
        input_ms += (w1 - w0) * (y0 + y1) / 2.0;
        conditional_ms += (w0 + w1) / 2.0 * (y1 - y0);
    }
    let weights = |cost: f64| {
        let index = cell(cost);
        if filled(index) { (new_cells[index].0 / new_kept) / old_cells[index].0 } else { 0.0 }
    };
    let p95 = |rows: &[Row], minutes: &Range<usize>| match &window.buckets {
        Some(buckets) => buckets.quantile_ms(minutes.clone(), 0.95),
        None if window.is_aggregated() => None,
        None => weighted_quantile(rows.iter().map(|row| (row.1, row.2)).collect(), 0.95),
    };
    let reweighted = || old.iter().map(|&(cost, ms, requests)| (ms, requests * weights(cost))).collect();
    Some(Standardised {
        input_ms,
        conditional_ms,
        coverage: (old_kept / all(&old)).min(new_kept / all(&new)),
        p95_ms: p95(&old, &sides.before).zip(p95(&new, &sides.after)),
        counterfactual_p95_ms: if window.is_aggregated() { None } else { weighted_quantile(reweighted(), 0.95) },
    })
}

/// The rows of some minutes whose inputs are known.
fn costs(model: &CostModel, window: &ServiceWindow, minutes: &Range<usize>) -> Vec<Row> {
    let rows = window.rows(minutes.start, minutes.end);
    let mut columns = Vec::new();
    let mut costs = Vec::with_capacity(rows.len());
    for row in rows {
        if model.columns(window, row, &mut columns) {
            let cost = model.predicted_ms(&columns).ln();
            costs.push((cost, f64::from(window.latency_ms[row]), window.weight(row) as f64));
        }
    }
    costs
}

/// Smallest value at which the cumulated weight reaches `level` of all.
fn weighted_quantile(mut pairs: Vec<(f64, f64)>, level: f64) -> Option<f64> {
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = pairs.iter().map(|pair| pair.1).sum();
    let mut sum = 0.0;
    for (value, weight) in pairs {
        sum += weight;
        if weight > 0.0 && sum >= level * total {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_move_a_quantile_as_repetition_would() {
        let pairs = vec![(3.0, 1.0), (1.0, 18.0), (2.0, 1.0)];
        assert_eq!(weighted_quantile(pairs.clone(), 0.9), Some(1.0));
        assert_eq!(weighted_quantile(pairs.clone(), 0.95), Some(2.0));
        assert_eq!(weighted_quantile(pairs, 1.0), Some(3.0));
        assert_eq!(weighted_quantile(vec![(1.0, 0.0)], 0.5), None);
    }
}

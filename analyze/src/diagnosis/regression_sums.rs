//! Mergeable sums of a weighted linear regression, kept per minute and group: no request is read twice.
//!
//! Co-moments are centred (Chan, Golub, LeVeque 1983), so token counts of 1e5 beside milliseconds lose no digits. Merging is
//! associative and commutative up to rounding, and merging with the empty sums changes nothing.

/// Counts, means and centred co-moments of a response on `k` columns.
#[derive(Debug, Clone, PartialEq)]
pub struct RegressionSums {
    column_count: usize,
    /// Requests.
    count: u64,
    /// Rows, each of which may stand for several requests.
    row_count: u64,
    /// Unweighted means of the columns, then of the response.
    means: Vec<f64>,
    weight: f64,
    /// Weighted means of the columns, then of the response.
    weighted_means: Vec<f64>,
    /// Weighted centred co-moments, lower triangle by rows, response last.
    co_moments: Vec<f64>,
}

/// A fitted line: `intercept + Σ slopes · columns`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Response at columns of zero; the weighted mean residual is zero.
    pub intercept: f64,
    /// One a column, in the response's unit per unit of the column.
    pub slopes: Vec<f64>,
}

/// How one side answers compared with the other: `shift + scale · other`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Added to every response, in its unit.
    pub shift: f64,
    /// Factor on every response.
    pub scale: f64,
}

impl Fit {
    /// The fitted response for one row of columns.
    pub fn predict(&self, columns: &[f64]) -> f64 {
        self.intercept + self.slopes.iter().zip(columns).map(|(slope, value)| slope * value).sum::<f64>()
    }
}

impl RegressionSums {
    /// Empty sums over `column_count` columns.
    pub fn new(column_count: usize) -> Self {
        let width = column_count + 1;
        Self {
            column_count,
            count: 0,
            row_count: 0,
            means: vec![0.0; width],
            weight: 0.0,
            weighted_means: vec![0.0; width],
            co_moments: vec![0.0; width * (width + 1) / 2],
        }
    }

    /// Requests summed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Unweighted mean of the response; not meaningful while `count` is 0.
    pub fn response_mean(&self) -> f64 {
        self.means[self.column_count]
    }

    /// Unweighted means of the columns; not meaningful while `count` is 0.
    pub fn column_means(&self) -> &[f64] {
        &self.means[..self.column_count]
    }

    /// Adds one request. `columns` has `column_count` finite values, `weight` is positive and finite.
    pub fn add(&mut self, columns: &[f64], response: f64, weight: f64) {
        self.add_mean(columns, response, weight, 1);
    }

    /// Adds the means of `requests` requests, at least one: a linear law that holds for each holds for their means, whose variance
    /// is that of one over their number. `weight` is that of one request.
    pub fn add_mean(&mut self, columns: &[f64], response: f64, weight: f64, requests: u64) {
        debug_assert_eq!(columns.len(), self.column_count, "one value a column");
        let value = |index: usize| if index < self.column_count { columns[index] } else { response };
        self.count += requests;
        self.row_count += 1;
        let weight = weight * requests as f64;
        self.weight += weight;
        let (share, weighted_share) = (requests as f64 / self.count as f64, weight / self.weight);
        let mut cell = 0;
        for row in 0..=self.column_count {
            let row_delta = value(row) - self.weighted_means[row];
            for column in 0..=row {
                // The means still hold the state before this row: each product is delta · delta · w·W/(w + W).
                let column_delta = value(column) - self.weighted_means[column];
                self.co_moments[cell] += row_delta * column_delta * weight * (1.0 - weighted_share);
                cell += 1;
            }
        }
        for index in 0..=self.column_count {
            self.means[index] += (value(index) - self.means[index]) * share;
            self.weighted_means[index] += (value(index) - self.weighted_means[index]) * weighted_share;
        }
    }

    /// Adds all rows of `other`, which has as many columns.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.column_count, other.column_count, "sums of the same columns");
        if other.count == 0 {
            return;
        }
        self.count += other.count;
        self.row_count += other.row_count;
        self.weight += other.weight;
        let share = other.count as f64 / self.count as f64;
        let weighted_share = other.weight / self.weight;
        let mut cell = 0;
        for row in 0..=self.column_count {
            let row_delta = other.weighted_means[row] - self.weighted_means[row];
            for column in 0..=row {
                let column_delta = other.weighted_means[column] - self.weighted_means[column];
                let between = row_delta * column_delta * other.weight * (1.0 - weighted_share);
                self.co_moments[cell] += other.co_moments[cell] + between;
                cell += 1;
            }
        }
        for index in 0..=self.column_count {
            self.means[index] += (other.means[index] - self.means[index]) * share;
            self.weighted_means[index] += (other.weighted_means[index] - self.weighted_means[index]) * weighted_share;
        }
    }

    /// Weighted least squares, with the ridge `ridge_share` on the diagonal of the *correlation* matrix.
    ///
    /// The ridge is there for columns that move together (a prompt and its square): it picks the smallest standardised slopes
    /// among equally good ones and does not depend on units. At the default of 1e-4 it takes 0.01 % off an uncorrelated slope.
    /// A constant column gets slope 0. None while fewer rows than `2 (columns + 1)` are summed.
    pub fn solve(&self, ridge_share: f64) -> Option<Fit> {
        if self.row_count < 2 * (self.column_count as u64 + 1) {
            return None;
        }
        let scale: Vec<f64> =
            (0..self.column_count).map(|index| self.co_moment(index, index).max(0.0).sqrt()).collect();
        // A column whose spread is rounding noise beside its mean carries nothing.
        let floor = |index: usize| 1e-9 * self.weighted_means[index].abs() * self.weight.sqrt();
        let active: Vec<usize> = (0..self.column_count).filter(|&index| scale[index] > floor(index)).collect();
        let mut matrix: Vec<Vec<f64>> = active
            .iter()
            .map(|&row| {
                active.iter().map(|&column| self.co_moment(row, column) / (scale[row] * scale[column])).collect()
            })
            .collect();
        for (index, row) in matrix.iter_mut().enumerate() {
            row[index] += ridge_share;
        }
        let response: Vec<f64> =
            active.iter().map(|&row| self.co_moment(self.column_count, row) / scale[row]).collect();
        let solution = solve_positive_definite(matrix, response)?;
        let mut slopes = vec![0.0; self.column_count];
        for (position, &index) in active.iter().enumerate() {
            slopes[index] = solution[position] / scale[index];
        }
        let explained: f64 = slopes.iter().zip(&self.weighted_means).map(|(slope, mean)| slope * mean).sum();
        Some(Fit { intercept: self.weighted_means[self.column_count] - explained, slopes })
    }

    /// Regression of the response on what `fit` predicts for the same rows: `response = shift + scale · prediction`.
    ///
    /// Needs no rows, since a prediction is linear in the columns. Where predictions hardly vary (less than 2 % of their
    /// mean), `scale` is 1 and all goes into `shift`. None while fewer than 8 rows are summed.
    pub fn against(&self, fit: &Fit) -> Option<Affine> {
        if self.row_count < 8 {
            return None;
        }
        let response = self.column_count;
        let spread =
            |row: usize| (0..response).map(|column| fit.slopes[column] * self.co_moment(row, column)).sum::<f64>();
        let variance: f64 = (0..response).map(|row| fit.slopes[row] * spread(row)).sum::<f64>() / self.weight;
        let covariance = spread(response) / self.weight;
        let prediction = fit.predict(&self.weighted_means[..response]);
        let scale = if variance > (0.02 * prediction).powi(2) { covariance / variance } else { 1.0 };
        Some(Affine { shift: self.weighted_means[response] - scale * prediction, scale })
    }

    fn co_moment(&self, left: usize, right: usize) -> f64 {
        let (row, column) = (left.max(right), left.min(right));
        self.co_moments[row * (row + 1) / 2 + column]
    }
}

/// Solves `matrix · x = right` by Cholesky's factorisation; none where the matrix is not positive definite.
fn solve_positive_definite(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for row in 0..size {
        for column in 0..=row {
            let inner: f64 = (0..column).map(|k| matrix[row][k] * matrix[column][k]).sum();
            let rest = matrix[row][column] - inner;
            if row == column {
                if rest <= 1e-14 || !rest.is_finite() {
                    return None;
                }
                matrix[row][row] = rest.sqrt();
            } else {
                matrix[row][column] = rest / matrix[column][column];
            }
        }
    }
    for row in 0..size {
        let inner: f64 = (0..row).map(|k| matrix[row][k] * right[k]).sum();
        right[row] = (right[row] - inner) / matrix[row][row];
    }
    for row in (0..size).rev() {
        let inner: f64 = (row + 1..size).map(|k| matrix[k][row] * right[k]).sum();
        right[row] = (right[row] - inner) / matrix[row][row];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_fleet::Rng;

    fn rows(seed: u64, count: usize) -> Vec<([f64; 3], f64, f64)> {
        let mut rng = Rng::new(seed);
        (0..count)
            .map(|_| {
                let columns = [1e5 + 300.0 * rng.normal(), rng.log_normal(20.0, 1.0), rng.uniform()];
                let response = 7.0 + 0.25 * columns[0] + 28.0 * columns[1] - 3.0 * columns[2] + 0.5 * rng.normal();
                (columns, response, 0.1 + rng.uniform())
            })
            .collect()
    }

    fn sums(rows: &[([f64; 3], f64, f64)]) -> RegressionSums {
        let mut sums = RegressionSums::new(3);
        for (columns, response, weight) in rows {
            sums.add(columns, *response, *weight);
        }
        sums
    }

    fn assert_close(left: &RegressionSums, right: &RegressionSums) {
        assert_eq!(left.count, right.count);
        let pairs = |of: fn(&RegressionSums) -> &Vec<f64>| of(left).iter().zip(of(right)).collect::<Vec<_>>();
        for (a, b) in [pairs(|s| &s.means), pairs(|s| &s.weighted_means), pairs(|s| &s.co_moments)].concat() {
            assert!((a - b).abs() <= 1e-8 * a.abs().max(b.abs()).max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn any_cut_and_order_of_merging_gives_the_sums_of_all_rows() {
        for seed in 0..50 {
            let rows = rows(seed, 97);
            let whole = sums(&rows);
            let cut = 1 + (seed as usize * 13) % 95;
            let (left, right) = (sums(&rows[..cut]), sums(&rows[cut..]));
            let (mut forward, mut backward) = (left.clone(), right.clone());
            forward.merge(&right);
            backward.merge(&left);
            forward.merge(&RegressionSums::new(3));
            assert_close(&forward, &whole);
            assert_close(&backward, &whole);
            let mut from_empty = RegressionSums::new(3);
            from_empty.merge(&whole);
            assert_close(&from_empty, &whole);
        }
    }

    #[test]
    fn means_of_groups_have_the_slopes_and_means_of_their_requests() {
        type Row = ([f64; 3], f64, f64);
        let rows = rows(9, 6_000);
        let mut grouped = RegressionSums::new(3);
        let (mut requests, mut column_sums, mut response_sum) = (0.0, [0.0; 3], 0.0);
        for group in rows.chunks(7) {
            let mean = |of: &dyn Fn(&Row) -> f64| group.iter().map(of).sum::<f64>() / group.len() as f64;
            let columns = [0, 1, 2].map(|column| mean(&|row| row.0[column]));
            let response = mean(&|row| row.1);
            grouped.add_mean(&columns, response, 1.0, group.len() as u64);
            requests += group.len() as f64;
            response_sum += response * group.len() as f64;
            (0..3).for_each(|column| column_sums[column] += columns[column] * group.len() as f64);
        }
        assert_eq!(grouped.count(), 6_000);
        assert!((grouped.response_mean() - response_sum / requests).abs() < 1e-6);
        for (mean, sum) in grouped.column_means().iter().zip(column_sums) {
            assert!((mean - sum / requests).abs() < 1e-6 * mean.abs().max(1.0), "{mean} {sum}");
        }
        for (slope, truth) in grouped.solve(1e-6).unwrap().slopes.iter().zip([0.25, 28.0, -3.0]) {
            assert!((slope - truth).abs() < 0.05 * f64::abs(truth), "{slope} {truth}");
        }
        // A row of many requests is one row for the question whether there are enough to fit.
        let mut few = RegressionSums::new(3);
        few.add_mean(&[1.0, 2.0, 3.0], 1.0, 1.0, 1_000);
        assert_eq!(few.solve(1e-4), None);
    }

    #[test]
    fn slopes_are_found_far_from_the_origin() {
        let fit = sums(&rows(3, 5_000)).solve(1e-6).unwrap();
        for (slope, truth) in fit.slopes.iter().zip([0.25, 28.0, -3.0]) {
            assert!((slope - truth).abs() < 0.05 * f64::abs(truth), "{slope} {truth}");
        }
    }

    #[test]
    fn an_affine_change_of_the_response_is_found_from_sums_alone() {
        let before = rows(5, 3_000);
        let after: Vec<_> = rows(6, 3_000).into_iter().map(|(x, y, w)| (x, 300.0 + 1.25 * y, w)).collect();
        let fit = sums(&before).solve(1e-6).unwrap();
        let change = sums(&after).against(&fit).unwrap();
        assert!((change.scale - 1.25).abs() < 0.002 && (change.shift - 300.0).abs() < 60.0, "{change:?}");
        let same = sums(&before).against(&fit).unwrap();
        assert!((same.scale - 1.0).abs() < 1e-4 && same.shift.abs() < 5.0, "{same:?}");
    }

    #[test]
    fn a_constant_column_and_too_few_rows_are_no_failure() {
        let mut sums = RegressionSums::new(2);
        for index in 0..5 {
            sums.add(&[f64::from(index), 4.0], 2.0 * f64::from(index), 1.0);
        }
        assert_eq!(sums.solve(1e-4), None);
        sums.add(&[5.0, 4.0], 10.0, 1.0);
        let fit = sums.solve(0.0).unwrap();
        assert!((fit.slopes[0] - 2.0).abs() < 1e-9 && fit.slopes[1] == 0.0);
    }

    #[test]
    fn a_duplicated_column_shares_its_slope() {
        let mut sums = RegressionSums::new(2);
        for index in 0..50 {
            sums.add(&[f64::from(index), f64::from(index)], 4.0 * f64::from(index), 1.0);
        }
        let fit = sums.solve(1e-4).unwrap();
        assert!(fit.slopes.iter().all(|slope| (slope - 2.0).abs() < 0.01), "{fit:?}");
    }
}

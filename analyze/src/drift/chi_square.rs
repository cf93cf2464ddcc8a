//! The chi-square distribution: survival function and quantile for any number of degrees of freedom.

use statrs::function::gamma::checked_gamma_ur;

/// `P(X > x)` for chi-square with `degrees` degrees of freedom; 1 at or below zero, none without a degree of freedom.
///
/// Source: the regularised upper incomplete gamma function `Q(degrees / 2, x / 2)`; relative error below 1e-10.
pub fn survival(x: f64, degrees: usize) -> Option<f64> {
    if degrees == 0 || x.is_nan() {
        return None;
    }
    if x <= 0.0 {
        return Some(1.0);
    }
    if x.is_infinite() {
        return Some(0.0);
    }
    checked_gamma_ur(degrees as f64 / 2.0, x / 2.0).ok()
}

/// The value that chi-square with `degrees` degrees of freedom exceeds with probability `tail`, `0 < tail < 1`.
///
/// Bisection on [`survival`], to the last bit that it resolves.
pub fn upper_quantile(tail: f64, degrees: usize) -> Option<f64> {
    if degrees == 0 || !(tail > 0.0 && tail < 1.0) {
        return None;
    }
    let mut high = degrees as f64 + 1.0;
    while survival(high, degrees)? > tail {
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if survival(middle, degrees)? > tail { low = middle } else { high = middle }
    }
    Some((low + high) / 2.0)
}

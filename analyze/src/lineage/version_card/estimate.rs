//! A number with the interval that covers it.

/// Two-sided 95 % quantile of the normal distribution.
pub(super) const Z_95: f64 = 1.959_963_984_540_054;

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Requests that it stands on.
    pub n: u64,
}

/// `after − before` with its 95 % interval; `n` is that of the smaller side.
///
/// The ends come from the distances of both estimates to their own ends, which keeps skewed intervals skewed: for two
/// shares with Wilson intervals this is Newcombe's method 10, for symmetric intervals the usual root of summed squares.
///
/// Source: Newcombe, *Statistics in Medicine* 17 (1998); Zou and Donner, same journal 27 (2008), "MOVER".
pub fn difference(before: &Estimate, after: &Estimate) -> Estimate {
    let value = after.value - before.value;
    let down = (after.value - after.low).hypot(before.high - before.value);
    let up = (after.high - after.value).hypot(before.value - before.low);
    Estimate { value, low: value - down, high: value + up, n: before.n.min(after.n) }
}

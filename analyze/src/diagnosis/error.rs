//! Why a window cannot be diagnosed at all; what is merely missing ends in `inconclusive` instead.

/// A window that breaks its own rules.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A column is shorter or longer than the others.
    #[error("column {column:?} has {found} values, expected {expected}")]
    Length {
        /// Column.
        column: String,
        /// Values in it.
        found: usize,
        /// Values it needs.
        expected: usize,
    },
    /// Requests are not in order of time.
    #[error("requests are not sorted by minute")]
    Unsorted,
    /// A request lies outside.
    #[error("a request lies outside the {minute_count} minutes of the window")]
    OutsideWindow {
        /// Minutes.
        minute_count: usize,
    },
    /// A latency is no duration.
    #[error("latency {value} of request {row} is not a positive number of milliseconds: leave such requests out")]
    BadLatency {
        /// Request.
        row: usize,
        /// Its latency.
        value: f32,
    },
    /// A row stands for no request.
    #[error("row {row} stands for no request: leave it out")]
    NoWeight {
        /// Row.
        row: usize,
    },
    /// Buckets without edges, or with edges in no order.
    #[error("edges of latency buckets must be positive, ascend, and be 1 to 512")]
    Edges,
    /// A label code has no value.
    #[error("a code of label {column:?} has no entry in its dictionary")]
    UnknownCode {
        /// Label.
        column: String,
    },
    /// The caller did not sample.
    #[error("{requests} requests are more than {requests_max}: sample them by the hash of the trace")]
    TooManyRequests {
        /// Requests.
        requests: usize,
        /// Limit.
        requests_max: usize,
    },
    /// The window is too long.
    #[error("{minutes} minutes are more than {minutes_max}: ask about a shorter time")]
    TooLong {
        /// Minutes.
        minutes: usize,
        /// Limit.
        minutes_max: usize,
    },
    /// The time asked about does not fit the window.
    #[error(
        "minutes {from} to {to} with {reference_minutes} minutes of reference do not fit into {minute_count} minutes: ask for a longer window"
    )]
    Question {
        /// First minute.
        from: usize,
        /// Minute after the last.
        to: usize,
        /// Reference.
        reference_minutes: usize,
        /// Minutes of the window.
        minute_count: usize,
    },
}

//! Distributions as values: an explicit or exponential histogram in one struct, and what can be asked of it.
//!
//! Definitions are Prometheus' (promql/quantile.go, promql/functions.go, model/histogram/float_histogram.go), explicit ones
//! those of its classic histograms. Counts are doubles, so that a histogram can be scaled.

mod aggregate;
mod bucket;
mod column;
mod construct;
mod merge;
mod quantile;
mod rebin;
mod scalar;
mod series;
mod sums;

use datafusion::{
    error::Result,
    logical_expr::{AggregateUDF, ScalarUDF},
    prelude::SessionContext,
};

pub(crate) use column::{PARAMETERS, fields as histogram_fields, histogram_type};
pub(crate) use construct::CONSTRUCTOR;
pub(crate) use series::{BOUNDS, layouts, merged, sums, without_bounds};

/// One distribution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) count: f64,
    pub(crate) sum: Option<f64>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Explicit(Explicit),
    Exponential(Exponential),
}

/// Bucket *i* is (bound *i* - 1, bound *i*]; there is one more than bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Explicit {
    pub(crate) bounds: Vec<f64>,
    pub(crate) counts: Vec<f64>,
}

/// Bucket *i* is (base^*i*, base^(*i* + 1)], with base 2^(2^-scale), and the same below zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exponential {
    pub(crate) scale: i32,
    pub(crate) zero_count: f64,
    pub(crate) zero_threshold: f64,
    pub(crate) positive: Run,
    pub(crate) negative: Run,
}

/// Counts of buckets side by side, the first at index `offset`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Run {
    pub(crate) offset: i32,
    pub(crate) counts: Vec<f64>,
}

impl Run {
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0.0)
    }

    /// Index and count of each bucket.
    pub(crate) fn buckets(&self) -> impl DoubleEndedIterator<Item = (i32, f64)> + Clone {
        // That no index is too large is checked where a histogram is read.
        self.counts.iter().enumerate().map(|(n, count)| (self.offset.saturating_add(n as i32), *count))
    }
}

/// Makes the functions of histograms known to `ctx`.
pub(crate) fn register(ctx: &SessionContext) -> Result<()> {
    ctx.register_udf(ScalarUDF::from(construct::Construct::new()?));
    for function in scalar::Function::ALL {
        ctx.register_udf(ScalarUDF::from(scalar::OfHistogram::new(function)));
    }
    for function in aggregate::Function::ALL {
        ctx.register_udaf(AggregateUDF::from(aggregate::OfHistograms::new(function)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! What each function is for and how it is called, as `information_schema.routines` shows it.

use std::{collections::BTreeMap, sync::LazyLock};

use datafusion::logical_expr::{DocSection, Documentation};

/// Name, sentence, call.
const ABOUT: [(&str, &str, &str); 29] = [
    (
        "time_bucket",
        "Start of the bucket that a time is in",
        "time_bucket(width, time [, time zone | origin | offset …])",
    ),
    (
        "time_bucket_gapfill",
        "time_bucket in GROUP BY, with a row for every bucket",
        "time_bucket_gapfill(width, time [, time zone] [, start, finish])",
    ),
    ("locf", "Fills gaps of time_bucket_gapfill with the last value before", "locf(aggregate)"),
    ("interpolate", "Fills gaps of time_bucket_gapfill on a straight line", "interpolate(aggregate)"),
    ("increase", "What a counter counted, resets allowed for", "increase(value, time [, temporality [, start_time]])"),
    ("rate", "What a counter counted per second", "rate(value, time [, temporality [, start_time]])"),
    (
        "irate",
        "What a counter counted per second between the last two points",
        "irate(value, time [, temporality [, start_time]])",
    ),
    ("delta", "Last value of a gauge less its first", "delta(value, time)"),
    ("integral", "Area under the curve, value times seconds", "integral(value, time [, cutoff [, method]])"),
    ("time_weighted_avg", "Mean by how long values held", "time_weighted_avg(value, time [, cutoff [, method]])"),
    ("stateduration", "Seconds for which a condition held", "stateduration(condition, time [, cutoff])"),
    ("first", "Value of the earliest time that has one", "first(value, time)"),
    ("last", "Value of the latest time that has one", "last(value, time)"),
    ("percentile", "Exact percentile, interpolated", "percentile(value, share)"),
    ("mode", "Most frequent value", "mode(value)"),
    (
        "moving_avg",
        "Mean of a window that ends at the row",
        "moving_avg(value, rows | interval) OVER (… ORDER BY time)",
    ),
    ("label", "Label of a series by the name of its attribute", "label('key') or label(map, 'key')"),
    (
        "histogram",
        "Distribution of a row of the view histograms, as one value",
        "histogram() or histogram(bounds, bucket_counts [, sum])",
    ),
    ("histogram_merge", "Sum of histograms", "histogram_merge(histogram)"),
    (
        "histogram_increase",
        "What the histograms of one series counted, resets allowed for",
        "histogram_increase(histogram, time [, temporality [, start_time]])",
    ),
    ("histogram_quantile", "Value below which a share of the observations is", "histogram_quantile(share, histogram)"),
    (
        "histogram_quantile_bounds",
        "Values that the quantile is between for certain",
        "histogram_quantile_bounds(share, histogram)",
    ),
    (
        "histogram_fraction",
        "Share of the observations between two values",
        "histogram_fraction(lower, upper, histogram)",
    ),
    ("histogram_count", "Number of observations", "histogram_count(histogram)"),
    ("histogram_sum", "Sum of the observations", "histogram_sum(histogram)"),
    ("histogram_avg", "Mean of the observations", "histogram_avg(histogram)"),
    ("histogram_stddev", "Standard deviation of the observations, from their buckets", "histogram_stddev(histogram)"),
    ("histogram_stdvar", "Variance of the observations, from their buckets", "histogram_stdvar(histogram)"),
    (
        "histogram_rebin",
        "The histogram by other bounds or at a lower scale",
        "histogram_rebin(histogram, bounds | scale)",
    ),
];

/// What is said of the function `name`.
pub(crate) fn about(name: &str) -> Option<&'static Documentation> {
    static SAID: LazyLock<BTreeMap<&str, Documentation>> = LazyLock::new(|| {
        let section = DocSection { include: true, label: "Time series", description: None };
        let said = ABOUT
            .iter()
            .map(|(name, sentence, call)| (*name, Documentation::builder(section.clone(), *sentence, *call).build()));
        said.collect()
    });
    SAID.get(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn every_function_is_told_of() {
        let names = |ctx: &SessionContext| -> BTreeSet<String> {
            let state = ctx.state();
            state.scalar_functions().keys().chain(state.aggregate_functions().keys()).cloned().collect()
        };
        let ctx = SessionContext::new();
        let engine = names(&ctx);
        crate::functions::register(&ctx).unwrap();
        let ours: BTreeSet<String> = names(&ctx).difference(&engine).cloned().collect();
        assert_eq!(ours, ABOUT.iter().map(|(name, ..)| (*name).to_owned()).collect());
    }
}

//! `system.cardinality`: which metrics have many series, and which of their attributes make them so.

use driftwatt_store::PROMOTED;

/// Metrics that are looked into, those with most series first.
const METRICS_MAX: usize = 100;
/// Attributes shown of each, those with most values first.
const ATTRIBUTES_MAX: usize = 20;

/// The query behind the view, over the series with a point in the last 24 h.
///
/// A row without attribute counts the series of a metric; its share is that of all series. A row with one counts the
/// values of that attribute; its share is that of the metric's series: near 1, the attribute is what tells them apart.
pub(crate) fn cardinality_sql() -> String {
    let columns = PROMOTED.iter().map(|label| label.column).collect::<Vec<_>>();
    let (names, values) = (format!("'{}'", columns.join("', '")), columns.join(", "));
    format!(
        "WITH active AS ( \
           SELECT * FROM raw.series \
           WHERE date >= CAST(now() - INTERVAL '1 day' AS DATE) AND last_time >= now() - INTERVAL '1 day' \
         ), total AS ( \
           SELECT count(DISTINCT series_id) AS series_count FROM active \
         ), metrics AS ( \
           SELECT metric, count(DISTINCT series_id) AS series_count FROM active \
           GROUP BY metric ORDER BY series_count DESC, metric LIMIT {METRICS_MAX} \
         ), labels AS ( \
           SELECT metric, unnest(array_concat(make_array({names}), map_keys(attributes))) AS attribute, \
                  unnest(array_concat(make_array({values}), map_values(attributes))) AS value \
           FROM active WHERE metric IN (SELECT metric FROM metrics) \
         ), attributes AS ( \
           SELECT metric, attribute, count(DISTINCT value) AS distinct_values \
           FROM labels WHERE value IS NOT NULL GROUP BY metric, attribute \
         ), ranked AS ( \
           SELECT *, row_number() OVER (PARTITION BY metric ORDER BY distinct_values DESC, attribute) AS place \
           FROM attributes \
         ) \
         SELECT metrics.metric, CAST(NULL AS VARCHAR) AS attribute, metrics.series_count, \
                CAST(NULL AS BIGINT) AS distinct_values, \
                CAST(metrics.series_count AS DOUBLE) / total.series_count AS share \
         FROM metrics CROSS JOIN total \
         UNION ALL \
         SELECT ranked.metric, ranked.attribute, metrics.series_count, ranked.distinct_values, \
                CAST(ranked.distinct_values AS DOUBLE) / metrics.series_count \
         FROM ranked JOIN metrics ON ranked.metric = metrics.metric WHERE ranked.place <= {ATTRIBUTES_MAX}"
    )
}

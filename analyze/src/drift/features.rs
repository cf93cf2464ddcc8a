//! Which features there are, and which values of a label their series have.

use datafusion::prelude::SessionContext;

use super::{
    hourly::days_sql,
    label::label_sql,
    request::{DriftRequest, Filter, Source, Subject, time_sql},
};
use crate::{
    error::{Error, Result},
    rows::{Rows, literal},
    window::{Window, time_text},
};

/// Features of one run at most; of more those with the most rows are taken.
const FEATURES_MAX: usize = 200;

/// The metrics with values in the view `inputs` in `window`, by name. Metrics that mean the same are features of their own.
///
/// # Errors
/// [`Error::NoFeatures`] if there are none; query errors.
pub async fn features(ctx: &SessionContext, window: Window) -> Result<Vec<Subject>> {
    let query = format!(
        "SELECT metric, count(*) AS row_count FROM inputs WHERE {} AND value IS NOT NULL AND metric IS NOT NULL \
         GROUP BY metric ORDER BY row_count DESC, metric LIMIT {FEATURES_MAX}",
        window.condition("time")
    );
    let rows = Rows::query(ctx, &query).await?;
    let mut names: Vec<String> = rows.texts("metric")?.into_iter().flatten().collect();
    names.sort_unstable();
    if names.is_empty() {
        return Err(Error::NoFeatures { from: time_text(window.start_us), to: time_text(window.end_us) });
    }
    Ok(names.into_iter().map(Subject::Metric).collect())
}

/// The values of the label `key` that the series of a request have in its windows, the most frequent first: those with the most
/// rows, or of states, which are there so that points are not read, those with the most series and days.
pub(crate) async fn segments(
    ctx: &SessionContext,
    request: &DriftRequest,
    key: &str,
    limit: usize,
) -> Result<Vec<Filter>> {
    let label = label_sql(key);
    let windows = [&request.reference.windows[..], &request.current.windows[..]].concat();
    let time = |column: &str| time_sql(&windows, column);
    let filters = request.current.filter_sql();
    if request.source == Source::States {
        return most_series(ctx, request, key, &windows, limit).await;
    }
    let (view, selects) = request.subject.samples();
    let samples = format!(
        "SELECT {label} AS segment, count(*) AS row_count FROM {view} WHERE {selects} AND {}{filters} GROUP BY 1",
        time("time")
    );
    let metric = literal(request.subject.name());
    let histograms = format!(
        "SELECT s.segment, count(*) AS row_count FROM raw.histograms h JOIN (SELECT series_id, date, {label} AS segment \
         FROM raw.series WHERE metric = {metric}{filters}) s ON s.series_id = h.series_id AND s.date = h.date \
         WHERE h.metric = {metric} AND {} GROUP BY 1",
        time("h.time")
    );
    let query = format!(
        "SELECT segment, sum(row_count) AS row_count FROM ({samples} UNION ALL {histograms}) WHERE segment IS NOT NULL \
         GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {limit}"
    );
    let rows = Rows::query(ctx, &query).await?;
    let values = rows.texts("segment")?.into_iter().flatten();
    Ok(values.map(|value| Filter { key: key.to_owned(), value }).collect())
}

async fn most_series(
    ctx: &SessionContext,
    request: &DriftRequest,
    key: &str,
    windows: &[Window],
    limit: usize,
) -> Result<Vec<Filter>> {
    let query = format!(
        "SELECT segment, count(*) AS series_count FROM (SELECT {} AS segment FROM raw.series WHERE metric = {} AND {}{}) \
         WHERE segment IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {limit}",
        label_sql(key),
        literal(request.subject.name()),
        days_sql(windows),
        request.current.filter_sql()
    );
    let rows = Rows::query(ctx, &query).await?;
    let values = rows.texts("segment")?.into_iter().flatten();
    Ok(values.map(|value| Filter { key: key.to_owned(), value }).collect())
}

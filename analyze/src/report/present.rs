//! Which roles have series in a window, so that nothing is asked of what is not there: planning a question about a role view
//! takes longer than reading a small store.

use std::collections::BTreeMap;

use super::asker::Asker;
use crate::{
    error::Result,
    window::{HOUR_US, MINUTE_US, Window},
};

/// Roles with their first and last point.
#[derive(Debug, Clone, Default)]
pub(super) struct Present {
    /// None where the session has no table of roles: then everything may be there.
    roles: Option<BTreeMap<String, (i64, i64)>>,
    /// Whether any series is of a pod.
    has_pods: bool,
}

impl Present {
    pub(super) async fn read(asker: &mut Asker<'_>) -> Result<Self> {
        if !asker.ctx.table_exist("roles")? {
            return Ok(Self { roles: None, has_pods: true });
        }
        let table = asker.rows("vocabulary", "SELECT DISTINCT metric, role FROM roles".to_owned()).await?;
        let meanings: Vec<(String, String)> = table
            .texts("metric")?
            .into_iter()
            .zip(table.texts("role")?)
            .filter_map(|(metric, role)| metric.zip(role))
            .collect();
        let query = format!(
            "SELECT metric, max(k8s_pod) AS pod, CAST(min(first_time) AS BIGINT) AS first_us, \
             CAST(max(last_time) AS BIGINT) AS last_us FROM raw.series WHERE {} GROUP BY 1",
            asker.series()
        );
        let rows = asker.rows("metrics of the window", query).await?;
        let (metrics, pods) = (rows.texts("metric")?, rows.texts("pod")?);
        let (first, last) = (rows.integers("first_us")?, rows.integers("last_us")?);
        let mut exact: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut starts: Vec<(&str, &str)> = Vec::new();
        for (metric, role) in &meanings {
            match metric.strip_suffix('*') {
                Some(start) => starts.push((start, role.as_str())),
                None => exact.entry(metric).or_default().push(role),
            }
        }
        let mut roles: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for row in 0..rows.len() {
            let (Some(metric), Some(first), Some(last)) = (&metrics[row], first[row], last[row]) else { continue };
            let named = exact.get(metric.as_str()).into_iter().flatten().map(|role| (*role).to_owned());
            // `driftwatt.input.*` is `input.*`.
            let started = starts.iter().filter_map(|(start, role)| {
                let rest = metric.strip_prefix(start)?;
                Some(role.replace('*', rest))
            });
            for role in named.chain(started) {
                let known = roles.entry(role).or_insert((first, last));
                *known = (known.0.min(first), known.1.max(last));
            }
        }
        Ok(Self { roles: Some(roles), has_pods: pods.iter().any(Option::is_some) })
    }

    /// Whether one of `roles` may have points.
    pub(super) fn has(&self, roles: &[&str]) -> bool {
        self.roles.as_ref().is_none_or(|known| roles.iter().any(|role| known.contains_key(*role)))
    }

    /// Whether pods may say anything of themselves.
    pub(super) fn has_pods(&self) -> bool {
        self.has_pods
    }

    /// The whole minutes of `window` in which GPUs have points; none where they have none. A window may be much longer than
    /// what is stored, and minutes in which there is nothing take memory, too.
    pub(super) fn gpu_span(&self, window: Window) -> Option<Window> {
        let window = window.whole_minutes().ok()?;
        let Some(roles) = &self.roles else { return Some(window) };
        let of_gpus = || roles.iter().filter(|(role, _)| role.starts_with("gpu.")).map(|(_, span)| *span);
        let (first, last) = (of_gpus().map(|span| span.0).min()?, of_gpus().map(|span| span.1).max()?);
        // The minute of the first point is part of it.
        let first = first.div_euclid(MINUTE_US) * MINUTE_US;
        let span = Window::new(first.max(window.start_us), (last + HOUR_US).min(window.end_us));
        span.and_then(Window::whole_minutes).ok()
    }
}

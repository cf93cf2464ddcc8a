//! Containers that were killed for lack of memory in a window.

use std::collections::HashMap;

use datafusion::prelude::SessionContext;

use super::workload::PodName;
use crate::{
    error::Result,
    rows::{Rows, SIMULATED, literal},
    window::Window,
};

/// Most names in one question.
const NAMES_MAX: usize = 500;

/// Simulated or not, namespace, pod, container.
type Container = (bool, Option<String>, String, String);

/// Namespace, container, and how often.
type Killed = (Option<String>, String, u32);

/// Kills by container; none is a container that nobody saw killed.
#[derive(Debug, Default)]
pub(super) struct OomKills {
    /// By simulated and pod, since not every source sends a namespace.
    by_pod: HashMap<(bool, String), Vec<Killed>>,
    pub(super) queries: Vec<String>,
}

impl OomKills {
    pub(super) async fn read(ctx: &SessionContext, window: Window) -> Result<Self> {
        let mut found = Self::default();
        if !found.may_be_told(ctx, window).await? {
            return Ok(found);
        }
        let named = format!(
            "{SIMULATED} AS simulated, k8s_namespace AS namespace, k8s_pod AS pod, coalesce(k8s_container, '') AS container"
        );
        let of = |role: &str| format!("max(CASE role WHEN '{role}' THEN value END)");
        let query = format!(
            "SELECT {named}, {} AS killed, {} - min(CASE role WHEN 'container.oom_kills' THEN value END) AS kills FROM system \
             WHERE role IN ('container.oom_killed', 'container.oom_kills') AND k8s_pod IS NOT NULL AND {} AND value IS NOT NULL \
             GROUP BY 1, 2, 3, 4",
            of("container.oom_killed"),
            of("container.oom_kills"),
            window.condition("time")
        );
        let killed = found.rows(ctx, query).await?;
        let containers = containers(&killed)?;
        let (reasons, counts) = (killed.numbers("killed")?, killed.numbers("kills")?);
        // The reason of the last end stays as long as the pod does: only with a restart in the window it is of the window.
        let mut restarted: HashMap<Container, f64> = HashMap::new();
        let by_reason = |row: &usize| reasons[*row].is_some_and(|value| value > 0.0);
        let pods: Vec<&str> = (0..containers.len()).filter(by_reason).map(|row| containers[row].2.as_str()).collect();
        for names in pods.chunks(NAMES_MAX) {
            let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
            let query = format!(
                "SELECT {named}, max(value) - min(value) AS restarts FROM system WHERE role = 'container.restarts' \
                 AND k8s_pod IN ({}) AND {} AND value IS NOT NULL GROUP BY 1, 2, 3, 4",
                names.join(", "),
                window.condition("time")
            );
            let rows = found.rows(ctx, query).await?;
            restarted.extend(self::containers(&rows)?.into_iter().zip(rows.numbers("restarts")?.into_iter().flatten()));
        }
        for (row, container) in containers.into_iter().enumerate() {
            let by_restart = match (by_reason(&row), restarted.get(&container)) {
                (false, _) => 0.0,
                // Without restarts it may be an old one: taken for a new one, since it only forbids to lower.
                (true, None) => 1.0,
                (true, Some(restarts)) => *restarts,
            };
            let count = counts[row].unwrap_or(0.0).max(by_restart) as u32;
            let (simulated, namespace, pod, container) = container;
            if count > 0 {
                found.by_pod.entry((simulated, pod)).or_default().push((namespace, container, count));
            }
        }
        Ok(found)
    }

    /// Whether any series tells of kills: planning a question about a role takes longer than looking.
    async fn may_be_told(&mut self, ctx: &SessionContext, window: Window) -> Result<bool> {
        if !ctx.table_exist("roles")? {
            return Ok(true);
        }
        let query = format!(
            "SELECT metric FROM raw.series WHERE metric IN (SELECT metric FROM roles WHERE role IN ('container.oom_killed', \
             'container.oom_kills')) AND {} LIMIT 1",
            window.series_condition()
        );
        Ok(self.rows(ctx, query).await?.len() > 0)
    }

    async fn rows(&mut self, ctx: &SessionContext, query: String) -> Result<Rows> {
        let rows = Rows::query(ctx, &query).await?;
        self.queries.push(query);
        Ok(rows)
    }

    /// Kills in all containers of `pod`.
    pub(super) fn of_pod(&self, simulated: bool, pod: &PodName) -> u32 {
        self.count(simulated, pod, |_| true)
    }

    /// Kills in one container of `pod`.
    pub(super) fn of_container(&self, simulated: bool, pod: &PodName, container: &str) -> u32 {
        self.count(simulated, pod, |name| name == container)
    }

    fn count(&self, simulated: bool, pod: &PodName, is_meant: impl Fn(&str) -> bool) -> u32 {
        let of_name = self.by_pod.get(&(simulated, pod.pod.clone())).into_iter().flatten();
        let here = of_name.filter(|(namespace, ..)| pod.may_be_in(namespace.as_ref()));
        here.filter(|(_, container, _)| is_meant(container)).map(|(.., count)| count).sum()
    }
}

fn containers(rows: &Rows) -> Result<Vec<Container>> {
    let (simulated, namespaces) = (rows.flags("simulated")?, rows.texts("namespace")?);
    let (pods, names) = (rows.texts("pod")?, rows.texts("container")?);
    let text = |values: &[Option<String>], row: usize| values[row].clone().unwrap_or_default();
    Ok((0..rows.len())
        .map(|row| (simulated[row], namespaces[row].clone(), text(&pods, row), text(&names, row)))
        .collect())
}

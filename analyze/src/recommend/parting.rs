//! Cards that a service could share with itself: its replicas as MIG instances, or in time slices, of fewer cards.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::prelude::SessionContext;

use super::held::Held;
use crate::{
    error::Result,
    manifest::{self, Change, MigChange, Target},
    recommendation::Recommendation,
    rows::{Rows, SIMULATED},
    sizing::{ServiceShape, SizingRules},
    window::{Window, time_literal},
};

/// Simulated or not, and a service.
type Key = (bool, String);

/// What is told of where services run: containers that have cards, and Kubernetes nodes of hosts.
#[derive(Debug, Default)]
pub(super) struct Places {
    containers: HashMap<Key, BTreeSet<String>>,
    nodes: HashMap<(bool, String), String>,
    pub(super) query: String,
}

/// A node and the cards on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    name: String,
    card_count: u32,
    /// Whether all of them are whole, and only this service has them.
    is_own: bool,
}

/// Where one service runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placement {
    /// The container that has the card, or why it is not known.
    container: std::result::Result<String, String>,
    /// By name.
    nodes: Vec<Node>,
}

impl Places {
    pub(super) async fn read(ctx: &SessionContext, window: Window) -> Result<Self> {
        let query = format!(
            "SELECT DISTINCT {SIMULATED} AS simulated, coalesce(host_name, '') AS host, k8s_node AS node, service_name AS service, \
             k8s_container AS container FROM system.gpu_series WHERE role = 'gpu.utilization' AND gpu_id IS NOT NULL \
             AND last_time >= {} AND first_time < {}",
            time_literal(window.start_us),
            time_literal(window.end_us)
        );
        let rows = Rows::query(ctx, &query).await?;
        let mut places = Self { query, ..Self::default() };
        let (simulated, hosts, nodes) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("node")?);
        let (services, containers) = (rows.texts("service")?, rows.texts("container")?);
        for row in 0..rows.len() {
            if let (Some(host), Some(node)) = (hosts[row].clone(), nodes[row].clone()) {
                places.nodes.insert((simulated[row], host), node);
            }
            if let (Some(service), Some(container)) = (services[row].clone(), containers[row].clone()) {
                places.containers.entry((simulated[row], service)).or_default().insert(container);
            }
        }
        Ok(places)
    }

    /// Where the service of `held` runs.
    pub(super) fn of(&self, held: &Held<'_>) -> Placement {
        let containers = self.containers.get(&(held.simulated, held.service.to_owned()));
        let mut names = containers.into_iter().flatten();
        let container = match (names.next(), names.next()) {
            (Some(name), None) => Ok(name.clone()),
            (None, _) => Err("no GPU series names its container (k8s.container.name)".to_owned()),
            (Some(_), Some(_)) => Err("several containers have its cards".to_owned()),
        };
        let hosts: BTreeSet<&str> = held.gpus.iter().map(|gpu| gpu.host.as_str()).collect();
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for gpu in held.minutes.gpus.iter().filter(|gpu| gpu.simulated == held.simulated) {
            if !hosts.contains(gpu.host.as_str()) {
                continue;
            }
            let name = self.nodes.get(&(gpu.simulated, gpu.host.clone())).unwrap_or(&gpu.host).clone();
            let node = nodes.entry(name.clone()).or_insert(Node { name, card_count: 0, is_own: true });
            node.card_count += 1;
            let is_ours = held.gpus.iter().any(|own| (&own.host, &own.gpu_id) == (&gpu.host, &gpu.gpu_id));
            node.is_own &= is_ours && !gpu.is_sliced() && gpu.shared_by <= 1;
        }
        Placement { container, nodes: nodes.into_values().collect() }
    }
}

impl Placement {
    /// The replicas of today as MIG instances or time slices of fewer cards, with the name of its folder; none where one replica
    /// needs a whole card, or why it is not written.
    pub(super) fn change(
        &self,
        target: &Target,
        shape: &ServiceShape,
        found: &Recommendation,
    ) -> std::result::Result<Option<(&'static str, Change)>, String> {
        let size = &found.required;
        if shape.gpus_per_replica > 1 {
            return Ok(None);
        }
        let need = (size.peak_gpus + size.burst_gpus) / f64::from(shape.replica_count.max(1));
        let by_demand = (SizingRules::default().usable_share / need.max(f64::MIN_POSITIVE)).floor() as u32;
        let shares = size.replicas_per_gpu.unwrap_or(0).min(by_demand);
        let per_card = size.mig.map_or(shares, |profile| profile.instance_count);
        if per_card < 2 {
            return Ok(None);
        }
        let cards = found.current.div_ceil(per_card);
        let all_cards: u32 = self.nodes.iter().map(|node| node.card_count).sum();
        if cards >= all_cards {
            return Ok(None);
        }
        let what = if size.mig.is_some() { "MIG" } else { "time slices" };
        let node = self.nodes.iter().find(|node| node.is_own && node.card_count >= cards);
        let node = node.ok_or_else(|| {
            format!("no files for {what}: no node has {cards} cards that are whole and that only this service has")
        })?;
        let comment = format!(
            "{}\n{} replicas fit {cards} of the {} cards of {}, {per_card} on each, by memory and peak demand: {} cards become free",
            manifest::comment(found),
            found.current,
            node.card_count,
            node.name,
            all_cards - cards
        );
        let refused = |error: manifest::ManifestError| format!("no files for {what}: {error}");
        match size.mig {
            Some(profile) => {
                let container = self.container.as_ref().map_err(|reason| format!("no files for MIG: {reason}"))?;
                let cut = MigChange {
                    node: &node.name,
                    cards: (cards, node.card_count),
                    profile,
                    former_config: "all-disabled",
                    container,
                };
                manifest::mig(target, &cut, &comment).map(|change| Some(("mig", change))).map_err(refused)
            }
            // The plugin shares all cards of a node alike.
            None => manifest::time_slicing(&node.name, per_card, &comment)
                .map(|change| Some(("sharing", change)))
                .map_err(refused),
        }
    }
}

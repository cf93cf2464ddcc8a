//! The two questions: which series there are, which are few, and their points, of which no label is read.

use std::collections::{BTreeMap, HashMap};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::{Float64Type, Int64Type, TimestampMicrosecondType},
    },
    prelude::SessionContext,
};
use futures::StreamExt as _;

use super::{
    Gpu, GpuMinutes, Holder, NOBODY,
    grid::{Grid, Quantity, add_share},
};
use crate::{
    error::{Error, Result},
    rows::Rows,
    window::{MINUTE_US, Window, time_literal},
};

/// Most minutes of cards and slices that are kept, of about 30 bytes while they are read: 10 000 for a week and a day.
const GPU_MINUTES_MAX: usize = 115_000_000;

/// Simulated or not, host, id: what names a card.
type Card = (bool, String, String);

/// What a series is about.
#[derive(Debug, Clone, Copy)]
struct Target {
    quantity: Quantity,
    grid: usize,
    holder: u16,
}

/// A card, or a slice of one.
struct Slot {
    card: Card,
    /// Share of the card; none is the card itself.
    share: Option<f32>,
}

/// Cards, slices and holders of the series of a window.
#[derive(Default)]
struct Inventory {
    cards: BTreeMap<Card, (Option<String>, Option<String>, u64)>,
    slots: Vec<Slot>,
    holders: Vec<Holder>,
    targets: HashMap<i64, Target>,
}

impl GpuMinutes {
    /// Reads the minutes that are wholly inside `window`.
    ///
    /// # Errors
    /// Those of queries; [`Error::EmptyWindow`] without a whole minute.
    pub async fn read(ctx: &SessionContext, window: Window) -> Result<Self> {
        let window = window.whole_minutes()?;
        let series = series_query(window);
        let inventory = Inventory::of(&Rows::query(ctx, &series).await?)?;
        let minute_count = ((window.end_us - window.start_us) / MINUTE_US) as usize;
        if inventory.slots.len().saturating_mul(minute_count) > GPU_MINUTES_MAX {
            return Err(Error::TooManyMinutes { limit: GPU_MINUTES_MAX });
        }
        let mut grids = vec![Grid::new(minute_count); inventory.slots.len()];
        let points = points_query(window);
        let mut row_count = 0;
        if !grids.is_empty() {
            let mut batches = ctx.sql(&points).await?.execute_stream().await?;
            while let Some(batch) = batches.next().await {
                row_count += add(&inventory.targets, &mut grids, window, &batch?)?;
            }
        }
        let gpus = inventory.cards(grids, minute_count);
        Ok(Self { window, gpus, holders: inventory.holders, row_count, queries: vec![series, points] })
    }
}

/// Roles of series, or of points, among which the energy itself is not wanted.
fn roles(of_series: bool) -> String {
    let roles = Quantity::ROLES.iter().filter(|(role, _)| of_series || *role != "gpu.energy");
    roles.map(|(role, _)| format!("'{role}'")).collect::<Vec<_>>().join(", ")
}

fn series_query(window: Window) -> String {
    format!(
        "SELECT series_id, role, max(gpu_id) AS gpu_id, max(coalesce(host_name, '')) AS host, max(gpu_model) AS gpu_model, \
         max(region) AS region, max(mig_id) AS mig_id, max(share) AS share, max(shared_by) AS shared_by, \
         max(service_name) AS service, max(team) AS team, max(k8s_namespace) AS namespace, max(k8s_pod) AS pod, \
         max(model_name) AS model, max(model_version) AS model_version, \
         bool_or(coalesce(attributes['driftwatt.simulated'] = 'true', false)) AS simulated \
         FROM system.gpu_series WHERE role IN ({}) AND gpu_id IS NOT NULL AND last_time >= {} AND first_time < {} \
         AND date >= CAST({} AS DATE) AND date <= CAST({} AS DATE) GROUP BY series_id, role ORDER BY host, gpu_id, series_id",
        roles(true),
        time_literal(window.start_us),
        time_literal(window.end_us),
        time_literal(window.start_us),
        time_literal(window.end_us),
    )
}

fn points_query(window: Window) -> String {
    format!(
        "SELECT series_id, time, value FROM gpu WHERE role IN ({}) AND {} AND value IS NOT NULL",
        roles(false),
        window.condition("time")
    )
}

impl Inventory {
    fn of(rows: &Rows) -> Result<Self> {
        let mut inventory = Self::default();
        let mut slots: HashMap<(Card, Option<String>), usize> = HashMap::new();
        let mut holders: HashMap<Holder, u16> = HashMap::new();
        let (ids, roles) = (rows.integers("series_id")?, rows.texts("role")?);
        let (simulated, hosts, gpu_ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
        let (models, regions, slices) = (rows.texts("gpu_model")?, rows.texts("region")?, rows.texts("mig_id")?);
        let (shares, shared_by) = (rows.numbers("share")?, rows.integers("shared_by")?);
        let labels = ["service", "team", "namespace", "pod", "model", "model_version"];
        let [services, teams, namespaces, pods, served, versions] = labels.map(|name| rows.texts(name));
        let labels = [services?, teams?, namespaces?, pods?, served?, versions?];
        for row in 0..rows.len() {
            let (Some(id), Some(gpu_id)) = (ids[row], gpu_ids[row].clone()) else { continue };
            let role = roles[row].as_deref().unwrap_or_default();
            let Some((_, quantity)) = Quantity::ROLES.iter().find(|(known, _)| *known == role) else { continue };
            let card = (simulated[row], hosts[row].clone().unwrap_or_default(), gpu_id);
            let known = inventory.cards.entry(card.clone()).or_default();
            known.0 = known.0.take().or_else(|| models[row].clone());
            known.1 = known.1.take().or_else(|| regions[row].clone());
            known.2 = known.2.max(shared_by[row].unwrap_or(1).unsigned_abs());
            let share = slices[row].as_ref().map(|_| shares[row].unwrap_or(f64::NAN) as f32);
            let grid = *slots.entry((card.clone(), slices[row].clone())).or_insert_with(|| {
                inventory.slots.push(Slot { card, share });
                inventory.slots.len() - 1
            });
            let [service, team, namespace, pod, model, model_version] =
                [0, 1, 2, 3, 4, 5].map(|at| labels[at][row].clone());
            let holder = Holder { service, team, namespace, pod, model, model_version };
            let holder = match holder == Holder::default() {
                true => NOBODY,
                false => inventory.holder(&mut holders, holder)?,
            };
            inventory.targets.insert(id, Target { quantity: *quantity, grid, holder });
        }
        Ok(inventory)
    }

    fn holder(&mut self, known: &mut HashMap<Holder, u16>, holder: Holder) -> Result<u16> {
        if let Some(index) = known.get(&holder) {
            return Ok(*index);
        }
        let index = u16::try_from(self.holders.len()).ok().filter(|index| *index != NOBODY);
        let index = index.ok_or(Error::TooManyHolders { limit: usize::from(NOBODY) })?;
        self.holders.push(holder.clone());
        known.insert(holder, index);
        Ok(index)
    }

    /// The cards, each with what it or its slices said.
    fn cards(&self, grids: Vec<Grid>, minute_count: usize) -> Vec<Gpu> {
        let mut gpus: BTreeMap<&Card, Gpu> = BTreeMap::new();
        for (card, (model, region, shared_by)) in &self.cards {
            let nothing = || vec![f32::NAN; minute_count];
            let gpu = Gpu {
                host: card.1.clone(),
                gpu_id: card.2.clone(),
                model: model.clone(),
                region: region.clone(),
                simulated: card.0,
                shared_by: *shared_by,
                is_sliced: false,
                duty: nothing(),
                memory: nothing(),
                power: nothing(),
                holder: vec![NOBODY; minute_count],
            };
            gpus.insert(card, gpu);
        }
        for (slot, grid) in self.slots.iter().zip(grids) {
            let Some(gpu) = gpus.get_mut(&slot.card) else { continue };
            gpu.is_sliced |= slot.share.is_some();
            // Where the card itself reports, its slices are copies without values.
            add_share(&mut gpu.duty, &grid.duty(), slot.share.unwrap_or(1.0));
            add_share(&mut gpu.memory, &grid.memory, 1.0);
            add_share(&mut gpu.power, &grid.power, 1.0);
            for (holder, more) in gpu.holder.iter_mut().zip(grid.holder) {
                *holder = if more == NOBODY { *holder } else { more };
            }
        }
        gpus.into_values().collect()
    }
}

/// Takes the points of a batch; how many it has.
fn add(targets: &HashMap<i64, Target>, grids: &mut [Grid], window: Window, batch: &RecordBatch) -> Result<u64> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| Error::Column { name: name.to_owned() });
    let wrong = |name: &str| Error::Column { name: name.to_owned() };
    let ids = column("series_id")?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("series_id"))?;
    let times = column("time")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| wrong("time"))?;
    let values = column("value")?.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong("value"))?;
    // Points of a series come in runs.
    let mut last: Option<(i64, Option<Target>)> = None;
    for ((id, time), value) in ids.values().iter().zip(times.values()).zip(values.values()) {
        let target = match last {
            Some((known, target)) if known == *id => target,
            _ => {
                let target = targets.get(id).copied();
                last = Some((*id, target));
                target
            }
        };
        let minute = (time - window.start_us) / MINUTE_US;
        if let Some(target) = target
            && let Some(grid) = grids.get_mut(target.grid)
        {
            grid.add(minute as usize, target.quantity, *value, target.holder);
        }
    }
    Ok(batch.num_rows() as u64)
}

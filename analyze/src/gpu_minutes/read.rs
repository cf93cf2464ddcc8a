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
    Gpu, GpuMinutes, Holder, JOB, NOBODY,
    grid::{Grid, Quantity},
    jobs,
    sharers::{Told, most_at_once, once_each},
    slices::{self, Part},
    told, usual_step,
};
use crate::{
    error::{Error, Result},
    rows::Rows,
    window::{MINUTE_US, Window, time_literal},
};

/// Most minutes of cards and slices that are kept, of about 30 bytes while they are read: 10 000 for a week and a day.
const GPU_MINUTES_MAX: usize = 115_000_000;

/// Simulated or not, host, id: what names a card.
pub(super) type Card = (bool, String, String);

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
    /// Name of the slice and its share of the card, NaN where that is unknown; none is the card itself.
    slice: Option<(String, f32)>,
}

/// What the series of a card say of it.
#[derive(Default)]
struct CardLabels {
    model: Option<String>,
    region: Option<String>,
    /// Whether several series say the same of it, or some speak of slices.
    is_parted: bool,
}

/// Cards, slices and holders of the series of a window.
#[derive(Default)]
struct Inventory {
    cards: BTreeMap<Card, CardLabels>,
    slots: Vec<Slot>,
    holders: Vec<Holder>,
    holder_numbers: HashMap<Holder, u16>,
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
        let mut inventory = Inventory::of(&Rows::query(ctx, &series).await?)?;
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
        let mut queries = vec![series, points];
        let mut told = HashMap::new();
        if inventory.cards.values().any(|card| card.is_parted) {
            let query = told::query(window);
            told = told::by_card(&Rows::query(ctx, &query).await?)?;
            queries.push(query);
        }
        let gpus = inventory.cards(grids, told, window)?;
        let mut minutes = Self { window, gpus, holders: inventory.holders, row_count, queries };
        let of_jobs = jobs::name(ctx, &mut minutes).await?;
        minutes.queries.extend(of_jobs);
        Ok(minutes)
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
         max(model_name) AS model, max(model_version) AS model_version, max({JOB}) AS job, \
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
        let (ids, roles) = (rows.integers("series_id")?, rows.texts("role")?);
        let (simulated, hosts, gpu_ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
        let (models, regions, slices) = (rows.texts("gpu_model")?, rows.texts("region")?, rows.texts("mig_id")?);
        let (shares, shared_by) = (rows.numbers("share")?, rows.integers("shared_by")?);
        let labels = ["service", "team", "namespace", "pod", "model", "model_version", "job"];
        let [services, teams, namespaces, pods, served, versions, jobs] = labels.map(|name| rows.texts(name));
        let labels = [services?, teams?, namespaces?, pods?, served?, versions?, jobs?];
        for row in 0..rows.len() {
            let (Some(id), Some(gpu_id)) = (ids[row], gpu_ids[row].clone()) else { continue };
            let role = roles[row].as_deref().unwrap_or_default();
            let Some((_, quantity)) = Quantity::ROLES.iter().find(|(known, _)| *known == role) else { continue };
            let card = (simulated[row], hosts[row].clone().unwrap_or_default(), gpu_id);
            let known = inventory.cards.entry(card.clone()).or_default();
            known.model = known.model.take().or_else(|| models[row].clone());
            known.region = known.region.take().or_else(|| regions[row].clone());
            known.is_parted |= shared_by[row] > Some(1) || slices[row].is_some();
            let slice = slices[row].clone().map(|name| (name, shares[row].unwrap_or(f64::NAN) as f32));
            let grid = *slots.entry((card.clone(), slices[row].clone())).or_insert_with(|| {
                inventory.slots.push(Slot { card, slice });
                inventory.slots.len() - 1
            });
            let [service, team, namespace, pod, model, model_version, job] =
                [0, 1, 2, 3, 4, 5, 6].map(|at| labels[at][row].clone());
            let holder = Holder { service, team, namespace, pod, model, model_version, job };
            let holder = match holder == Holder::default() {
                true => NOBODY,
                false => inventory.holder(&holder)?,
            };
            inventory.targets.insert(id, Target { quantity: *quantity, grid, holder });
        }
        Ok(inventory)
    }

    /// The number of `holder`.
    fn holder(&mut self, holder: &Holder) -> Result<u16> {
        if let Some(index) = self.holder_numbers.get(holder) {
            return Ok(*index);
        }
        let index = u16::try_from(self.holders.len()).ok().filter(|index| *index != NOBODY);
        let index = index.ok_or(Error::TooManyHolders { limit: usize::from(NOBODY) })?;
        self.holders.push(holder.clone());
        self.holder_numbers.insert(holder.clone(), index);
        Ok(index)
    }

    /// The cards, each with what it or its slices said, and who shared it.
    fn cards(&mut self, grids: Vec<Grid>, mut told: HashMap<Card, Vec<Told>>, window: Window) -> Result<Vec<Gpu>> {
        let minute_count = ((window.end_us - window.start_us) / MINUTE_US) as usize;
        let slots = std::mem::take(&mut self.slots);
        let mut of_cards: HashMap<&Card, Vec<(&Slot, Grid)>> = HashMap::new();
        for (slot, grid) in slots.iter().zip(grids) {
            of_cards.entry(&slot.card).or_default().push((slot, grid));
        }
        let mut gpus = Vec::with_capacity(self.cards.len());
        for (card, labels) in std::mem::take(&mut self.cards) {
            let parts = of_cards.remove(&card).unwrap_or_default();
            let told = told.remove(&card).unwrap_or_default();
            let mut gpu = Gpu {
                host: card.1,
                gpu_id: card.2,
                model: labels.model,
                region: labels.region,
                simulated: card.0,
                shared_by: 1,
                slices: vec![],
                sharers: vec![],
                duty: vec![],
                memory: vec![],
                power: vec![],
                holder: vec![NOBODY; minute_count],
            };
            add_parts(&mut gpu, parts, minute_count);
            gpu.sharers = once_each(told, |slice| gpu.step_minutes(slice));
            gpu.shared_by = most_at_once(&gpu.sharers).max(1);
            self.name_sole_holders(&mut gpu, window)?;
            gpus.push(gpu);
        }
        Ok(gpus)
    }

    /// Where one alone has the whole card, it is the holder, whichever exporter the values came from.
    fn name_sole_holders(&mut self, gpu: &mut Gpu, window: Window) -> Result<()> {
        if gpu.sharers.is_empty() || gpu.is_sliced() {
            return Ok(());
        }
        let count = gpu.holder.len();
        let minute = |time_us: i64| ((time_us - window.start_us).max(0) / MINUTE_US).min(count as i64) as usize;
        let mut present = vec![0_u16; count];
        for sharer in &gpu.sharers {
            for count in &mut present[minute(sharer.period.start_us)..minute(sharer.period.end_us)] {
                *count = count.saturating_add(1);
            }
        }
        for at in 0..gpu.sharers.len() {
            let holder = self.holder(&gpu.sharers[at].holder)?;
            let period = gpu.sharers[at].period;
            let (from, until) = (minute(period.start_us), minute(period.end_us));
            for (at, count) in present[from..until].iter().enumerate() {
                if *count == 1 && gpu.is_seen(from + at) {
                    gpu.holder[from + at] = holder;
                }
            }
        }
        Ok(())
    }
}

/// Fills `gpu` with what it and its slices said.
fn add_parts(gpu: &mut Gpu, mut parts: Vec<(&Slot, Grid)>, minute_count: usize) {
    if let [(Slot { slice: None, .. }, _)] = parts.as_slice()
        && let Some((_, grid)) = parts.pop()
    {
        (gpu.duty, gpu.memory, gpu.power, gpu.holder) = (grid.duty(), grid.memory, grid.power, grid.holder);
        return;
    }
    let (mut duty, mut memory, mut power) = (vec![], vec![], vec![]);
    for (slot, grid) in parts {
        let (share, duties) = (slot.slice.as_ref().map_or(1.0, |(_, share)| *share), grid.duty());
        if let Some((name, _)) = &slot.slice {
            let is_seen = |minute: &usize| {
                !(duties[*minute].is_nan() && grid.memory[*minute].is_nan() && grid.power[*minute].is_nan())
            };
            let seen: Vec<usize> = (0..minute_count).filter(is_seen).collect();
            gpu.slices.push((name.clone(), usual_step(&seen)));
        }
        // Where the card itself reports, its slices are copies without values.
        duty.push(Part { values: duties, share });
        memory.push(Part { values: grid.memory, share: 1.0 });
        power.push(Part { values: grid.power, share: 1.0 });
        for (holder, more) in gpu.holder.iter_mut().zip(grid.holder) {
            *holder = if more == NOBODY { *holder } else { more };
        }
    }
    [gpu.duty, gpu.memory, gpu.power] = [duty, memory, power].map(|parts| slices::sum(&parts, minute_count));
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

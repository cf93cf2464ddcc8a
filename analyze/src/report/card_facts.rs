//! What is told of cards besides their minutes: who shares them, their energy counters, how deep they are used.

use std::collections::BTreeMap;

use super::{
    asker::{Asker, CardKey},
    cards::BRIDGED_US,
    present::Present,
};
use crate::{
    energy::Sample,
    error::Result,
    gpu_minutes::{GpuMinutes, Holder},
    price_book::Period,
    rows::{Rows, SIMULATED},
    window::MINUTE_US,
};

/// One of several that have a card.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sharer {
    pub(super) holder: Holder,
    /// Its MIG slice; none where it has a share of the whole card.
    pub(super) slice: Option<String>,
    /// Part of the card, where it is a MIG slice whose size is known.
    pub(super) fraction: Option<f64>,
    /// Whole minutes from its first to its last point of a UTC day, or of days on end.
    pub(super) period: Period,
}

impl Sharer {
    /// Whether `next` goes on where this one ends: how many share a card is told by the day, and midnight ends nothing.
    fn goes_on_as(&self, next: &Self) -> bool {
        let silence_us = next.period.start_us - self.period.end_us;
        self.holder == next.holder && self.slice == next.slice && silence_us <= BRIDGED_US
    }
}

/// Answers of small questions, by card.
#[derive(Debug, Clone, Default)]
pub(super) struct CardFacts {
    /// Of cards that are sliced or shared.
    sharers: BTreeMap<CardKey, Vec<Sharer>>,
    /// Readings of the energy counter, joules.
    pub(super) energy: BTreeMap<CardKey, Vec<Sample>>,
    /// Mean share of time in which a multiprocessor worked.
    pub(super) sm_active: BTreeMap<CardKey, f64>,
}

const CARD: &str = "coalesce(host_name, '') AS host, gpu_id";

fn keys(rows: &Rows) -> Result<Vec<Option<CardKey>>> {
    let (simulated, hosts, ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
    let key = |row: usize| Some((simulated[row], hosts[row].clone().unwrap_or_default(), ids[row].clone()?));
    Ok((0..rows.len()).map(key).collect())
}

impl CardFacts {
    pub(super) async fn read(asker: &mut Asker<'_>, present: &Present, minutes: &GpuMinutes) -> Result<Self> {
        let mut facts = Self::default();
        if minutes.gpus.iter().any(|gpu| gpu.is_sliced || gpu.shared_by > 1) {
            facts.read_sharers(asker).await?;
        }
        if present.has(&["gpu.energy"]) {
            facts.read_energy(asker).await?;
        }
        if present.has(&["gpu.sm_active"]) {
            facts.read_depth(asker).await?;
        }
        Ok(facts)
    }

    /// Who has parts of `card`; nobody where one has it whole.
    pub(super) fn sharers(&self, card: &CardKey) -> &[Sharer] {
        self.sharers.get(card).map_or(&[], Vec::as_slice)
    }

    async fn read_sharers(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let labels = "service_name AS service, team, k8s_namespace AS namespace, k8s_pod AS pod, model_name AS model, model_version";
        let query = format!(
            "SELECT {SIMULATED} AS simulated, {CARD}, mig_id, {labels}, date, max(share) AS share, \
             CAST(min(first_time) AS BIGINT) AS first_us, CAST(max(last_time) AS BIGINT) AS last_us \
             FROM system.gpu_series WHERE role IN ('gpu.utilization', 'gpu.memory.used', 'gpu.power') \
             AND gpu_id IS NOT NULL AND (mig_id IS NOT NULL OR shared_by > 1) AND {} \
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
            asker.series()
        );
        let rows = asker.rows("who shares a card", query).await?;
        let keys = keys(&rows)?;
        let (slices, shares) = (rows.texts("mig_id")?, rows.numbers("share")?);
        let (first, last) = (rows.integers("first_us")?, rows.integers("last_us")?);
        let labels = ["service", "team", "namespace", "pod", "model", "model_version"];
        let [services, teams, namespaces, pods, models, versions] = labels.map(|name| rows.texts(name));
        let labels = [services?, teams?, namespaces?, pods?, models?, versions?];
        for row in 0..rows.len() {
            let [service, team, namespace, pod, model, model_version] =
                [0, 1, 2, 3, 4, 5].map(|at| labels[at][row].clone());
            let holder = Holder { service, team, namespace, pod, model, model_version };
            let (Some(key), Some(first), Some(last)) = (keys[row].clone(), first[row], last[row]) else { continue };
            if holder == Holder::default() {
                continue;
            }
            let slice = slices[row].clone();
            let fraction = slice.as_ref().and(shares[row]).filter(|share| *share > 0.0 && *share <= 1.0);
            // A point speaks for its minute, as everywhere.
            let minute = |time_us: i64| time_us.div_euclid(MINUTE_US) * MINUTE_US;
            let period = Period { start_us: minute(first), end_us: minute(last) + MINUTE_US };
            let sharer = Sharer { holder, slice, fraction, period };
            let known = self.sharers.entry(key).or_default();
            match known.last_mut().filter(|before| before.goes_on_as(&sharer)) {
                Some(before) => before.period.end_us = period.end_us,
                None => known.push(sharer),
            }
        }
        Ok(())
    }

    async fn read_energy(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        // Of ten minutes the last reading: of a counter it is the largest, but for those of a reset.
        let query = format!(
            "SELECT {SIMULATED} AS simulated, {CARD}, CAST(time AS BIGINT) / 600000000 AS bin, \
             CAST(max(time) AS BIGINT) AS time_us, max(value) AS joules FROM gpu WHERE role = 'gpu.energy' \
             AND gpu_id IS NOT NULL AND {} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
            asker.points()
        );
        let rows = asker.rows("energy counters", query).await?;
        let (times, joules) = (rows.integers("time_us")?, rows.numbers("joules")?);
        for ((key, time), joules) in keys(&rows)?.into_iter().zip(times).zip(joules) {
            if let (Some(key), Some(sample)) = (key, time.zip(joules)) {
                self.energy.entry(key).or_default().push(sample);
            }
        }
        Ok(())
    }

    async fn read_depth(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let query = format!(
            "SELECT {SIMULATED} AS simulated, {CARD}, avg(value) AS active FROM gpu WHERE role = 'gpu.sm_active' \
             AND gpu_id IS NOT NULL AND mig_id IS NULL AND {} GROUP BY 1, 2, 3",
            asker.points()
        );
        let rows = asker.rows("activity of multiprocessors", query).await?;
        let active = rows.numbers("active")?;
        let known = keys(&rows)?.into_iter().zip(active).filter_map(|(key, active)| key.zip(active));
        self.sm_active = known.collect();
        Ok(())
    }
}

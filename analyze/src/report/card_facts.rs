//! What is told of cards besides their minutes: their energy counters, and how deep they are used.

use std::collections::BTreeMap;

use super::{
    asker::{Asker, CardKey},
    present::Present,
};
use crate::{
    energy::Sample,
    error::Result,
    rows::{Rows, SIMULATED},
};

/// Answers of small questions, by card.
#[derive(Debug, Clone, Default)]
pub(super) struct CardFacts {
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
    pub(super) async fn read(asker: &mut Asker<'_>, present: &Present) -> Result<Self> {
        let mut facts = Self::default();
        if present.has(&["gpu.energy"]) {
            facts.read_energy(asker).await?;
        }
        if present.has(&["gpu.sm_active"]) {
            facts.read_depth(asker).await?;
        }
        Ok(facts)
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

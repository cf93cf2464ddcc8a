//! Admission: a bound on requests worked on at once, and on their bytes. Nobody waits: over the bound is "retry later".

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::Config,
    error::{Error, Result},
};

/// Bytes are counted in units of this size, because a permit count is 32 bits.
const UNIT: usize = 1024;

/// Free request slots and bytes.
#[derive(Debug)]
pub(crate) struct Gate {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A place for one request; given back on drop.
#[derive(Debug)]
pub(crate) struct Admission {
    _request: OwnedSemaphorePermit,
    pool: Arc<Semaphore>,
    bytes: Option<OwnedSemaphorePermit>,
    unit_count: usize,
}

impl Gate {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(config.requests_in_flight_max)),
            bytes: Arc::new(Semaphore::new(config.bytes_in_flight_max / UNIT)),
        }
    }

    /// Takes a request slot; bytes are taken as they become known.
    pub(crate) fn enter(&self) -> Result<Admission> {
        let request = Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| Error::Overloaded { what: "requests in flight" })?;
        Ok(Admission { _request: request, pool: Arc::clone(&self.bytes), bytes: None, unit_count: 0 })
    }
}

impl Admission {
    /// Holds at least `size_bytes` from now on.
    pub(crate) fn reserve(&mut self, size_bytes: usize) -> Result<()> {
        let missing = size_bytes.div_ceil(UNIT).saturating_sub(self.unit_count);
        if missing == 0 {
            return Ok(());
        }
        let overloaded = Error::Overloaded { what: "bytes in flight" };
        let Ok(count) = u32::try_from(missing) else { return Err(overloaded) };
        let Ok(permit) = Arc::clone(&self.pool).try_acquire_many_owned(count) else { return Err(overloaded) };
        match &mut self.bytes {
            Some(held) => held.merge(permit),
            None => self.bytes = Some(permit),
        }
        self.unit_count += missing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_bytes_come_back_on_drop() {
        let gate = Gate::new(&Config { requests_in_flight_max: 1, bytes_in_flight_max: 4096, ..Config::default() });
        let mut first = gate.enter().unwrap();
        assert!(matches!(gate.enter(), Err(Error::Overloaded { what: "requests in flight" })));
        first.reserve(3000).unwrap();
        first.reserve(4096).unwrap();
        assert!(matches!(first.reserve(4097), Err(Error::Overloaded { what: "bytes in flight" })));
        drop(first);
        gate.enter().unwrap().reserve(4096).unwrap();
    }
}

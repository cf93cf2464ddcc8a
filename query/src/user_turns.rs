//! The turns of users with a limit of their own, who pass it before they wait for a slot of all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::{Config, UserLimits},
    error::{Error, Result},
};

/// By the names of users.
#[derive(Debug, Default)]
pub(crate) struct UserTurns {
    users: BTreeMap<String, Arc<UserTurn>>,
}

/// What one user has running and waiting.
#[derive(Debug)]
pub(crate) struct UserTurn {
    user: String,
    concurrency_max: usize,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl UserTurns {
    pub(crate) fn new(config: &Config) -> Self {
        let limited = config.user_limits.iter().filter_map(|(user, limits)| Some((user, limits.concurrency_max?)));
        let turn = |(user, concurrency_max): (&String, usize)| {
            let slots = Arc::new(Semaphore::new(concurrency_max.min(Semaphore::MAX_PERMITS)));
            let turn = UserTurn { user: user.clone(), concurrency_max, slots, waiting: AtomicUsize::new(0) };
            (user.clone(), Arc::new(turn))
        };
        Self { users: limited.map(turn).collect() }
    }

    /// That of `user`; none without a limit.
    pub(crate) fn of(&self, user: Option<&str>) -> Option<Arc<UserTurn>> {
        self.users.get(user?).map(Arc::clone)
    }
}

impl UserTurn {
    /// A slot, if one is free.
    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// A place to wait in.
    ///
    /// # Errors
    /// [`Error::UserBusy`] if too many of the user's wait.
    pub(crate) fn wait(self: Arc<Self>) -> Result<Waiting> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { turn: self };
        let UserTurn { user, concurrency_max, .. } = &*waiting.turn;
        let waiting_max = UserLimits::waiting_max(*concurrency_max);
        if before < waiting_max {
            return Ok(waiting);
        }
        Err(Error::UserBusy { user: user.clone(), running: *concurrency_max, waiting: waiting_max })
    }
}

/// Counted as waiting until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    turn: Arc<UserTurn>,
}

impl Waiting {
    /// Waits for a slot.
    ///
    /// # Errors
    /// Nothing that happens: nobody closes the slots.
    pub(crate) async fn acquire(self) -> Result<OwnedSemaphorePermit> {
        let slot = Arc::clone(&self.turn.slots).acquire_owned().await;
        slot.map_err(|_closed| Error::invalid("the server takes no more questions"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.turn.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Cancel requests: they come over a connection of their own, with the key that the other one got.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// What runs on a connection now.
#[derive(Debug, Default)]
pub(crate) struct Canceller {
    running: Mutex<Option<CancellationToken>>,
}

impl Canceller {
    /// A statement begins: what it is told when it is to stop. A request that comes between two statements stops neither.
    pub(crate) fn begin(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop.clone());
        stop
    }

    /// The statement has ended.
    pub(crate) fn end(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn cancel(&self) {
        if let Some(stop) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            stop.cancel();
        }
    }
}

/// The keys of all connections.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    last_pid: AtomicI32,
    connections: Mutex<HashMap<i32, (i32, Arc<Canceller>)>>,
}

/// The key of one connection, which is given up with it.
#[derive(Debug)]
pub(crate) struct Key {
    keys: Arc<Keys>,
    pub(crate) pid: i32,
    pub(crate) secret: i32,
}

impl Keys {
    /// A key for a connection.
    pub(crate) fn register(self: &Arc<Self>, canceller: &Arc<Canceller>, secret: i32) -> Key {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = loop {
            // Wraps around after two thousand million connections; numbers in use are passed over.
            let pid = self.last_pid.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
            if pid > 0 && !connections.contains_key(&pid) {
                break pid;
            }
        };
        connections.insert(pid, (secret, Arc::clone(canceller)));
        Key { keys: Arc::clone(self), pid, secret }
    }

    /// Stops what runs on the connection with this key; nobody is told whether there is one.
    pub(crate) fn cancel(&self, pid: i32, secret: i32) {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((own, canceller)) = connections.get(&pid)
            && *own == secret
        {
            canceller.cancel();
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.keys.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
    }
}

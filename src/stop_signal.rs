//! SIGINT and SIGTERM.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from when it is made, so a signal that comes before anyone waits is not lost and does not kill the process.
pub(crate) struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// From here on signals no longer end the process by themselves.
    ///
    /// # Errors
    /// Signals cannot be received on this system.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("receive SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("receive SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// Resolves on the first signal since `listen`.
    pub(crate) async fn received(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

//! The reading process: answers each line on standard input with a sample on standard output.

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
};

use tokio::task::spawn_blocking;

use super::{answer, nvml::Gpus};
use crate::{
    error::{Error, Result},
    reading::Source,
};

/// Reads the GPUs once for each line on standard input and writes the sample as a line of JSON to standard output,
/// until the input ends. What programs that set [`Config::gpu_process`](crate::Config) run when they are started so.
///
/// # Errors
/// [`Error::GpuProcess`] if input or output fail.
pub async fn serve_gpu_readings(library: Option<PathBuf>) -> Result<()> {
    // A service manager signals every process of a unit, and a terminal every one of the group. The collector still
    // wants a last sample then, so only the end of the input, or a kill, ends this process.
    #[cfg(unix)]
    let _signals = {
        use tokio::signal::unix::{SignalKind, signal};
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
    };
    let served = spawn_blocking(move || -> io::Result<()> {
        let mut gpus = Gpus::new(library.map(PathBuf::into_os_string));
        let mut output = io::stdout();
        for request in io::stdin().lock().lines() {
            request?;
            output.write_all(answer::encode(&gpus.sample())?.as_bytes())?;
            output.flush()?;
        }
        Ok(())
    });
    served.await.map_err(io::Error::other).flatten().map_err(|source| Error::GpuProcess { source })
}

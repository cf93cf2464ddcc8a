//! The reading process: answers each line on standard input with a sample on standard output.

use std::io::{self, BufRead, Lines, StdinLock, Stdout, Write};

use tokio::task::spawn_blocking;

use super::{answer, nvml::Gpus, settings::GpuSettings};
use crate::{
    error::{Error, Result},
    reading::{Questions, Sample, Source},
};

/// Reads the GPUs once for each line on standard input and writes the sample as a line of JSON to standard output,
/// until the input ends. What programs that set [`Config::gpu_process`](crate::Config) run when they are started so;
/// `settings` is the last argument of that start.
///
/// # Errors
/// [`Error::GpuProcess`] if the settings are none, or input or output fail.
pub async fn serve_gpu_readings(settings: &str) -> Result<()> {
    let settings = GpuSettings::from_json(settings).map_err(|error| Error::GpuProcess { source: error.into() })?;
    // A service manager signals every process of a unit, and a terminal every one of the group. The collector still
    // wants a last sample then, so only the end of the input, or a kill, ends this process.
    #[cfg(unix)]
    let _signals = {
        use tokio::signal::unix::{SignalKind, signal};
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
    };
    let served = spawn_blocking(move || {
        let mut lines = StandardLines { input: io::stdin().lock().lines(), output: io::stdout(), failure: None };
        Gpus::new(settings).serve(&mut lines);
        lines.failure.map_or(Ok(()), Err)
    });
    served.await.map_err(io::Error::other).flatten().map_err(|source| Error::GpuProcess { source })
}

/// One question is one line of input, one answer one line of output; a failure ends the questions.
struct StandardLines {
    input: Lines<StdinLock<'static>>,
    output: Stdout,
    failure: Option<io::Error>,
}

impl Questions for StandardLines {
    fn next(&mut self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        match self.input.next() {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                self.failure = Some(error);
                false
            }
            None => false,
        }
    }

    fn answer(&mut self, sample: Sample) {
        let written = answer::encode(&sample).map_err(io::Error::from);
        let written = written.and_then(|line| self.output.write_all(line.as_bytes()));
        self.failure = written.and_then(|()| self.output.flush()).err();
    }
}

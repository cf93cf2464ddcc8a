//! One reading process: its command, and one question and one answer at a time.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{answer, settings::GpuSettings};
use crate::reading::Sample;

/// Longest answer: some 64 GPUs with as many processes each as are told. Text that the driver's library writes by itself cannot fill the memory.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A new process first loads the library and wakes the GPUs, seconds each where no persistence mode keeps them awake;
/// its first answer may take so many times longer.
const START_TIMEOUTS: u32 = 4;

/// The command of a process that calls [`serve_gpu_readings`](crate::serve_gpu_readings) with its last argument, which the
/// collector adds: what is to be read, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuProcess {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl GpuProcess {
    /// The running program again, with other arguments.
    ///
    /// # Errors
    /// If the operating system does not say which program runs.
    pub fn this_program(arguments: &[&str]) -> io::Result<Self> {
        // On Linux this stays the same program after an upgrade has replaced its file.
        let program = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { env::current_exe()? };
        Ok(Self { program, arguments: arguments.iter().map(OsString::from).collect() })
    }

    pub(crate) fn with_settings(mut self, settings: &GpuSettings) -> Self {
        self.arguments.push(settings.to_json().into());
        self
    }
}

/// Why there was no answer and never will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The operating system did not start the process.
    NotStarted,
    /// The process ended.
    Exited,
    /// The time for an answer is over.
    TimedOut,
    /// The answer makes no sense.
    Invalid,
}

impl Loss {
    pub(super) fn error_type(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Exited => "exited",
            Self::TimedOut => "timeout",
            Self::Invalid => "invalid_answer",
        }
    }
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    /// When the question was asked that is not answered yet.
    asked_at: Option<Instant>,
    has_answered: bool,
}

impl Process {
    pub(super) fn start(command: &GpuProcess) -> io::Result<Self> {
        let mut started = Command::new(&command.program);
        started.args(&command.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        #[cfg(unix)]
        if let Some(name) = env::args_os().next() {
            std::os::unix::process::CommandExt::arg0(&mut started, name);
        }
        let mut child = started.spawn()?;
        let (Some(requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the process has no pipes"));
        };
        let (sender, answers) = sync_channel(1);
        // Ends with the process, or, where that cannot be killed, hangs with it: one idle thread for each.
        thread::Builder::new().name("collector-gpu-answers".into()).spawn(move || forward(output, &sender))?;
        Ok(Self { child, requests, answers, asked_at: None, has_answered: false })
    }

    /// Waits up to `wait` for a sample; `None` while the process is within its `timeout` and may still answer.
    pub(super) fn sample(&mut self, wait: Duration, timeout: Duration) -> Result<Option<Sample>, Loss> {
        if self.asked_at.is_some() && self.answers.try_recv().is_ok() {
            // Came after we stopped waiting: a sign of life, but its values are old.
            self.answered();
        }
        let asked_at = match self.asked_at {
            Some(asked_at) => asked_at,
            None => {
                self.requests.write_all(b"\n").map_err(|_| Loss::Exited)?;
                *self.asked_at.insert(Instant::now())
            }
        };
        match self.answers.recv_timeout(wait) {
            Ok(line) => {
                self.answered();
                answer::decode(&line).ok_or(Loss::Invalid).map(Some)
            }
            Err(RecvTimeoutError::Disconnected) => Err(Loss::Exited),
            Err(RecvTimeoutError::Timeout) => {
                let allowed = if self.has_answered { timeout } else { timeout * START_TIMEOUTS };
                if asked_at.elapsed() < allowed { Ok(None) } else { Err(Loss::TimedOut) }
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    fn answered(&mut self) {
        self.asked_at = None;
        self.has_answered = true;
    }

    /// Kills the process and hands it over to be reaped: in an uninterruptible driver call it does not end yet.
    pub(super) fn kill(mut self) -> Child {
        if let Err(error) = self.child.kill() {
            tracing::debug!(%error, "the process that reads GPUs could not be signalled");
        }
        self.child
    }
}

/// Hands on one line after the other until the output ends or nobody wants them.
fn forward(output: ChildStdout, answers: &SyncSender<String>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = String::new();
        let read = output.by_ref().take(ANSWER_BYTES_MAX).read_line(&mut line);
        if read.is_err() || !line.ends_with('\n') || answers.send(line).is_err() {
            return;
        }
    }
}

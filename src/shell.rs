//! The shell of `driftwatt sql`: statements from a person or from a file, commands after psql's example.

mod command;
mod completion;
mod output;
mod pager;
mod statement;

use std::{
    io::{self, BufRead, IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use rustyline::{Config, Editor, error::ReadlineError, history::DefaultHistory};

pub(crate) use self::output::OutputFormat;
use self::{
    command::{Command, HELP},
    completion::{Names, SqlHelper},
};
use crate::{cli::Source, terminal};

const PROMPT: &str = "driftwatt> ";
const HISTORY_LINES_MAX: usize = 2000;
/// A query that takes longer says that it runs, and how to stop it.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Files that include one another.
const INCLUDE_DEPTH_MAX: usize = 8;

type SqlEditor = Editor<SqlHelper, DefaultHistory>;

/// One source and how its answers are shown.
struct Shell {
    source: Source,
    format: OutputFormat,
    records: bool,
    timing: bool,
    pager: bool,
    /// Columns and lines of the screen.
    size: (usize, usize),
    include_depth: usize,
}

/// Runs what standard input holds and stops at the first error.
///
/// # Errors
/// The first one.
pub(crate) async fn run_script(source: Source, format: Option<OutputFormat>) -> anyhow::Result<()> {
    let mut shell = Shell::new(source, format.unwrap_or_else(OutputFormat::usual), false);
    let ran = shell.run_lines(io::stdin().lock()).await;
    shell.source.close().await?;
    ran
}

/// Talks to a person until they leave.
///
/// # Errors
/// The terminal cannot be used, or a directory cannot be closed.
pub(crate) async fn converse(source: Source, format: Option<OutputFormat>) -> anyhow::Result<()> {
    let mut shell = Shell::new(source, format.unwrap_or(OutputFormat::Table), true);
    terminal::print(&format!("{}; \\? for help, \\q to leave", shell.source.name()));
    let mut editor = editor(&shell.source).await?;
    let history = history_file();
    if let Some(file) = &history {
        // There is none the first time.
        let _none = editor.load_history(file);
    }
    let outcome = shell.converse(&mut editor).await;
    if let Some(file) = &history {
        let saved = file.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(ReadlineError::Io);
        if let Err(error) = saved.and_then(|()| editor.save_history(file)) {
            tracing::warn!(file = %file.display(), %error, "the history was not saved");
        }
    }
    shell.source.close().await?;
    outcome
}

async fn editor(source: &Source) -> anyhow::Result<SqlEditor> {
    let config = Config::builder().max_history_size(HISTORY_LINES_MAX)?.history_ignore_space(true);
    let mut editor = SqlEditor::with_config(config.build()).context("use the terminal")?;
    editor.set_helper(Some(SqlHelper { names: Names::of(source).await }));
    Ok(editor)
}

/// `DRIFTWATT_HISTORY`, or a file in the user's state folder.
fn history_file() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = || named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")));
    named("DRIFTWATT_HISTORY").or_else(|| Some(state()?.join("driftwatt/sql_history")))
}

impl Shell {
    fn new(source: Source, format: OutputFormat, for_person: bool) -> Self {
        let is_interactive = for_person && terminal::is_interactive();
        Self {
            source,
            format,
            records: false,
            timing: is_interactive,
            pager: is_interactive,
            size: (terminal::width(), usize::MAX),
            include_depth: 0,
        }
    }

    async fn converse(&mut self, editor: &mut SqlEditor) -> anyhow::Result<()> {
        loop {
            if let Some((columns, lines)) = editor.dimensions() {
                self.size = (columns.into(), lines.into());
            }
            let text = match editor.readline(PROMPT) {
                Ok(text) => text,
                // What was typed is thrown away, as in other shells.
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(error).context("read from the terminal"),
            };
            editor.add_history_entry(text.trim())?;
            match self.run_text(&text).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => eprintln!("{}", terminal::plain(&format!("{error:#}"))),
            }
        }
    }

    /// Runs whole statements, or one command; whether to go on.
    async fn run_text(&mut self, text: &str) -> anyhow::Result<bool> {
        if text.trim_start().starts_with('\\') {
            return self.obey(Command::parse(text)?).await;
        }
        for query in statement::split(text).statements {
            self.ask(query, None).await?;
        }
        Ok(true)
    }

    /// Runs the statements and commands of `lines`; a last statement needs no semicolon.
    async fn run_lines(&mut self, lines: impl BufRead) -> anyhow::Result<()> {
        let mut text = String::new();
        for line in lines.lines() {
            let line = line.context("read the statements")?;
            if line.trim_start().starts_with('\\') && statement::split(&text).rest.is_empty() {
                text.clear();
                if !self.run_text(&line).await? {
                    return Ok(());
                }
                continue;
            }
            text += &line;
            text.push('\n');
            if line.contains(';') {
                let split = statement::split(&text);
                for query in &split.statements {
                    self.ask(query, None).await?;
                }
                text = split.rest.to_owned();
                if !text.is_empty() {
                    text.push('\n');
                }
            }
        }
        match statement::split(&text).rest {
            "" => Ok(()),
            query => self.ask(query, None).await,
        }
    }

    /// Whether to go on.
    async fn obey(&mut self, command: Command) -> anyhow::Result<bool> {
        match command {
            Command::Help => terminal::print(HELP),
            Command::Quit => return Ok(false),
            Command::Ask { query, otherwise } => self.ask(&query, otherwise.as_deref()).await?,
            Command::Format(format) => self.format = format,
            Command::Records => toggle("records", &mut self.records),
            Command::Timing => toggle("timing", &mut self.timing),
            Command::Pager => toggle("pager", &mut self.pager),
            Command::Include(file) => self.include(&file).await?,
        }
        Ok(true)
    }

    async fn include(&mut self, file: &str) -> anyhow::Result<()> {
        if self.include_depth == INCLUDE_DEPTH_MAX {
            bail!("{file}: {INCLUDE_DEPTH_MAX} files include one another; is there a circle?");
        }
        let lines = io::BufReader::new(std::fs::File::open(file).with_context(|| format!("open {file}"))?);
        self.include_depth += 1;
        let ran = Box::pin(self.run_lines(lines)).await;
        self.include_depth -= 1;
        ran.with_context(|| file.to_owned())
    }

    /// Asks and shows the answer; `otherwise` is the error if there is no row.
    async fn ask(&self, query: &str, otherwise: Option<&str>) -> anyhow::Result<()> {
        let started = Instant::now();
        let answer = self.stoppable(query, started).await?;
        let took = started.elapsed();
        let is_table = self.format == OutputFormat::Table;
        if let Some(otherwise) = otherwise
            && self.format.is_empty(&answer)?
        {
            bail!("{otherwise}");
        }
        let text = if is_table && self.records {
            output::records(&output::parse(&answer)?)
        } else {
            self.format.render(&answer, self.size.0)?
        };
        if self.pager {
            pager::show(&text, self.size.1)
        } else {
            terminal::print(&text)
        }
        if self.timing {
            terminal::print(&format!("{:.1} ms", took.as_secs_f64() * 1000.0));
        }
        Ok(())
    }

    /// The answer; an error if Ctrl-C stopped the query, so that a file is not gone on with.
    async fn stoppable(&self, query: &str, started: Instant) -> anyhow::Result<String> {
        let answer = self.source.answer(query, self.format.wire());
        if !io::stderr().is_terminal() {
            return answer.await;
        }
        tokio::pin!(answer);
        let mut shown = false;
        let mut tick = tokio::time::interval_at((started + SILENCE_MAX).into(), Duration::from_millis(200));
        let outcome = loop {
            tokio::select! {
                answer = &mut answer => break answer,
                _ = tokio::signal::ctrl_c() => break Err(anyhow!("stopped")),
                _ = tick.tick() => {
                    eprint!("\r{:.1} s, Ctrl-C stops the query\x1b[K", started.elapsed().as_secs_f64());
                    shown = true;
                }
            }
        };
        if shown {
            eprint!("\r\x1b[K");
        }
        io::stderr().flush()?;
        outcome
    }
}

fn toggle(name: &str, setting: &mut bool) {
    *setting = !*setting;
    terminal::print(&format!("{name} {}", if *setting { "on" } else { "off" }));
}

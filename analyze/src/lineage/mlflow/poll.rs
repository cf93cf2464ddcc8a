//! One poll of the registry: which request comes next, until a snapshot is complete.

use std::collections::{BTreeSet, VecDeque};

use super::answer::{AnswerError, Page, read_model_versions, read_registered_models, read_version_by_alias};
use super::change::Snapshot;
use super::request::Request;

/// How a poll asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollOptions {
    /// Ask for every version, not only for those changed since the last poll. Only this notices deleted versions, and
    /// tags that were set without a new time of update.
    pub full: bool,
    /// Aliases to ask for one by one, as model and alias, for registries whose search leaves aliases out.
    pub aliases_asked: Vec<(String, String)>,
    /// Pages of one search before the poll gives up. Default 10 000, for ten million versions.
    pub pages_max: usize,
}

impl Default for PollOptions {
    fn default() -> Self {
        Self { full: true, aliases_asked: Vec::new(), pages_max: 10_000 }
    }
}

/// Why a poll ended without a snapshot. The snapshot before stays valid, and the next poll covers the gap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// An answer was of no use.
    #[error("{path}: {source}")]
    Answer {
        /// What was asked.
        path: &'static str,
        /// What is wrong with the answer.
        source: AnswerError,
    },
    /// A page token came a second time, so that the search would not end.
    #[error("{path}: the registry sends the same page token again after {pages} pages")]
    TokenRepeats {
        /// What was asked.
        path: &'static str,
        /// Pages read.
        pages: usize,
    },
    /// More pages than allowed.
    #[error("{path}: more than {pages_max} pages: raise the limit, or poll a registry of one team")]
    TooManyPages {
        /// What was asked.
        path: &'static str,
        /// The limit.
        pages_max: usize,
    },
    /// An answer came after the last request.
    #[error("an answer without a request")]
    NotAsked,
}

/// What is being read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Models,
    Aliases(VecDeque<(String, String)>),
    Versions,
    Done,
}

/// The state of a poll: ask [`Poll::request`], bring the answer to [`Poll::accept`], until there is no request.
#[derive(Debug, Clone)]
pub struct Poll {
    options: PollOptions,
    phase: Phase,
    page_token: Option<String>,
    tokens_seen: BTreeSet<String>,
    pages: usize,
    /// Versions updated before this are known already, UTC milliseconds; `None` reads all.
    known_until_ms: Option<i64>,
    snapshot: Snapshot,
}

impl Poll {
    /// Starts a poll at `now_us`, UTC microseconds, on top of the last complete snapshot.
    pub fn start(previous: Option<&Snapshot>, options: PollOptions, now_us: i64) -> Self {
        let carried = previous.filter(|_| !options.full);
        let versions = carried.map(|previous| previous.versions.clone()).unwrap_or_default();
        let known_until_ms = versions.values().filter_map(|version| version.last_updated_timestamp).max();
        let snapshot = Snapshot { began_us: now_us, ended_us: now_us, models: Default::default(), versions };
        Self {
            options,
            phase: Phase::Models,
            page_token: None,
            tokens_seen: BTreeSet::new(),
            pages: 0,
            known_until_ms,
            snapshot,
        }
    }

    /// The larger of the models and the versions that are held.
    pub fn rows_held(&self) -> usize {
        self.snapshot.models.len().max(self.snapshot.versions.len())
    }

    /// What to ask next; `None` once the snapshot is complete.
    pub fn request(&self) -> Option<Request> {
        let page_token = self.page_token.as_deref();
        match &self.phase {
            Phase::Models => Some(Request::registered_models(page_token)),
            Phase::Aliases(queue) => queue.front().map(|(model, alias)| Request::version_by_alias(model, alias)),
            Phase::Versions => Some(Request::model_versions(page_token)),
            Phase::Done => None,
        }
    }

    /// Takes the answer to the last request.
    ///
    /// # Errors
    /// [`PollError`]; the poll is then of no more use.
    pub fn accept(&mut self, status: u16, body: &[u8]) -> Result<(), PollError> {
        let path = self.request().ok_or(PollError::NotAsked)?.path;
        let wrong = |source| PollError::Answer { path, source };
        match &mut self.phase {
            Phase::Models => {
                let page = read_registered_models(status, body).map_err(wrong)?;
                let models = self.turn_page(path, page)?;
                self.snapshot.models.extend(models.into_iter().map(|model| (model.name.clone(), model)));
                if self.phase != Phase::Models {
                    // Carried versions of a deleted model go with it; those of a model that is registered right now
                    // are yet to be read and must stay.
                    let models = &self.snapshot.models;
                    self.snapshot.versions.retain(|(model, _), _| models.contains_key(model));
                }
            }
            Phase::Aliases(queue) => {
                let Some((model, alias)) = queue.pop_front() else { return Err(PollError::NotAsked) };
                let version = match read_version_by_alias(status, body) {
                    Ok(found) => Some(found.version),
                    Err(AnswerError::Absent { .. }) => None,
                    Err(error) => return Err(wrong(error)),
                };
                if queue.is_empty() {
                    self.phase = Phase::Versions;
                }
                if let Some(found) = self.snapshot.models.get_mut(&model) {
                    match version {
                        Some(version) => found.aliases.insert(alias, version),
                        None => found.aliases.remove(&alias),
                    };
                }
            }
            Phase::Versions => self.accept_versions(path, read_model_versions(status, body).map_err(wrong)?)?,
            Phase::Done => return Err(PollError::NotAsked),
        }
        Ok(())
    }

    /// The complete snapshot, at `now_us`, UTC microseconds.
    ///
    /// # Errors
    /// The poll itself, if requests are still open.
    pub fn finish(self, now_us: i64) -> Result<Snapshot, Box<Self>> {
        if self.phase != Phase::Done {
            return Err(Box::new(self));
        }
        Ok(Snapshot { ended_us: now_us, ..self.snapshot })
    }

    fn accept_versions(&mut self, path: &'static str, page: Page<super::ModelVersion>) -> Result<(), PollError> {
        // Versions come last changed first, so one that is older ends what is new. Equal times are read again: others
        // of the same millisecond may have come after the last poll.
        let known = |known_ms: i64| {
            page.rows.iter().any(|row| row.last_updated_timestamp.is_some_and(|time_ms| time_ms < known_ms))
        };
        let caught_up = self.known_until_ms.is_some_and(known);
        let versions = self.turn_page(path, page)?;
        self.snapshot.versions.extend(versions.into_iter().map(|row| ((row.name.clone(), row.version.clone()), row)));
        if caught_up {
            self.phase = Phase::Done;
        }
        Ok(())
    }

    /// Goes on to the next page, or to the next phase after the last one.
    fn turn_page<T>(&mut self, path: &'static str, page: Page<T>) -> Result<Vec<T>, PollError> {
        self.pages += 1;
        match page.next_page_token {
            Some(_) if self.pages >= self.options.pages_max => {
                return Err(PollError::TooManyPages { path, pages_max: self.options.pages_max });
            }
            Some(token) if !self.tokens_seen.insert(token.clone()) => {
                return Err(PollError::TokenRepeats { path, pages: self.pages });
            }
            Some(token) => self.page_token = Some(token),
            None => {
                self.page_token = None;
                self.tokens_seen.clear();
                self.pages = 0;
                self.phase = match self.phase {
                    Phase::Models if !self.options.aliases_asked.is_empty() => {
                        Phase::Aliases(self.options.aliases_asked.iter().cloned().collect())
                    }
                    Phase::Models => Phase::Versions,
                    _ => Phase::Done,
                };
            }
        }
        Ok(page.rows)
    }
}

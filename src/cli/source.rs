//! Where answers come from: a running server, or a data directory that this process opens.

use std::{path::Path, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use datafusion::prelude::SessionContext;
use driftwatt_store::{Retention, Store};
use serde_json::{Value, json};

use super::SourceArgs;
use crate::{
    config::{Config, RawConfig},
    session,
};

/// A data directory opened by this process.
pub(crate) struct Opened {
    pub(super) store: Arc<Store>,
    pub(super) session: SessionContext,
    pub(super) config: Config,
}

/// Answers SQL.
pub(crate) enum Source {
    /// A server, by its URL without a final `/`.
    Server { url: String, client: reqwest::Client },
    /// A directory.
    Directory(Box<Opened>),
}

impl Opened {
    /// Opens `data`, whose server must be stopped.
    ///
    /// # Errors
    /// It is no data directory, is in use, or its settings are wrong.
    pub(super) async fn open(data: &Path, config: Option<&PathBuf>) -> anyhow::Result<Self> {
        if !data.join("tables").is_dir() {
            bail!("{} is not a Driftwatt data directory (it has no folder `tables`)", data.display());
        }
        let mut raw = RawConfig::read(config)?;
        raw.server.data_dir = Some(data.to_owned());
        let mut config = raw.validate()?;
        // Whoever asks a question deletes nothing, whatever the settings at hand say.
        config.store.retention = Retention::FOREVER;
        let store =
            Store::open(config.store.clone()).await.context("for a running server, use --server instead of --data")?;
        let session = session::session(&store, &config).await?;
        Ok(Self { store, session, config })
    }
}

impl Source {
    /// The source that `args` name. A server is not asked yet.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(super) async fn open(args: &SourceArgs) -> anyhow::Result<Self> {
        Ok(match &args.data {
            None => Self::Server { url: args.server.trim_end_matches('/').to_owned(), client: reqwest::Client::new() },
            Some(data) => Self::Directory(Box::new(Opened::open(data, args.config.as_ref()).await?)),
        })
    }

    /// The answer to `query` in `format` (`json`, `ndjson` or `csv`), whole. Dropped before its end, it stops the query.
    ///
    /// # Errors
    /// No server, or what is wrong with the query, in the server's words.
    pub(crate) async fn answer(&self, query: &str, format: &str) -> anyhow::Result<String> {
        let (url, client) = match self {
            Self::Directory(opened) => {
                return Ok(driftwatt_query::answer(&opened.session, &opened.config.query, query, format).await?);
            }
            Self::Server { url, client } => (url, client),
        };
        let question = json!({ "query": query, "format": format });
        let sent = client.post(format!("{url}/api/v1/sql")).json(&question).send().await;
        let response = sent.with_context(|| no_server(url))?;
        let status = response.status();
        let text = response.text().await.context("the answer broke off: see the server's log for why")?;
        if status.is_success() { Ok(text) } else { Err(refusal(&text, || format!("{url} answered {status}: {text}"))) }
    }

    /// Lets a directory go.
    ///
    /// # Errors
    /// It could not be closed.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Server { .. } => Ok(()),
            Self::Directory(opened) => Ok(opened.store.close().await?),
        }
    }

    /// What a person calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Server { url, .. } => url.clone(),
            Self::Directory(opened) => opened.config.store.data_dir.display().to_string(),
        }
    }
}

/// What to say when nothing listens at `url`.
pub(super) fn no_server(url: &str) -> String {
    format!("no server answers at {url}; start one, or name a directory with --data")
}

/// The server's words in `body`, or what `otherwise` says.
pub(super) fn refusal(body: &str, otherwise: impl FnOnce() -> String) -> anyhow::Error {
    let error: Value = serde_json::from_str(body).unwrap_or_default();
    let message = error["error"]["message"].as_str().map(str::to_owned);
    anyhow::Error::msg(message.unwrap_or_else(otherwise))
}

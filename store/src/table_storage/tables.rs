//! Where all tables are, and that no two data directories write to the same place.
//!
//! ```text
//! DIR/TABLES                     where the tables are and the id of this data directory, if they are on S3
//! s3://…/_driftwatt_owner        the id of the data directory that writes there
//! DIR/cache/<table>/             copies, emptied at start
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{Listed, TableStorage, bucket::Bucket};
use crate::{
    config::{Config, S3Url},
    delta_log::names::LOG_DIR,
    error::{Error, Result},
    partial_file::{remove_unused, write_synced},
};

/// Says where the tables are if they are not below the data directory.
pub(crate) const TABLES_FILE: &str = "TABLES";
/// Copies of what is on S3.
pub(crate) const CACHE: &str = "cache";

/// The place of all tables.
#[derive(Debug)]
pub(crate) enum Tables {
    Local(PathBuf),
    S3(Arc<Bucket>),
}

/// What [`TABLES_FILE`] says.
struct Written {
    url: S3Url,
    id: String,
}

fn read(data_dir: &Path) -> Result<Option<Written>> {
    let path = data_dir.join(TABLES_FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(Error::io("read", &path))?,
    };
    let written = text.trim_end().split_once(' ').and_then(|(url, id)| Some((S3Url::parse(url).ok()?, id)));
    match written {
        Some((url, id)) => Ok(Some(Written { url, id: id.to_owned() })),
        None => Err(Error::Corrupt { path, offset: 0, reason: "is not a line with an s3:// URL and an id".into() }),
    }
}

fn has_local_tables(root: &Path) -> Result<bool> {
    Ok(!local_names(root)?.is_empty())
}

fn local_names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::io("list", root))? {
        let entry = entry.map_err(Error::io("list", root))?;
        if entry.path().join(LOG_DIR).is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Tables {
    /// The place that `config` names, for the one process that writes there.
    ///
    /// # Errors
    /// [`Error::TablesElsewhere`] if the data directory has its tables at another place, [`Error::TablesTaken`] if another
    /// data directory writes there, [`Error::Storage`] if the bucket does not answer.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let data_dir = config.data_dir.canonicalize().map_err(Error::io("resolve", &config.data_dir))?;
        let root = data_dir.join("tables");
        let written = read(&data_dir)?;
        let here = written.as_ref().map_or_else(|| root.display().to_string(), |written| written.url.to_string());
        let elsewhere = || Error::TablesElsewhere { path: data_dir.clone(), tables: here };
        let Some(url) = &config.tables else {
            return if written.is_some() { Err(elsewhere()) } else { Ok(Self::Local(root)) };
        };
        let (id, fresh) = match written {
            Some(written) if written.url != *url => return Err(elsewhere()),
            Some(written) => (written.id, false),
            None if has_local_tables(&root)? => return Err(elsewhere()),
            None => (Uuid::new_v4().to_string(), true),
        };
        let cache_dir = data_dir.join(CACHE);
        match fs::remove_dir_all(&cache_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &cache_dir)(error));
            }
            _ => {}
        }
        let bucket = Bucket::new(url, &config.s3, cache_dir, Some(id.clone()))?;
        if fresh {
            // First, so that a start cut short does not take the bucket from its own directory.
            write_synced(&data_dir, TABLES_FILE, format!("{url} {id}\n").as_bytes())?;
        }
        let claimed = bucket.claim().await;
        if fresh && matches!(claimed, Err(Error::TablesTaken { .. })) {
            remove_unused(&data_dir.join(TABLES_FILE));
        }
        claimed.map(|()| Self::S3(Arc::new(bucket)))
    }

    /// Where the tables of a data directory are that no server has open, to look at them only. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`].
    pub(crate) fn open_to_read(config: &Config) -> Result<Self> {
        let Some(written) = read(&config.data_dir)? else {
            return Ok(Self::Local(config.data_dir.join("tables")));
        };
        let cache_dir = config.data_dir.join(CACHE).join(Uuid::new_v4().to_string());
        Ok(Self::S3(Arc::new(Bucket::new(&written.url, &config.s3, cache_dir, None)?)))
    }

    /// The table `name`, which need not exist.
    pub(crate) fn table(&self, name: &str) -> Arc<TableStorage> {
        match self {
            Self::Local(root) => TableStorage::local(root.join(name)),
            Self::S3(bucket) => TableStorage::in_bucket(bucket, name),
        }
    }

    /// Tables that exist.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) async fn names(&self) -> Result<Vec<String>> {
        let bucket = match self {
            Self::Local(root) => return local_names(root),
            Self::S3(bucket) => bucket,
        };
        let mut names = Vec::new();
        for name in bucket.folders().await? {
            if self.table(&name).exists().await? {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Tables that exist, with their logs at hand. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) fn found(&self) -> Result<Vec<(String, Arc<TableStorage>)>> {
        let with_storage = |name: String| {
            let storage = self.table(&name);
            (name, storage)
        };
        match self {
            Self::Local(root) => Ok(local_names(root)?.into_iter().map(with_storage).collect()),
            Self::S3(bucket) => bucket.wait(async {
                let tables: Vec<_> = self.names().await?.into_iter().map(with_storage).collect();
                for (_, storage) in &tables {
                    storage.create_dirs()?;
                    storage.settle_log().await?;
                }
                Ok(tables)
            }),
        }
    }

    /// Data files and files of the log that are in `storage`. Blocks.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn list(&self, storage: &TableStorage) -> Result<(Vec<Listed>, Vec<Listed>)> {
        match self {
            Self::Local(_) => Ok((vec![], vec![])),
            Self::S3(bucket) => bucket.wait(async { Ok((storage.list_data().await?, storage.list_log().await?)) }),
        }
    }

    /// `path` of a file of a table as a person would look for it: not that of its copy.
    pub(crate) fn shown(&self, path: PathBuf) -> PathBuf {
        let Self::S3(bucket) = self else { return path };
        match path.strip_prefix(bucket.cache_dir()) {
            Ok(below) => PathBuf::from(bucket.location(bucket.prefix())).join(below),
            Err(_) => path,
        }
    }
}

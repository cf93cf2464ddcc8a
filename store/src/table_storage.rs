//! Where the files of a table are: in a folder of the data directory, or below a prefix of an S3 bucket.
//!
//! On S3 the bucket is the truth and the folder holds copies: of `_delta_log`, brought up to date before it is read, and
//! of the data files used last, so that whatever reads or writes files finds both at the same place. A commit is one
//! conditional put; scans read the bucket themselves, page by page.

mod bucket;
mod cache;
mod list;
mod tables;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::execution::{object_store::ObjectStoreUrl, runtime_env::RuntimeEnv};
use object_store::path::Path as ObjectPath;
use uuid::Uuid;

use crate::{
    checksum::{compare_once, damage},
    delta_log::names::{LAST_CHECKPOINT, LOG_DIR, checkpoint_name, checksum_name, entry_name},
    error::{Error, Result},
    failpoint::{self, Failpoint},
    live_file::LiveFile,
    parquet_file::sync_dir,
    partial_file::{PartialFile, remove_unused},
};

use bucket::Bucket;
pub(crate) use list::Listed;
pub(crate) use tables::{CACHE, TABLES_FILE, Tables};

/// The files of one table.
#[derive(Debug)]
pub(crate) struct TableStorage {
    /// The table itself, or the copies of what is in the bucket.
    dir: PathBuf,
    remote: Option<Remote>,
}

#[derive(Debug)]
struct Remote {
    bucket: Arc<Bucket>,
    prefix: ObjectPath,
}

impl Remote {
    fn object(&self, path: &str) -> ObjectPath {
        path.split('/').fold(self.prefix.clone(), |object, part| object.join(part))
    }
}

/// Why an entry of the log is not known to be in it.
#[derive(Debug)]
pub(crate) enum NotWritten {
    /// It is not there and never will be.
    No(Error),
    /// Another entry has its version, so that it never will be there.
    Taken(Error),
    /// It is there, or may yet come.
    Perhaps(Error),
}

impl From<NotWritten> for Error {
    fn from(outcome: NotWritten) -> Self {
        match outcome {
            NotWritten::No(error) | NotWritten::Taken(error) | NotWritten::Perhaps(error) => error,
        }
    }
}

impl TableStorage {
    /// A table in the folder `dir`.
    pub(crate) fn local(dir: PathBuf) -> Arc<Self> {
        Arc::new(Self { dir, remote: None })
    }

    fn in_bucket(bucket: &Arc<Bucket>, name: &str) -> Arc<Self> {
        let remote = Remote { bucket: Arc::clone(bucket), prefix: bucket.prefix().clone().join(name) };
        Arc::new(Self { dir: bucket.cache_dir().join(name), remote: Some(remote) })
    }

    /// The folder of the table, or of its copies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir.join(LOG_DIR)
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Where the table is, for messages.
    pub(crate) fn location(&self) -> String {
        match &self.remote {
            None => self.dir.display().to_string(),
            Some(remote) => remote.bucket.location(&remote.prefix),
        }
    }

    /// Whether there is a table. The start of its very first entry is none yet.
    ///
    /// # Errors
    /// [`Error::Storage`] if the bucket does not answer.
    pub(crate) async fn exists(&self) -> Result<bool> {
        match &self.remote {
            None => Ok(fs::read_dir(self.log_dir()).is_ok_and(|entries| {
                entries.flatten().any(|entry| !entry.file_name().to_string_lossy().ends_with(".tmp"))
            })),
            Some(remote) => Ok(!remote.bucket.list(&remote.object(LOG_DIR)).await?.is_empty()),
        }
    }

    /// Creates the folders, durably where they are the table.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn create_dirs(&self) -> Result<()> {
        fs::create_dir_all(self.log_dir()).map_err(Error::io("create directory", self.log_dir()))?;
        if self.is_remote() {
            return Ok(());
        }
        sync_dir(&self.dir)?;
        self.dir.parent().map_or(Ok(()), sync_dir)
    }

    /// Makes what the log folder shows durable, or the same as in the bucket.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) async fn settle_log(&self) -> Result<()> {
        match &self.remote {
            None => sync_dir(&self.log_dir()),
            Some(remote) => remote.bucket.mirror_log(&remote.object(LOG_DIR), &self.log_dir()).await,
        }
    }

    /// Whether the entry of `version` is there; `true` if that cannot be told.
    pub(crate) async fn may_have_entry(&self, version: i64) -> bool {
        let name = entry_name(version);
        match &self.remote {
            None => self.log_dir().join(name).try_exists().unwrap_or(true),
            Some(remote) => {
                let found = remote.bucket.get(&remote.object(LOG_DIR).join(name)).await;
                found.map_or(true, |entry| entry.is_some())
            }
        }
    }

    /// Puts the entry of `version` in the log, durably, if none is there.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the put: the entry may still come.
    ///
    /// # Errors
    /// What is known about the entry, with the reason.
    pub(crate) async fn put_entry(&self, version: i64, text: &str) -> Result<(), NotWritten> {
        let path = self.log_dir().join(entry_name(version));
        let Some(remote) = &self.remote else {
            return link_entry(&path, text).map_err(|error| {
                if path.try_exists().unwrap_or(true) { NotWritten::Perhaps(error) } else { NotWritten::No(error) }
            });
        };
        failpoint::hit(Failpoint::DeltaBeforeLink, &path).map_err(NotWritten::No)?;
        remote.bucket.create(&remote.object(LOG_DIR).join(entry_name(version)), text).await?;
        failpoint::hit(Failpoint::DeltaAfterLink, &path).map_err(NotWritten::Perhaps)?;
        // The copy: whatever reads the log next reads it there.
        fs::write(&path, text).map_err(|error| NotWritten::Perhaps(Error::io("write", &path)(error)))
    }

    /// Puts the checkpoint that was written beside the entries where the table is.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) async fn publish_checkpoint(&self, version: i64) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        // The pointer last: it refers to the others.
        for name in [checkpoint_name(version), checksum_name(version), LAST_CHECKPOINT.to_owned()] {
            let path = self.log_dir().join(&name);
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            remote.bucket.put(&remote.object(LOG_DIR).join(name), bytes.into()).await?;
        }
        Ok(())
    }

    /// Opens a data file whose bytes are those that were written: compared once per process, or when they are fetched.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::DamagedFile`], [`Error::Io`], [`Error::Storage`].
    pub(crate) fn open(&self, file: &LiveFile) -> Result<File> {
        let path = self.dir.join(&file.path);
        if let Some(remote) = &self.remote {
            return remote.bucket.open_copy(&remote.object(&file.path), &path, file);
        }
        compare_once(&self.dir, file)?;
        File::open(&path).map_err(Error::io("open", path))
    }

    /// A data file as it is, whatever its bytes; `None` if there is none. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) fn open_unchecked(&self, file: &LiveFile) -> Result<Option<File>> {
        let path = self.dir.join(&file.path);
        if let Some(remote) = &self.remote {
            let fetched = remote.bucket.fetch(&remote.object(&file.path), &path)?;
            return Ok(fetched.map(|(copy, _)| copy));
        }
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(Error::io("open", path)),
        }
    }

    /// Why the bytes of `file` are not those that were written. Blocks on reading all of them.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) fn damage(&self, file: &LiveFile) -> Result<Option<String>> {
        if self.is_remote() {
            return match self.open(file) {
                Ok(_) => Ok(None),
                Err(Error::DamagedFile { reason, .. }) => Ok(Some(reason)),
                Err(error) => Err(error),
            };
        }
        damage(&self.dir, file).map_err(Error::io("read", self.dir.join(&file.path)))
    }

    /// Brings a data file that was just written below [`TableStorage::dir`] to where the table is. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) fn publish(&self, path: &str) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        remote.bucket.upload(&self.dir.join(path), &remote.object(path))
    }

    /// Drops a data file that no entry refers to; at once in a folder, soon in a bucket.
    pub(crate) fn discard(&self, path: &str) {
        remove_unused(&self.dir.join(path));
        if let Some(remote) = &self.remote {
            remote.bucket.delete_later(remote.object(path));
        }
    }

    /// Deletes data files that no reader needs. A failure is logged, as tidying looks for them again.
    pub(crate) async fn delete(&self, paths: &[String]) {
        for path in paths.iter().map(|path| self.dir.join(path)) {
            match failpoint::hit(Failpoint::DeltaBeforeDelete, &path) {
                Ok(()) => remove_unused(&path),
                Err(error) => tracing::warn!(%error, path = %path.display(), "superfluous file not deleted"),
            }
        }
        if let Some(remote) = &self.remote {
            let objects = paths.iter().map(|path| remote.object(path)).collect();
            if let Err(error) = remote.bucket.delete(objects).await {
                tracing::warn!(%error, "superfluous objects not deleted");
            }
        }
    }

    /// Deletes what [`TableStorage::discard`] left to be deleted.
    pub(crate) async fn delete_discarded(&self) {
        if let Some(remote) = &self.remote {
            remote.bucket.delete_discarded().await;
        }
    }

    /// Has `env` read the files that [`TableStorage::scan_path`] names.
    pub(crate) fn register(&self, env: &RuntimeEnv) -> ObjectStoreUrl {
        match &self.remote {
            None => ObjectStoreUrl::local_filesystem(),
            Some(remote) => remote.bucket.register(env),
        }
    }

    /// The name of a data file for a scan.
    ///
    /// # Errors
    /// [`Error::ObjectStore`] if the path of the data directory cannot be one.
    pub(crate) fn scan_path(&self, path: &str) -> Result<ObjectPath> {
        match &self.remote {
            None => {
                ObjectPath::from_absolute_path(self.dir.join(path)).map_err(|error| Error::ObjectStore(error.into()))
            }
            Some(remote) => Ok(remote.object(path)),
        }
    }
}

/// Writes the entry at `path`: synced under a temporary name, then linked to its own, which fails if it exists.
fn link_entry(path: &Path, text: &str) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    let temporary = dir.join(format!(".{}.tmp", Uuid::new_v4()));
    let removed_at_the_end = PartialFile::new(&temporary);
    write_temporary(&temporary, text)?;
    failpoint::hit(Failpoint::DeltaBeforeLink, path)?;
    fs::hard_link(&temporary, path).map_err(Error::io("commit", path))?;
    failpoint::hit(Failpoint::DeltaAfterLink, path)?;
    drop(removed_at_the_end);
    failpoint::hit(Failpoint::DeltaBeforeSync, path)?;
    sync_dir(dir)?;
    failpoint::hit(Failpoint::DeltaAfterSync, path)
}

fn write_temporary(path: &Path, text: &str) -> Result<()> {
    failpoint::hit(Failpoint::DeltaBeforeCreate, path)?;
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("write", path))?;
    failpoint::hit(Failpoint::DeltaTemporaryWritten, path)?;
    file.sync_all().map_err(Error::io("sync", path))
}

#[cfg(test)]
pub(crate) mod tests;

//! What is there, in the folder or in the bucket, whether or not the log knows of it.

use std::{
    fs::{self, DirEntry},
    path::Path,
    time::{Duration, SystemTime},
};

use chrono::Utc;
use object_store::ObjectMeta;

use super::TableStorage;
use crate::{
    delta_log::names::LOG_DIR,
    error::{Error, Result},
    live_file::parse_date,
    partial_file::remove_unused,
};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Without folders.
    pub(crate) name: String,
    /// Below the table's directory.
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    /// Since it was last written; a clock that was set back makes files of the future, which are young.
    pub(crate) age: Duration,
}

impl Listed {
    fn of_entry(folder: &str, entry: &DirEntry) -> Self {
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata().ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        let age = modified.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
        let size_bytes = metadata.map_or(0, |metadata| metadata.len());
        Self { path: format!("{folder}/{name}"), name, size_bytes, age }
    }

    fn of_object(folder: &str, name: &str, meta: &ObjectMeta) -> Self {
        let age = (Utc::now() - meta.last_modified).to_std().unwrap_or_default();
        Self { path: format!("{folder}/{name}"), name: name.to_owned(), size_bytes: meta.size, age }
    }
}

fn is_day(folder: &str) -> bool {
    folder.strip_prefix("date=").and_then(parse_date).is_some()
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>> {
    let listed = fs::read_dir(dir).and_then(Iterator::collect);
    listed.map_err(Error::io("list", dir))
}

fn files_of(table_dir: &Path, folder: &str) -> Result<Vec<Listed>> {
    let files = entries(&table_dir.join(folder))?.into_iter();
    let files = files.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    Ok(files.map(|entry| Listed::of_entry(folder, &entry)).collect())
}

fn day_folders(table_dir: &Path) -> Result<Vec<String>> {
    let folders = entries(table_dir)?.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| is_day(name)).collect())
}

impl TableStorage {
    /// Files in the folders of days.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) async fn list_data(&self) -> Result<Vec<Listed>> {
        let Some(remote) = &self.remote else {
            let mut listed = Vec::new();
            for folder in day_folders(&self.dir)? {
                listed.extend(files_of(&self.dir, &folder)?);
            }
            return Ok(listed);
        };
        let mut listed = Vec::new();
        for meta in remote.bucket.list(&remote.prefix).await? {
            let parts: Vec<_> = meta.location.prefix_match(&remote.prefix).into_iter().flatten().collect();
            if let [folder, name] = parts.as_slice()
                && is_day(folder.as_ref())
            {
                listed.push(Listed::of_object(folder.as_ref(), name.as_ref(), &meta));
            }
        }
        Ok(listed)
    }

    /// Files of the log.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) async fn list_log(&self) -> Result<Vec<Listed>> {
        let Some(remote) = &self.remote else { return files_of(&self.dir, LOG_DIR) };
        let objects = remote.bucket.list(&remote.object(LOG_DIR)).await?;
        let named = objects.iter().filter_map(|meta| Some((meta.location.filename()?, meta)));
        Ok(named.map(|(name, meta)| Listed::of_object(LOG_DIR, name, meta)).collect())
    }

    /// Deletes a file of the log.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`].
    pub(crate) async fn delete_log_file(&self, name: &str) -> Result<()> {
        let path = self.log_dir().join(name);
        match &self.remote {
            None => fs::remove_file(&path).map_err(Error::io("remove", path)),
            Some(remote) => {
                remote.bucket.delete(vec![remote.object(LOG_DIR).join(name)]).await?;
                remove_unused(&path);
                Ok(())
            }
        }
    }

    /// Deletes folders of days that are empty; a bucket has none.
    ///
    /// # Errors
    /// [`Error::Io`] if the table's folder cannot be listed.
    pub(crate) fn delete_empty_days(&self) -> Result<()> {
        if self.is_remote() {
            return Ok(());
        }
        for folder in day_folders(&self.dir)?.iter().map(|folder| self.dir.join(folder)) {
            // Fails if anything is left in it, as it should.
            if fs::remove_dir(&folder).is_ok() {
                tracing::debug!(path = %folder.display(), "deleted the folder of a day without files");
            }
        }
        Ok(())
    }
}

//! One S3 bucket: small objects whole, data files as copies in the cache, and the conditional put that commits.
//!
//! Requests are tried again with growing pauses, for a bounded time; what fails after that is the caller's to try again.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use datafusion::execution::{object_store::ObjectStoreUrl, runtime_env::RuntimeEnv};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    path::Path as ObjectPath,
};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{NotWritten, cache::Cache};
use crate::{
    checksum::{difference, sum},
    config::{S3Settings, S3Url},
    delta_log::names::LAST_CHECKPOINT,
    error::{Error, Result},
    live_file::LiveFile,
    partial_file::{PartialFile, remove_unused},
};

/// Files larger than this are sent in parts of this size.
const PART_SIZE_BYTES: usize = 8 << 20;
/// Holds the id of the data directory that writes the tables.
const OWNER: &str = "_driftwatt_owner";
/// Files of a log fetched at once.
const LOG_FETCHES: usize = 8;
/// Objects that wait for their deletion; those beyond it are found by the hourly tidying.
const DISCARDED_MAX: usize = 1000;

#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    prefix: ObjectPath,
    cache: Cache,
    cache_dir: PathBuf,
    /// The copies go with this value.
    temporary: bool,
    /// Id of the data directory that writes here; `None` for who only reads.
    writer: Option<String>,
    discarded: Mutex<Vec<ObjectPath>>,
    handle: Handle,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.cache_dir)
        {
            tracing::warn!(%error, path = %self.cache_dir.display(), "copies not removed; the next start does it");
        }
    }
}

impl Bucket {
    /// A client of the bucket, with copies below `cache_dir`. Sends nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that do not fit together, [`Error::Io`] if there can be no folder for copies,
    /// [`Error::Task`] outside of a runtime.
    pub(super) fn new(url: &S3Url, settings: &S3Settings, cache_dir: PathBuf, writer: Option<String>) -> Result<Self> {
        fs::create_dir_all(&cache_dir).map_err(Error::io("create directory", &cache_dir))?;
        Ok(Self {
            store: Arc::new(settings.client(&url.bucket)?),
            url: ObjectStoreUrl::parse(format!("s3://{}", url.bucket))?,
            prefix: url.prefix.clone(),
            cache: Cache::new(settings.cache_size_bytes),
            cache_dir,
            temporary: writer.is_none(),
            writer,
            discarded: Mutex::default(),
            handle: Handle::try_current().map_err(|error| Error::Task(error.to_string()))?,
        })
    }

    pub(super) fn prefix(&self) -> &ObjectPath {
        &self.prefix
    }

    pub(super) fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// As `s3://bucket/path`.
    pub(super) fn location(&self, object: &ObjectPath) -> String {
        format!("{}{object}", self.url.as_str())
    }

    fn failed(&self, action: &'static str, object: &ObjectPath) -> impl FnOnce(StoreError) -> Error {
        let location = self.location(object);
        move |cause| Error::Storage { action, location, cause }
    }

    /// Waits for `work` on a thread that may block.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    pub(super) async fn get(&self, object: &ObjectPath) -> Result<Option<Bytes>> {
        let got = async { self.store.get(object).await?.bytes().await };
        match got.await {
            Err(StoreError::NotFound { .. }) => Ok(None),
            got => got.map(Some).map_err(self.failed("read", object)),
        }
    }

    pub(super) async fn put(&self, object: &ObjectPath, bytes: Bytes) -> Result<()> {
        self.store.put(object, bytes.into()).await.map(|_| ()).map_err(self.failed("write", object))
    }

    /// Puts an object where none is: `If-None-Match: *`. An answer that was lost is made up for by reading it back.
    pub(super) async fn create(&self, object: &ObjectPath, text: &str) -> Result<(), NotWritten> {
        let payload = PutPayload::from(text.to_owned());
        let Err(cause) = self.store.put_opts(object, payload, PutOptions::from(PutMode::Create)).await else {
            return Ok(());
        };
        let refused = matches!(
            cause,
            StoreError::PermissionDenied { .. }
                | StoreError::Unauthenticated { .. }
                | StoreError::NotSupported { .. }
                | StoreError::NotImplemented { .. }
        );
        let error = self.failed("commit", object)(cause);
        match self.get(object).await {
            // A repeated put meets the one whose answer was lost.
            Ok(Some(found)) if found == text.as_bytes() => Ok(()),
            Ok(Some(_)) => Err(NotWritten::Taken(Error::VersionTaken { location: self.location(object) })),
            Ok(None) if refused => Err(NotWritten::No(error)),
            // Not there now, but a put on its way may still arrive.
            Ok(None) | Err(_) => Err(NotWritten::Perhaps(error)),
        }
    }

    pub(super) async fn list(&self, prefix: &ObjectPath) -> Result<Vec<ObjectMeta>> {
        self.store.list(Some(prefix)).try_collect().await.map_err(self.failed("list", prefix))
    }

    /// Names directly below the prefix that have something below them.
    pub(super) async fn folders(&self) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await;
        let listed = listed.map_err(self.failed("list", &self.prefix))?;
        Ok(listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    /// Objects that are gone already count as deleted.
    pub(super) async fn delete(&self, objects: Vec<ObjectPath>) -> Result<()> {
        let deleted = self.store.delete_stream(stream::iter(objects.into_iter().map(Ok)).boxed());
        let deleted = deleted.filter(|outcome| {
            let gone = matches!(outcome, Err(StoreError::NotFound { .. }));
            std::future::ready(!gone)
        });
        deleted.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(self.failed("delete below", &self.prefix))
    }

    pub(super) fn delete_later(&self, object: ObjectPath) {
        let mut discarded = self.discarded.lock().unwrap_or_else(PoisonError::into_inner);
        if discarded.len() < DISCARDED_MAX {
            discarded.push(object);
        }
    }

    pub(super) async fn delete_discarded(&self) {
        let objects = std::mem::take(&mut *self.discarded.lock().unwrap_or_else(PoisonError::into_inner));
        if !objects.is_empty()
            && let Err(error) = self.delete(objects).await
        {
            tracing::warn!(%error, "superfluous objects not deleted; the hourly tidying does it");
        }
    }

    pub(super) fn register(&self, env: &RuntimeEnv) -> ObjectStoreUrl {
        env.register_object_store(self.url.as_ref(), Arc::clone(&self.store));
        self.url.clone()
    }

    /// Makes sure that no other data directory writes here, from now on or since this was last asked.
    pub(super) async fn claim(&self) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        match self.create(&self.prefix.clone().join(OWNER), writer).await {
            Err(NotWritten::Taken(_)) => Err(Error::TablesTaken {
                tables: self.location(&self.prefix),
                object: self.location(&self.prefix.clone().join(OWNER)),
            }),
            claimed => Ok(claimed?),
        }
    }

    /// Makes the folder `dir` show what is below `prefix`.
    pub(super) async fn mirror_log(&self, prefix: &ObjectPath, dir: &Path) -> Result<()> {
        self.claim().await?;
        let listed = self.list(prefix).await?;
        let names: HashSet<&str> = listed.iter().filter_map(|meta| meta.location.filename()).collect();
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let path = entry.map_err(Error::io("list", dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !names.contains(name.as_ref()) {
                remove_unused(&path);
            }
        }
        let missing = listed.iter().filter(|meta| {
            let name = meta.location.filename().unwrap_or_default();
            // Only the pointer is ever written anew.
            let copy_size = fs::metadata(dir.join(name)).map(|copy| copy.len());
            name == LAST_CHECKPOINT || copy_size.ok() != Some(meta.size)
        });
        let fetches = missing.map(|meta| async {
            let path = dir.join(meta.location.filename().unwrap_or_default());
            match self.get(&meta.location).await? {
                Some(bytes) => fs::write(&path, bytes).map_err(Error::io("write", path)),
                // Superfluous since it was listed.
                None => Ok(()),
            }
        });
        let fetches: Vec<_> = fetches.collect();
        stream::iter(fetches).buffer_unordered(LOG_FETCHES).try_collect::<()>().await
    }

    /// Opens the copy at `path`, fetched if there is none, compared with the checksum of `file` when it is fetched. Blocks.
    pub(super) fn open_copy(&self, object: &ObjectPath, path: &Path, file: &LiveFile) -> Result<File> {
        let damaged = |reason| Error::DamagedFile { path: self.location(object).into(), reason };
        let (mut copy, fetched) = self.fetch(object, path)?.ok_or_else(|| damaged("it does not exist".into()))?;
        if fetched == Fetched::Now {
            let found = sum(&mut copy).map_err(Error::io("read", path))?;
            if let Some(reason) = difference(found, file) {
                self.cache.remove(path);
                return Err(damaged(reason));
            }
            copy.rewind().map_err(Error::io("read", path))?;
        }
        Ok(copy)
    }

    /// Opens the copy at `path`, fetched if there is none; `None` if there is no such object. Blocks.
    pub(super) fn fetch(&self, object: &ObjectPath, path: &Path) -> Result<Option<(File, Fetched)>> {
        // A copy that was just removed for others is fetched again.
        if self.cache.holds(path)
            && let Ok(copy) = File::open(path)
        {
            return Ok(Some((copy, Fetched::Before)));
        }
        let dir = path.parent().unwrap_or(path);
        fs::create_dir_all(dir).map_err(Error::io("create directory", dir))?;
        let temporary = dir.join(format!(".{}.tmp", Uuid::new_v4()));
        let partial = PartialFile::new(&temporary);
        let mut file = File::create_new(&temporary).map_err(Error::io("create", &temporary))?;
        let mut bytes = match self.wait(self.store.get(object)) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            got => got.map_err(self.failed("read", object))?.into_stream(),
        };
        let mut size_bytes = 0;
        while let Some(part) = self.wait(bytes.next()) {
            let part = part.map_err(self.failed("read", object))?;
            size_bytes += part.len() as u64;
            file.write_all(&part).map_err(Error::io("write", &temporary))?;
        }
        let copy = File::open(&temporary).map_err(Error::io("open", &temporary))?;
        fs::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
        partial.finish();
        self.cache.add(path.to_owned(), size_bytes);
        Ok(Some((copy, Fetched::Now)))
    }

    /// Puts the file at `path` in the bucket, and keeps it as a copy. Blocks.
    pub(super) fn upload(&self, path: &Path, object: &ObjectPath) -> Result<()> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let size_bytes = file.metadata().map_err(Error::io("stat", path))?.len();
        let mut part = vec![0; PART_SIZE_BYTES.min(usize::try_from(size_bytes).unwrap_or(PART_SIZE_BYTES))];
        if size_bytes <= PART_SIZE_BYTES as u64 {
            file.read_exact(&mut part).map_err(Error::io("read", path))?;
            self.wait(self.put(object, part.into()))?;
        } else {
            self.upload_parts(&mut file, size_bytes, path, object)?;
        }
        self.cache.add(path.to_owned(), size_bytes);
        Ok(())
    }

    fn upload_parts(&self, file: &mut File, size_bytes: u64, path: &Path, object: &ObjectPath) -> Result<()> {
        let mut upload = self.wait(self.store.put_multipart(object)).map_err(self.failed("write", object))?;
        let mut left = size_bytes;
        let mut send = || -> Result<()> {
            while left > 0 {
                let mut part = vec![0; PART_SIZE_BYTES.min(usize::try_from(left).unwrap_or(PART_SIZE_BYTES))];
                file.read_exact(&mut part).map_err(Error::io("read", path))?;
                left -= part.len() as u64;
                self.wait(upload.put_part(part.into())).map_err(self.failed("write", object))?;
            }
            self.wait(upload.complete()).map(|_| ()).map_err(self.failed("write", object))
        };
        let sent = send();
        if sent.is_err()
            && let Err(error) = self.wait(upload.abort())
        {
            tracing::debug!(%error, "parts of an upload that failed stay until the bucket's own rules remove them");
        }
        sent
    }
}

/// Whether a copy was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    Before,
    Now,
}

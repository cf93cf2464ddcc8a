//! The folder of results, within a limit for each and for all.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{fs::File, io::AsyncWriteExt};
use uuid::Uuid;

use crate::{
    config::Config,
    error::{Error, Result},
};

/// How a result is named, so that nothing else in the folder is touched.
const SUFFIX: &str = "result";

/// Where results are written.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    /// A folder of our own among the temporary ones goes with us.
    is_temporary: bool,
    size_bytes: AtomicU64,
    file_size_bytes_max: u64,
    size_bytes_max: u64,
}

/// A whole result; the file goes with it.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    spool: Arc<Spool>,
    path: PathBuf,
    size_bytes: u64,
}

/// A result that is being written.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    file: File,
    spooled: SpoolFile,
}

impl Spool {
    /// The folder of `config`, without what an earlier process left in it.
    pub(super) fn new(config: &Config) -> Self {
        let is_temporary = config.jobs_dir.is_none();
        let dir = config.jobs_dir.clone();
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("driftwatt-jobs-{}", Uuid::new_v4())));
        if let Err(error) = clear(&dir) {
            tracing::warn!(%error, dir = %dir.display(), "old results of jobs could not be deleted");
        }
        let (file_size_bytes_max, size_bytes_max) = (config.job_size_bytes_max, config.jobs_size_bytes_max);
        Self { dir, is_temporary, size_bytes: AtomicU64::new(0), file_size_bytes_max, size_bytes_max }
    }

    /// A file for the result of the job `id`.
    ///
    /// # Errors
    /// [`Error::Spool`] if it cannot be made.
    pub(super) async fn create(self: &Arc<Self>, id: &str) -> Result<SpoolWriter> {
        let path = self.dir.join(id).with_extension(SUFFIX);
        let spooled = SpoolFile { spool: Arc::clone(self), path, size_bytes: 0 };
        tokio::fs::create_dir_all(&self.dir).await.map_err(|error| spooled.failed(error))?;
        let file = File::create_new(&spooled.path).await.map_err(|error| spooled.failed(error))?;
        Ok(SpoolWriter { file, spooled })
    }
}

/// Deletes the results in `dir`.
fn clear(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == SUFFIX) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %self.dir.display(), "the folder of results was not deleted");
        }
    }
}

impl SpoolWriter {
    /// Appends `piece`.
    ///
    /// # Errors
    /// [`Error::JobSize`] beyond a limit, [`Error::Spool`].
    pub(super) async fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.spooled.grow(piece.len() as u64)?;
        self.file.write_all(piece).await.map_err(|error| self.spooled.failed(error))
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.spooled.size_bytes
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub(super) async fn close(mut self) -> Result<SpoolFile> {
        self.file.flush().await.map_err(|error| self.spooled.failed(error))?;
        Ok(self.spooled)
    }
}

impl SpoolFile {
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Opens it for reading, which goes on if it is removed meanwhile.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub(crate) async fn open(&self) -> Result<File> {
        File::open(&self.path).await.map_err(|error| self.failed(error))
    }

    fn grow(&mut self, count: u64) -> Result<()> {
        let spool = &self.spool;
        if self.size_bytes + count > spool.file_size_bytes_max {
            return Err(Error::JobSize { name: "job_size_max", limit_bytes: spool.file_size_bytes_max });
        }
        let before = spool.size_bytes.fetch_add(count, Ordering::Relaxed);
        self.size_bytes += count;
        if before + count > spool.size_bytes_max {
            return Err(Error::JobSize { name: "jobs_size_max", limit_bytes: spool.size_bytes_max });
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Spool { path: self.path.clone(), source }
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.size_bytes.fetch_sub(self.size_bytes, Ordering::Relaxed);
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "a result was not deleted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(dir: &Path) -> Arc<Spool> {
        let config = Config {
            jobs_dir: Some(dir.to_owned()),
            job_size_bytes_max: 6,
            jobs_size_bytes_max: 10,
            ..Config::default()
        };
        Arc::new(Spool::new(&config))
    }

    #[tokio::test]
    async fn results_are_bounded_each_and_together_and_give_their_room_back() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(dir.path());
        let mut first = spool.create("first").await.unwrap();
        first.write(b"123456").await.unwrap();
        let too_large = first.write(b"7").await.unwrap_err();
        assert!(matches!(too_large, Error::JobSize { name: "job_size_max", .. }), "{too_large}");
        let first = first.close().await.unwrap();
        let mut second = spool.create("second").await.unwrap();
        second.write(b"1234").await.unwrap();
        assert!(matches!(second.write(b"5").await, Err(Error::JobSize { name: "jobs_size_max", .. })));
        assert_eq!(fs::read(dir.path().join("first.result")).unwrap(), b"123456");
        drop((first, second));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(spool.size_bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_start_deletes_old_results_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old.result"), "old").unwrap();
        fs::write(dir.path().join("mine.txt"), "mine").unwrap();
        drop(spool(dir.path()));
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["mine.txt"]);
        let temporary = Arc::new(Spool::new(&Config::default()));
        let file = temporary.create("x").await.unwrap();
        let folder = temporary.dir.clone();
        assert!(folder.exists());
        drop((file, temporary));
        assert!(!folder.exists());
    }
}

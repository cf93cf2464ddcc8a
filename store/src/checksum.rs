//! CRC-32C of whole data files: taken while a file is written, kept in the Delta log, compared before its rows are used.
//!
//! A flipped bit in a compressed page often decodes to other values without an error, so decoding alone proves nothing.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    error::{Error, Result},
    live_file::LiveFile,
    table_storage::TableStorage,
};

/// Key of the checksum in the `tags` of a Delta `add` action; the value is eight lower-case hex digits.
pub(crate) const CHECKSUM_TAG: &str = "driftwatt.crc32c";

const READ_SIZE_BYTES: usize = 256 << 10;

/// What a data file's bytes must add up to, and whether this process has compared them.
#[derive(Debug, Default)]
pub(crate) struct Checksum {
    /// `None` for a file whose `add` action carries none: it cannot be compared.
    pub(crate) crc32c: Option<u32>,
    compared: AtomicBool,
}

impl Checksum {
    /// Of a file that this process has written and synced.
    pub(crate) fn written(crc32c: u32) -> Self {
        Self { crc32c: Some(crc32c), compared: AtomicBool::new(true) }
    }

    /// Of a file that an earlier process wrote; `tag` is the value of [`CHECKSUM_TAG`].
    pub(crate) fn recorded(tag: Option<&str>) -> Self {
        let crc32c = tag.and_then(|tag| u32::from_str_radix(tag, 16).ok());
        Self { crc32c, compared: AtomicBool::new(false) }
    }

    fn is_settled(&self) -> bool {
        self.crc32c.is_none() || self.compared.load(Ordering::Relaxed)
    }

    /// The value of [`CHECKSUM_TAG`].
    pub(crate) fn tag(&self) -> Option<String> {
        self.crc32c.map(|crc32c| format!("{crc32c:08x}"))
    }
}

impl Clone for Checksum {
    fn clone(&self) -> Self {
        Self { crc32c: self.crc32c, compared: AtomicBool::new(self.compared.load(Ordering::Relaxed)) }
    }
}

/// Whether a process has looked at a file is no property of the file.
impl PartialEq for Checksum {
    fn eq(&self, other: &Self) -> bool {
        self.crc32c == other.crc32c
    }
}

impl Eq for Checksum {}

/// Passes bytes on and sums them up.
#[derive(Debug)]
pub(crate) struct ChecksumWriter<W> {
    inner: W,
    crc32c: u32,
}

impl<W> ChecksumWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, crc32c: 0 }
    }

    /// What was written to, and the checksum of all that was written.
    pub(crate) fn into_parts(self) -> (W, u32) {
        (self.inner, self.crc32c)
    }
}

impl<W: Write> Write for ChecksumWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Size and checksum of a whole file.
///
/// # Errors
/// Whatever opening and reading it gives.
pub(crate) fn sum_file(path: &Path) -> io::Result<(u64, u32)> {
    sum(File::open(path)?)
}

/// Size and checksum of what is left to read.
///
/// # Errors
/// Whatever reading it gives.
pub(crate) fn sum(mut file: impl Read) -> io::Result<(u64, u32)> {
    let mut buffer = vec![0; READ_SIZE_BYTES];
    let (mut size_bytes, mut crc32c) = (0, 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size_bytes, crc32c)),
            read => {
                size_bytes += read as u64;
                crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
            }
        }
    }
}

/// Why the bytes of `file` are not those that were written; `None` if they are, or if no checksum is known.
pub(crate) fn damage(table_dir: &Path, file: &LiveFile) -> io::Result<Option<String>> {
    match sum_file(&table_dir.join(&file.path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some("it does not exist".into())),
        sum => Ok(difference(sum?, file)),
    }
}

/// What size and checksum of the bytes found say against `file`.
pub(crate) fn difference((size_bytes, crc32c): (u64, u32), file: &LiveFile) -> Option<String> {
    if size_bytes != file.size_bytes {
        return Some(format!("it has {size_bytes} bytes, the table says {}", file.size_bytes));
    }
    let recorded = file.checksum.crc32c.filter(|recorded| *recorded != crc32c)?;
    Some(format!("its checksum is {crc32c:08x}, it was written with {recorded:08x}"))
}

/// Compares `file` with its checksum, once per process and file. Blocks on reading the whole file. Without a recorded
/// checksum there is nothing to compare.
///
/// # Errors
/// [`Error::DamagedFile`] if it is not what was written, [`Error::Io`] if it cannot be read.
pub(crate) fn compare_once(table_dir: &Path, file: &LiveFile) -> Result<()> {
    if file.checksum.is_settled() {
        return Ok(());
    }
    let path = table_dir.join(&file.path);
    if let Some(reason) = damage(table_dir, file).map_err(Error::io("read", &path))? {
        return Err(Error::DamagedFile { path, reason });
    }
    file.checksum.compared.store(true, Ordering::Relaxed);
    Ok(())
}

/// [`compare_once`] for the files of a scan in a folder. A scan of a bucket reads pages and never whole files, so there
/// is nothing to compare: the store itself keeps checksums of what was put in it.
///
/// # Errors
/// That of the first damaged file.
pub(crate) async fn compare_before_scan(storage: &Arc<TableStorage>, files: &[Arc<LiveFile>]) -> Result<()> {
    let fresh: Vec<_> = files.iter().filter(|file| !file.checksum.is_settled()).map(Arc::clone).collect();
    if fresh.is_empty() || storage.is_remote() {
        return Ok(());
    }
    let storage = Arc::clone(storage);
    let compare = move || fresh.iter().try_for_each(|file| compare_once(storage.dir(), file));
    tokio::task::spawn_blocking(compare).await.map_err(|error| Error::Task(error.to_string()))?
}

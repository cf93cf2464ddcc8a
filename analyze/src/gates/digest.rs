//! What names a batch by its content: SHA-256, written as `sha256:` and 64 hexadecimal digits.

use std::{fs::File, io::Read as _, path::Path};

use aws_lc_rs::digest::{Context, SHA256};

use super::error::{Error, Result};

/// Bytes read at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Digest and size of the bytes of a file.
pub(crate) fn of_file(path: &Path) -> Result<(String, u64)> {
    let failed = |source| Error::Read { path: path.display().to_string(), source };
    let mut file = File::open(path).map_err(failed)?;
    let (mut context, mut block, mut size_bytes) = (Context::new(&SHA256), vec![0; BLOCK_BYTES], 0);
    loop {
        let length = file.read(&mut block).map_err(failed)?;
        if length == 0 {
            return Ok((text("sha256", context), size_bytes));
        }
        context.update(&block[..length]);
        size_bytes += length as u64;
    }
}

/// A digest of lines, one by one, each with its length before it.
pub(crate) struct Lines(Context);

impl Lines {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn add(&mut self, line: &str) {
        self.0.update(&(line.len() as u64).to_le_bytes());
        self.0.update(line.as_bytes());
    }

    /// Named otherwise than that of bytes, because it is of what was looked at and not of the whole content.
    pub(crate) fn finish(self) -> String {
        text("headers-sha256", self.0)
    }
}

/// `sha256:` and its like with the digest in hexadecimal digits.
pub(crate) fn text(name: &str, context: Context) -> String {
    let hex: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_that_other_tools_give() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, B.1.
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_file(&path).unwrap(), (expected.to_owned(), 3));
        assert!(of_file(&dir.path().join("gone")).unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn lines_do_not_run_into_one_another() {
        let digest = |lines: &[&str]| {
            let mut all = Lines::new();
            lines.iter().for_each(|line| all.add(line));
            all.finish()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["ab", "c"]), digest(&["ab", "c"]));
    }
}

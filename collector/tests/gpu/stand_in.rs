//! The NVML stand-in: built with the system's C compiler, scripted through a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/nvml.c");

/// A library of its own for each test.
pub(crate) struct StandIn {
    folder: tempfile::TempDir,
}

impl StandIn {
    pub(crate) fn build(script: &str) -> Self {
        let stand_in = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(stand_in.library())
            .arg(SOURCE)
            .arg("-ldl")
            .status();
        assert!(built.is_ok_and(|status| status.success()), "{compiler} must build {SOURCE}");
        stand_in.play(script);
        stand_in
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Changes what the library answers from its next call on.
    pub(crate) fn play(&self, script: &str) {
        let (new, path) = (self.folder().join("new"), self.folder().join("libnvidia-ml.so.1.script"));
        fs::write(&new, script).expect("the script is written");
        // At once and whole: the library may be reading it.
        fs::rename(new, path).expect("the script is in place");
    }
}

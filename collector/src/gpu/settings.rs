//! What is to be read of GPUs, and where from.

use std::path::PathBuf;

use serde::Deserialize;

/// Settings of the readings, as they travel to the reading process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct GpuSettings {
    /// The NVIDIA management library; `None` for the driver's own.
    pub(crate) library: Option<PathBuf>,
    /// Where the kernel shows processes, to tell containers by.
    pub(crate) proc_dir: PathBuf,
    /// Whether PCIe and NVLink are read, which may take 20 ms a direction.
    pub(crate) links: bool,
}

impl GpuSettings {
    /// The settings on one line. Paths that are no UTF-8 cannot come out of a configuration file.
    pub(crate) fn to_json(&self) -> String {
        serde_json::json!({
            "library": self.library.as_ref().map(|path| path.to_string_lossy()),
            "proc_dir": self.proc_dir.to_string_lossy(),
            "links": self.links,
        })
        .to_string()
    }

    pub(crate) fn from_json(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back() {
        for library in [None, Some("/opt/driver \"1\"/libnvidia-ml.so.1".into())] {
            let settings = GpuSettings { library, proc_dir: "/host/proc".into(), links: true };
            assert_eq!(GpuSettings::from_json(&settings.to_json()).unwrap(), settings);
        }
        assert!(GpuSettings::from_json("").is_err());
    }
}

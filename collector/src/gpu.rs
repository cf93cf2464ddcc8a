//! GPUs: what NVML says of them, read in this process or by one of their own.

mod answer;
mod counts;
mod device;
mod faults;
mod gpm;
mod links;
mod mig;
mod nvml;
mod process;
mod reader;
mod serve;
mod settings;
mod value;
mod workload;
mod xid;

pub(crate) use nvml::Gpus;
pub use process::GpuProcess;
pub(crate) use reader::GpuReader;
pub use serve::serve_gpu_readings;
pub(crate) use settings::GpuSettings;

//! GPUs: what NVML says of them, read in this process or by one of their own.

mod answer;
mod nvml;
mod process;
mod reader;
mod serve;

pub(crate) use nvml::Gpus;
pub use process::GpuProcess;
pub(crate) use reader::GpuReader;
pub use serve::serve_gpu_readings;

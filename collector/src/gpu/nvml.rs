//! The NVIDIA management library (NVML), loaded at run time, and one look at every GPU that it knows.

use nvml_wrapper::{Device, Nvml};
use opentelemetry::KeyValue;

use super::{
    device, faults,
    gpm::Gpm,
    links, mig,
    settings::GpuSettings,
    value::{error_type, ok},
    workload::Workloads,
    xid::{XidCounts, Xids},
};
use crate::reading::{Questions, Sample, Source};

/// The GPUs of this machine, or the fact that there is no library to ask.
pub(crate) struct Gpus {
    settings: GpuSettings,
    /// Whether the absence of the library has been logged, so that it is logged once.
    absence_logged: bool,
}

impl Gpus {
    /// Nothing is loaded before the first sample.
    pub(crate) fn new(settings: GpuSettings) -> Self {
        Self { settings, absence_logged: false }
    }

    fn load(&mut self) -> Option<Nvml> {
        let mut builder = Nvml::builder();
        if let Some(path) = &self.settings.library {
            builder.lib_path(path.as_os_str());
        }
        match builder.init() {
            Ok(nvml) => {
                tracing::info!(driver = nvml.sys_driver_version().ok(), "NVIDIA management library loaded");
                self.absence_logged = false;
                return Some(nvml);
            }
            Err(error) if !self.absence_logged => {
                self.absence_logged = true;
                // Most hosts have no GPU: nothing to warn of.
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    "no NVIDIA management library: GPU metrics are left out, host metrics go on"
                );
            }
            // A driver may be installed or loaded later, so every sample tries again.
            Err(_) => {}
        }
        None
    }
}

impl Source for Gpus {
    fn serve(mut self, questions: &mut impl Questions) {
        let mut xids = XidCounts::default();
        while questions.next() {
            match self.load() {
                Some(nvml) => Session::new(&nvml, &self.settings, &mut xids).serve(questions),
                None => {
                    let mut sample = Sample::default();
                    sample.push("driftwatt.collector.gpu.library_available", 0.0, &[]);
                    xids.push(&mut sample);
                    questions.answer(sample);
                }
            }
        }
    }
}

/// What stays open from one look to the next while the library is loaded.
struct Session<'nvml> {
    nvml: &'nvml Nvml,
    xid_counts: &'nvml mut XidCounts,
    xids: Xids<'nvml>,
    gpm: Gpm<'nvml>,
    workloads: Workloads<'nvml>,
    reads_links: bool,
}

impl<'nvml> Session<'nvml> {
    fn new(nvml: &'nvml Nvml, settings: &'nvml GpuSettings, xid_counts: &'nvml mut XidCounts) -> Self {
        Self {
            nvml,
            xid_counts,
            xids: Xids::default(),
            gpm: Gpm::new(nvml),
            workloads: Workloads::new(&settings.proc_dir),
            reads_links: settings.links,
        }
    }

    /// Answers the question before and those that follow, until there are no more or the library is of no use.
    fn serve(mut self, questions: &mut impl Questions) {
        loop {
            let mut sample = Sample::default();
            let is_of_use = self.read(&mut sample);
            questions.answer(sample);
            if !is_of_use || !questions.next() {
                return;
            }
        }
    }

    fn read(&mut self, sample: &mut Sample) -> bool {
        self.xids.collect(self.xid_counts, sample);
        let is_of_use = match self.nvml.device_count() {
            Ok(count) => {
                sample.push("driftwatt.collector.gpu.library_available", 1.0, &[]);
                sample.push("driftwatt.collector.gpu.device.count", f64::from(count), &[]);
                let known = (0..count).filter(|index| self.read_device(*index, sample)).count();
                // None known is how it looks after a driver reload, when the library holds on to the driver that is gone.
                count == 0 || known > 0
            }
            Err(error) => {
                // The library was unloaded under us or the driver is gone: start over with the next sample.
                sample.fail("device.count", error_type(&error));
                sample.push("driftwatt.collector.gpu.library_available", 0.0, &[]);
                false
            }
        };
        self.xid_counts.push(sample);
        self.gpm.end_look();
        self.workloads.end_look();
        is_of_use
    }

    /// Reads one GPU and says whether it could be told which one it is.
    fn read_device(&mut self, index: u32, sample: &mut Sample) -> bool {
        let Some(gpu) = ok(sample, "device", self.nvml.device_by_index(index)) else { return false };
        // Without its id a GPU's values belong to no series.
        let Some(id) = ok(sample, "hw.id", gpu.uuid()) else { return false };
        let mut attributes = vec![
            KeyValue::new("hw.id", id.clone()),
            KeyValue::new("hw.type", "gpu"),
            KeyValue::new("hw.vendor", "NVIDIA"),
        ];
        if let Some(model) = ok(sample, "hw.model", gpu.name()) {
            attributes.push(KeyValue::new("hw.model", model));
        }
        self.xids.watch(self.nvml, &gpu, &id, &attributes, sample);
        let duty = device::read(&gpu, &attributes, sample);
        faults::read(&gpu, &attributes, sample);
        let profiled = self.gpm.read(&id, gpu.gpm_support(), || gpu.gpm_sample(), duty, sample);
        profiled.push_shares(&attributes, sample);
        if mig::is_enabled(&gpu) {
            self.read_slices(&gpu, &id, &attributes, sample);
        } else {
            self.workloads.read(&gpu, &id, &attributes, duty, sample);
        }
        if self.reads_links {
            links::read(&gpu, &profiled, &attributes, sample);
        }
        true
    }

    /// Reads the MIG slices of a GPU; the id of a slice's series is that of its card, of which it is a part.
    fn read_slices(&mut self, gpu: &Device<'nvml>, id: &str, attributes: &[KeyValue], sample: &mut Sample) {
        for slice in mig::slices(self.nvml, gpu, sample) {
            let attributes = slice.attributes(attributes);
            if slice.is_first_of_instance {
                device::read_memory(&slice.device, &attributes, sample);
                let key = format!("{id}/{}", slice.instance_id);
                let take = || gpu.gpm_mig_sample(slice.instance_id);
                self.gpm.read(&key, gpu.gpm_support(), take, None, sample).push_shares(&attributes, sample);
            }
            self.workloads.read_memory(&slice.device, &attributes, sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks twice.
    struct Twice(Vec<Sample>);

    impl Questions for Twice {
        fn next(&mut self) -> bool {
            self.0.len() < 2
        }

        fn answer(&mut self, sample: Sample) {
            self.0.push(sample);
        }
    }

    #[test]
    fn without_the_library_one_reading_says_so_and_there_is_no_other() {
        let library = Some("/nonexistent/libnvidia-ml.so.1".into());
        let mut questions = Twice(Vec::new());
        Gpus::new(GpuSettings { library, proc_dir: "/proc".into(), links: false }).serve(&mut questions);
        assert_eq!(questions.0.len(), 2);
        for sample in questions.0 {
            let read: Vec<_> = sample.readings.iter().map(|r| (r.metric, r.value)).collect();
            assert_eq!(read, [("driftwatt.collector.gpu.library_available", 0.0)]);
            assert!(sample.failures.is_empty(), "an absent library is a fact, not a failed reading");
        }
    }
}

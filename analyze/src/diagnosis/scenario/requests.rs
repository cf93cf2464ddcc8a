//! Draws the requests of a scenario and what they took.

use super::{
    MINUTES,
    incident::{GPUS, HOSTS, Incident},
    latency::{LatencyModel, Size},
    token_table::{CODE_OUTPUTS, CODE_PROMPTS, CONV_OUTPUTS, CONV_PROMPTS},
};
use crate::{
    diagnosis::service_window::{Dimension, Feature, Labels, Role, ServiceWindow},
    simulated_fleet::Rng,
};

/// Longest prompt that the model takes.
const CONTEXT_TOKENS_MAX: f64 = 16_384.0;
/// Scatter of one request around its cost, log standard deviation.
const SCATTER: f64 = 0.15;
/// Innovation of the slow drift of a minute, log standard deviation.
const MINUTE_DRIFT: f64 = 0.01;

/// What each minute asked of the machines.
pub(super) struct Load {
    /// Share of capacity in use, by minute.
    pub(super) utilisation: Vec<f64>,
    /// Whether the slowdown held, by minute: bursts come and go.
    pub(super) slow_now: Vec<bool>,
}

/// Columns under construction.
#[derive(Default)]
struct Columns {
    prompt: Vec<f32>,
    output: Vec<f32>,
    megapixels: Vec<f32>,
    batch: Vec<f32>,
    tenant: Vec<u16>,
    finish: Vec<u16>,
    format: Vec<u16>,
    gpu: Vec<u16>,
    version: Vec<u16>,
}

/// One request before it runs.
struct Asked {
    size: Size,
    tenant: u16,
    format: u16,
}

/// Fills requests, labels and arrivals of `window`.
pub(super) fn fill(window: &mut ServiceWindow, incident: &Incident, rate: f64, rng: &mut Rng) -> Load {
    let model = incident.model;
    let usual_ms: f64 = (0..2_000).map(|_| model.cost_ms(ask(incident, false, rng).size)).sum::<f64>() / 2_000.0;
    let mut columns = Columns::default();
    let mut load = Load { utilisation: Vec::new(), slow_now: Vec::new() };
    let (mut smooth, mut drift) = (incident.utilisation, 0.0f64);
    for minute in 0..MINUTES {
        let after = minute >= incident.onset;
        let count = rng.poisson(rate * if after { incident.arrivals } else { 1.0 });
        let asked: Vec<Asked> = (0..count).map(|_| ask(incident, after, rng)).collect();
        let slow_now = after && rng.uniform() < incident.burst_share;
        let work: f64 = asked.iter().map(|asked| model.cost_ms(asked.size)).sum::<f64>() / (usual_ms * rate);
        let slow = if slow_now { incident.slow.iter().sum::<f64>() / GPUS as f64 } else { 1.0 };
        let version = if after { incident.version_factor } else { 1.0 };
        let capacity = if after { incident.capacity } else { 1.0 };
        smooth += 0.4 * (incident.utilisation * work * slow * version / capacity - smooth);
        let utilisation = smooth.clamp(0.01, 0.95);
        drift = 0.6 * drift + MINUTE_DRIFT * rng.normal();
        window.arrivals.push(count as f32);
        for asked in asked {
            let gpu = (rng.uniform() * GPUS as f64) as usize;
            let batch = model.batch(utilisation, rng);
            let factor = LatencyModel::batch_factor(batch) * if slow_now { incident.slow[gpu] } else { 1.0 };
            let wait_ms = incident.wait_share * usual_ms * utilisation / (1.0 - utilisation) * exponential(rng);
            let network = after && gpu / 2 >= incident.network_from.min(HOSTS);
            let network_ms = if network { incident.network_share * usual_ms * exponential(rng) } else { 0.0 };
            let served = model.cost_ms(asked.size) * factor * version * (drift + SCATTER * rng.normal()).exp();
            window.minutes.push(minute as u32);
            window.latency_ms.push((served + wait_ms + network_ms) as f32);
            columns.push(incident, &asked, after, gpu, batch, rng);
        }
        load.utilisation.push(utilisation);
        load.slow_now.push(slow_now);
    }
    columns.finish(window, incident);
    load
}

impl Columns {
    fn push(&mut self, incident: &Incident, asked: &Asked, after: bool, gpu: usize, batch: u64, rng: &mut Rng) {
        self.prompt.push(asked.size.prompt as f32);
        self.output.push(asked.size.output as f32);
        self.megapixels.push(asked.size.megapixels as f32);
        self.batch.push(batch as f32);
        self.tenant.push(asked.tenant);
        self.format.push(asked.format);
        self.gpu.push(gpu as u16);
        self.version.push(u16::from(after && incident.new_version));
        // A version that talks more runs into the limit of tokens more often.
        let talkative = after && incident.new_version && incident.output_scale > 1.0;
        self.finish.push(u16::from(rng.uniform() < if talkative { 0.25 } else { 0.08 }));
    }

    fn finish(self, window: &mut ServiceWindow, incident: &Incident) {
        let mut feature = |role: Role, values: Vec<f32>| window.features.push(Feature { role, values });
        if incident.vision {
            feature(Role::Megapixels, self.megapixels);
        } else {
            feature(Role::PromptTokens, self.prompt);
            feature(Role::OutputTokens, self.output);
        }
        if incident.model == LatencyModel::Batching {
            feature(Role::BatchSize, self.batch);
        }
        let mut labels = |dimension: Dimension, name: &str, values: Vec<String>, codes: Vec<u16>| {
            window.labels.push(Labels { dimension, name: name.to_owned(), values, codes });
        };
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
        let numbered = |name: &str, count: usize| (0..count).map(|index| format!("{name}-{index}")).collect::<Vec<_>>();
        let hosts = self.gpu.iter().map(|gpu| gpu / 2).collect();
        let zones = self.gpu.iter().map(|gpu| gpu / 4).collect();
        labels(Dimension::Host, "host.name", numbered("host", HOSTS), hosts);
        labels(Dimension::Zone, "cloud.availability_zone", numbered("zone", 2), zones);
        labels(Dimension::Gpu, "hw.id", numbered("gpu", GPUS), self.gpu);
        labels(Dimension::Version, "gen_ai.response.model", named(&["v2.9", "v2.10"]), self.version);
        labels(Dimension::Tenant, "tenant.id", numbered("tenant", 4), self.tenant);
        if incident.vision {
            labels(Dimension::Input, "image.format", named(&["jpeg", "png", "heic"]), self.format);
        } else {
            let reasons = named(&["stop", "length"]);
            labels(Dimension::FinishReason, "gen_ai.response.finish_reasons", reasons, self.finish);
        }
    }
}

fn ask(incident: &Incident, after: bool, rng: &mut Rng) -> Asked {
    if incident.vision { ask_image(incident, after, rng) } else { ask_text(incident, after, rng) }
}

fn ask_image(incident: &Incident, after: bool, rng: &mut Rng) -> Asked {
    let scale = if after { incident.prompt_scale } else { 1.0 };
    // Cameras take 8 to 12 megapixels; the client scales down to 1.05. Some images are smaller from the start.
    let camera = 8.0 + 4.2 * rng.uniform();
    let unscaled = after && rng.uniform() < incident.unscaled_share;
    let small = rng.uniform() < 0.4;
    let megapixels = match (small, unscaled) {
        (true, _) => rng.log_normal(0.5, 0.4).clamp(0.1, 1.05),
        (false, true) => camera,
        (false, false) => 1.05,
    };
    let format = if unscaled && !small { 2 } else { u16::from(rng.uniform() < 0.2) };
    let tenant = (4.0 * rng.uniform()) as u16;
    Asked { size: Size { prompt: 0.0, output: 0.0, megapixels: megapixels * scale }, tenant, format }
}

fn ask_text(incident: &Incident, after: bool, rng: &mut Rng) -> Asked {
    let (prompt_scale, output_scale) = if after { (incident.prompt_scale, incident.output_scale) } else { (1.0, 1.0) };
    // The last tenant writes long documents; it is small unless it grows.
    let large = rng.uniform() < if after && incident.tenant_shift { 0.5 } else { 0.08 };
    let tenant = if large { 3 } else { (3.0 * rng.uniform()) as u16 };
    let (prompts, outputs) =
        if incident.code { (&CODE_PROMPTS, &CODE_OUTPUTS) } else { (&CONV_PROMPTS, &CONV_OUTPUTS) };
    let place = rng.uniform();
    let prompt = between(prompts, place);
    let output = between(&outputs[((20.0 * place) as usize).min(19)], rng.uniform());
    let tenant_scale = [0.9, 1.0, 1.1, 2.5][usize::from(tenant)];
    let prompt = (prompt * prompt_scale * tenant_scale).clamp(1.0, CONTEXT_TOKENS_MAX);
    let output = (output * output_scale * if large { 1.6 } else { 1.0 }).max(1.0);
    let prompt = incident.model.computed_prompt(prompt, rng).round();
    Asked { size: Size { prompt, output: output.round(), megapixels: 0.0 }, tenant, format: 0 }
}

/// The value at `place` (0 to 1) between two quantiles of a table.
fn between(quantiles: &[u16], place: f64) -> f64 {
    let at = place * (quantiles.len() - 1) as f64;
    let low = (at as usize).min(quantiles.len() - 2);
    let (a, b) = (f64::from(quantiles[low]), f64::from(quantiles[low + 1]));
    a + (b - a) * (at - low as f64)
}

fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.uniform()).ln()
}

//! How long a request takes: five shapes that a serving system can have.

use crate::simulated_fleet::Rng;

/// A shape of latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyModel {
    /// A constant, and so much a token or megapixel.
    Linear,
    /// Attention: the square of the prompt, and each output token looks at all before it.
    Quadratic,
    /// Every request in the batch slows the others; the batch grows with load.
    Batching,
    /// Two in five requests find four fifths of their prompt in a prefix cache.
    Cache,
    /// Requests wait for a free slot.
    Queue,
}

/// What was asked of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    /// Tokens to compute.
    pub(super) prompt: f64,
    /// Tokens generated.
    pub(super) output: f64,
    /// Megapixels; 0 for language.
    pub(super) megapixels: f64,
}

impl LatencyModel {
    /// All shapes.
    pub const ALL: [Self; 5] = [Self::Linear, Self::Quadratic, Self::Batching, Self::Cache, Self::Queue];

    /// Name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Quadratic => "quadratic",
            Self::Batching => "batching",
            Self::Cache => "cache",
            Self::Queue => "queue",
        }
    }

    /// Milliseconds of one request alone on a healthy machine.
    pub(super) fn cost_ms(self, size: Size) -> f64 {
        let Size { prompt, output, megapixels } = size;
        if megapixels > 0.0 {
            let square = if self == Self::Quadratic { 4.0 * megapixels * megapixels } else { 0.0 };
            return 25.0 + 60.0 * megapixels + square;
        }
        match self {
            Self::Quadratic => {
                let attended = prompt * output + output * output / 2.0;
                40.0 + 0.18 * prompt + 3e-5 * prompt * prompt + 22.0 * output + 0.003 * attended
            }
            _ => 40.0 + 0.25 * prompt + 28.0 * output,
        }
    }

    /// Requests in the batch of one request, given the share of capacity in use; 1 without batching.
    pub(super) fn batch(self, utilisation: f64, rng: &mut Rng) -> u64 {
        if self == Self::Batching { 1 + rng.poisson(12.0 * utilisation) } else { 1 }
    }

    /// Factor of a batch on each of its requests.
    pub(super) fn batch_factor(batch: u64) -> f64 {
        1.0 + 0.03 * (batch as f64 - 1.0)
    }

    /// Tokens to compute of a prompt, what the cache holds taken off.
    pub(super) fn computed_prompt(self, prompt: f64, rng: &mut Rng) -> f64 {
        if self == Self::Cache && rng.uniform() < 0.4 { 0.2 * prompt } else { prompt }
    }
}

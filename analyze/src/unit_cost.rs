//! Cost per 1 000 requests and per million tokens, with the load beside it.
//!
//! The same card costs 70 times as much per token when it is hardly used: a unit cost without its load says nothing.

use crate::{money::Money, price_book::Cost};

const SECONDS_PER_HOUR: f64 = 3600.0;

/// What a service cost and did in a window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Length of the window, hours.
    pub hours: f64,
    /// What its GPUs cost.
    pub gpu_cost: Cost,
    /// What everything else cost, CPU and memory.
    pub other_cost: Cost,
    /// GPU-hours allocated.
    pub gpu_hours: f64,
    /// GPU-hours busy (engine active); `None` is unknown.
    pub busy_gpu_hours: Option<f64>,
    /// Requests; `None` is unknown.
    pub requests: Option<f64>,
    /// Tokens read; `None` is unknown.
    pub input_tokens: Option<f64>,
    /// Tokens written; `None` is unknown.
    pub output_tokens: Option<f64>,
    /// How the cost divides between reading and writing.
    pub phases: Phases,
}

/// How the cost divides between input (prefill) and output (generation).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Phases {
    /// Not known: input and output have no cost of their own.
    #[default]
    Unknown,
    /// By the time spent in each.
    Seconds {
        /// Prefill, seconds.
        input: f64,
        /// Generation, seconds.
        output: f64,
    },
    /// An output token costs as much as this many input tokens.
    OutputWeight(f64),
}

/// What the cost of the GPUs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// All that was allocated.
    Allocation,
    /// The busy part of it (OpenCost: the GPU part scaled by mean engine activity).
    Usage,
}

/// Why there is no figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoUnitCost {
    /// Not counted.
    #[error("the count is unknown")]
    UnknownCount,
    /// Nothing was done.
    #[error("the count is zero")]
    ZeroCount,
    /// A price is missing.
    #[error("a part of the cost has no price")]
    UnknownPrice,
    /// For the usage basis.
    #[error("how long the GPUs were busy is unknown")]
    UnknownUsage,
    /// For input and output.
    #[error("how the cost divides between input and output is unknown")]
    UnknownPhases,
}

/// A figure or why there is none.
pub type Figure = Result<Money, NoUnitCost>;

/// Unit costs on one basis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnitCost {
    /// On which.
    pub basis: Basis,
    /// Per 1 000 requests.
    pub per_1000_requests: Figure,
    /// Per million tokens, read and written.
    pub per_million_tokens: Figure,
    /// Per million tokens read, of the cost of reading.
    pub per_million_input_tokens: Figure,
    /// Per million tokens written, of the cost of writing.
    pub per_million_output_tokens: Figure,
    /// The load at which they hold.
    pub load: Load,
}

/// How much was done; printed next to every unit cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Mean requests per second.
    pub requests_per_second: Option<f64>,
    /// Mean tokens per second, read and written.
    pub tokens_per_second: Option<f64>,
    /// Busy part of the allocated GPU-hours, 0 to 1.
    pub gpu_busy: Option<f64>,
}

/// Unit costs of `work` on `basis`. Counts that are not finite or negative are unknown.
pub fn unit_cost(work: &Work, basis: Basis) -> UnitCost {
    let (requests, input, output) = (count(work.requests), count(work.input_tokens), count(work.output_tokens));
    let tokens = input.zip(output).map(|(input, output)| input + output);
    let cost = cost(work, basis);
    let output_part = output_part(work.phases, input, output);
    let of_part = |part: Option<f64>| -> Figure { Ok(cost?.scaled(part.ok_or(NoUnitCost::UnknownPhases)?)) };
    UnitCost {
        basis,
        per_1000_requests: per(cost, requests, 1e3),
        per_million_tokens: per(cost, tokens, 1e6),
        per_million_input_tokens: per(of_part(output_part.map(|part| 1.0 - part)), input, 1e6),
        per_million_output_tokens: per(of_part(output_part), output, 1e6),
        load: load(work, requests, tokens),
    }
}

fn load(work: &Work, requests: Option<f64>, tokens: Option<f64>) -> Load {
    let per_second =
        |count: Option<f64>| count.filter(|_| work.hours > 0.0).map(|n| n / (work.hours * SECONDS_PER_HOUR));
    Load { requests_per_second: per_second(requests), tokens_per_second: per_second(tokens), gpu_busy: busy_part(work) }
}

fn busy_part(work: &Work) -> Option<f64> {
    let busy = count(work.busy_gpu_hours).filter(|_| work.gpu_hours > 0.0)?;
    Some((busy / work.gpu_hours).min(1.0))
}

fn cost(work: &Work, basis: Basis) -> Figure {
    let gpu = work.gpu_cost.total().ok_or(NoUnitCost::UnknownPrice)?;
    let other = work.other_cost.total().ok_or(NoUnitCost::UnknownPrice)?;
    match basis {
        Basis::Allocation => Ok(gpu + other),
        // Without a GPU there is nothing to scale.
        Basis::Usage if work.gpu_hours <= 0.0 => Ok(gpu + other),
        Basis::Usage => Ok(gpu.scaled(busy_part(work).ok_or(NoUnitCost::UnknownUsage)?) + other),
    }
}

/// The part of the cost that is output.
fn output_part(phases: Phases, input: Option<f64>, output: Option<f64>) -> Option<f64> {
    let (input, output) = match phases {
        Phases::Unknown => return None,
        Phases::Seconds { input, output } => (count(Some(input))?, count(Some(output))?),
        Phases::OutputWeight(weight) => (input?, output? * count(Some(weight))?),
    };
    (input + output > 0.0).then(|| output / (input + output))
}

fn per(cost: Figure, count: Option<f64>, unit: f64) -> Figure {
    match count {
        None => Err(NoUnitCost::UnknownCount),
        Some(0.0) => Err(NoUnitCost::ZeroCount),
        Some(count) => Ok(cost?.scaled(unit / count)),
    }
}

fn count(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priced(units: f64) -> Cost {
        Cost { list: Money::from_units(units), effective: Money::from_units(units), unpriced_hours: 0.0 }
    }

    /// 168 h of one card at 3.50 = 588.00, a quarter of it busy, and 12.00 of CPU and memory.
    fn work() -> Work {
        Work {
            hours: 168.0,
            gpu_cost: priced(588.0),
            other_cost: priced(12.0),
            gpu_hours: 168.0,
            busy_gpu_hours: Some(42.0),
            requests: Some(604_800.0),
            input_tokens: Some(300e6),
            output_tokens: Some(100e6),
            phases: Phases::OutputWeight(3.0),
        }
    }

    fn texts(unit: &UnitCost) -> [String; 4] {
        let figures = [
            unit.per_1000_requests,
            unit.per_million_tokens,
            unit.per_million_input_tokens,
            unit.per_million_output_tokens,
        ];
        figures.map(|figure| figure.map_or_else(|reason| reason.to_string(), |money| money.to_text(4)))
    }

    #[test]
    fn both_bases_with_their_load() {
        // 600.00 / 604.8 thousand = 0.9921; / 400 M = 1.5. Output is 100 x 3 of 300 + 300: half, 300.00 / 300 M and / 100 M.
        let unit = unit_cost(&work(), Basis::Allocation);
        assert_eq!(texts(&unit), ["0.9921", "1.5000", "1.0000", "3.0000"]);
        // 588.00 / 4 + 12.00 = 159.00.
        assert_eq!(texts(&unit_cost(&work(), Basis::Usage)), ["0.2629", "0.3975", "0.2650", "0.7950"]);
        let load =
            Load { requests_per_second: Some(1.0), tokens_per_second: Some(400e6 / 604_800.0), gpu_busy: Some(0.25) };
        assert_eq!(unit.load, load);
        // By time: 1/4 of 600.00 is output: 450.00 / 300 M and 150.00 / 100 M.
        let timed = Work { phases: Phases::Seconds { input: 30.0, output: 10.0 }, ..work() };
        assert_eq!(texts(&unit_cost(&timed, Basis::Allocation))[2..], ["1.5000", "1.5000"]);
    }

    #[test]
    fn no_figure_has_a_reason() {
        let none = |work: Work, basis| unit_cost(&work, basis);
        let zero = none(Work { requests: Some(0.0), output_tokens: None, ..work() }, Basis::Allocation);
        assert_eq!(zero.per_1000_requests, Err(NoUnitCost::ZeroCount));
        assert_eq!(zero.per_million_tokens, Err(NoUnitCost::UnknownCount));
        let unpriced = Cost { unpriced_hours: 1.0, ..Cost::ZERO };
        let unit = none(Work { gpu_cost: unpriced, ..work() }, Basis::Allocation);
        assert_eq!(unit.per_1000_requests, Err(NoUnitCost::UnknownPrice));
        let unit = none(Work { busy_gpu_hours: None, phases: Phases::Unknown, ..work() }, Basis::Usage);
        assert_eq!((unit.per_1000_requests, unit.load.gpu_busy), (Err(NoUnitCost::UnknownUsage), None));
        let unit = none(Work { phases: Phases::Unknown, ..work() }, Basis::Allocation);
        assert_eq!(unit.per_million_input_tokens, Err(NoUnitCost::UnknownPhases));
        assert!(unit.per_million_tokens.is_ok());
    }
}

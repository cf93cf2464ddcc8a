//! Minutes of one card or slice while points come in, in any order.

use super::NOBODY;

/// Which quantity a point is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Duty,
    Memory,
    Power,
}

impl Quantity {
    /// Roles of series; of energy the view has what was gained per second, which is power.
    pub(super) const ROLES: [(&'static str, Self); 4] = [
        ("gpu.utilization", Self::Duty),
        ("gpu.memory.used", Self::Memory),
        ("gpu.power", Self::Power),
        ("gpu.energy", Self::Power),
    ];
}

/// One card, or one slice of it.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    duty_sum: Vec<f32>,
    duty_count: Vec<u8>,
    pub(super) memory: Vec<f32>,
    pub(super) power: Vec<f32>,
    pub(super) holder: Vec<u16>,
}

impl Grid {
    pub(super) fn new(minute_count: usize) -> Self {
        Self {
            duty_sum: vec![0.0; minute_count],
            duty_count: vec![0; minute_count],
            memory: vec![f32::NAN; minute_count],
            power: vec![f32::NAN; minute_count],
            holder: vec![NOBODY; minute_count],
        }
    }

    /// Takes one point. Beyond 255 a minute the mean is that of the first.
    pub(super) fn add(&mut self, minute: usize, quantity: Quantity, value: f64, holder: u16) {
        let value = value as f32;
        match quantity {
            Quantity::Duty if self.duty_count[minute] < u8::MAX => {
                self.duty_sum[minute] += value;
                self.duty_count[minute] += 1;
            }
            Quantity::Duty => {}
            Quantity::Memory => self.memory[minute] = self.memory[minute].max(value),
            Quantity::Power => self.power[minute] = value,
        }
        if holder != NOBODY {
            self.holder[minute] = holder;
        }
    }

    /// The mean of each minute; NaN where nothing came.
    pub(super) fn duty(&self) -> Vec<f32> {
        let minutes = self.duty_sum.iter().zip(&self.duty_count);
        minutes.map(|(sum, count)| if *count == 0 { f32::NAN } else { sum / f32::from(*count) }).collect()
    }
}

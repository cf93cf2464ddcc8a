//! Metrics as machines send them: each kind with the resolution and the movement of its source.

use driftwatt_store::{HistogramPoint, HistogramShape, SampleColumns};

/// Pseudo-random numbers (xorshift64*), from a fixed seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in 0..1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, mean 0, standard deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Where a series has got to.
#[derive(Clone, Default)]
pub(crate) struct Walk {
    /// Load from 0 to 1, autoregressive.
    load: f64,
    total: f64,
    counts: Vec<u64>,
    sum: f64,
}

/// What a kind of metric reports next.
pub(crate) enum Value {
    Double(f64),
    Int(i64),
    Histogram(Box<HistogramPoint>),
}

/// A metric and its next value from where the series is.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) next: fn(&mut Walk, &mut Random) -> Value,
    /// Sums say since when.
    pub(crate) cumulative: bool,
}

impl Value {
    /// Bits and form of a number.
    pub(crate) fn sample(&self) -> Option<(u64, u8)> {
        match self {
            Self::Double(value) => Some((value.to_bits(), SampleColumns::DOUBLE)),
            Self::Int(value) => Some((value.cast_unsigned(), SampleColumns::INT)),
            Self::Histogram(_) => None,
        }
    }
}

fn load(walk: &mut Walk, random: &mut Random) -> f64 {
    walk.load = (0.98 * walk.load + 0.01 + 0.03 * random.normal()).clamp(0.0, 1.0);
    walk.load
}

fn round(value: f64, digits: i32) -> f64 {
    (value * 10f64.powi(digits)).round() / 10f64.powi(digits)
}

fn add(walk: &mut Walk, amount: f64) -> f64 {
    walk.total += amount.max(0.0).round();
    walk.total
}

const BOUNDS: usize = 14;

fn observe(walk: &mut Walk, random: &mut Random, buckets: usize) -> u64 {
    walk.counts.resize(buckets, 0);
    let observed = (load(walk, random) * 200.0) as u64;
    for _ in 0..observed {
        let bucket = (buckets as f64 / 2.5 + random.normal() * buckets as f64 / 10.0).clamp(0.0, buckets as f64 - 1.0);
        walk.counts[bucket as usize] += 1;
        walk.sum += 0.005 * 1.4f64.powf(bucket) * (1.0 + random.uniform());
    }
    walk.counts.iter().sum()
}

fn histogram(count: u64, sum: f64, shape: HistogramShape) -> Value {
    let point = HistogramPoint {
        series: 0,
        start_time: 0,
        time: 0,
        recorded: true,
        count,
        sum: Some(sum),
        min: None,
        max: None,
        shape,
    };
    Value::Histogram(Box::new(point))
}

fn explicit(walk: &mut Walk, random: &mut Random) -> Value {
    let count = observe(walk, random, BOUNDS + 1);
    histogram(count, walk.sum, HistogramShape::Explicit { counts: walk.counts.clone() })
}

fn exponential(walk: &mut Walk, random: &mut Random) -> Value {
    let count = observe(walk, random, 80);
    let shape = HistogramShape::Exponential {
        scale: 3,
        zero_count: 0,
        zero_threshold: 0.0,
        positive_offset: -40,
        positive_counts: walk.counts.clone(),
        negative_offset: 0,
        negative_counts: vec![],
    };
    histogram(count, walk.sum, shape)
}

/// All kinds, in the order of the table.
pub(crate) const KINDS: [Kind; 11] = [
    Kind {
        name: "utilisation, whole percent",
        next: |walk, random| Value::Double((load(walk, random) * 100.0).round()),
        cumulative: false,
    },
    Kind {
        name: "memory, bytes in MiB steps",
        next: |walk, random| Value::Int((load(walk, random) * 80_000.0) as i64 * 1_048_576),
        cumulative: false,
    },
    Kind {
        name: "power, W with mW",
        next: |walk, random| Value::Double(round(70.0 + 600.0 * load(walk, random) + random.normal(), 3)),
        cumulative: false,
    },
    Kind {
        name: "temperature, whole degrees",
        next: |walk, random| Value::Double((35.0 + 40.0 * load(walk, random)).round()),
        cumulative: false,
    },
    Kind {
        name: "CPU ratio, steps of 1e-6",
        next: |walk, random| Value::Double(round(load(walk, random), 6)),
        cumulative: false,
    },
    Kind {
        name: "CPU seconds, 2 decimals",
        next: |walk, random| {
            let ticks = load(walk, random) * 1500.0;
            Value::Double(add(walk, ticks) / 100.0)
        },
        cumulative: true,
    },
    Kind {
        name: "network counter, bytes",
        next: |walk, random| {
            let bytes = load(walk, random) * 2e8 * random.uniform();
            Value::Int(add(walk, bytes) as i64)
        },
        cumulative: true,
    },
    Kind {
        name: "request counter",
        next: |walk, random| {
            let requests = load(walk, random) * 20.0 + random.normal();
            Value::Int(add(walk, requests) as i64)
        },
        cumulative: true,
    },
    Kind {
        name: "latency mean, random double",
        next: |walk, random| Value::Double(0.05 + load(walk, random) / 7.0 + random.uniform() / 100.0),
        cumulative: false,
    },
    Kind { name: "histogram, 14 bounds", next: explicit, cumulative: true },
    Kind { name: "exponential histogram, 80 buckets", next: exponential, cumulative: true },
];

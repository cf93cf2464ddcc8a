//! Units: UCUM as OpenTelemetry writes it, and the words Prometheus uses, with exact conversions.

/// A unit as a multiple of the base unit of its dimension: `multiplier ÷ divisor`, both whole numbers.
#[derive(Debug, Clone, PartialEq)]
struct Unit {
    dimension: String,
    multiplier: u64,
    divisor: u64,
}

/// How to turn one unit into another: `value × multiplier ÷ divisor`.
///
/// Two whole numbers instead of one factor, so that 57 % is the double nearest to 0.57 and equals a source's own 0.57.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conversion {
    pub(crate) multiplier: f64,
    pub(crate) divisor: f64,
}

impl Conversion {
    pub(crate) const NONE: Self = Self { multiplier: 1.0, divisor: 1.0 };
}

/// Name, other spellings, dimension, multiplier, divisor.
const SIMPLE: &[(&[&str], &str, u64, u64)] = &[
    (&["1", "ratio"], "1", 1, 1),
    (&["%", "percent", "Percentage"], "1", 1, 100),
    (&["s", "seconds", "sec"], "s", 1, 1),
    (&["ms", "milliseconds"], "s", 1, 1000),
    (&["us", "µs", "microseconds"], "s", 1, 1_000_000),
    (&["ns", "nanoseconds"], "s", 1, 1_000_000_000),
    (&["min", "minutes"], "s", 60, 1),
    (&["h", "hours"], "s", 3600, 1),
    (&["d", "days"], "s", 86_400, 1),
    (&["By", "bytes", "B"], "By", 1, 1),
    (&["kBy", "KBy", "kilobytes"], "By", 1000, 1),
    (&["MBy", "megabytes"], "By", 1_000_000, 1),
    (&["GBy", "gigabytes"], "By", 1_000_000_000, 1),
    (&["KiBy", "kibibytes", "KiB"], "By", 1 << 10, 1),
    (&["MiBy", "mebibytes", "MiB"], "By", 1 << 20, 1),
    (&["GiBy", "gibibytes", "GiB"], "By", 1 << 30, 1),
    (&["TiBy", "tebibytes", "TiB"], "By", 1 << 40, 1),
    (&["W", "watts"], "W", 1, 1),
    (&["mW", "milliwatts"], "W", 1, 1000),
    (&["kW", "kilowatts"], "W", 1000, 1),
    (&["J", "joules"], "J", 1, 1),
    (&["mJ", "millijoules"], "J", 1, 1000),
    (&["uJ", "microjoules"], "J", 1, 1_000_000),
    (&["kW.h"], "J", 3_600_000, 1),
    (&["Hz", "hertz"], "Hz", 1, 1),
    (&["kHz"], "Hz", 1000, 1),
    (&["MHz", "megahertz"], "Hz", 1_000_000, 1),
    (&["GHz"], "Hz", 1_000_000_000, 1),
    (&["Cel", "celsius"], "Cel", 1, 1),
];

impl Unit {
    fn parse(text: &str) -> Option<Self> {
        if let Some((amount, time)) = text.split_once('/') {
            let (amount, time) = (Self::parse(amount)?, Self::parse(time)?);
            let dimension = match (amount.dimension.as_str(), time.dimension.as_str()) {
                (amount, "1") => amount.to_owned(),
                (amount, time) if amount == time => "1".to_owned(),
                ("J", "s") => "W".to_owned(),
                ("1", "s") => "Hz".to_owned(),
                (amount, time) => format!("{amount}/{time}"),
            };
            return Some(Self {
                dimension,
                multiplier: amount.multiplier * time.divisor,
                divisor: amount.divisor * time.multiplier,
            });
        }
        // An annotation such as {request} says what is counted; it is the unit 1.
        if text.starts_with('{') && text.ends_with('}') {
            return Some(Self { dimension: "1".into(), multiplier: 1, divisor: 1 });
        }
        let (_, dimension, multiplier, divisor) = SIMPLE.iter().find(|(names, ..)| names.contains(&text))?;
        Some(Self { dimension: (*dimension).to_owned(), multiplier: *multiplier, divisor: *divisor })
    }
}

/// Whether `text` is a unit that can be converted.
pub(crate) fn is_known(text: &str) -> bool {
    Unit::parse(text).is_some()
}

/// The conversion of values in `from` to values in `to`; none where they measure different things or are not known.
pub(crate) fn conversion(from: &str, to: &str) -> Option<Conversion> {
    if from == to {
        return Some(Conversion::NONE);
    }
    let (from, to) = (Unit::parse(from)?, Unit::parse(to)?);
    if from.dimension != to.dimension {
        return None;
    }
    let (multiplier, divisor) = (from.multiplier * to.divisor, from.divisor * to.multiplier);
    let common = greatest_common_divisor(multiplier, divisor);
    Some(Conversion { multiplier: (multiplier / common) as f64, divisor: (divisor / common) as f64 })
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// What the values of one series are multiplied and divided by, and how its declared unit differs from the table's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Agreed {
    pub(crate) conversion: Conversion,
    /// The declared unit contradicts the table's, which was used.
    pub(crate) contradicts: bool,
}

/// Brings the `declared` unit of a series and the unit of its row in the table together, towards `canonical`.
///
/// A declared unit of the same dimension is believed: milliseconds are milliseconds, whatever the convention asks for.
/// A plain `1` is what SDKs write when nobody said anything, so it never overrules the table.
pub(crate) fn agree(declared: &str, row_unit: &str, row: Conversion, canonical: &str) -> Agreed {
    let unsaid = |contradicts| Agreed { conversion: row, contradicts };
    if declared.is_empty() || declared == row_unit || canonical == "*" {
        return unsaid(false);
    }
    let Some(unit) = Unit::parse(declared) else { return unsaid(true) };
    let Some(expected) = Unit::parse(row_unit) else { return unsaid(false) };
    if unit == expected {
        return unsaid(false);
    }
    let says_nothing = unit.dimension == "1" && unit.divisor == 1;
    match conversion(declared, canonical) {
        Some(conversion) if !says_nothing => Agreed { conversion, contradicts: false },
        _ => unsaid(true),
    }
}

/// What a Prometheus name ends in when a value has this unit, as the OpenTelemetry compatibility rules say.
pub(crate) fn prometheus_suffix(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "1" => "ratio",
        "%" => "percent",
        "s" => "seconds",
        "ms" => "milliseconds",
        "By" => "bytes",
        "MiBy" => "mebibytes",
        "W" => "watts",
        "J" => "joules",
        "Hz" => "hertz",
        "Cel" => "celsius",
        "By/s" => "bytes_per_second",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str, value: f64, expected: f64) {
        let Conversion { multiplier, divisor } = conversion(from, to).unwrap();
        assert_eq!(value * multiplier / divisor, expected, "{value} {from} in {to}");
    }

    #[test]
    fn conversions_are_the_nearest_double() {
        check("%", "1", 57.0, 0.57);
        check("ms", "s", 250.0, 0.25);
        check("us", "ms", 1234.0, 1.234);
        check("MiBy", "By", 81_559.0, 85_520_809_984.0);
        check("mJ", "J", 3.0, 0.003);
        check("MiBy/s", "By/s", 2.0, 2_097_152.0);
        check("By/ms", "By/s", 5.0, 5000.0);
        check("{request}", "1", 3.0, 3.0);
        check("J/s", "W", 3.0, 3.0);
        check("{turn}/min", "Hz", 120.0, 2.0);
        check("ms/{request}", "s", 3.0, 0.003);
        check("s/s", "{cpu}", 3.0, 3.0);
        for (from, to) in [("s", "By"), ("fathom", "s"), ("By", "By/s")] {
            assert_eq!(conversion(from, to), None, "{from} {to}");
        }
    }

    #[test]
    fn a_declared_unit_is_believed_where_it_says_something() {
        let percent = conversion("%", "1").unwrap();
        let agreed = |declared, row_unit, row, canonical| {
            let Agreed { conversion, contradicts } = agree(declared, row_unit, row, canonical);
            (conversion.multiplier / conversion.divisor, contradicts)
        };
        assert_eq!(agreed("ms", "s", Conversion::NONE, "s"), (0.001, false));
        assert_eq!(agreed("seconds", "s", Conversion::NONE, "s"), (1.0, false));
        assert_eq!(agreed("%", "1", Conversion::NONE, "1"), (0.01, false));
        assert_eq!(agreed("1", "%", percent, "1"), (0.01, true));
        assert_eq!(agreed("", "%", percent, "1"), (0.01, false));
        assert_eq!(agreed("By", "s", Conversion::NONE, "s"), (1.0, true));
        assert_eq!(agreed("fathom", "s", Conversion::NONE, "s"), (1.0, true));
        assert_eq!(agreed("{request}", "1", Conversion::NONE, "1"), (1.0, false));
    }
}

//! The distances as SQL aggregates: `psi`, `js`, `ks`, `wasserstein` of two columns, one of the reference and one of the
//! window under test.
//!
//! Each row may have a value of either or both; a null is none. So one query splits its rows by a condition:
//! `psi(value) FILTER` would see one side only, `psi(CASE WHEN old THEN value END, CASE WHEN NOT old THEN value END)` both.

use std::sync::{Arc, LazyLock};

use datafusion::{
    arrow::{
        array::{Array as _, ArrayRef, AsArray, Float64Array, Int64Array, StringArray},
        datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type},
    },
    common::{ScalarValue, plan_err, utils::SingleRowListArrayBuilder},
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
    prelude::SessionContext,
};

use super::{
    category_counts::{CategoryCounts, OTHER},
    comparison::{ColumnOptions, Comparison},
    sort::sort_values,
};

/// Makes the distances known to `ctx`.
pub fn register_aggregates(ctx: &SessionContext) {
    for distance in Distance::ALL {
        ctx.register_udaf(AggregateUDF::from(DistanceOf {
            distance,
            signature: Signature::user_defined(Volatility::Immutable),
        }));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Distance {
    Psi,
    JensenShannon,
    KolmogorovSmirnov,
    Wasserstein,
}

impl Distance {
    const ALL: [Self; 4] = [Self::Psi, Self::JensenShannon, Self::KolmogorovSmirnov, Self::Wasserstein];

    fn name(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::JensenShannon => "js",
            Self::KolmogorovSmirnov => "ks",
            Self::Wasserstein => "wasserstein",
        }
    }

    /// Whether it knows categories, which have no order.
    fn takes_texts(self) -> bool {
        matches!(self, Self::Psi | Self::JensenShannon)
    }

    fn documentation(self) -> &'static Documentation {
        static ABOUT: LazyLock<[Documentation; 4]> = LazyLock::new(|| Distance::ALL.map(Distance::about));
        &ABOUT[self as usize]
    }

    fn about(self) -> Documentation {
        let text = match self {
            Self::Psi => "Population stability index over the deciles of the reference, or over categories",
            Self::JensenShannon => {
                "Jensen-Shannon distance (base 2) over the deciles of the reference, or over categories"
            }
            Self::KolmogorovSmirnov => "Kolmogorov-Smirnov distance of two samples",
            Self::Wasserstein => "Wasserstein distance of two samples, in the unit of the values",
        };
        let call = format!("{}(reference, current)", self.name());
        Documentation::builder(DocSection { include: true, label: "Drift", description: None }, text, call).build()
    }

    fn of(self, comparison: &Comparison) -> Option<f64> {
        match self {
            Self::Psi => Some(comparison.psi),
            Self::JensenShannon => Some(comparison.jensen_shannon),
            Self::KolmogorovSmirnov => Some(comparison.numeric.as_ref()?.ks.0),
            Self::Wasserstein => comparison.numeric.as_ref()?.wasserstein,
        }
    }
}

/// A distance of two columns. Numbers are kept until the answer, 8 bytes each; texts are counted, up to
/// [`super::category_counts::CATEGORIES_MAX`] of them by name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DistanceOf {
    distance: Distance,
    signature: Signature,
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        || matches!(data_type, DataType::Dictionary(_, value) if is_text(value))
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

impl AggregateUDFImpl for DistanceOf {
    fn name(&self) -> &str {
        self.distance.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(self.distance.documentation())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
        let texts = |data_type: &DataType| is_text(data_type) || data_type.is_null();
        match types {
            [a, b] if is_number(a) && is_number(b) => Ok(vec![DataType::Float64; 2]),
            [a, b] if self.distance.takes_texts() && texts(a) && texts(b) => Ok(vec![DataType::Utf8; 2]),
            _ => {
                let or_texts = if self.distance.takes_texts() { " or texts" } else { "" };
                let name = self.name();
                plan_err!("{name} takes two columns of numbers{or_texts}: {name}(reference, current)")
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let of_texts = args.input_fields.first().is_some_and(|field| is_text(field.data_type()));
        let items = if of_texts { vec![DataType::Utf8, DataType::Int64] } else { vec![DataType::Float64] };
        let mut fields: Vec<FieldRef> = vec![];
        for side in ["reference", "current"] {
            for item in &items {
                let name = format_state_name(args.name, &format!("{side}_{item}").to_lowercase());
                fields.push(Arc::new(Field::new(name, list_of(item.clone()), true)));
            }
        }
        Ok(fields)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let of_texts = args.expr_fields.first().is_some_and(|field| is_text(field.data_type()));
        Ok(if of_texts {
            Box::new(Categories { distance: self.distance, sides: Default::default() })
        } else {
            Box::new(Numbers { distance: self.distance, sides: Default::default() })
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Finite values of the reference and of the window under test.
#[derive(Debug)]
struct Numbers {
    distance: Distance,
    sides: [Vec<f64>; 2],
}

impl Accumulator for Numbers {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (side, column) in self.sides.iter_mut().zip(values) {
            side.extend(column.as_primitive::<Float64Type>().iter().flatten().filter(|value| value.is_finite()));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut keys = vec![];
        self.sides.iter_mut().for_each(|side| sort_values(side, &mut keys));
        let compared = Comparison::of_samples(&self.sides[0], &self.sides[1], ColumnOptions::default());
        // A side without values has no distance to anything.
        Ok(ScalarValue::Float64(compared.ok().and_then(|comparison| self.distance.of(&comparison))))
    }

    fn size(&self) -> usize {
        // Sorting takes as much again for a while.
        size_of_val(self) + self.sides.iter().map(|side| 2 * side.capacity() * size_of::<f64>()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |side: &mut Vec<f64>| {
            let values = Arc::new(Float64Array::from(std::mem::take(side)));
            SingleRowListArrayBuilder::new(values).build_list_scalar()
        };
        Ok(self.sides.iter_mut().map(list).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (side, lists) in self.sides.iter_mut().zip(states) {
            let lists = lists.as_list::<i32>();
            for state in (0..lists.len()).filter(|state| lists.is_valid(*state)) {
                side.extend(lists.value(state).as_primitive::<Float64Type>().values());
            }
        }
        Ok(())
    }
}

/// Counts by text of the reference and of the window under test.
#[derive(Debug)]
struct Categories {
    distance: Distance,
    sides: [CategoryCounts; 2],
}

impl Accumulator for Categories {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (side, column) in self.sides.iter_mut().zip(values) {
            column.as_string::<i32>().iter().flatten().for_each(|text| side.add(text, 1));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let compared = Comparison::of_categories(&self.sides[0], &self.sides[1]);
        Ok(ScalarValue::Float64(compared.ok().and_then(|comparison| self.distance.of(&comparison))))
    }

    fn size(&self) -> usize {
        let names = |side: &CategoryCounts| side.named().map(|(name, _)| name.len() + 64).sum::<usize>();
        size_of_val(self) + self.sides.iter().map(names).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let lists = |side: &CategoryCounts| {
            let other = (side.other() > 0).then_some((OTHER, side.other()));
            let counts: Vec<(&str, u64)> = side.named().chain(other).collect();
            let names = StringArray::from_iter_values(counts.iter().map(|(name, _)| name));
            let counts =
                Int64Array::from_iter_values(counts.iter().map(|(_, count)| i64::try_from(*count).unwrap_or(i64::MAX)));
            let list = |values: ArrayRef| SingleRowListArrayBuilder::new(values).build_list_scalar();
            [list(Arc::new(names)), list(Arc::new(counts))]
        };
        Ok(self.sides.iter().flat_map(lists).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (side, lists) in self.sides.iter_mut().zip(states.chunks(2)) {
            let (names, counts) = (lists[0].as_list::<i32>(), lists[1].as_list::<i32>());
            for state in (0..names.len()).filter(|state| names.is_valid(*state)) {
                let (names, counts) = (names.value(state), counts.value(state));
                let counted = names.as_string::<i32>().iter().zip(counts.as_primitive::<Int64Type>().iter());
                for (name, count) in counted {
                    side.add(name.unwrap_or_default(), count.unwrap_or(0).max(0).unsigned_abs());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(sql: &str) -> std::result::Result<Vec<Option<f64>>, String> {
        // Several partitions, so that states are merged.
        let ctx = SessionContext::new_with_config(datafusion::prelude::SessionConfig::new().with_target_partitions(4));
        register_aggregates(&ctx);
        let frame = ctx.sql(sql).await.map_err(|error| error.to_string())?;
        let frame = frame.repartition(datafusion::logical_expr::Partitioning::RoundRobinBatch(1)).unwrap();
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        Ok(batches
            .iter()
            .flat_map(|batch| {
                batch.columns().iter().map(|column| column.as_primitive::<Float64Type>().iter().next().unwrap())
            })
            .collect())
    }

    /// Two sides of 3 000 numbers; the second 0.5 higher.
    const NUMBERS: &str = "SELECT CASE WHEN value % 2 = 0 THEN CAST(value % 977 AS DOUBLE) / 100 END AS a, \
                           CASE WHEN value % 2 = 1 THEN CAST(value % 977 AS DOUBLE) / 100 + 0.5 END AS b \
                           FROM generate_series(1, 6000)";

    #[tokio::test]
    async fn numbers_have_the_scores_of_the_job() {
        let answers = asked(&format!("SELECT psi(a, b), js(a, b), ks(a, b), wasserstein(a, b) FROM ({NUMBERS})")).await;
        let side = |odd: u64, shift: f64| {
            let mut values: Vec<f64> = (1..=6_000u64)
                .filter(|value| value % 2 == odd)
                .map(|value| (value % 977) as f64 / 100.0 + shift)
                .collect();
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        let expected = Comparison::of_samples(&side(0, 0.0), &side(1, 0.5), ColumnOptions::default()).unwrap();
        let expected = Distance::ALL.map(|distance| distance.of(&expected));
        assert_eq!(answers.unwrap(), expected);
        // Swapped, the deciles are those of the other side.
        let swapped = asked(&format!("SELECT psi(b, a), wasserstein(b, a) FROM ({NUMBERS})")).await.unwrap();
        assert!(swapped[0] != expected[0] && (swapped[1].unwrap() - expected[3].unwrap()).abs() < 1e-12);
        let same = asked(&format!("SELECT psi(a, a), ks(a, a) FROM ({NUMBERS})")).await.unwrap();
        assert_eq!(same, [Some(0.0), Some(0.0)]);
    }

    #[tokio::test]
    async fn texts_are_categories_and_nothing_is_null() {
        let rows = "SELECT CASE WHEN value <= 300 THEN 'en' END AS a, CASE WHEN value > 150 THEN \
                    CASE WHEN value % 2 = 0 THEN 'en' ELSE 'de' END END AS b FROM generate_series(1, 450)";
        let answers = asked(&format!("SELECT psi(a, b), js(a, b) FROM ({rows})")).await.unwrap();
        let counts = |pairs: &[(&str, u64)]| {
            let mut counts = CategoryCounts::default();
            pairs.iter().for_each(|(name, count)| counts.add(name, *count));
            counts
        };
        let expected =
            Comparison::of_categories(&counts(&[("en", 300)]), &counts(&[("en", 150), ("de", 150)])).unwrap();
        assert_eq!(answers, [Some(expected.psi), Some(expected.jensen_shannon)]);
        let empty = format!("SELECT psi(a, b), ks(a, b), psi(NULL, b) FROM ({NUMBERS}) WHERE b IS NULL");
        assert_eq!(asked(&empty).await.unwrap(), [None, None, None]);
        let odd = asked("SELECT ks('NaN'::double, 1.0), psi(arrow_cast(1, 'UInt8'), 2)").await.unwrap();
        assert_eq!(odd[0], None);
        for (sql, words) in [
            (format!("SELECT ks('a', 'b') FROM ({NUMBERS})"), "two columns of numbers: ks(reference, current)"),
            (format!("SELECT psi(a, 'b') FROM ({NUMBERS})"), "numbers or texts"),
            (format!("SELECT psi(a) FROM ({NUMBERS})"), "psi(reference, current)"),
        ] {
            let error = asked(&sql).await.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}

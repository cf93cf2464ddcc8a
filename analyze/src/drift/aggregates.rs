//! The distances as SQL aggregates: `psi`, `js`, `ks`, `wasserstein` of two columns, one of the reference and one of the
//! window under test.
//!
//! Each row may have a value of either or both; a null is none. So one query splits its rows by a condition:
//! `psi(value) FILTER` would see one side only, `psi(CASE WHEN old THEN value END, CASE WHEN NOT old THEN value END)` both.
//! Values are numbers, texts (categories) or the histograms of the query crate, which are known here by the names of their parts.

mod categories;
mod histograms;
mod numbers;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use datafusion::{
    arrow::datatypes::{DataType, Field, FieldRef},
    common::plan_err,
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
    prelude::SessionContext,
};

use self::{categories::Categories, histograms::Histograms, numbers::Numbers};
use super::comparison::Comparison;

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
/// [`super::category_counts::CATEGORIES_MAX`] of them by name; histograms are merged.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DistanceOf {
    distance: Distance,
    signature: Signature,
}

/// What the two columns hold.
enum Values {
    Numbers,
    Texts,
    Histograms,
}

impl Values {
    /// Of the arguments, which are of one type by now.
    fn of(arguments: &[FieldRef]) -> Self {
        match arguments.first().map(|field| field.data_type()) {
            Some(data_type) if is_text(data_type) => Self::Texts,
            Some(data_type) if histograms::is_histogram(data_type) => Self::Histograms,
            _ => Self::Numbers,
        }
    }
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
        let is_texts = |data_type: &DataType| is_text(data_type) || data_type.is_null();
        match types {
            [a, b] if is_number(a) && is_number(b) => Ok(vec![DataType::Float64; 2]),
            [a, b] if self.distance.takes_texts() && is_texts(a) && is_texts(b) => Ok(vec![DataType::Utf8; 2]),
            [a, b] if histograms::is_histogram(a) && (a == b || b.is_null()) => Ok(vec![a.clone(); 2]),
            [DataType::Null, b] if histograms::is_histogram(b) => Ok(vec![b.clone(); 2]),
            _ => {
                let or_texts = if self.distance.takes_texts() { ", texts" } else { "" };
                let name = self.name();
                plan_err!("{name} takes two columns of numbers{or_texts} or histograms: {name}(reference, current)")
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let items = match Values::of(args.input_fields) {
            Values::Numbers => vec![("numbers", list_of(DataType::Float64))],
            Values::Texts => vec![("names", list_of(DataType::Utf8)), ("counts", list_of(DataType::Int64))],
            Values::Histograms => vec![("histogram", DataType::Binary)],
        };
        let sides = ["reference", "current"].into_iter().flat_map(|side| items.iter().map(move |item| (side, item)));
        let field = |(side, (name, data_type)): (&str, &(&str, DataType))| -> FieldRef {
            Arc::new(Field::new(format_state_name(args.name, &format!("{side}_{name}")), data_type.clone(), true))
        };
        Ok(sides.map(field).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let distance = self.distance;
        Ok(match Values::of(args.expr_fields) {
            Values::Numbers => Box::new(Numbers { distance, sides: Default::default() }),
            Values::Texts => Box::new(Categories { distance, sides: Default::default() }),
            Values::Histograms => Box::new(Histograms { distance, sides: Default::default() }),
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

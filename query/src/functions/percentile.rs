//! `percentile(value, share)`: exact, on the line between the two values next to it.
//!
//! Not the engine's `percentile_cont`, whose interpolation knows six digits only.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array},
    datatypes::{DataType, Field, FieldRef, Float64Type},
};
use datafusion::{
    common::{ScalarValue, exec_err, plan_err, utils::SingleRowListArrayBuilder},
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
};

use super::{about::about, sorted_values::SortedValues};

/// Nulls do not count. Keeps every value until the answer, 8 bytes each.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Percentile {
    signature: Signature,
}

impl Percentile {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &str {
        "percentile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
        match types {
            [value, share] if is_number(value) && is_number(share) => Ok(vec![DataType::Float64, DataType::Float64]),
            _ => plan_err!("percentile takes numbers and a share from 0 to 1: percentile(value, 0.95)"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "values"), list, true)),
            Arc::new(Field::new(format_state_name(args.name, "share"), DataType::Float64, true)),
        ])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Values::default()))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug, Default)]
struct Values {
    /// What came since the last answer, in any order.
    new: Vec<f64>,
    sorted: SortedValues,
    share: Option<f64>,
}

impl Values {
    fn say(&mut self, share: &ArrayRef) -> Result<()> {
        for share in share.as_primitive::<Float64Type>().iter().flatten() {
            if !(0.0..=1.0).contains(&share) {
                return exec_err!("the share of a percentile is from 0 to 1, not {share}");
            }
            if self.share.replace(share).is_some_and(|known| known != share) {
                return exec_err!("the share of a percentile must be the same for all rows of a group");
            }
        }
        Ok(())
    }

    /// Puts what is new in its place. Of a window that moves on that is little, and the rest stays where it is.
    fn sort(&mut self) {
        let mut new = std::mem::take(&mut self.new);
        if new.len() * 8 < self.sorted.len() {
            new.into_iter().for_each(|value| self.sorted.insert(value));
        } else if !new.is_empty() {
            new.extend(std::mem::take(&mut self.sorted).iter());
            self.sorted = new.into();
        }
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.say(&values[1])?;
        self.new.extend(values[0].as_primitive::<Float64Type>().iter().flatten());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sort();
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.sorted.remove(value));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.sort();
        let rank = self.sorted.len().checked_sub(1).zip(self.share).map(|(last, share)| share * last as f64);
        let near =
            rank.and_then(|rank| self.sorted.get(rank.floor() as usize).zip(self.sorted.get(rank.ceil() as usize)));
        let (Some(rank), Some((lower, upper))) = (rank, near) else { return Ok(ScalarValue::Float64(None)) };
        // Equal values stay as they are, infinite ones too.
        let value = if lower == upper { lower } else { lower + (upper - lower) * rank.fract() };
        Ok(ScalarValue::Float64(Some(value)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.new.capacity() * size_of::<f64>() + self.sorted.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = Arc::new(Float64Array::from_iter_values(self.sorted.iter().chain(self.new.iter().copied())));
        Ok(vec![SingleRowListArrayBuilder::new(values).build_list_scalar(), ScalarValue::Float64(self.share)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.say(&states[1])?;
        let lists = states[0].as_list::<i32>();
        for state in (0..lists.len()).filter(|state| lists.is_valid(*state)) {
            self.new.extend(lists.value(state).as_primitive::<Float64Type>().values());
        }
        Ok(())
    }
}

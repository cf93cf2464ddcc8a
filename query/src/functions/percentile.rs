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

use super::about::about;

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
    values: Vec<f64>,
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
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.say(&values[1])?;
        self.values.extend(values[0].as_primitive::<Float64Type>().iter().flatten());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            if let Some(index) = self.values.iter().position(|known| known.to_bits() == value.to_bits()) {
                self.values.swap_remove(index);
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (Some(last), Some(share)) = (self.values.len().checked_sub(1), self.share) else {
            return Ok(ScalarValue::Float64(None));
        };
        self.values.sort_unstable_by(f64::total_cmp);
        let rank = share * last as f64;
        let (lower, upper) = (self.values[rank.floor() as usize], self.values[rank.ceil() as usize]);
        // Equal values stay as they are, infinite ones too.
        let value = if lower == upper { lower } else { lower + (upper - lower) * rank.fract() };
        Ok(ScalarValue::Float64(Some(value)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = Arc::new(Float64Array::from(self.values.clone()));
        Ok(vec![SingleRowListArrayBuilder::new(values).build_list_scalar(), ScalarValue::Float64(self.share)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.say(&states[1])?;
        let lists = states[0].as_list::<i32>();
        for state in (0..lists.len()).filter(|state| lists.is_valid(*state)) {
            self.values.extend(lists.value(state).as_primitive::<Float64Type>().values());
        }
        Ok(())
    }
}

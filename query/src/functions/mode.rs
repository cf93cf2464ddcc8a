//! `mode(value)`: the most frequent value.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{ScalarValue, plan_err, utils::SingleRowListArrayBuilder},
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
};

use super::about::about;

/// Nulls do not count; of values that are as frequent, the smallest.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mode {
    signature: Signature,
}

impl Mode {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Mode {
    fn name(&self) -> &str {
        "mode"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value] if !value.is_nested() => Ok(types.to_vec()),
            _ => plan_err!("mode takes one number, text, boolean or time: mode(value)"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |part, data_type| {
            let item = Arc::new(Field::new_list_field(data_type, true));
            Arc::new(Field::new(format_state_name(args.name, part), DataType::List(item), true))
        };
        Ok(vec![list("values", args.return_type().clone()), list("counts", DataType::Int64)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Counts { data_type: args.return_type().clone(), counts: HashMap::new(), text_bytes: 0 }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct Counts {
    data_type: DataType,
    counts: HashMap<ScalarValue, i64>,
    text_bytes: usize,
}

impl Counts {
    fn add(&mut self, values: &ArrayRef, count: impl Fn(usize) -> i64) -> Result<()> {
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let value = ScalarValue::try_from_array(values, row)?;
            let bytes = text_bytes(&value);
            let known = self.counts.entry(value).or_insert_with(|| {
                self.text_bytes += bytes;
                0
            });
            *known += count(row);
        }
        Ok(())
    }

    fn take_away(&mut self, value: &ScalarValue) {
        let Some(count) = self.counts.get_mut(value) else { return };
        *count -= 1;
        if *count == 0
            && let Some((gone, _)) = self.counts.remove_entry(value)
        {
            self.text_bytes -= text_bytes(&gone);
        }
    }
}

/// What a value takes beside its own place.
fn text_bytes(value: &ScalarValue) -> usize {
    value.size() - size_of::<ScalarValue>()
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], |_| 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for row in (0..values[0].len()).filter(|row| values[0].is_valid(*row)) {
            self.take_away(&ScalarValue::try_from_array(&values[0], row)?);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let better = |best: &(&ScalarValue, &i64), other: &(&ScalarValue, &i64)| {
            let smaller = other.0.partial_cmp(best.0).is_some_and(std::cmp::Ordering::is_lt);
            other.1 > best.1 || (other.1 == best.1 && smaller)
        };
        let best = self.counts.iter().reduce(|best, other| if better(&best, &other) { other } else { best });
        best.map_or_else(|| ScalarValue::try_from(&self.data_type), |(value, _)| Ok(value.clone()))
    }

    fn size(&self) -> usize {
        let entry = size_of::<(ScalarValue, i64)>();
        size_of_val(self) + self.counts.capacity() * entry + self.text_bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (values, counts): (Vec<_>, Vec<_>) =
            self.counts.iter().map(|(value, count)| (value.clone(), *count)).unzip();
        let values = ScalarValue::new_list(&values, &self.data_type, true);
        let counts = SingleRowListArrayBuilder::new(Arc::new(Int64Array::from(counts))).build_list_scalar();
        Ok(vec![ScalarValue::List(values), counts])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, counts) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for state in (0..values.len()).filter(|state| values.is_valid(*state)) {
            let counts = counts.value(state);
            let counts = counts.as_primitive::<Int64Type>();
            self.add(&values.value(state), |row| counts.value(row))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn what_left_the_window_takes_no_memory() {
        let mut counts = Counts { data_type: DataType::Utf8, counts: HashMap::new(), text_bytes: 0 };
        let texts = |texts: &[&str]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
        counts.update_batch(&[texts(&["much longer than a word", "b", "b"])]).unwrap();
        let before = counts.text_bytes;
        counts.retract_batch(&[texts(&["much longer than a word", "b"])]).unwrap();
        assert!(counts.text_bytes < before, "{} of {before}", counts.text_bytes);
        assert_eq!(counts.evaluate().unwrap(), ScalarValue::from("b"));
        counts.retract_batch(&[texts(&["b"])]).unwrap();
        assert_eq!((counts.text_bytes, counts.counts.len()), (0, 0));
        assert_eq!(counts.evaluate().unwrap(), ScalarValue::Utf8(None));
    }
}

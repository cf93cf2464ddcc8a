//! Aggregates of the points of one series by their time: what each is called, what it takes, and how it is computed.

use std::sync::Arc;

use arrow::{
    array::ArrayRef,
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{ScalarValue, exec_err, plan_err},
    error::Result,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
};

use super::about::about;
use super::{
    area::{Area, Between},
    counter::{self, Temporality, Window},
    instant::coerced_time,
    options::{Options, Role},
    points::Points,
};

/// Which answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    Increase,
    Rate,
    InstantRate,
    Delta,
    Integral,
    TimeWeightedAvg,
    StateDuration,
}

impl Function {
    pub(crate) const ALL: [Self; 7] = [
        Self::Increase,
        Self::Rate,
        Self::InstantRate,
        Self::Delta,
        Self::Integral,
        Self::TimeWeightedAvg,
        Self::StateDuration,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Increase => "increase",
            Self::Rate => "rate",
            Self::InstantRate => "irate",
            Self::Delta => "delta",
            Self::Integral => "integral",
            Self::TimeWeightedAvg => "time_weighted_avg",
            Self::StateDuration => "stateduration",
        }
    }

    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Increase | Self::Rate | Self::Delta => {
                &["value", "time", "extrapolate", "window_start", "window_width", "temporality", "start_time"]
            }
            Self::InstantRate => &["value", "time", "temporality", "start_time"],
            Self::Integral | Self::TimeWeightedAvg => &["value", "time", "cutoff", "method"],
            Self::StateDuration => &["state", "time", "cutoff"],
        }
    }

    fn answer(self, points: &mut Points, options: &Options) -> Result<Option<f64>> {
        let temporality = options.temporality();
        let window = options.window()?;
        if self == Self::Delta && temporality == Temporality::Delta {
            return plan_err!("delta is the difference of a gauge; points of delta temporality have an increase");
        }
        let points = points.in_order()?;
        let outside = |window: Window| points.iter().any(|point| point.time < window.start || point.time > window.end);
        if window.is_some_and(outside) {
            return exec_err!("a point is outside of the window that is extrapolated to: group by that window");
        }
        let area = |default| Area::of(&points, options.between(default), options.cutoff());
        Ok(match (self, window) {
            (Self::Increase, None) => counter::increase(&points, temporality),
            (Self::Increase, Some(window)) => counter::extrapolated(&points, temporality, window, true),
            (Self::Rate, None) => counter::rate(&points, temporality),
            (Self::Rate, Some(window)) => counter::extrapolated_rate(&points, temporality, window),
            (Self::InstantRate, _) => counter::instant_rate(&points, temporality),
            (Self::Delta, None) => counter::delta(&points),
            (Self::Delta, Some(window)) => counter::extrapolated(&points, temporality, window, false),
            (Self::Integral, _) => area(Between::Linear).map(|area| area.area),
            (Self::TimeWeightedAvg, _) => area(Between::Linear).map(|area| area.mean()),
            (Self::StateDuration, _) => area(Between::Held).map(|area| area.area),
        })
    }
}

/// An aggregate function over `(value, time, …)`. Also a window function, with any frame.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct OverTime {
    function: Function,
    signature: Signature,
}

impl OverTime {
    pub(crate) fn new(function: Function) -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable);
        let signature = signature.with_parameter_names(function.parameters().to_vec())?;
        Ok(Self { function, signature })
    }
}

impl AggregateUDFImpl for OverTime {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let [value, time, rest @ ..] = types else {
            return plan_err!("{name} takes a value and its time: {name}({})", self.function.parameters().join(", "));
        };
        let value = match self.function {
            Function::StateDuration if matches!(value, DataType::Boolean | DataType::Null) => DataType::Boolean,
            Function::StateDuration => return plan_err!("{name} takes a condition, not {value}"),
            _ if value.is_numeric() || value.is_null() => DataType::Float64,
            _ => return plan_err!("{name} takes a number, not {value}"),
        };
        let roles = Role::of(self.function, rest)?;
        let rest = roles.into_iter().zip(rest).map(|(role, data_type)| role.coerced(name, data_type));
        [Ok(value), coerced_time(name, time)].into_iter().chain(rest).collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |part, data_type| {
            let item = Arc::new(Field::new_list_field(data_type, true));
            Arc::new(Field::new(format_state_name(args.name, part), DataType::List(item), true))
        };
        Ok(vec![
            list("times", DataType::Int64),
            list("values", DataType::Float64),
            list("starts", DataType::Int64),
            list("options", DataType::Int64),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let types: Vec<_> = args.expr_fields.iter().skip(2).map(|field| field.data_type().clone()).collect();
        let roles = Role::of(self.function, &types)?;
        Ok(Box::new(Answer { function: self.function, roles, points: Points::default(), options: Options::default() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct Answer {
    function: Function,
    roles: Vec<Role>,
    points: Points,
    options: Options,
}

impl Answer {
    fn starts<'a>(&self, values: &'a [ArrayRef]) -> Option<&'a ArrayRef> {
        let start = self.roles.iter().position(|role| *role == Role::Start)?;
        values.get(start + 2)
    }
}

impl Accumulator for Answer {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (role, values) in self.roles.iter().zip(&values[2..]) {
            self.options.extend(*role, values)?;
        }
        self.points.extend(&values[0], &values[1], self.starts(values))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.points.retract(&values[0], &values[1], self.starts(values))
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.function.answer(&mut self.points, &self.options)?))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.points.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let [times, values, starts] = self.points.state();
        Ok(vec![times, values, starts, self.options.state()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.points.merge(&states[0], &states[1], &states[2])?;
        self.options.merge(&states[3])
    }
}

#[cfg(test)]
mod tests;

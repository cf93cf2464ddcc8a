//! The arguments of an aggregate over time that say how, not of what: one value for a whole group.

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    datatypes::{DataType, Int64Type, IntervalUnit},
};
use datafusion::{
    common::{ScalarValue, exec_err, plan_err, utils::SingleRowListArrayBuilder},
    error::Result,
};

use super::{
    area::Between,
    counter::{Temporality, Window},
    instant::{coerced_time, instants},
    over_time::Function,
    width::Width,
};

/// What an argument after the value and the time says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// When counting began: a column of points, not an option.
    Start,
    Extrapolate,
    WindowStart,
    WindowWidth,
    Temporality,
    Cutoff,
    Method,
}

const ROLES: [Role; 6] =
    [Role::Extrapolate, Role::WindowStart, Role::WindowWidth, Role::Temporality, Role::Cutoff, Role::Method];

impl Role {
    /// The roles of `types`, the arguments of `function` after value and time.
    pub(crate) fn of(function: Function, types: &[DataType]) -> Result<Vec<Self>> {
        let roles: &[Self] = match (function, types.first()) {
            (Function::Increase | Function::Rate | Function::Delta, Some(DataType::Boolean)) => {
                &[Self::Extrapolate, Self::WindowStart, Self::WindowWidth, Self::Temporality, Self::Start]
            }
            (Function::Increase | Function::Rate | Function::InstantRate | Function::Delta, _) => {
                &[Self::Temporality, Self::Start]
            }
            (Function::Integral | Function::TimeWeightedAvg, _) => &[Self::Cutoff, Self::Method],
            (Function::StateDuration, _) => &[Self::Cutoff],
        };
        match roles.get(..types.len()) {
            Some(roles) => Ok(roles.to_vec()),
            None => plan_err!("{} takes at most {} arguments", function.name(), roles.len() + 2),
        }
    }

    pub(crate) fn coerced(self, name: &str, data_type: &DataType) -> Result<DataType> {
        let is_text = data_type.is_string() || data_type.is_null();
        match self {
            Self::Start | Self::WindowStart => coerced_time(name, data_type),
            Self::Extrapolate => Ok(DataType::Boolean),
            Self::WindowWidth | Self::Cutoff if matches!(data_type, DataType::Interval(_) | DataType::Duration(_)) => {
                Ok(DataType::Interval(IntervalUnit::MonthDayNano))
            }
            Self::WindowWidth | Self::Cutoff | Self::Temporality | Self::Method if is_text => Ok(DataType::Utf8),
            Self::WindowWidth | Self::Cutoff => plan_err!("{name} takes an interval or a text, not {data_type}"),
            Self::Temporality => plan_err!("{name} takes a temporality, 'delta' or 'cumulative', not {data_type}"),
            Self::Method => plan_err!("{name} takes a method, 'linear' or 'locf', not {data_type}"),
        }
    }

    fn index(self) -> Option<usize> {
        ROLES.iter().position(|role| *role == self)
    }

    /// The number that stands for the value of one row.
    fn number(self, values: &ArrayRef, row: usize) -> Result<Option<i64>> {
        if values.is_null(row) {
            return Ok(None);
        }
        Ok(match self {
            Self::Extrapolate => Some(i64::from(values.as_boolean().value(row))),
            Self::Start | Self::WindowStart => Some(instants(&values.slice(row, 1))?.value(0)),
            Self::WindowWidth | Self::Cutoff => match Width::of(&ScalarValue::try_from_array(values, row)?)? {
                Some(width) if width.months > 0 => return exec_err!("months have no length in seconds; use days"),
                width => width.map(|width| width.fixed_micros()),
            },
            Self::Temporality => Some(Temporality::parse(values.as_string::<i32>().value(row))? as i64),
            Self::Method => match values.as_string::<i32>().value(row) {
                "linear" => Some(Between::Linear as i64),
                "locf" => Some(Between::Held as i64),
                other => return exec_err!("{other:?} is no method; use 'linear' or 'locf'"),
            },
        })
    }

    fn told(self) -> &'static str {
        match self {
            Self::Start => "start_time",
            Self::Extrapolate => "extrapolate",
            Self::WindowStart => "window_start",
            Self::WindowWidth => "window_width",
            Self::Temporality => "temporality",
            Self::Cutoff => "cutoff",
            Self::Method => "method",
        }
    }
}

/// One number for each of [`ROLES`], null where nothing was said.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Options([Option<i64>; ROLES.len()]);

impl Options {
    /// Takes over what `values` say.
    ///
    /// # Errors
    /// If they do not agree with each other or with what was said before.
    pub(crate) fn extend(&mut self, role: Role, values: &ArrayRef) -> Result<()> {
        let Some(index) = role.index() else { return Ok(()) };
        let mut row = 0;
        while row < values.len() {
            self.set(index, role.number(values, row)?)?;
            // Rows of one value need no second look.
            let first = row;
            let comparator = arrow::array::make_comparator(values, values, arrow::compute::SortOptions::default())?;
            while row < values.len() && comparator(first, row).is_eq() {
                row += 1;
            }
        }
        Ok(())
    }

    fn set(&mut self, index: usize, number: Option<i64>) -> Result<()> {
        match (self.0[index], number) {
            (Some(known), Some(number)) if known != number => {
                exec_err!("{} must be the same for all points of a group", ROLES[index].told())
            }
            (known, number) => {
                self.0[index] = known.or(number);
                Ok(())
            }
        }
    }

    fn get(&self, role: Role) -> Option<i64> {
        role.index().and_then(|index| self.0[index])
    }

    pub(crate) fn temporality(&self) -> Temporality {
        let delta = self.get(Role::Temporality) == Some(Temporality::Delta as i64);
        if delta { Temporality::Delta } else { Temporality::Cumulative }
    }

    pub(crate) fn between(&self, default: Between) -> Between {
        match self.get(Role::Method) {
            Some(method) if method == Between::Linear as i64 => Between::Linear,
            Some(_) => Between::Held,
            None => default,
        }
    }

    pub(crate) fn cutoff(&self) -> Option<i64> {
        self.get(Role::Cutoff)
    }

    /// The window to extrapolate to, if that is asked for.
    ///
    /// # Errors
    /// If it is not said which.
    pub(crate) fn window(&self) -> Result<Option<Window>> {
        if self.get(Role::Extrapolate) != Some(1) {
            return Ok(None);
        }
        match (self.get(Role::WindowStart), self.get(Role::WindowWidth)) {
            (Some(start), Some(width)) => Ok(Some(Window { start, end: start.saturating_add(width) })),
            _ => exec_err!("to extrapolate, say window_start and window_width"),
        }
    }

    pub(crate) fn state(&self) -> ScalarValue {
        SingleRowListArrayBuilder::new(std::sync::Arc::new(Int64Array::from(self.0.to_vec()))).build_list_scalar()
    }

    pub(crate) fn merge(&mut self, states: &ArrayRef) -> Result<()> {
        let states = states.as_list::<i32>();
        for state in (0..states.len()).filter(|state| !states.is_null(*state)) {
            let numbers = states.value(state);
            for (index, number) in numbers.as_primitive::<Int64Type>().iter().take(ROLES.len()).enumerate() {
                self.set(index, number)?;
            }
        }
        Ok(())
    }
}

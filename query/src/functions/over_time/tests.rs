use arrow::array::{Float64Array, TimestampMicrosecondArray};
use proptest::prelude::*;

use super::*;

fn answer(function: Function) -> Answer {
    Answer { function, roles: vec![], points: Points::default(), options: Options::default() }
}

fn columns(points: &[(i64, Option<f64>)]) -> [ArrayRef; 2] {
    let times = TimestampMicrosecondArray::from_iter_values(points.iter().map(|(time, _)| *time));
    [Arc::new(points.iter().map(|(_, value)| *value).collect::<Float64Array>()), Arc::new(times.with_timezone("UTC"))]
}

fn whole(function: Function, points: &[(i64, Option<f64>)]) -> ScalarValue {
    let mut answer = answer(function);
    answer.update_batch(&columns(points)).unwrap();
    answer.evaluate().unwrap()
}

/// Points of distinct times, each with the partition that sees it, in any order.
fn scattered() -> impl Strategy<Value = Vec<(i64, Option<f64>, usize)>> {
    let value = prop_oneof![4 => (0u16..100).prop_map(|value| Some(f64::from(value))), 1 => Just(None)];
    let points = prop::collection::btree_map(0i64..10_000_000_000, (value, 0usize..4), 0..40);
    points
        .prop_map(|points| points.into_iter().map(|(time, (value, part))| (time, value, part)).collect())
        .prop_shuffle()
}

proptest! {
    #[test]
    fn any_partition_of_the_points_gives_the_same_answer(points in scattered(), order in Just([0usize, 1, 2, 3]).prop_shuffle()) {
        for function in Function::ALL {
            let all: Vec<_> = points.iter().map(|(time, value, _)| (*time, *value)).collect();
            let mut merged = answer(function);
            for part in order {
                let of_part: Vec<_> = points.iter().filter(|point| point.2 == part).map(|point| (point.0, point.1)).collect();
                let mut partial = answer(function);
                partial.update_batch(&columns(&of_part)).unwrap();
                let states: Vec<_> = partial.state().unwrap().iter().map(|state| state.to_array().unwrap()).collect();
                merged.merge_batch(&states).unwrap();
            }
            prop_assert_eq!(merged.evaluate().unwrap(), whole(function, &all));
        }
    }

    #[test]
    fn a_window_that_moves_on_forgets(points in scattered(), kept in 0usize..40) {
        let all: Vec<_> = points.iter().map(|(time, value, _)| (*time, *value)).collect();
        let gone = all.len() - kept.min(all.len());
        let mut moving = answer(Function::Increase);
        moving.update_batch(&columns(&all)).unwrap();
        moving.retract_batch(&columns(&all[..gone])).unwrap();
        prop_assert_eq!(moving.evaluate().unwrap(), whole(Function::Increase, &all[gone..]));
    }
}

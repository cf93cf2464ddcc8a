use datafusion::logical_expr::EmitTo;
use proptest::prelude::*;

use super::*;
use crate::functions::histogram::{Explicit, Exponential, Run, Shape};

fn histogram() -> impl Strategy<Value = Histogram> {
    let counts = || prop::collection::vec((0u8..5).prop_map(f64::from), 0..6);
    let exponential = (-2i32..4, 0u8..3, prop::sample::select(vec![0.0, 0.1, 1.5]), -6i32..6, counts(), counts());
    exponential.prop_map(|(scale, zero_count, zero_threshold, offset, positive, negative)| {
        let zero_count = f64::from(zero_count);
        let count = zero_count + positive.iter().chain(&negative).sum::<f64>();
        let (positive, negative) = (Run { offset, counts: positive }, Run { offset: -offset, counts: negative });
        let shape = Shape::Exponential(Exponential { scale, zero_count, zero_threshold, positive, negative });
        Histogram { count, sum: Some(count * 2.0), min: None, max: None, shape }
    })
}

fn classic() -> impl Strategy<Value = Histogram> {
    let bounds = prop::sample::subsequence(vec![1.0, 2.0, 4.0, 8.0], 0..=4);
    let counts = prop::collection::vec((0u8..5).prop_map(f64::from), 5);
    (bounds, counts).prop_map(|(bounds, mut counts)| {
        counts.truncate(bounds.len() + 1);
        let count = counts.iter().sum::<f64>();
        Histogram { count, sum: Some(count), min: None, max: None, shape: Shape::Explicit(Explicit { bounds, counts }) }
    })
}

/// What `parts` of the histograms add up to, each part by an accumulator of its own.
fn merged(histograms: &[(Histogram, usize)], order: [usize; 3]) -> ScalarValue {
    let mut whole = Sum::default();
    for part in order {
        let of_part: Vec<_> = histograms.iter().filter(|(_, of)| *of == part).map(|(of, _)| Some(of.clone())).collect();
        let mut partial = Sum::default();
        partial.update_batch(&[Arc::new(build(&of_part))]).unwrap();
        let state = partial.state().unwrap()[0].to_array().unwrap();
        whole.merge_batch(&[state]).unwrap();
    }
    whole.evaluate().unwrap()
}

/// What the groups of the histograms add up to, all at once, in two parts.
fn summed(histograms: &[(Histogram, usize)], group_count: usize) -> Vec<ScalarValue> {
    let mut whole = Sums::default();
    for part in histograms.chunks(histograms.len() / 2 + 1) {
        let (mut partial, groups): (_, Vec<_>) = (Sums::default(), part.iter().map(|(_, group)| *group).collect());
        let column: ArrayRef = Arc::new(build(&part.iter().map(|(of, _)| Some(of.clone())).collect::<Vec<_>>()));
        partial.update_batch(&[column], &groups, None, group_count).unwrap();
        let state = partial.state(EmitTo::All).unwrap();
        assert_eq!(partial.size(), Sums::default().size());
        whole.merge_batch(&state, &(0..group_count).collect::<Vec<_>>(), group_count).unwrap();
    }
    if histograms.is_empty() {
        return vec![];
    }
    let first = whole.evaluate(EmitTo::First(1)).unwrap();
    let rest = whole.evaluate(EmitTo::All).unwrap();
    let at = |array: &ArrayRef, row| ScalarValue::try_from_array(array, row).unwrap();
    (0..1).map(|row| at(&first, row)).chain((0..group_count - 1).map(|row| at(&rest, row))).collect()
}

proptest! {
    #[test]
    fn groups_are_summed_as_each_is(histograms in prop::collection::vec((classic(), 0usize..3), 0..12)) {
        for (group, sum) in summed(&histograms, 3).into_iter().enumerate() {
            let own: Vec<_> = histograms.iter().filter(|(_, of)| *of == group).map(|(of, _)| (of.clone(), 0)).collect();
            prop_assert_eq!(sum, merged(&own, [0, 1, 2]));
        }
    }

    #[test]
    fn the_order_of_exponential_summands_does_not_matter(
        histograms in prop::collection::vec((histogram(), 0usize..3), 0..8), order in Just([0usize, 1, 2]).prop_shuffle()
    ) {
        let all: Vec<_> = histograms.iter().map(|(of, _)| (of.clone(), 0)).collect();
        prop_assert_eq!(merged(&histograms, order), merged(&all, [0, 1, 2]));
    }

    #[test]
    fn the_order_of_explicit_summands_does_not_matter(
        histograms in prop::collection::vec((classic(), 0usize..3), 0..8), order in Just([0usize, 1, 2]).prop_shuffle()
    ) {
        let all: Vec<_> = histograms.iter().map(|(of, _)| (of.clone(), 0)).collect();
        prop_assert_eq!(merged(&histograms, order), merged(&all, [0, 1, 2]));
    }
}

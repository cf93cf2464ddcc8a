//! Which series of different metrics are about the same requests: those that agree in every attribute that all metrics have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{latency_points::Choice, series::Series};

/// Attributes that tell apart what one request reports, not requests.
const OF_METRIC: [&str; 2] = ["gen_ai.token.type", "token.type"];
/// Attributes that say that a request failed: its duration is not that of an answer.
const FAILURES: [&str; 1] = ["error.type"];

/// Groups of series.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Groups {
    /// Labels of each group.
    pub(super) labels: Vec<BTreeMap<String, String>>,
    /// Role, group and column of each series.
    places: HashMap<i64, Vec<(String, u32, usize)>>,
    /// Requests of failed series, which are left out.
    pub(super) failed: f64,
}

impl Groups {
    /// Groups the series of the chosen metrics.
    pub(super) fn new(series: &[Series], choice: &Choice) -> Self {
        let Some(latency) = &choice.latency else { return Self::default() };
        let mut wanted: Vec<(&str, &str)> = vec![(latency.role, &latency.metric)];
        wanted.extend(choice.inputs.iter().map(|input| (input.name, input.metric.as_str())));
        let column =
            |series: &Series| wanted.iter().position(|&(role, metric)| series.role == role && series.metric == metric);
        let mut groups = Self::default();
        let mut chosen: Vec<(usize, &Series)> = Vec::new();
        for series in series {
            let Some(column) = column(series) else { continue };
            match series.label(&FAILURES).is_some() {
                true if column == 0 => {
                    groups.failed += if series.is_counted { series.requests } else { series.points as f64 }
                }
                true => {}
                false => chosen.push((column, series)),
            }
        }
        let common = common_keys(&chosen, wanted.len());
        let mut known: HashMap<Vec<Option<&str>>, u32> = HashMap::new();
        for (column, series) in chosen {
            let values: Vec<Option<&str>> =
                common.iter().map(|key| series.labels.get(*key).map(String::as_str)).collect();
            let group = *known.entry(values).or_insert_with_key(|values| {
                let labels = common
                    .iter()
                    .zip(values)
                    .filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?.to_owned())));
                groups.labels.push(labels.collect());
                groups.labels.len() as u32 - 1
            });
            groups.places.entry(series.id).or_default().push((series.role.clone(), group, column));
        }
        groups
    }

    /// Group and column of a series in a role: column 0 is the latency, then the inputs in the order of the choice.
    pub(super) fn place(&self, role: &str, series: i64) -> Option<(u32, usize)> {
        let places = self.places.get(&series)?;
        places.iter().find(|(known, ..)| known == role).map(|&(_, group, column)| (group, column))
    }
}

/// The keys that at least one series of every metric has.
fn common_keys<'a>(chosen: &[(usize, &'a Series)], columns: usize) -> Vec<&'a str> {
    let mut keys: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); columns];
    for (column, series) in chosen {
        keys[*column].extend(series.labels.keys().map(String::as_str).filter(|key| !OF_METRIC.contains(key)));
    }
    let mut all = keys.into_iter().filter(|keys| !keys.is_empty());
    let first = all.next().unwrap_or_default();
    all.fold(first, |common, keys| common.intersection(&keys).copied().collect()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::reader::latency_points::choose;

    fn series(id: i64, role: &str, labels: &[(&str, &str)]) -> Series {
        Series {
            id,
            role: role.to_owned(),
            metric: role.to_owned(),
            simulated: false,
            is_counted: true,
            points: 10,
            requests: 100.0,
            times_us: (0, 1),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn series_are_joined_by_what_all_metrics_have() {
        let all = [
            series(1, "latency.e2e", &[("host_name", "a"), ("http.route", "/x"), ("tenant", "t")]),
            series(2, "latency.e2e", &[("host_name", "a"), ("http.route", "/y"), ("tenant", "t")]),
            series(3, "latency.e2e", &[("host_name", "b"), ("http.route", "/x"), ("tenant", "t")]),
            series(4, "input.tokens", &[("host_name", "a"), ("tenant", "t"), ("gen_ai.token.type", "input")]),
            series(5, "output.tokens", &[("host_name", "a"), ("tenant", "t"), ("gen_ai.token.type", "output")]),
            series(6, "latency.e2e", &[("host_name", "a"), ("error.type", "timeout")]),
        ];
        let groups = Groups::new(&all, &choose(&all));
        let place = |role: &str, id| groups.place(role, id);
        assert_eq!(groups.labels.len(), 2, "{groups:?}");
        assert_eq!(place("latency.e2e", 1), Some((0, 0)));
        assert_eq!(place("latency.e2e", 2), Some((0, 0)), "routes are not known of tokens");
        assert_eq!(place("latency.e2e", 3), Some((1, 0)));
        assert_eq!((place("input.tokens", 4), place("output.tokens", 5)), (Some((0, 1)), Some((0, 2))));
        assert_eq!((place("latency.e2e", 6), groups.failed), (None, 100.0));
    }
}

//! Durations in the configuration: `"250ms"`, `"5s"`, `"5m"`, `"1h"`, `"7d"`.

use std::time::Duration;

use crate::delivery::DeliveryError;

/// The duration of `setting`, or `usual` where none is written.
pub(crate) fn duration(setting: &str, text: Option<&str>, usual: Duration) -> Result<Duration, DeliveryError> {
    let Some(text) = text else { return Ok(usual) };
    parse(text).ok_or_else(|| DeliveryError::Setting {
        setting: setting.to_owned(),
        reason: format!("{text:?} is no duration; write one such as \"60s\", \"5m\", \"1h\" or \"7d\""),
    })
}

fn parse(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(millis)?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_is_not_nothing() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("2h"), Some(Duration::from_secs(7_200)));
        for text in ["", "5", "0s", "s", "-1s", "1.5h", "1 h", "99999999999999999999d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

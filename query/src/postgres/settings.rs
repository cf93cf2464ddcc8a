//! What a connection sets: remembered, shown, and honoured where it means something here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::failure::Failure;

/// The version of PostgreSQL whose words and catalogs clients are to expect.
pub(crate) const SERVER_VERSION: &str = "15.0";

/// Name, value at the start, and whether clients are told it unasked.
const KNOWN: [(&str, &str, bool); 45] = [
    ("application_name", "", true),
    ("backslash_quote", "safe_encoding", false),
    ("bytea_output", "hex", false),
    ("check_function_bodies", "on", false),
    ("client_encoding", "UTF8", true),
    ("client_min_messages", "notice", false),
    ("constraint_exclusion", "partition", false),
    ("cursor_tuple_fraction", "0.1", false),
    ("DateStyle", "ISO, MDY", true),
    ("default_statistics_target", "100", false),
    ("default_table_access_method", "heap", false),
    ("default_tablespace", "", false),
    ("default_transaction_deferrable", "off", false),
    ("default_transaction_isolation", "read committed", false),
    ("default_transaction_read_only", "on", true),
    ("escape_string_warning", "on", false),
    ("extra_float_digits", "1", false),
    ("geqo", "on", false),
    ("idle_in_transaction_session_timeout", "0", false),
    ("in_hot_standby", "off", true),
    ("integer_datetimes", "on", true),
    ("IntervalStyle", "postgres", true),
    ("is_superuser", "off", true),
    ("jit", "off", false),
    ("lc_collate", "C", false),
    ("lc_ctype", "C", false),
    ("lc_messages", "C", false),
    ("lc_monetary", "C", false),
    ("lock_timeout", "0", false),
    ("max_identifier_length", "63", false),
    ("max_index_keys", "32", false),
    ("row_security", "on", false),
    ("search_path", "\"$user\", public", false),
    ("server_encoding", "UTF8", true),
    ("server_version", SERVER_VERSION, true),
    ("server_version_num", "150000", false),
    ("session_replication_role", "origin", false),
    ("standard_conforming_strings", "on", true),
    ("statement_timeout", "0", false),
    ("synchronize_seqscans", "on", false),
    ("TimeZone", "UTC", true),
    ("transaction_isolation", "read committed", false),
    ("transaction_read_only", "on", false),
    ("work_mem", "4MB", false),
    ("xmloption", "content", false),
];

/// What the server says of itself, which nobody sets.
const FIXED: [&str; 10] = [
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "server_encoding",
    "server_version",
    "server_version_num",
];

/// Settings with a name of two parts, such as `app.user`, that a connection may have.
const CUSTOM_COUNT_MAX: usize = 100;
/// Of the name and of the value of a setting.
const SETTING_SIZE_BYTES_MAX: usize = 8 << 10;

/// The settings of a connection.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    changed: Mutex<Changed>,
}

#[derive(Debug, Default)]
struct Changed {
    /// By the name in lower case.
    now: BTreeMap<String, String>,
    /// What the client asked for when it connected, to which `RESET` goes back.
    at_start: BTreeMap<String, String>,
}

impl Settings {
    /// The value of `name`; `None` if there is no such setting.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let key = name.to_lowercase();
        let changed = self.changed().now.get(&key).cloned();
        changed.or_else(|| known(&key).map(|(_, value, _)| value.to_owned()))
    }

    /// Sets `name`, and gives its name and value if clients are to be told.
    ///
    /// # Errors
    /// A setting that is not known, or a value that would make answers other than they are.
    pub(crate) fn set(&self, name: &str, value: &str) -> Result<Option<(&'static str, String)>, Failure> {
        if name.len() + value.len() > SETTING_SIZE_BYTES_MAX {
            let limit = SETTING_SIZE_BYTES_MAX;
            return Err(Failure::new("54000", format!("a setting has at most {limit} bytes with its value")));
        }
        let key = name.to_lowercase();
        let Some((shown, _, reported)) = known(&key) else {
            return self.set_custom(key, name, value);
        };
        if FIXED.contains(&shown) {
            return Err(Failure::new("55P02", format!("parameter \"{shown}\" cannot be changed")));
        }
        let value = checked(shown, value)?;
        self.changed().now.insert(key, value.clone());
        Ok(reported.then_some((shown, value)))
    }

    fn set_custom(&self, key: String, name: &str, value: &str) -> Result<Option<(&'static str, String)>, Failure> {
        let mut changed = self.changed();
        if !key.contains('.') {
            return Err(unknown(name));
        }
        let own = changed.now.keys().filter(|other| other.contains('.') && **other != key).count();
        if own >= CUSTOM_COUNT_MAX {
            return Err(Failure::new("54000", "this connection has too many settings of its own"));
        }
        changed.now.insert(key, value.to_owned());
        Ok(None)
    }

    /// Goes back to what `name` was when the client connected, or all settings for `None`.
    pub(crate) fn reset(&self, name: Option<&str>) -> Result<Vec<(&'static str, String)>, Failure> {
        {
            let mut changed = self.changed();
            let Changed { now, at_start } = &mut *changed;
            match name {
                None => now.clone_from(at_start),
                Some(name) => {
                    let key = name.to_lowercase();
                    if known(&key).is_none() && !key.contains('.') {
                        return Err(unknown(name));
                    }
                    match at_start.get(&key) {
                        Some(value) => drop(now.insert(key, value.clone())),
                        None => drop(now.remove(&key)),
                    }
                }
            }
        }
        let all = self.reported();
        Ok(all.into_iter().filter(|(shown, _)| name.is_none_or(|name| shown.eq_ignore_ascii_case(name))).collect())
    }

    /// What is set now is what `RESET` goes back to.
    pub(crate) fn start(&self) {
        let mut changed = self.changed();
        changed.at_start = changed.now.clone();
    }

    /// What clients are told when they have connected.
    pub(crate) fn reported(&self) -> Vec<(&'static str, String)> {
        let reported = KNOWN.iter().filter(|(.., reported)| *reported);
        reported.map(|(name, ..)| (*name, self.get(name).unwrap_or_default())).collect()
    }

    /// Every setting with its value.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let mut all: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (name, value, _) in KNOWN {
            all.insert(name.to_lowercase(), (name.to_owned(), value.to_owned()));
        }
        for (key, value) in &self.changed().now {
            let entry = all.entry(key.clone()).or_insert_with(|| (key.clone(), String::new()));
            entry.1.clone_from(value);
        }
        all.into_values().collect()
    }

    /// How long a statement may take by the client's own wish.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        let text = self.get("statement_timeout")?;
        duration_ms(&text).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// Schemas in which unqualified names are looked up, in order.
    pub(crate) fn search_path(&self) -> Vec<String> {
        let text = self.get("search_path").unwrap_or_default();
        text.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
    }

    fn changed(&self) -> MutexGuard<'_, Changed> {
        // Nothing in here is left half done by a panic.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By the name in lower case.
fn known(key: &str) -> Option<(&'static str, &'static str, bool)> {
    KNOWN.into_iter().find(|(name, ..)| name.eq_ignore_ascii_case(key))
}

pub(crate) fn unknown(name: &str) -> Failure {
    Failure::new("42704", format!("unrecognized configuration parameter \"{name}\""))
}

/// The value as it is kept; refused if answers would have to be other than they are.
fn checked(name: &str, value: &str) -> Result<String, Failure> {
    let refused = |only: &str| {
        Err(Failure::new(
            "22023",
            format!("invalid value for parameter \"{name}\": \"{value}\"; only {only} is given here"),
        ))
    };
    let lower = value.trim().to_lowercase();
    match name {
        "client_encoding" => match lower.replace(['-', '_'], "").as_str() {
            "utf8" | "unicode" | "auto" => Ok("UTF8".to_owned()),
            _ => refused("UTF8"),
        },
        // Some clients name the order of day and month, which ISO does not need.
        "DateStyle" if lower.contains("iso") => {
            Ok(if lower == "iso" { "ISO, MDY".to_owned() } else { value.to_owned() })
        }
        "DateStyle" => refused("ISO"),
        "IntervalStyle" if lower != "postgres" => refused("postgres"),
        "bytea_output" if lower != "hex" => refused("hex"),
        "standard_conforming_strings" if !matches!(lower.as_str(), "on" | "true" | "yes" | "1") => refused("on"),
        "standard_conforming_strings" => Ok("on".to_owned()),
        "statement_timeout" if duration_ms(value).is_none() => {
            Err(Failure::new("22023", format!("invalid value for parameter \"{name}\": \"{value}\"")))
        }
        _ => Ok(value.to_owned()),
    }
}

/// A time as PostgreSQL reads it: milliseconds unless a unit says otherwise.
fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "" | "ms" => Some(number),
        "us" => Some(number / 1000),
        "s" => number.checked_mul(1000),
        "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_shown_and_reset_to_what_they_were_at_the_start() {
        let settings = Settings::default();
        assert_eq!(settings.set("APPLICATION_NAME", "psql").unwrap(), Some(("application_name", "psql".into())));
        settings.start();
        settings.set("application_name", "other").unwrap();
        settings.set("statement_timeout", "2s").unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(2)));
        settings.reset(None).unwrap();
        assert_eq!(settings.get("Application_Name").as_deref(), Some("psql"));
        assert_eq!(settings.statement_timeout(), None);
        assert_eq!(settings.search_path(), ["$user", "public"]);
        assert_eq!(settings.get("no_such"), None);
        settings.set("app.user", "me").unwrap();
        assert_eq!(settings.get("app.user").as_deref(), Some("me"));
    }

    #[test]
    fn what_would_change_answers_is_refused() {
        let settings = Settings::default();
        for (name, value, code) in [
            ("client_encoding", "LATIN1", "22023"),
            ("DateStyle", "German", "22023"),
            ("standard_conforming_strings", "off", "22023"),
            ("statement_timeout", "soon", "22023"),
            ("server_version", "9.6", "55P02"),
            ("no_such", "1", "42704"),
            ("app.user", &"x".repeat(SETTING_SIZE_BYTES_MAX), "54000"),
            ("application_name", &"x".repeat(SETTING_SIZE_BYTES_MAX), "54000"),
        ] {
            assert_eq!(settings.set(name, value).unwrap_err().code, code, "{name}");
        }
        assert_eq!(settings.set("client_encoding", "unicode").unwrap(), Some(("client_encoding", "UTF8".into())));
    }
}

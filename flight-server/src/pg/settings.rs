//! Settings that PostgreSQL has and the engine has not: those that clients ask for or set without being asked.
//!
//! A setting that would change what a value looks like can be set to what it is and to nothing else; one that changes nothing here is remembered and shown. Names
//! that are in neither list, `search_path` and `headwater.*` above all, are the engine's.

use std::collections::BTreeMap;

use super::error::{INVALID_VALUE, PgError, UNSUPPORTED};

/// The version of PostgreSQL whose dialect of the protocol and of `pg_catalog` is spoken.
pub(super) const SERVER_VERSION: &str = "15.0";

/// The name of the only database.
pub(super) const DATABASE: &str = "headwater";

/// Settings with one value. Clients that set another one get an error.
const FIXED: [(&str, &str); 18] = [
    ("server_version", SERVER_VERSION),
    ("server_version_num", "150000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("is_superuser", "off"),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("lc_collate", "C"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("block_size", "8192"),
    ("data_checksums", "off"),
];

/// Settings that change nothing here, with the value that they begin with.
const IDLE: [(&str, &str); 23] = [
    ("application_name", ""),
    ("extra_float_digits", "1"),
    ("client_min_messages", "notice"),
    ("transaction_read_only", "on"),
    ("default_transaction_read_only", "on"),
    ("transaction_deferrable", "off"),
    ("row_security", "on"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("jit", "off"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("check_function_bodies", "off"),
    ("synchronous_commit", "on"),
    ("xmloption", "content"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
    ("backslash_quote", "safe_encoding"),
    ("geqo", "off"),
    ("work_mem", "4MB"),
];

/// The settings that a client is told of when it connects and when they change, by the names that clients look for.
const REPORTED: [(&str, &str); 10] = [
    ("server_version", "server_version"),
    ("server_encoding", "server_encoding"),
    ("client_encoding", "client_encoding"),
    ("DateStyle", "datestyle"),
    ("IntervalStyle", "intervalstyle"),
    ("TimeZone", "timezone"),
    ("integer_datetimes", "integer_datetimes"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("is_superuser", "is_superuser"),
    ("application_name", "application_name"),
];

/// The settings of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    set: BTreeMap<String, String>,
}

/// What became of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is set; where clients are told of it, under this name.
    Here(Option<&'static str>),
    /// It is not one of these.
    NotOurs,
}

impl Settings {
    /// Sets one. `None` sets it back.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<Taken, PgError> {
        let name = name.to_ascii_lowercase();
        if let Some((_, fixed)) = FIXED.iter().find(|(known, _)| *known == name) {
            return match value {
                Some(value) if !means_the_same(&name, value, fixed) => {
                    let message = format!("parameter \"{name}\" is {fixed} here and can't be set to another value");
                    Err(PgError::new(
                        if name.starts_with("transaction") { UNSUPPORTED } else { INVALID_VALUE },
                        message,
                    ))
                }
                _ => Ok(Taken::Here(None)),
            };
        }
        if !IDLE.iter().any(|(known, _)| *known == name) {
            return Ok(Taken::NotOurs);
        }
        let reported = REPORTED.iter().find(|(_, known)| *known == name).map(|(shown, _)| *shown);
        match value {
            Some(value) => self.set.insert(name, value.chars().take(1024).collect()),
            None => self.set.remove(&name),
        };
        Ok(Taken::Here(reported))
    }

    /// A setting's value, where it is one of these.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        let known = |list: &[(&'static str, &'static str)]| {
            list.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
        };
        known(&FIXED).or_else(|| self.set.get(&name).map(String::as_str)).or_else(|| known(&IDLE))
    }

    /// Every setting that there is, in order.
    pub(super) fn all(&self) -> BTreeMap<&str, &str> {
        let known = FIXED.iter().chain(&IDLE).map(|(name, _)| *name);
        known.filter_map(|name| Some((name, self.get(name)?))).collect()
    }

    /// What a client is told of when it connects.
    pub(super) fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        REPORTED.iter().filter_map(|(shown, name)| Some((*shown, self.get(name)?)))
    }
}

fn means_the_same(name: &str, value: &str, fixed: &str) -> bool {
    let value = value.trim().trim_matches(['\'', '"']).to_ascii_lowercase();
    let fixed = fixed.to_ascii_lowercase();
    value == fixed
        || value == "default"
        || match name {
            "client_encoding" => matches!(value.as_str(), "utf-8" | "unicode"),
            // The order of day and month matters only to what is read in other styles than ISO.
            "datestyle" => value.starts_with("iso"),
            "timezone" => matches!(value.as_str(), "etc/utc" | "gmt" | "z" | "zulu" | "+00" | "+00:00" | "0"),
            "standard_conforming_strings" => matches!(value.as_str(), "true" | "1" | "yes"),
            "transaction_isolation" | "default_transaction_isolation" => value == "read uncommitted",
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_that_would_change_values_takes_only_what_it_is() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("DateStyle", Some("ISO")), Ok(Taken::Here(None)));
        assert_eq!(settings.set("client_encoding", Some("'UTF-8'")), Ok(Taken::Here(None)));
        assert!(settings.set("TimeZone", Some("Europe/Paris")).is_err());
        assert!(settings.set("standard_conforming_strings", Some("off")).is_err());
    }

    #[test]
    fn idle_setting_is_remembered_and_set_back_and_others_are_the_engines() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("application_name", Some("psql")), Ok(Taken::Here(Some("application_name"))));
        assert_eq!(settings.get("Application_Name"), Some("psql"));
        settings.set("application_name", None).unwrap();
        assert_eq!(settings.get("application_name"), Some(""));
        assert_eq!(settings.set("search_path", Some("a")), Ok(Taken::NotOurs));
        assert_eq!(settings.get("search_path"), None);
    }
}

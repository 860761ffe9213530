//! What a session may set: `SET headwater.pushdown = off`, `SET headwater.search_path = 'a,b'`.
//!
//! DataFusion keeps the settings as a config extension, so SHOW and `information_schema.df_settings` tell them. The
//! catalog of the session reads them through [`SharedSettings`], which the session refreshes after each SET.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use headwater_source::nearest;
use parking_lot::RwLock;

/// Whether filters, order and limits go down to the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pushdown {
    /// As far as each source's capability table allows.
    #[default]
    On,
    /// Only columns are chosen; every row is scanned and all else is done locally.
    Off,
}

/// The settings of one session, under the prefix `headwater.`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Whether work is pushed to the sources.
    pub pushdown: Pushdown,
    /// The services in which an unqualified table name is looked up, in order.
    pub search_path: Vec<String>,
    /// How long a query may run; never longer than [`Settings::query_deadline_max`].
    pub query_deadline: QueryDeadline,
    /// The engine's own limit, which a session may tighten and not loosen.
    pub query_deadline_max: QueryDeadline,
    /// Positions that the materialized views of a query must have come to.
    pub at_least: AtLeast,
    /// How old the state may be that they show.
    pub max_staleness: QueryDeadline,
    /// What is done where they are not as fresh.
    pub on_stale: OnStale,
}

/// What a query does whose materialized views are not as fresh as its session demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStale {
    /// It waits, and fails after a while.
    #[default]
    Wait,
    /// It fails.
    Error,
    /// It reads the sources instead.
    Live,
}

/// For each service, a token of its source that a view must cover. Written `{orders: 0/16B3748, stock: "12"}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtLeast(pub BTreeMap<String, String>);

/// How long a query may run, from when its answer is read. Written with its unit: `30 s`, `500 ms`, `10 min`, `1 h`, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryDeadline(pub Option<Duration>);

/// Settings that the catalog of a session reads while DataFusion plans.
pub type SharedSettings = Arc<RwLock<Settings>>;

const KEYS: [&str; 6] = ["pushdown", "search_path", "query_deadline", "at_least", "max_staleness", "on_stale"];

/// The units of time, in milliseconds, the longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for QueryDeadline {
    type Err = datafusion::error::DataFusionError;

    fn from_str(value: &str) -> Result<Self> {
        Self::parse_as("headwater.query_deadline", value)
    }
}

impl QueryDeadline {
    /// The value of a setting of this name.
    fn parse_as(setting: &str, value: &str) -> Result<Self> {
        let value = value.trim().to_ascii_lowercase();
        if matches!(value.as_str(), "off" | "0") {
            return Ok(Self(None));
        }
        let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = value.split_at(digits);
        let unit = match unit.trim() {
            "second" | "seconds" => "s",
            "minute" | "minutes" => "min",
            unit => unit,
        };
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        match number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor)) {
            Some(0) => Ok(Self(None)),
            Some(limit_ms) => Ok(Self(Some(Duration::from_millis(limit_ms)))),
            None => plan_err!("{setting} takes a time with its unit (ms, s, min, h), as in '30 s', or off"),
        }
    }
}

impl fmt::Display for QueryDeadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(limit) = self.0 else { return f.write_str("off") };
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match UNITS.iter().find(|(_, factor)| limit_ms.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{} {unit}", limit_ms / factor),
            None => write!(f, "{limit_ms} ms"),
        }
    }
}

impl FromStr for OnStale {
    type Err = datafusion::error::DataFusionError;

    fn from_str(value: &str) -> Result<Self> {
        match value.trim().to_ascii_lowercase().as_str() {
            "wait" => Ok(Self::Wait),
            "error" => Ok(Self::Error),
            "live" => Ok(Self::Live),
            other => plan_err!("headwater.on_stale takes wait, error or live, found {other:?}"),
        }
    }
}

impl fmt::Display for OnStale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "wait",
            Self::Error => "error",
            Self::Live => "live",
        })
    }
}

impl FromStr for AtLeast {
    type Err = datafusion::error::DataFusionError;

    fn from_str(value: &str) -> Result<Self> {
        let wrong = || {
            plan_datafusion_err!(
                "headwater.at_least takes a token for each service, as in '{{orders: 0/16B3748, stock: \"12\"}}'; a token with a comma stands \
                 in double quotes"
            )
        };
        let inner = value.trim();
        let inner = inner.strip_prefix('{').map_or(Some(inner), |inner| inner.strip_suffix('}')).ok_or_else(wrong)?;
        let mut rest = inner.trim();
        let mut tokens = BTreeMap::new();
        while !rest.is_empty() {
            let (service, after) = rest.split_once(':').ok_or_else(wrong)?;
            let after = after.trim_start();
            let (token, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(wrong)?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(rest) => rest.trim_start(),
                None if after.is_empty() => after,
                None => return Err(wrong()),
            };
            let (service, token) = (service.trim().trim_matches('"'), token.trim());
            if service.is_empty() || token.is_empty() {
                return Err(wrong());
            }
            tokens.insert(service.to_owned(), token.to_owned());
        }
        Ok(Self(tokens))
    }
}

impl fmt::Display for AtLeast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let tokens: Vec<String> = self.0.iter().map(|(service, token)| format!("{service}: \"{token}\"")).collect();
        write!(f, "{{{}}}", tokens.join(", "))
    }
}

impl Settings {
    /// The deadline that holds: the session's own, or else the engine's.
    pub fn deadline(&self) -> Option<Duration> {
        self.query_deadline.0.or(self.query_deadline_max.0)
    }

    fn set_deadline(&mut self, deadline: QueryDeadline) -> Result<()> {
        if deadline.0.zip(self.query_deadline_max.0).is_some_and(|(wanted, most)| wanted > most) {
            let most = self.query_deadline_max;
            return plan_err!(
                "headwater.query_deadline is at most {most} here; raise query_deadline_ms in the engine's limits"
            );
        }
        self.query_deadline = deadline;
        Ok(())
    }
}

impl FromStr for Pushdown {
    type Err = datafusion::error::DataFusionError;

    fn from_str(value: &str) -> Result<Self> {
        match value.trim().to_ascii_lowercase().as_str() {
            "on" | "true" => Ok(Self::On),
            "off" | "false" => Ok(Self::Off),
            other => plan_err!("headwater.pushdown takes on or off, found {other:?}"),
        }
    }
}

impl fmt::Display for Pushdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "headwater";
}

impl ExtensionOptions for Settings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "pushdown" => self.pushdown = value.parse()?,
            "search_path" => self.search_path = split_path(value),
            "query_deadline" => self.set_deadline(value.parse()?)?,
            "at_least" => self.at_least = value.parse()?,
            "max_staleness" => self.max_staleness = QueryDeadline::parse_as("headwater.max_staleness", value)?,
            "on_stale" => self.on_stale = value.parse()?,
            other => {
                let hint =
                    nearest(other, KEYS).map(|key| format!("; did you mean headwater.{key}?")).unwrap_or_default();
                return plan_err!("there is no setting headwater.{other}{hint}");
            }
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![
            ConfigEntry {
                key: "headwater.pushdown".to_owned(),
                value: Some(self.pushdown.to_string()),
                description: "Whether filters, order and limits go down to the sources: on or off",
            },
            ConfigEntry {
                key: "headwater.search_path".to_owned(),
                value: Some(self.search_path.join(", ")),
                description: "The services in which an unqualified table name is looked up, in order",
            },
            ConfigEntry {
                key: "headwater.query_deadline".to_owned(),
                value: Some(QueryDeadline(self.deadline()).to_string()),
                description: "How long a query may run, from when its answer is read: a time with its unit, as in 30 s; off: as long as \
                              the engine's limits allow",
            },
            ConfigEntry {
                key: "headwater.at_least".to_owned(),
                value: Some(self.at_least.to_string()),
                description: "Positions that materialized views must show: a token for each service, as in {orders: 0/16B3748}",
            },
            ConfigEntry {
                key: "headwater.max_staleness".to_owned(),
                value: Some(self.max_staleness.to_string()),
                description: "How old the state may be that materialized views show: a time with its unit, as in 5 s, or off",
            },
            ConfigEntry {
                key: "headwater.on_stale".to_owned(),
                value: Some(self.on_stale.to_string()),
                description: "What a query does whose materialized views are not as fresh: wait, error, or live (read the sources instead)",
            },
        ]
    }
}

fn split_path(value: &str) -> Vec<String> {
    value.split(',').map(|part| part.trim().trim_matches('"').to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_parsed_and_unknown_ones_name_the_nearest() {
        let mut settings = Settings::default();
        settings.set("pushdown", "OFF").unwrap();
        settings.set("search_path", " orders, \"customers\" ,").unwrap();
        assert_eq!(settings.pushdown, Pushdown::Off);
        assert_eq!(settings.search_path, ["orders", "customers"]);
        let message = settings.set("pushdwn", "on").unwrap_err().to_string();
        assert!(message.contains("did you mean headwater.pushdown?"), "{message}");
        assert!(settings.set("pushdown", "maybe").is_err());
    }

    #[test]
    fn deadline_has_a_unit_and_prints_in_its_largest() {
        let printed = |text: &str| text.parse::<QueryDeadline>().map(|deadline| deadline.to_string()).ok();
        for (written, expected) in [
            ("30 s", "30 s"),
            ("1500ms", "1500 ms"),
            (" 120 S ", "2 min"),
            ("60 min", "1 h"),
            ("0", "off"),
            ("0 s", "off"),
        ] {
            assert_eq!(printed(written).as_deref(), Some(expected), "{written}");
        }
        for written in ["30", "s", "", "-1 s", "1.5 s", "30 days", "99999999999999999999 h", "18446744073709551615 h"] {
            assert_eq!(printed(written), None, "{written}");
        }
    }

    #[test]
    fn session_tightens_the_engines_deadline_and_does_not_loosen_it() {
        let most = QueryDeadline(Some(Duration::from_secs(60)));
        let mut settings = Settings { query_deadline_max: most, ..Settings::default() };
        settings.set("query_deadline", "30 s").unwrap();
        assert_eq!(settings.deadline(), Some(Duration::from_secs(30)));
        let message = settings.set("query_deadline", "2 min").unwrap_err().to_string();
        assert!(message.contains("at most 1 min here") && message.contains("query_deadline_ms"), "{message}");
        settings.set("query_deadline", "off").unwrap();
        assert_eq!(settings.deadline(), most.0);
    }
}

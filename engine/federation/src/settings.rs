//! What a session may set: `SET headwater.pushdown = off`, `SET headwater.search_path = 'a,b'`.
//!
//! DataFusion keeps the settings as a config extension, so SHOW and `information_schema.df_settings` tell them. The
//! catalog of the session reads them through [`SharedSettings`], which the session refreshes after each SET.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{Result, plan_err};
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
}

/// Settings that the catalog of a session reads while DataFusion plans.
pub type SharedSettings = Arc<RwLock<Settings>>;

const KEYS: [&str; 2] = ["pushdown", "search_path"];

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
}

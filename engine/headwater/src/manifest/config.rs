//! The file that `--config` names: how an engine runs, apart from the services that it reads.
//!
//! ```yaml
//! limits:
//!   memory_bytes: 4294967296
//!   query_deadline_ms: 60000
//!   statements_max: 4
//! ```
//!
//! It is read as manifests are: the same part of YAML, variables of the environment in texts, and a fault with file, line, key and
//! the nearest known key for everything that is wrong.

use std::path::Path;

use super::fault::Faults;
use super::read::Reader;
use super::yaml::{self, Value};
use super::{Fault, keys, read_text};
use crate::Limits;
use crate::manifest::fault::below;

/// How an engine runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What it may take of its machine and of its sources.
    pub limits: Limits,
}

/// Reads a configuration. `variables` answers for `${NAME}`; pass `&|name| std::env::var(name).ok()` for the process's environment.
///
/// # Errors
/// Every fault of the file.
pub fn read_config(file: &Path, variables: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Fault>> {
    let mut faults = Faults::new(file);
    let config = match read_text(file) {
        Ok(text) => config(file, &text, variables, &mut faults),
        Err((line, message)) => {
            faults.add(line, "", message);
            None
        }
    };
    let found = faults.into_vec();
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(found),
    }
}

fn config(file: &Path, text: &str, variables: &dyn Fn(&str) -> Option<String>, faults: &mut Faults) -> Option<Config> {
    let Some(root) = yaml::parse(text, faults).filter(|root| !matches!(root.value, Value::Nothing)) else {
        return faults.is_empty().then(Config::default);
    };
    let reader = Reader { connectors: &[], variables };
    let (mut limits, lines) = reader.limits(&root, faults)?;
    if lines.contains_key("spill_directory") {
        limits.spill_directory = file.parent().unwrap_or(Path::new(".")).join(&limits.spill_directory);
    }
    if let Some((key, message)) = limits.fault() {
        let line = lines.get(key).copied().unwrap_or(root.line);
        faults.add(line, &below(keys::LIMITS, key), message);
    }
    Some(Config { limits })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<Config, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("spill")).unwrap();
        let file = directory.path().join("headwater.yaml");
        std::fs::write(&file, text).unwrap();
        let variables = |name: &str| (name == "STATEMENTS").then(|| "7".to_owned());
        let without_directory = |fault: Fault| {
            let file = fault.file.file_name().unwrap().into();
            Fault { file, ..fault }.to_string()
        };
        let read = read_config(&file, &variables);
        read.map_err(|faults| faults.into_iter().map(without_directory).collect())
    }

    #[test]
    fn empty_configuration_has_every_default() {
        for text in ["", "# nothing\n", "{}", "limits: {}"] {
            assert_eq!(read(text), Ok(Config::default()), "{text}");
        }
    }

    #[test]
    fn limits_are_read_with_variables_and_a_directory_beside_the_file() {
        let text =
            "limits:\n  query_deadline_ms: 60000\n  statements_max: \"${STATEMENTS}\"\n  spill_directory: ./spill\n";
        let limits = read(text).unwrap().limits;
        assert_eq!(limits.query_deadline, Some(Duration::from_secs(60)));
        assert_eq!(limits.statements_max, 7);
        assert!(limits.spill_directory.is_absolute() && limits.spill_directory.ends_with("spill"));
        assert_eq!(limits.queries_max, Limits::default().queries_max);
    }

    #[test]
    fn every_fault_has_its_line_and_the_nearest_key() {
        let text = "limit: {}\nlimits:\n  memry_bytes: 1\n  queries_max: many\n  query_wait_ms: -1\n";
        assert_eq!(
            read(text).unwrap_err(),
            [
                "headwater.yaml:1: limit: unknown key \"limit\"; did you mean \"limits\"?",
                "headwater.yaml:3: limits.memry_bytes: unknown key \"memry_bytes\"; did you mean \"memory_bytes\"?",
                "headwater.yaml:4: limits.queries_max: takes a whole number, found text",
                "headwater.yaml:5: limits.query_wait_ms: takes a whole number, found a whole number below zero",
            ]
        );
    }

    #[test]
    fn limit_that_cannot_be_met_is_a_fault_of_its_line() {
        assert_eq!(
            read("limits:\n  statements_max: 0\n").unwrap_err(),
            ["headwater.yaml:2: limits.statements_max: takes 1 to 1000000"]
        );
        let none = read("limits:\n  spill_directory: ./none\n").unwrap_err();
        assert!(
            none[0].starts_with("headwater.yaml:2: limits.spill_directory: ") && none[0].contains("is no directory"),
            "{none:?}"
        );
    }

    #[test]
    fn file_that_is_not_there_is_a_fault() {
        let faults = read_config(Path::new("/none/headwater.yaml"), &|_| None).unwrap_err();
        assert_eq!(faults.len(), 1);
    }
}

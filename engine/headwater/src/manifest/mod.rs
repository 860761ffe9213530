//! Manifests: a directory of YAML files, one per service, that says who owns what, where it is kept and what others may read.
//!
//! ```yaml
//! service: orders
//! owner: {team: checkout}
//! source: {connector: sqlite, path: "${ORDERS_FILE:-./orders.db}"}
//! publishes:
//!   orders:      {from: orders, key: [id]}   # `from` and `key` may be left out
//!   order_lines:
//! ```
//!
//! [`read_directory`] reads them all and answers with the good ones and with every [`Fault`] of the others, each with file, line and key.
//! It reaches no source. [`schema`] prints the JSON Schema that editors check manifests with.
//!
//! Refused: unknown and repeated keys (a misspelt key that is ignored is a setting that never took effect), and
//! YAML's anchors, merge keys, tags and several documents in a file.

mod config;
mod fault;
mod keys;
mod read;
mod schema;
mod variables;
mod yaml;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_source::{Connector, FeedOptions, Options, ServiceName};

pub use config::{Config, read_config};
pub use fault::Fault;
pub(crate) use keys::{INTERVAL_SECONDS, POLL_MODE};
pub use schema::{config_schema, schema};
pub use yaml::{Entry as YamlEntry, Node as YamlNode, Value as YamlValue};

use fault::Faults;
use read::{Parsed, Reader};

/// The largest manifest that is read, in bytes. One that names 5,000 tables has about half of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What one service owns and publishes, as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The service.
    pub service: ServiceName,
    /// Who answers for it, where the file says so.
    pub owner: Option<Owner>,
    /// The kind of its connector: one of those that the file was read against.
    pub connector: String,
    /// The connector's options, checked against its definitions, with variables replaced.
    pub options: Options,
    /// How its changes are followed, where the file says so: checked against the connector's feeds. Mode `poll` is none of those: its tables are
    /// read anew at an interval.
    pub feed: Option<FeedOptions>,
    /// What others may read.
    pub publishes: Publishes,
    /// The file. Relative paths in the options are relative to its directory.
    pub file: PathBuf,
}

/// Who answers for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The team.
    pub team: String,
}

/// What a service lets others read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publishes {
    /// Every table of the source, under its own name.
    All,
    /// These tables, at least one, in the file's order; their names differ.
    Tables(Vec<PublishedTable>),
}

/// A table that a service publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// The name under which it appears in SQL. Not empty, without NUL.
    pub name: String,
    /// The table at the source; the published name where the file does not say.
    pub from: String,
    /// The columns that tell rows apart, at least one, where the file names them.
    pub key: Option<Vec<String>>,
    /// The line of the file that names the table, counted from 1.
    pub line: usize,
}

/// Reads every manifest of a directory: the files `*.yaml` and `*.yml` whose names do not begin with a dot, in the order of
/// their names, but for `access.yaml`, which says who may read what. Directories below are not read.
///
/// `variables` answers for `${NAME}`; pass `&|name| std::env::var(name).ok()` for the process's environment. Returns the
/// manifests without a fault and every fault of the others. Where two files name one service, both have a fault and neither is returned.
pub fn read_directory(
    directory: &Path,
    connectors: &[Arc<dyn Connector>],
    variables: &dyn Fn(&str) -> Option<String>,
) -> (Vec<Manifest>, Vec<Fault>) {
    let files = match manifest_files(directory) {
        Ok(files) => files,
        Err(message) => return (Vec::new(), vec![directory_fault(directory, message)]),
    };
    if files.is_empty() {
        let message = "holds no manifest; write one file per service, named *.yaml";
        return (Vec::new(), vec![directory_fault(directory, message.to_owned())]);
    }
    let reader = Reader { connectors, variables };
    let mut read: Vec<(Parsed, Faults)> = files.iter().map(|file| read_file(&reader, file)).collect();
    refuse_shared_services(&files, &mut read);
    let mut manifests = Vec::new();
    let mut faults = Vec::new();
    for (parsed, found) in read {
        let found = found.into_vec();
        manifests.extend(parsed.manifest.filter(|_| found.is_empty()));
        faults.extend(found);
    }
    (manifests, faults)
}

/// Reads another file as manifests are read, for a program that has files of its own beside them: the same part of YAML, the same limit
/// of size, the same faults. No variables are replaced. `None` where the file holds nothing.
///
/// # Errors
/// Every fault that the text has as YAML.
pub fn read_yaml(file: &Path) -> Result<Option<YamlNode>, Vec<Fault>> {
    let mut faults = Faults::new(file);
    let root = match read_text(file) {
        Ok(text) => yaml::parse(&text, &mut faults),
        Err((line, message)) => {
            faults.add(line, "", message);
            None
        }
    };
    if faults.is_empty() { Ok(root) } else { Err(faults.into_vec()) }
}

fn directory_fault(directory: &Path, message: String) -> Fault {
    Fault { file: directory.to_owned(), line: 0, key: String::new(), message }
}

/// The manifests of a directory in the order of their names, or why it can't be read.
fn manifest_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>());
    let mut files = listed.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "does not exist; name the directory that holds the services' manifests".to_owned(),
        io::ErrorKind::NotADirectory => "is not a directory; name the directory that holds the manifests".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    files.retain(|path| is_manifest(path));
    files.sort();
    Ok(files)
}

/// Whether the path is named like a manifest and is no directory. Hidden files are editors' and archives' own; the access file is no service's.
fn is_manifest(path: &Path) -> bool {
    if path.file_name().is_some_and(|name| name == crate::ACCESS_FILE) {
        return false;
    }
    let named = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    named && !hidden && !path.is_dir()
}

fn read_file(reader: &Reader<'_>, file: &Path) -> (Parsed, Faults) {
    let mut faults = Faults::new(file);
    let parsed = match read_text(file) {
        Ok(text) => read_manifest(reader, file, &text, &mut faults),
        Err((line, message)) => {
            faults.add(line, "", message);
            Parsed::default()
        }
    };
    (parsed, faults)
}

/// The text of a file, or the line and the message of what is wrong with it.
pub(crate) fn read_text(file: &Path) -> Result<String, (usize, String)> {
    let unreadable = |error: io::Error| (0, format!("cannot be read: {error}"));
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err((0, "is not a regular file".to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err((0, format!("has {} bytes; a manifest has at most {FILE_BYTES_MAX}", metadata.len())));
    }
    String::from_utf8(fs::read(file).map_err(unreadable)?).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        (line, "is not UTF-8 text; save the file as UTF-8".to_owned())
    })
}

fn read_manifest(reader: &Reader<'_>, file: &Path, text: &str, faults: &mut Faults) -> Parsed {
    match yaml::parse(text, faults) {
        Some(root) => reader.manifest(&root, file, faults),
        None => {
            if faults.is_empty() {
                faults.add(1, "", read::EMPTY);
            }
            Parsed::default()
        }
    }
}

/// Adds a fault to each of several files that name one service: which of them is meant is not ours to guess.
fn refuse_shared_services(files: &[PathBuf], read: &mut [(Parsed, Faults)]) {
    let mut claims: BTreeMap<ServiceName, Vec<(usize, usize)>> = BTreeMap::new();
    for (index, (parsed, _)) in read.iter().enumerate() {
        if let Some((service, line)) = &parsed.service {
            claims.entry(service.clone()).or_default().push((index, *line));
        }
    }
    for (service, claims) in claims.iter().filter(|(_, claims)| claims.len() > 1) {
        for (index, line) in claims {
            let others = claims.iter().filter(|(other, _)| other != index);
            let others: Vec<String> = others.map(|(other, _)| files[*other].display().to_string()).collect();
            let message = format!("service \"{service}\" is also in {}; a service has one file", others.join(", "));
            read[*index].1.add(*line, keys::SERVICE, message);
        }
    }
}

#[cfg(test)]
mod tests;

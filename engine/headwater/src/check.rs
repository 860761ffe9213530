//! `headwater check`: manifests, views' files and the access file are right, and every source can be reached.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use headwater_federation::Service;
use headwater_source::{Connector, Error as SourceError, Feed, TableDef};

use crate::Result;
use crate::access::check::Known;
use crate::access::{ACCESS_FILE, Policy, is_there};
use crate::engine::{failures, open};
use crate::manifest::{Manifest, read_directory};
use crate::views::ViewFiles;

/// Checks a directory of manifests, the files of its views and its access file, and reaches every source: one line for each fault, none where all is well.
pub async fn check(directory: &Path, connectors: &[Arc<dyn Connector>]) -> Vec<String> {
    let (manifests, mut faults) = read_directory(directory, connectors, &|name| std::env::var(name).ok());
    let views = ViewFiles::read(directory).unwrap_or_else(|wrong| {
        faults.extend(wrong);
        ViewFiles::default()
    });
    let access = directory.join(ACCESS_FILE);
    let policy = match is_there(&access) {
        true => Policy::read(&access).map_err(|wrong| faults.extend(wrong)).ok(),
        false => None,
    };
    let mut lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let mut known = Known::new();
    for (manifest, reached) in join_all(manifests.iter().map(|manifest| reach(manifest, connectors))).await {
        lines.extend(reached.faults);
        known.insert(manifest.service.to_string(), reached.tables);
    }
    if let Some(policy) = policy {
        lines.extend(crate::access::check::check(&policy, &known, &views.names()).iter().map(ToString::to_string));
    }
    lines
}

/// What a service says of its tables.
struct Reached {
    faults: Vec<String>,
    /// By their names in SQL; `None` where not all could be asked for.
    tables: Option<BTreeMap<String, TableDef>>,
}

async fn reach<'a>(manifest: &'a Manifest, connectors: &[Arc<dyn Connector>]) -> (&'a Manifest, Reached) {
    let service = match open(manifest, connectors) {
        Ok(service) => service,
        Err(fault) => return (manifest, Reached { faults: vec![fault.to_string()], tables: None }),
    };
    let found = service.discover().await;
    let named = |(name, table): &(String, Result<Arc<TableDef>, SourceError>)| {
        table.as_deref().ok().map(|table| (name.clone(), table.clone()))
    };
    let tables: BTreeMap<String, TableDef> = found.iter().filter_map(named).collect();
    let mut faults = failures(found);
    let is_whole = faults.is_empty();
    faults.extend(lacks_of(&service, &tables.values().cloned().collect::<Vec<_>>()).await);
    let faults = faults.into_iter().map(|fault| format!("{}: {fault}", manifest.file.display())).collect();
    (manifest, Reached { faults, tables: is_whole.then_some(tables) })
}

/// What a service's source lacks for its feed, a line each; none where no feed is switched on.
async fn lacks_of(service: &Service, tables: &[TableDef]) -> Vec<String> {
    let Some(feed) = service.source().feed() else { return vec![] };
    match feed.check(tables).await {
        Ok(lacks) => lacks.into_iter().map(|lack| format!("feed: {}; {}", lack.what, lack.remedy)).collect(),
        Err(error) => vec![format!("feed: {}", error.report())],
    }
}

/// Opens the source of one service of a directory of manifests, for work on its feed.
///
/// # Errors
/// A line for each fault: the service is in no manifest, its manifest is faulty, or no feed is switched on in it.
pub fn open_feed(
    directory: &Path,
    service: &str,
    connectors: &[Arc<dyn Connector>],
) -> Result<Arc<dyn Feed>, Vec<String>> {
    let (manifests, faults) = read_directory(directory, connectors, &|name| std::env::var(name).ok());
    let Some(manifest) = manifests.iter().find(|manifest| manifest.service.as_str() == service) else {
        let known: Vec<&str> = manifests.iter().map(|manifest| manifest.service.as_str()).collect();
        let hint = headwater_source::nearest(service, known.iter().copied())
            .map(|name| format!("; did you mean \"{name}\"?"))
            .unwrap_or_default();
        let missing = format!("no manifest in {} is of service \"{service}\"{hint}", directory.display());
        return Err(faults.iter().map(ToString::to_string).chain([missing]).collect());
    };
    let opened = open(manifest, connectors).map_err(|fault| vec![fault.to_string()])?;
    let file = manifest.file.display();
    let off = || vec![format!("{file}: service \"{service}\" has no feed switched on; write feed: {{mode: ...}}")];
    opened.source().feed().ok_or_else(off)
}

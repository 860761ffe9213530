//! Reads one manifest's tree, section by section, and collects every fault on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use headwater_source::{
    Connector, FeedDef, FeedOptions, OptionDef, OptionKind, OptionValue, Options, ServiceName, nearest,
};

use super::fault::{Faults, below, shown};
use super::keys::{self, Key};
use super::variables::{self, Expanded};
use super::yaml::{Entry, Node, Value};
use super::{Manifest, Owner, PublishedTable, Publishes};
use crate::limits::{self, Limits};

/// The message for a file that says nothing.
pub(super) const EMPTY: &str = "the manifest is empty; write service, source and publishes";

/// What a file yields: its service, known even where the rest is faulty, and the manifest where nothing is.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) service: Option<(ServiceName, usize)>,
    pub(super) manifest: Option<Manifest>,
}

/// Reads manifests against the connectors and the environment that they may name.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) connectors: &'a [Arc<dyn Connector>],
    pub(super) variables: &'a dyn Fn(&str) -> Option<String>,
}

/// The entries of a mapping by key.
type Fields<'n> = BTreeMap<&'n str, &'n Entry>;

impl Reader<'_> {
    /// Reads the tree of `file`.
    pub(super) fn manifest(&self, root: &Node, file: &Path, faults: &mut Faults) -> Parsed {
        if matches!(root.value, Value::Nothing) {
            faults.add(1, "", EMPTY);
            return Parsed::default();
        }
        let Some(fields) = self.fields("", root.line, root, keys::OF_MANIFEST, faults) else {
            return Parsed::default();
        };
        let service = fields.get(keys::SERVICE).and_then(|entry| self.service(entry, faults));
        let owner = fields.get(keys::OWNER).and_then(|entry| self.owner(entry, faults));
        let source = fields.get(keys::SOURCE).and_then(|entry| self.source(entry, faults));
        let connector = fields.get(keys::SOURCE).and_then(|entry| self.connector_of(entry, file));
        let feed = fields.get(keys::FEED).and_then(|entry| self.feed(entry, connector, faults));
        let publishes = fields.get(keys::PUBLISHES).and_then(|entry| self.publishes(entry, faults));
        let manifest = match (&service, source, publishes) {
            (Some((service, _)), Some((connector, options)), Some(publishes)) if faults.is_empty() => {
                let (service, file) = (service.clone(), file.to_owned());
                Some(Manifest { service, owner, connector, options, feed, publishes, file })
            }
            _ => None,
        };
        Parsed { service, manifest }
    }

    fn service(&self, entry: &Entry, faults: &mut Faults) -> Option<(ServiceName, usize)> {
        let name = self.text(&entry.key, entry.line, &entry.node, faults)?;
        match ServiceName::parse(&name.text) {
            Ok(service) => return Some((service, entry.line)),
            Err(error) if printable(&name).is_some() => faults.add(entry.line, &entry.key, error.to_string()),
            Err(_) => faults.add(
                entry.line,
                &entry.key,
                format!(
                    "a service's name starts with a-z and holds only a-z, 0-9 and _, at most {} of them",
                    ServiceName::MAX_BYTES
                ),
            ),
        }
        None
    }

    fn owner(&self, entry: &Entry, faults: &mut Faults) -> Option<Owner> {
        let fields = self.fields(&entry.key, entry.line, &entry.node, keys::OF_OWNER, faults)?;
        let team = fields.get(keys::TEAM)?;
        let key = below(&entry.key, keys::TEAM);
        Some(Owner { team: self.name(&key, team.line, &team.node, faults)? })
    }

    fn source(&self, entry: &Entry, faults: &mut Faults) -> Option<(String, Options)> {
        let Value::Mapping(entries) = &entry.node.value else {
            wrong_kind(&entry.key, entry.line, "a mapping", &entry.node, faults);
            return None;
        };
        let Some(connector) = entries.iter().find(|inner| inner.key == keys::CONNECTOR) else {
            // Which other keys are right depends on the connector; only a slip of its own key can be told.
            for slip in entries.iter().filter(|inner| nearest(&inner.key, [keys::CONNECTOR]).is_some()) {
                unknown_key(&entry.key, slip, &[keys::CONNECTOR], faults);
            }
            faults.add(entry.line, &entry.key, format!("lacks the key \"{}\"; {}", keys::CONNECTOR, self.kinds()));
            return None;
        };
        let connector = self.connector(&below(&entry.key, keys::CONNECTOR), connector, faults)?;
        let definitions = connector.options();
        let own = entries.iter().filter(|inner| inner.key != keys::CONNECTOR);
        let values = self.options(&entry.key, own, definitions, &option_names(definitions), faults);
        for missing in definitions.iter().filter(|definition| definition.required) {
            if !entries.iter().any(|inner| inner.key == missing.name) {
                faults.add(entry.line, &entry.key, format!("lacks the key \"{}\": {}", missing.name, missing.doc));
            }
        }
        if !faults.is_empty() {
            return None;
        }
        match Options::check(definitions, values) {
            Ok(options) => Some((connector.kind().to_owned(), options)),
            Err(error) => {
                faults.add(entry.line, &entry.key, error.to_string());
                None
            }
        }
    }

    /// The connector that the section `source` names, whatever else is wrong with it. Its own faults are told by [`Self::source`].
    fn connector_of(&self, source: &Entry, file: &Path) -> Option<&dyn Connector> {
        let Value::Mapping(entries) = &source.node.value else { return None };
        let named = entries.iter().find(|inner| inner.key == keys::CONNECTOR)?;
        self.connector("", named, &mut Faults::new(file))
    }

    /// The section `feed`. Where no connector is known, only its shape can be told.
    fn feed(&self, entry: &Entry, connector: Option<&dyn Connector>, faults: &mut Faults) -> Option<FeedOptions> {
        let Value::Mapping(entries) = &entry.node.value else {
            wrong_kind(&entry.key, entry.line, "a mapping", &entry.node, faults);
            return None;
        };
        let connector = connector?;
        let feeds: Vec<FeedDef> = connector.feeds().iter().copied().chain([keys::POLL]).collect();
        let modes: Vec<&str> = feeds.iter().map(|feed| feed.mode).collect();
        let known = format!("connector \"{}\" has {}", connector.kind(), modes.join(", "));
        let Some(mode) = entries.iter().find(|inner| inner.key == keys::MODE) else {
            for slip in entries.iter().filter(|inner| nearest(&inner.key, [keys::MODE]).is_some()) {
                unknown_key(&entry.key, slip, &[keys::MODE], faults);
            }
            faults.add(entry.line, &entry.key, format!("lacks the key \"{}\"; {known}", keys::MODE));
            return None;
        };
        let key = below(&entry.key, keys::MODE);
        let word = self.text(&key, mode.line, &mode.node, faults)?;
        let Some(feed) = feeds.iter().find(|feed| feed.mode == word.text) else {
            let named = printable(&word).map(|word| format!(" \"{word}\"")).unwrap_or_default();
            let near = printable(&word).and_then(|word| nearest(word, modes.iter().copied()));
            let hint = near.map(|mode| format!("did you mean \"{mode}\"? ")).unwrap_or_default();
            faults.add(mode.line, &key, format!("unknown mode{named}; {hint}{known}"));
            return None;
        };
        let own = entries.iter().filter(|inner| inner.key != keys::MODE);
        let names: Vec<&str> =
            std::iter::once(keys::MODE).chain(feed.options.iter().map(|definition| definition.name)).collect();
        let before = faults.len();
        let values = self.options(&entry.key, own, feed.options, &names, faults);
        for missing in feed.options.iter().filter(|definition| definition.required) {
            if !entries.iter().any(|inner| inner.key == missing.name) {
                faults.add(entry.line, &entry.key, format!("lacks the key \"{}\": {}", missing.name, missing.doc));
            }
        }
        if faults.len() > before {
            return None;
        }
        match FeedOptions::check(&feeds, feed.mode, values) {
            Ok(feed) => {
                let seconds = feed.options.count(keys::INTERVAL_SECONDS, 1);
                if feed.mode == keys::POLL_MODE && !(1..=keys::INTERVAL_SECONDS_MAX).contains(&seconds) {
                    let line =
                        entries.iter().find(|inner| inner.key == keys::INTERVAL_SECONDS).map_or(entry.line, |e| e.line);
                    let message = format!("takes 1 to {} seconds", keys::INTERVAL_SECONDS_MAX);
                    faults.add(line, &below(&entry.key, keys::INTERVAL_SECONDS), message);
                    return None;
                }
                Some(feed)
            }
            Err(error) => {
                faults.add(entry.line, &entry.key, error.to_string());
                None
            }
        }
    }

    fn connector(&self, key: &str, entry: &Entry, faults: &mut Faults) -> Option<&dyn Connector> {
        let kind = self.text(key, entry.line, &entry.node, faults)?;
        let found = self.connectors.iter().find(|connector| connector.kind() == kind.text);
        if found.is_none() {
            let named = printable(&kind).map(|kind| format!(" \"{kind}\"")).unwrap_or_default();
            let hint = printable(&kind)
                .and_then(|kind| nearest(kind, self.connectors.iter().map(|connector| connector.kind())))
                .map(|kind| format!("did you mean \"{kind}\"? "))
                .unwrap_or_default();
            faults.add(entry.line, key, format!("unknown connector{named}; {hint}{}", self.kinds()));
        }
        found.map(|connector| &**connector)
    }

    /// The options that a section sets; a fault for each that is none of the known.
    fn options<'n>(
        &self,
        section: &str,
        entries: impl Iterator<Item = &'n Entry>,
        definitions: &[OptionDef],
        known: &[&str],
        faults: &mut Faults,
    ) -> BTreeMap<String, OptionValue> {
        let mut values = BTreeMap::new();
        for inner in entries {
            match definitions.iter().find(|definition| definition.name == inner.key) {
                None => unknown_key(section, inner, known, faults),
                Some(definition) => {
                    let value = self.option(&below(section, &inner.key), definition, inner, faults);
                    values.extend(value.map(|value| (inner.key.clone(), value)));
                }
            }
        }
        values
    }

    /// Reads the section `limits` of a configuration.
    pub(super) fn limits(&self, root: &Node, faults: &mut Faults) -> Option<(Limits, BTreeMap<String, usize>)> {
        let fields = self.fields("", root.line, root, keys::OF_CONFIG, faults)?;
        let Some(section) = fields.get(keys::LIMITS) else { return Some((Limits::default(), BTreeMap::new())) };
        let Value::Mapping(entries) = &section.node.value else {
            wrong_kind(&section.key, section.line, "a mapping", &section.node, faults);
            return None;
        };
        let known: Vec<&str> = limits::KEYS.iter().map(|definition| definition.name).collect();
        let values = self.options(&section.key, entries.iter(), limits::KEYS, &known, faults);
        let lines = entries.iter().map(|entry| (entry.key.clone(), entry.line)).collect();
        match Options::check(limits::KEYS, values) {
            Ok(options) if faults.is_empty() => Some((Limits::of(&options), lines)),
            Ok(_) => None,
            Err(error) => {
                faults.add(section.line, &section.key, error.to_string());
                None
            }
        }
    }

    fn option(&self, key: &str, definition: &OptionDef, entry: &Entry, faults: &mut Faults) -> Option<OptionValue> {
        match (definition.kind, &entry.node.value) {
            (OptionKind::Text | OptionKind::Secret, _) => {
                return Some(OptionValue::Text(self.text(key, entry.line, &entry.node, faults)?.text));
            }
            (OptionKind::Count, Value::Integer(number)) if *number >= 0 => {
                return Some(OptionValue::Count(number.unsigned_abs()));
            }
            (OptionKind::Flag, Value::Flag(flag)) => return Some(OptionValue::Flag(*flag)),
            (kind, Value::Text(_)) => {
                let text = self.text(key, entry.line, &entry.node, faults)?;
                let value = option_of_text(kind, &text);
                if value.is_none() {
                    let found = if text.from_variable { "what its variables give" } else { entry.node.value.kind() };
                    faults.add(entry.line, key, format!("takes {}, found {}", kind.expected(), other(kind, found)));
                }
                return value;
            }
            (kind, _) => wrong_kind(key, entry.line, &kind.expected(), &entry.node, faults),
        }
        None
    }

    fn publishes(&self, entry: &Entry, faults: &mut Faults) -> Option<Publishes> {
        let entries = match &entry.node.value {
            Value::Text(text) if text == keys::EVERY_TABLE => return Some(Publishes::All),
            Value::Mapping(entries) if !entries.is_empty() => entries,
            Value::Mapping(_) | Value::Nothing => {
                faults.add(
                    entry.line,
                    &entry.key,
                    "names no table; name one, or write \"*\" for every table of the source",
                );
                return None;
            }
            _ => {
                wrong_kind(&entry.key, entry.line, "a mapping of tables, or \"*\"", &entry.node, faults);
                return None;
            }
        };
        Some(Publishes::Tables(entries.iter().filter_map(|table| self.table(&entry.key, table, faults)).collect()))
    }

    fn table(&self, outer: &str, entry: &Entry, faults: &mut Faults) -> Option<PublishedTable> {
        let path = below(outer, &entry.key);
        if let Some(fault) = unfit_name(&entry.key) {
            faults.add(entry.line, &path, format!("the table's name {fault}"));
            return None;
        }
        let mut table =
            PublishedTable { name: entry.key.clone(), from: entry.key.clone(), key: None, line: entry.line };
        if matches!(entry.node.value, Value::Nothing) {
            return Some(table);
        }
        let fields = self.fields(&path, entry.line, &entry.node, keys::OF_TABLE, faults)?;
        if let Some(from) = fields.get(keys::FROM) {
            table.from = self.name(&below(&path, keys::FROM), from.line, &from.node, faults)?;
        }
        if let Some(key) = fields.get(keys::KEY) {
            table.key = Some(self.key_columns(&below(&path, keys::KEY), key, faults)?);
        }
        Some(table)
    }

    fn key_columns(&self, path: &str, entry: &Entry, faults: &mut Faults) -> Option<Vec<String>> {
        let Value::List(nodes) = &entry.node.value else {
            wrong_kind(path, entry.line, "a list of columns, such as [id]", &entry.node, faults);
            return None;
        };
        if nodes.is_empty() {
            faults.add(entry.line, path, "names no column; name one, or leave the key out");
            return None;
        }
        let mut columns = Vec::with_capacity(nodes.len());
        for node in nodes {
            let column = self.name(path, node.line, node, faults)?;
            if columns.contains(&column) {
                faults.add(node.line, path, "names a column twice");
                return None;
            }
            columns.push(column);
        }
        Some(columns)
    }

    /// The entries of a mapping that may hold `known` keys; a fault for each that it may not hold, and for each that it lacks.
    fn fields<'n>(
        &self,
        path: &str,
        line: usize,
        node: &'n Node,
        known: &'static [Key],
        faults: &mut Faults,
    ) -> Option<Fields<'n>> {
        let names = keys::names(known);
        let Value::Mapping(entries) = &node.value else {
            wrong_kind(path, line, &format!("a mapping with {}", names.join(", ")), node, faults);
            return None;
        };
        for entry in entries.iter().filter(|entry| !names.contains(&entry.key.as_str())) {
            unknown_key(path, entry, &names, faults);
        }
        for missing in known.iter().filter(|key| key.required) {
            if !entries.iter().any(|entry| entry.key == missing.name) {
                faults.add(line, path, format!("lacks the key \"{}\": {}", missing.name, missing.doc));
            }
        }
        Some(entries.iter().map(|entry| (entry.key.as_str(), entry)).collect())
    }

    /// A text with its variables replaced.
    fn text(&self, key: &str, line: usize, node: &Node, faults: &mut Faults) -> Option<Expanded> {
        let Value::Text(written) = &node.value else {
            wrong_kind(key, line, "text", node, faults);
            return None;
        };
        match variables::expand(written, self.variables) {
            Ok(expanded) => Some(expanded),
            Err(messages) => {
                messages.into_iter().for_each(|message| faults.add(line, key, message));
                None
            }
        }
    }

    /// A text that names something.
    fn name(&self, key: &str, line: usize, node: &Node, faults: &mut Faults) -> Option<String> {
        let name = self.text(key, line, node, faults)?.text;
        match unfit_name(&name) {
            None => Some(name),
            Some(fault) => {
                faults.add(line, key, fault);
                None
            }
        }
    }

    /// The connectors of this build, for messages.
    fn kinds(&self) -> String {
        let kinds: Vec<&str> = self.connectors.iter().map(|connector| connector.kind()).collect();
        format!("this build has {}", if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") })
    }
}

/// An option that is written as text though it is none: a variable's value, or a word.
fn option_of_text(kind: OptionKind, text: &Expanded) -> Option<OptionValue> {
    match kind {
        OptionKind::Text | OptionKind::Secret => Some(OptionValue::Text(text.text.clone())),
        OptionKind::Word(words) if words.contains(&text.text.as_str()) => Some(OptionValue::Text(text.text.clone())),
        OptionKind::Count if text.from_variable => text.text.trim().parse().ok().map(OptionValue::Count),
        OptionKind::Flag if text.from_variable => text.text.trim().parse().ok().map(OptionValue::Flag),
        OptionKind::Word(_) | OptionKind::Count | OptionKind::Flag => None,
    }
}

/// "found text" says nothing where text is taken but not this one.
fn other(kind: OptionKind, found: &str) -> String {
    match (kind, found) {
        (OptionKind::Word(_), "text") => "another word".to_owned(),
        _ => found.to_owned(),
    }
}

/// The text, where a fault may show it: it is no variable's value and looks like a name.
fn printable(text: &Expanded) -> Option<&str> {
    if text.from_variable { None } else { shown(&text.text) }
}

/// The keys that may stand in `source`.
fn option_names(definitions: &[OptionDef]) -> Vec<&'static str> {
    std::iter::once(keys::CONNECTOR).chain(definitions.iter().map(|definition| definition.name)).collect()
}

/// Adds the fault for a key that is none of the known.
fn unknown_key(outer: &str, entry: &Entry, known: &[&str], faults: &mut Faults) {
    let name = shown(&entry.key);
    let near = name.and_then(|name| nearest(name, known.iter().copied()));
    let hint = match (near, &entry.node.value) {
        (Some(near), _) => format!("did you mean \"{near}\"?"),
        (None, Value::Nothing) => String::new(),
        (None, _) => format!("the keys here are {}", known.join(", ")),
    };
    match name {
        Some(name) if !hint.is_empty() => {
            faults.add(entry.line, &below(outer, name), format!("unknown key \"{name}\"; {hint}"));
        }
        _ => faults.add(
            entry.line,
            outer,
            "unknown key, not shown since it may be part of a credential; put values in quotes, after \": \"",
        ),
    }
}

fn unfit_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is empty"),
        name if name.contains('\0') => Some("holds NUL"),
        _ => None,
    }
}

fn wrong_kind(key: &str, line: usize, takes: &str, node: &Node, faults: &mut Faults) {
    // What was refused while the YAML was read has its fault already.
    let hint = match &node.value {
        Value::Refused => return,
        Value::Flag(_) | Value::Integer(_) | Value::Number if takes == "text" => "; put it in quotes",
        Value::Integer(number) if *number < 0 => " below zero",
        _ => "",
    };
    faults.add(line, key, format!("takes {takes}, found {}{hint}", node.value.kind()));
}

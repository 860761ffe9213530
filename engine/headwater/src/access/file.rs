//! The access file: roles, who is in them, and what they may read.
//!
//! ```yaml
//! roles:
//!   analyst:
//!     members: [ada, bob]                    # users by their names; "*" is everybody
//!     includes: [reader]                     # roles whose grants this one has too
//!     grants:
//!       - service: customers                 # every table of a service
//!       - service: orders
//!         tables: [orders]
//!         columns: [id, customer, total]     # left out: every column
//!         rows: "region = 'EU' OR seller = current_user"
//!         masks: {customer: "'***'"}
//!       - view: reports.daily                # a materialized view, by its name alone
//!     defines: [reports]                     # schemas in which they may make, drop and refresh views
//!     monitors: true                         # /metrics, and all that the engine says of itself
//! ```
//!
//! It is read as manifests are: unknown keys are faults that name the nearest known one, every fault has file and line, and none shows a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_source::{ServiceName, nearest};

use super::rights::{Grant, On, Rights};
use super::rule::Rule;
use crate::views::ViewName;
use crate::{Fault, YamlEntry, YamlNode, YamlValue, read_yaml};

/// The keys at the top.
pub(super) const OF_FILE: &[(&str, &str)] = &[("roles", "The roles by their names.")];

/// The keys of a role.
pub(super) const OF_ROLE: &[(&str, &str)] = &[
    (
        "members",
        "The users who are in the role, by the names of the users file, of certificates or of tokens; \"*\" is everybody.",
    ),
    ("includes", "Roles whose grants this one has too."),
    ("grants", "What may be read. What no role of a user grants is not there for them."),
    ("defines", "Schemas in which materialized views may be made, dropped and refreshed; \"*\" is every schema."),
    ("monitors", "Whether /metrics and all that the engine says of itself may be read."),
];

/// The keys of a grant.
pub(super) const OF_GRANT: &[(&str, &str)] = &[
    ("service", "The service whose tables may be read; \"*\" is every service. A grant has this or view."),
    ("tables", "The service's tables, by their names in SQL. Left out, every table."),
    ("view", "A materialized view that may be read, as schema.name, whatever its inputs forbid."),
    ("columns", "The columns that may be read. Left out, every column."),
    ("rows", "Which rows may be read: an SQL expression over the table's columns. current_user is the user's name."),
    ("masks", "What is shown in the place of columns: an SQL expression for each."),
];

/// What stands for everything or everybody.
const EVERY: &str = "*";

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    file: PathBuf,
    roles: BTreeMap<String, Role>,
    /// The roles' names in the order of the file.
    order: Vec<String>,
}

#[derive(Debug, Default)]
struct Role {
    line: usize,
    members: BTreeSet<String>,
    includes: Vec<(usize, String)>,
    grants: Vec<Placed>,
    defines: BTreeSet<String>,
    monitors: bool,
}

/// A grant and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) grant: Arc<Grant>,
}

impl Policy {
    /// Reads an access file.
    ///
    /// # Errors
    /// Every fault that the file has by itself; whether there is what it names, `check` tells.
    pub(crate) fn read(file: &Path) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { file, faults: Vec::new() };
        let mut policy = Self { file: file.to_owned(), ..Self::default() };
        if let Some(root) = read_yaml(file)? {
            reader.roles(root, &mut policy);
        }
        if policy.roles.is_empty() && reader.faults.is_empty() {
            reader.fault(1, "", "grants nothing to anybody; write roles: {NAME: {members: [...], grants: [...]}}");
        }
        reader.check_includes(&policy);
        if reader.faults.is_empty() { Ok(policy) } else { Err(reader.faults) }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// All grants, in the order of the file.
    pub(super) fn grants(&self) -> impl Iterator<Item = &Placed> {
        self.order.iter().filter_map(|name| self.roles.get(name)).flat_map(|role| &role.grants)
    }

    /// What the roles of a user give.
    pub(crate) fn rights_of(&self, user: Option<&str>) -> Rights {
        let is_in = |role: &Role| role.members.contains(EVERY) || user.is_some_and(|user| role.members.contains(user));
        let mut had: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> =
            self.roles.iter().filter(|(_, role)| is_in(role)).map(|(name, _)| name.as_str()).collect();
        while let Some(name) = open.pop() {
            if had.insert(name) {
                open.extend(self.roles.get(name).iter().flat_map(|role| &role.includes).map(|(_, name)| name.as_str()));
            }
        }
        let mut rights = Rights::none(user);
        for role in self.order.iter().filter(|name| had.contains(name.as_str())).filter_map(|name| self.roles.get(name))
        {
            rights.grants.extend(role.grants.iter().map(|placed| Arc::clone(&placed.grant)));
            rights.defines.extend(role.defines.iter().cloned());
            rights.monitors |= role.monitors;
        }
        rights
    }
}

struct Reader<'a> {
    file: &'a Path,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.faults.push(Fault { file: self.file.to_owned(), line, key: key.to_owned(), message: message.into() });
    }

    /// The entries of a mapping of which every key is known.
    fn fields(&mut self, node: YamlNode, key: &str, known: &[(&str, &str)]) -> Vec<YamlEntry> {
        let mut entries = self.mapping(node, key);
        entries.retain(|entry| {
            let is_known = known.iter().any(|(name, _)| *name == entry.key);
            if !is_known {
                let names = known.iter().map(|(name, _)| *name);
                let hint = nearest(&entry.key, names.clone()).map(|name| format!("did you mean \"{name}\"?"));
                let all = || format!("the keys here are {}", names.collect::<Vec<_>>().join(", "));
                self.fault(entry.line, key, format!("unknown key \"{}\"; {}", entry.key, hint.unwrap_or_else(all)));
            }
            is_known
        });
        entries
    }

    fn mapping(&mut self, node: YamlNode, key: &str) -> Vec<YamlEntry> {
        match node.value {
            YamlValue::Mapping(entries) => entries,
            YamlValue::Nothing => Vec::new(),
            other => {
                self.fault(node.line, key, format!("takes a mapping, found {}", other.kind()));
                Vec::new()
            }
        }
    }

    fn list(&mut self, node: YamlNode, key: &str) -> Vec<YamlNode> {
        match node.value {
            YamlValue::List(nodes) => nodes,
            other => {
                self.fault(node.line, key, format!("takes a list, found {}", other.kind()));
                Vec::new()
            }
        }
    }

    fn text(&mut self, node: YamlNode, key: &str) -> Option<String> {
        match node.value {
            YamlValue::Text(text) if !text.is_empty() => Some(text),
            YamlValue::Text(_) => {
                self.fault(node.line, key, "is empty");
                None
            }
            other => {
                self.fault(node.line, key, format!("takes text, found {}", other.kind()));
                None
            }
        }
    }

    /// Names with their lines, at least one, each once.
    fn names(&mut self, node: YamlNode, key: &str) -> Vec<(usize, String)> {
        let line = node.line;
        let mut names: Vec<(usize, String)> = Vec::new();
        let nodes = self.list(node, key);
        let is_empty = nodes.is_empty();
        for node in nodes {
            let line = node.line;
            let Some(name) = self.text(node, key) else { continue };
            match names.iter().any(|(_, known)| *known == name) {
                true => self.fault(line, key, format!("names \"{name}\" twice")),
                false => names.push((line, name)),
            }
        }
        if is_empty {
            self.fault(line, key, "names nothing; leave the key out, or name something");
        }
        names
    }

    fn roles(&mut self, root: YamlNode, policy: &mut Policy) {
        for entry in self.fields(root, "", OF_FILE) {
            for role in self.mapping(entry.node, "roles") {
                let name = role.key.clone();
                if name.is_empty() || name == EVERY {
                    self.fault(role.line, "roles", "a role has a name of its own");
                    continue;
                }
                let read = self.role(role);
                policy.order.push(name.clone());
                policy.roles.insert(name, read);
            }
        }
    }

    fn role(&mut self, entry: YamlEntry) -> Role {
        let key = format!("roles.{}", entry.key);
        let mut role = Role { line: entry.line, ..Role::default() };
        for entry in self.fields(entry.node, &key, OF_ROLE) {
            let below = format!("{key}.{}", entry.key);
            match entry.key.as_str() {
                "members" => role.members = self.names(entry.node, &below).into_iter().map(|(_, name)| name).collect(),
                "includes" => role.includes = self.names(entry.node, &below),
                "defines" => role.defines = self.names(entry.node, &below).into_iter().map(|(_, name)| name).collect(),
                "monitors" => match entry.node.value {
                    YamlValue::Flag(flag) => role.monitors = flag,
                    other => self.fault(entry.line, &below, format!("takes true or false, found {}", other.kind())),
                },
                _ => {
                    for (number, node) in self.list(entry.node, &below).into_iter().enumerate() {
                        let key = format!("{below}[{number}]");
                        let line = node.line;
                        if let Some(grant) = self.grant(node, &key) {
                            role.grants.push(Placed { line, key, grant: Arc::new(grant) });
                        }
                    }
                }
            }
        }
        role
    }

    fn grant(&mut self, node: YamlNode, key: &str) -> Option<Grant> {
        let line = node.line;
        let before = self.faults.len();
        let (mut service, mut tables, mut view, mut columns, mut rows) = (None, None, None, None, None);
        let mut masks = BTreeMap::new();
        let mut narrowed = false;
        for entry in self.fields(node, key, OF_GRANT) {
            let below = format!("{key}.{}", entry.key);
            narrowed |= matches!(entry.key.as_str(), "columns" | "rows" | "masks");
            match entry.key.as_str() {
                "service" => service = self.service(entry.node, &below),
                "tables" => tables = Some(self.plain_names(entry.node, &below)),
                "view" => view = self.view(entry.node, &below),
                "columns" => columns = Some(self.plain_names(entry.node, &below)),
                "rows" => rows = self.rule(entry.node, &below),
                _ => {
                    for entry in self.mapping(entry.node, &below) {
                        let key = format!("{below}.{}", entry.key);
                        if let Some(rule) = self.rule(entry.node, &key) {
                            masks.insert(entry.key, rule);
                        }
                    }
                }
            }
        }
        if self.faults.len() > before {
            return None;
        }
        let on = match (service, view) {
            (Some(_), Some(_)) => Err("is on a service or on a view, not on both; write two grants"),
            (None, None) => Err("lacks service or view"),
            (Some(service), None) if service == EVERY => match tables {
                None => Ok(On::Everything),
                Some(_) => Err("names tables of every service; name the service"),
            },
            (Some(service), None) => Ok(On::Service { service, tables }),
            (None, Some(_)) if tables.is_some() => Err("is on a view, which has no tables"),
            (None, Some(view)) => Ok(On::View(view)),
        };
        let on = match on {
            Ok(On::Everything | On::Service { tables: None, .. }) if narrowed => {
                Err("has columns, rows or masks for every table; name the tables")
            }
            other => other,
        };
        let strange =
            masks.keys().find(|name| columns.as_ref().is_some_and(|columns: &Vec<String>| !columns.contains(*name)));
        if let Some(strange) = strange {
            let key = format!("{key}.masks.{strange}");
            self.fault(line, &key, "masks a column that the grant's columns do not name");
            return None;
        }
        match on {
            Ok(on) => Some(Grant { on, columns, rows, masks }),
            Err(message) => {
                self.fault(line, key, message);
                None
            }
        }
    }

    fn plain_names(&mut self, node: YamlNode, key: &str) -> Vec<String> {
        self.names(node, key).into_iter().map(|(_, name)| name).collect()
    }

    fn service(&mut self, node: YamlNode, key: &str) -> Option<String> {
        let line = node.line;
        let name = self.text(node, key)?;
        if name != EVERY
            && let Err(error) = ServiceName::parse(&name)
        {
            self.fault(line, key, error.to_string());
            return None;
        }
        Some(name)
    }

    fn view(&mut self, node: YamlNode, key: &str) -> Option<ViewName> {
        let line = node.line;
        let text = self.text(node, key)?;
        match ViewName::parse(&text) {
            Ok(name) => Some(name),
            Err(_) => {
                self.fault(line, key, "takes the name of a materialized view as schema.name");
                None
            }
        }
    }

    fn rule(&mut self, node: YamlNode, key: &str) -> Option<Rule> {
        let line = node.line;
        let text = match node.value {
            // A number or true is an expression as well as any.
            YamlValue::Integer(number) => number.to_string(),
            YamlValue::Flag(flag) => flag.to_string(),
            _ => self.text(node, key)?,
        };
        match Rule::parse(&text) {
            Ok(rule) => Some(rule),
            Err(message) => {
                self.fault(line, key, message);
                None
            }
        }
    }

    /// Roles that are included must be there, and none may include itself by way of others.
    fn check_includes(&mut self, policy: &Policy) {
        for (name, role) in &policy.roles {
            let key = format!("roles.{name}.includes");
            for (line, included) in &role.includes {
                if !policy.roles.contains_key(included) {
                    let hint = nearest(included, policy.roles.keys().map(String::as_str))
                        .map(|name| format!("; did you mean \"{name}\"?"))
                        .unwrap_or_default();
                    self.fault(*line, &key, format!("there is no role \"{included}\"{hint}"));
                }
            }
            if let Some(way) = way_back(policy, name) {
                self.fault(role.line, &key, format!("goes in a circle: {}", way.join(" includes ")));
            }
        }
    }
}

/// The way from a role to itself along what is included, where there is one.
fn way_back(policy: &Policy, from: &str) -> Option<Vec<String>> {
    let mut had: BTreeSet<String> = BTreeSet::new();
    let mut open = vec![vec![from.to_owned()]];
    while let Some(way) = open.pop() {
        let Some(role) = way.last().and_then(|last| policy.roles.get(last)) else { continue };
        for (_, next) in &role.includes {
            let longer = [way.clone(), vec![next.clone()]].concat();
            if next == from {
                return Some(longer);
            }
            if had.insert(next.clone()) {
                open.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("access.yaml");
        std::fs::write(&file, text).unwrap();
        let short = |fault: Fault| {
            let file = fault.file.file_name().unwrap().into();
            Fault { file, ..fault }.to_string()
        };
        Policy::read(&file).map_err(|faults| faults.into_iter().map(short).collect())
    }

    #[test]
    fn user_has_the_grants_of_their_roles_and_of_those_that_these_include() {
        let policy = read(
            "roles:\n  reader:\n    grants: [{service: s, tables: [t]}]\n  writer:\n    members: [ada]\n    includes: [reader]\n    \
             defines: [reports]\n  everybody: {members: [\"*\"], grants: [{view: v.x}], monitors: true}\n  other: {members: [bob], grants: [{service: \"*\"}]}\n",
        )
        .unwrap();
        let ada = policy.rights_of(Some("ada"));
        assert!(ada.names_table("s", "t") && !ada.names_table("s", "other") && !ada.names_table("x", "t"));
        assert!(ada.defines("reports") && !ada.defines("others") && ada.monitors());
        assert!(policy.rights_of(Some("bob")).names_table("any", "thing"));
        let anyone = policy.rights_of(None);
        assert!(!anyone.names_table("s", "t") && anyone.names_schema("v"));
    }

    #[test]
    fn every_fault_has_its_line_and_says_what_to_do() {
        let faults = read(
            "roles:\n  a:\n    member: [ada]\n    includes: [b, d]\n  b:\n    includes: [a]\n  c:\n    grants:\n      - {service: s, rows: x = 1}\n      \
             - {tables: [t]}\n      - {service: s, view: v.x}\n      - {service: s, tables: [t], rows: \"x = 'canary\"}\n      \
             - {service: s, tables: [t], columns: [a], masks: {b: \"1\"}}\n      - {service: S}\n      - {view: x}\n    monitors: 1\nrole: 1\n",
        )
        .unwrap_err();
        let has = |line: usize, words: &str| {
            let start = format!("access.yaml:{line}: ");
            assert!(
                faults.iter().any(|fault| fault.starts_with(&start) && fault.contains(words)),
                "{words}: {faults:#?}"
            );
        };
        has(3, "unknown key \"member\"; did you mean \"members\"?");
        has(4, "there is no role \"d\"");
        has(2, "goes in a circle: a includes b includes a");
        has(9, "name the tables");
        has(10, "lacks service or view");
        has(11, "not on both");
        has(12, "is no SQL expression");
        has(13, "masks.b");
        has(14, "service");
        has(15, "schema.name");
        has(16, "true or false");
        has(17, "did you mean \"roles\"?");
        assert!(faults.iter().all(|fault| !fault.contains("canary")), "{faults:#?}");
    }

    #[test]
    fn file_that_grants_nothing_is_a_fault() {
        for text in ["", "roles:\n", "# nothing\n"] {
            assert!(read(text).unwrap_err()[0].contains("grants nothing"), "{text}");
        }
    }
}

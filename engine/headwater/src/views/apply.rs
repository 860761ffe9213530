//! From the views that there are to those that the files define: what changes, in which order, and doing it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::ask::ViewName;
use super::files::{FileView, ViewFiles, names_in, reads};
use super::registry::Shared;
use crate::Fault;

/// A view that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownView {
    /// Its schema.
    pub schema: String,
    /// Its name in the schema.
    pub name: String,
    /// Its query, as `headwater.views` tells it.
    pub definition: String,
    /// The file that it is of; `None` where it was made by SQL.
    pub file: Option<String>,
}

/// What becomes of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewAction {
    /// It is new.
    Create,
    /// Its query is another.
    Replace,
    /// Its query is the same, and a view that it reads is replaced.
    Rebuild,
    /// Its file defines it no more.
    Drop,
    /// Nothing.
    Unchanged,
}

/// A view of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewStep {
    /// The view, `schema.name`.
    pub view: String,
    /// What becomes of it.
    pub action: ViewAction,
    /// The file that defines it; `None` for one that is dropped.
    pub file: Option<PathBuf>,
    /// The line of its statement.
    pub line: usize,
}

/// What changes, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewPlan {
    /// Every view of the files and every one that is dropped.
    pub steps: Vec<ViewStep>,
    /// The statements that do it, in their order, each with the view that it is of.
    pub(crate) statements: Vec<(ViewName, String)>,
}

impl ViewPlan {
    /// The statements that do it, in their order, each with the view, `schema.name`, that it is of.
    pub fn statements(&self) -> impl Iterator<Item = (String, &str)> {
        self.statements.iter().map(|(name, sql)| (name.to_string(), sql.as_str()))
    }

    /// The step of a view.
    pub fn step(&self, view: &str) -> Option<&ViewStep> {
        self.steps.iter().find(|step| step.view == view)
    }
}

impl fmt::Display for ViewAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Rebuild => "rebuild",
            Self::Drop => "drop",
            Self::Unchanged => "unchanged",
        })
    }
}

impl ViewStep {
    /// The file and the line that define the view.
    pub(crate) fn place(&self) -> Option<(PathBuf, usize)> {
        self.file.clone().map(|file| (file, self.line))
    }
}

impl Shared {
    /// The views that there are, those that are not back yet among them.
    pub(crate) fn known_views(&self) -> Vec<KnownView> {
        let known = |name: &ViewName, sql: &str, file: &Option<String>| KnownView {
            schema: name.schema.clone(),
            name: name.name.clone(),
            definition: sql.to_owned(),
            file: file.clone(),
        };
        let definitions = self.definitions.read();
        let pending = self.returning.borrow();
        let there = definitions.iter().map(|(name, definition)| known(name, &definition.sql, &definition.file));
        let coming = pending.iter().filter(|new| !definitions.contains_key(&new.name));
        there.chain(coming.map(|new| known(&new.name, &new.sql, &new.file))).collect()
    }
}

impl fmt::Display for ViewStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}  {}", self.action.to_string(), self.view)?;
        match &self.file {
            Some(file) => write!(f, "  {}:{}", file.display(), self.line),
            None => Ok(()),
        }
    }
}

/// What is known of a view, with what its query names.
struct Known<'a> {
    name: ViewName,
    view: &'a KnownView,
    names: Vec<datafusion::common::TableReference>,
}

impl ViewFiles {
    /// What changes where an engine has these views. Those that were made by SQL stay as they are.
    ///
    /// # Errors
    /// A view has the name of one that was made by SQL, or one that was made by SQL reads a view that would have to go first.
    pub fn plan(&self, known: &[KnownView]) -> Result<ViewPlan, Vec<Fault>> {
        let known: Vec<Known<'_>> = known
            .iter()
            .map(|view| {
                let name = ViewName { schema: view.schema.clone(), name: view.name.clone() };
                Known { name, view, names: names_in(&view.definition) }
            })
            .collect();
        let mut faults = self.taken_names(&known);
        let going = self.going(&known, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let dropped: Vec<&Known<'_>> = leaves_first(known.iter().filter(|known| going.contains(&known.name)).collect());
        let mut plan = ViewPlan::default();
        let alone = |view: &Known<'_>| {
            self.view(&view.name).is_some()
                && known.iter().all(|other| !reads(&other.names, &view.name))
                && going.iter().all(|other| *other == view.name || !reads(&view.names, other))
        };
        for view in dropped.iter().filter(|view| !alone(view)) {
            plan.statements.push((view.name.clone(), format!("DROP MATERIALIZED VIEW {}", quoted(&view.name))));
        }
        for view in &self.views {
            let old = known.iter().find(|known| known.name == view.name);
            let action = match old {
                None => ViewAction::Create,
                Some(old) if old.view.definition != view.sql => ViewAction::Replace,
                Some(old) if going.contains(&old.name) => ViewAction::Rebuild,
                Some(_) => ViewAction::Unchanged,
            };
            if action != ViewAction::Unchanged {
                let replace = if old.is_some_and(alone) { "OR REPLACE " } else { "" };
                plan.statements.push((view.name.clone(), view.statement(replace)));
            }
            let file = Some(view.file.clone());
            plan.steps.push(ViewStep { view: view.name.to_string(), action, file, line: view.line });
        }
        let gone = dropped.iter().filter(|view| self.view(&view.name).is_none());
        plan.steps.extend(gone.map(|view| ViewStep {
            view: view.name.to_string(),
            action: ViewAction::Drop,
            file: None,
            line: 0,
        }));
        Ok(plan)
    }

    fn taken_names(&self, known: &[Known<'_>]) -> Vec<Fault> {
        let by_sql = |view: &&FileView| known.iter().any(|known| known.name == view.name && known.view.file.is_none());
        let fault = |view: &FileView| {
            view.fault("a materialized view of this name was made by SQL; drop it, or give this one another name")
        };
        self.views.iter().filter(by_sql).map(fault).collect()
    }

    /// The views that have to go: those that are gone from the files, those whose query is another, and those that read one of them.
    fn going(&self, known: &[Known<'_>], faults: &mut Vec<Fault>) -> BTreeSet<ViewName> {
        let is_old = |known: &&Known<'_>| {
            known.view.file.is_some() && self.view(&known.name).is_none_or(|view| view.sql != known.view.definition)
        };
        let mut going: BTreeSet<ViewName> = known.iter().filter(is_old).map(|known| known.name.clone()).collect();
        loop {
            let readers = known.iter().filter(|known| !going.contains(&known.name));
            let Some(reader) = readers.into_iter().find(|known| going.iter().any(|view| reads(&known.names, view)))
            else {
                return going;
            };
            if reader.view.file.is_none() {
                for view in going.iter().filter(|view| reads(&reader.names, view)) {
                    let message = format!(
                        "materialized view \"{}\", which was made by SQL, reads \"{view}\", which would have to go first; drop it",
                        reader.name
                    );
                    match self.view(view) {
                        Some(view) => faults.push(view.fault(message)),
                        None => faults.push(Fault { file: "views".into(), line: 0, key: view.to_string(), message }),
                    }
                }
            }
            going.insert(reader.name.clone());
        }
    }
}

impl FileView {
    fn statement(&self, replace: &str) -> String {
        let file = self.file_name().replace('\'', "''");
        format!("CREATE {replace}MATERIALIZED VIEW {} WITH (file = '{file}') AS {}", quoted(&self.name), self.sql)
    }
}

/// The views, each before those that it reads.
fn leaves_first<'a, 'k>(views: Vec<&'a Known<'k>>) -> Vec<&'a Known<'k>> {
    let (mut left, mut order) = (views, Vec::new());
    while !left.is_empty() {
        let read =
            |view: &Known<'_>| left.iter().any(|other| other.name != view.name && reads(&other.names, &view.name));
        // A name without a schema may seem to make a circle; the engine says so if there is one.
        let place = left.iter().position(|view| !read(view)).unwrap_or(0);
        order.push(left.remove(place));
    }
    order
}

fn quoted(name: &ViewName) -> String {
    let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    format!("{}.{}", quote(&name.schema), quote(&name.name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn files(texts: &[(&str, &str)]) -> ViewFiles {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("views");
        fs::create_dir(&folder).unwrap();
        texts.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        ViewFiles::read(directory.path()).unwrap()
    }

    fn known(name: &str, definition: &str, file: Option<&str>) -> KnownView {
        let (schema, name) = name.split_once('.').unwrap();
        KnownView {
            schema: schema.to_owned(),
            name: name.to_owned(),
            definition: definition.to_owned(),
            file: file.map(str::to_owned),
        }
    }

    fn told(plan: &ViewPlan) -> (Vec<String>, Vec<&str>) {
        let steps = plan.steps.iter().map(|step| format!("{} {}", step.action, step.view)).collect();
        (steps, plan.statements.iter().map(|(_, sql)| sql.as_str()).collect())
    }

    #[test]
    fn plan_creates_replaces_rebuilds_and_drops_in_an_order_that_works() {
        let files = files(&[
            ("base.sql", "CREATE MATERIALIZED VIEW v.base AS SELECT id, 2 AS n FROM shop.t"),
            ("top.sql", "CREATE MATERIALIZED VIEW v.top AS SELECT n FROM v.base"),
            ("leaf.sql", "CREATE MATERIALIZED VIEW v.leaf AS SELECT 1 AS x"),
            ("it's.sql", "CREATE MATERIALIZED VIEW v.\"New\" AS SELECT 1 AS x"),
            ("same.sql", "CREATE MATERIALIZED VIEW v.same AS SELECT 1 AS x"),
        ]);
        let known = [
            known("v.base", "SELECT id FROM shop.t", Some("base.sql")),
            known("v.top", "SELECT n FROM v.base", Some("top.sql")),
            known("v.leaf", "SELECT 2 AS x", Some("leaf.sql")),
            known("v.same", "SELECT 1 AS x", Some("other.sql")),
            known("v.gone", "SELECT n FROM v.base", Some("gone.sql")),
            known("v.mine", "SELECT x FROM v.same", None),
        ];
        let plan = files.plan(&known).unwrap();
        let (steps, statements) = told(&plan);
        assert_eq!(
            steps,
            ["replace v.base", "create v.New", "replace v.leaf", "unchanged v.same", "rebuild v.top", "drop v.gone"]
        );
        assert_eq!(
            statements,
            [
                "DROP MATERIALIZED VIEW \"v\".\"top\"",
                "DROP MATERIALIZED VIEW \"v\".\"gone\"",
                "DROP MATERIALIZED VIEW \"v\".\"base\"",
                "CREATE MATERIALIZED VIEW \"v\".\"base\" WITH (file = 'base.sql') AS SELECT id, 2 AS n FROM shop.t",
                "CREATE MATERIALIZED VIEW \"v\".\"New\" WITH (file = 'it''s.sql') AS SELECT 1 AS x",
                "CREATE OR REPLACE MATERIALIZED VIEW \"v\".\"leaf\" WITH (file = 'leaf.sql') AS SELECT 1 AS x",
                "CREATE MATERIALIZED VIEW \"v\".\"top\" WITH (file = 'top.sql') AS SELECT n FROM v.base",
            ]
        );
    }

    #[test]
    fn views_that_were_made_by_sql_are_never_touched() {
        let files = files(&[
            ("a.sql", "CREATE MATERIALIZED VIEW v.a AS SELECT 1 AS x"),
            ("b.sql", "CREATE MATERIALIZED VIEW v.b AS SELECT 1 AS x"),
        ]);
        let known = [
            known("v.a", "SELECT 1 AS x", None),
            known("v.b", "SELECT 2 AS x", Some("b.sql")),
            known("v.over_b", "SELECT x FROM b", None),
            known("v.gone", "SELECT 2 AS x", Some("gone.sql")),
            known("v.over_gone", "SELECT x FROM v.gone", None),
        ];
        let faults: Vec<String> = files.plan(&known).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 3, "{faults:#?}");
        assert!(faults[0].contains("a.sql:1: v.a: a materialized view of this name was made by SQL"), "{faults:#?}");
        assert!(
            faults.iter().any(|fault| fault.contains("b.sql:1: v.b: materialized view \"v.over_b\"")),
            "{faults:#?}"
        );
        assert!(faults.iter().any(|fault| fault.starts_with("views: v.gone: ")), "{faults:#?}");
    }
}

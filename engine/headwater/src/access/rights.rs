//! What one caller may read: the grants of all roles that they are in, and what those come to for a table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rule::Rule;
use crate::views::ViewName;

/// What a grant is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum On {
    /// Every table of every service.
    Everything,
    /// The tables of one service; `None` for all of them.
    Service { service: String, tables: Option<Vec<String>> },
    /// One materialized view.
    View(ViewName),
}

/// What a role may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) on: On,
    /// The columns; `None` for all.
    pub(super) columns: Option<Vec<String>>,
    /// Which rows; `None` for all.
    pub(super) rows: Option<Rule>,
    /// What is shown in the place of columns.
    pub(super) masks: BTreeMap<String, Rule>,
}

/// What a caller may do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    user: Option<String>,
    pub(super) grants: Vec<Arc<Grant>>,
    /// The schemas in which they may define views; `*` for all.
    pub(super) defines: BTreeSet<String>,
    pub(super) monitors: bool,
}

/// What a caller may read of a table: at least one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableRights {
    pub(super) columns: Vec<Seen>,
    /// Rows of which any of these is true; all rows where there is none.
    pub(super) rows: Vec<Rule>,
    is_every_column: bool,
}

/// A column that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its place in the table.
    pub(super) index: usize,
    /// What is shown, the first whose condition is true; NULL where none is. As it is where there is none at all.
    pub(super) cases: Vec<Shown>,
}

/// What is shown of a column in some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// In which; `None` in all.
    pub(super) when: Option<Rule>,
    /// The value; `None` for the column's own.
    pub(super) mask: Option<Rule>,
}

impl Rights {
    /// Of somebody to whom nothing is granted.
    pub(crate) fn none(user: Option<&str>) -> Self {
        Self { user: user.map(str::to_owned), grants: vec![], defines: BTreeSet::new(), monitors: false }
    }

    /// The caller's name.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether views may be made, dropped and refreshed in a schema.
    pub(crate) fn defines(&self, schema: &str) -> bool {
        self.defines.contains("*") || self.defines.contains(schema)
    }

    /// Whether metrics, and all of what the engine says of itself, may be read.
    pub(crate) fn monitors(&self) -> bool {
        self.monitors
    }

    /// Whether a grant is on a schema as a service, or on anything in it.
    pub(super) fn names_schema(&self, schema: &str) -> bool {
        self.grants.iter().any(|grant| match &grant.on {
            On::Everything => true,
            On::Service { service, .. } => service == schema,
            On::View(name) => name.schema == schema,
        })
    }

    /// Whether a grant is on a table of a service.
    pub(super) fn names_table(&self, service: &str, table: &str) -> bool {
        self.grants.iter().any(|grant| grant.is_on_table(service, table))
    }

    /// Whether all rows of a table of a service may be counted.
    pub(super) fn counts_table(&self, service: &str, table: &str) -> bool {
        self.grants.iter().any(|grant| grant.is_on_table(service, table) && grant.rows.is_none())
    }

    /// Whether a service may be read whole.
    pub(crate) fn reads_service(&self, service: &str) -> bool {
        self.grants.iter().any(|grant| match &grant.on {
            On::Everything => true,
            On::Service { service: granted, tables: None } => granted == service,
            _ => false,
        })
    }

    /// What may be read of a table of a service that has these columns.
    pub(super) fn of_table(&self, service: &str, table: &str, columns: &[&str]) -> Option<TableRights> {
        decided(self.grants.iter().filter(|grant| grant.is_on_table(service, table)), columns)
    }

    /// What grants that name a view give of it.
    pub(super) fn of_view(&self, view: &ViewName, columns: &[&str]) -> Option<TableRights> {
        decided(self.grants.iter().filter(|grant| matches!(&grant.on, On::View(name) if name == view)), columns)
    }
}

impl Grant {
    fn is_on_table(&self, schema: &str, table: &str) -> bool {
        match &self.on {
            On::Everything => true,
            On::Service { service, tables } => {
                service == schema && tables.as_ref().is_none_or(|tables| tables.iter().any(|name| name == table))
            }
            On::View(_) => false,
        }
    }

    fn gives(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|name| name == column))
    }
}

impl TableRights {
    /// All of so many columns, in all rows.
    pub(crate) fn whole(columns: usize) -> Self {
        let columns = (0..columns).map(|index| Seen { index, cases: vec![] }).collect();
        Self { columns, rows: vec![], is_every_column: true }
    }

    /// Whether that is the whole table, as it is.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_every_column && !self.is_limited()
    }

    /// Whether rows are filtered or columns masked.
    pub(crate) fn is_limited(&self) -> bool {
        !self.rows.is_empty() || self.columns.iter().any(|column| !column.cases.is_empty())
    }
}

/// What grants come to: the rows of any of them, and each column in the rows of those that give it.
fn decided<'a>(grants: impl Iterator<Item = &'a Arc<Grant>>, columns: &[&str]) -> Option<TableRights> {
    let grants: Vec<&Grant> =
        grants.map(AsRef::as_ref).filter(|grant| columns.iter().any(|column| grant.gives(column))).collect();
    let mut rows: Vec<Rule> = Vec::new();
    if grants.iter().all(|grant| grant.rows.is_some()) {
        for rule in grants.iter().filter_map(|grant| grant.rows.as_ref()) {
            if !rows.contains(rule) {
                rows.push(rule.clone());
            }
        }
    }
    let seen = columns.iter().enumerate().filter_map(|(index, column)| {
        let giving: Vec<&&Grant> = grants.iter().filter(|grant| grant.gives(column)).collect();
        (!giving.is_empty()).then(|| Seen { index, cases: cases(&giving, column, &rows) })
    });
    let seen: Vec<Seen> = seen.collect();
    let is_every_column = seen.len() == columns.len();
    (!seen.is_empty()).then_some(TableRights { columns: seen, rows, is_every_column })
}

/// What is shown of a column. `rows` are those that are there at all.
fn cases(giving: &[&&Grant], column: &str, rows: &[Rule]) -> Vec<Shown> {
    let shown = |grant: &&&Grant| Shown { when: grant.rows.clone(), mask: grant.masks.get(column).cloned() };
    // Who may see the value is not shown a mask because of another grant.
    let (plain, masked): (Vec<Shown>, Vec<Shown>) = giving.iter().map(shown).partition(|shown| shown.mask.is_none());
    let mut cases: Vec<Shown> = plain.into_iter().chain(masked).collect();
    let is_everywhere = |when: &Option<Rule>| match when {
        None => true,
        Some(rule) => matches!(rows, [only] if only == rule),
    };
    if let Some(last) = cases.iter().position(|case| is_everywhere(&case.when)) {
        cases.truncate(last + 1);
        cases[last].when = None;
    }
    match &cases[..] {
        [Shown { when: None, mask: None }] => vec![],
        _ => cases,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(columns: Option<&[&str]>, rows: Option<&str>, masks: &[(&str, &str)]) -> Arc<Grant> {
        let rule = |text: &str| Rule::parse(text).unwrap();
        Arc::new(Grant {
            on: On::Service { service: "s".to_owned(), tables: Some(vec!["t".to_owned()]) },
            columns: columns.map(|columns| columns.iter().map(|column| (*column).to_owned()).collect()),
            rows: rows.map(rule),
            masks: masks.iter().map(|(column, text)| ((*column).to_owned(), rule(text))).collect(),
        })
    }

    fn of(grants: &[Arc<Grant>]) -> Option<TableRights> {
        let rights = Rights { grants: grants.to_vec(), ..Rights::none(None) };
        rights.of_table("s", "t", &["a", "b"])
    }

    #[test]
    fn nothing_is_granted_by_grants_on_other_tables_or_columns() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[grant(Some(&["z"]), None, &[])]), None);
        assert!(of(&[grant(None, None, &[])]).unwrap().is_whole());
    }

    #[test]
    fn grant_without_columns_that_are_there_opens_no_rows() {
        let found = of(&[grant(None, Some("a = 1"), &[]), grant(Some(&["z"]), None, &[])]).unwrap();
        assert_eq!(found.rows, [Rule::parse("a = 1").unwrap()]);
    }

    #[test]
    fn column_is_shown_in_the_rows_of_the_grants_that_give_it() {
        let found = of(&[grant(Some(&["a"]), Some("a = 1"), &[]), grant(Some(&["b"]), Some("a = 2"), &[])]).unwrap();
        assert_eq!(found.rows.len(), 2);
        assert_eq!(found.columns[0].cases, [Shown { when: Some(Rule::parse("a = 1").unwrap()), mask: None }]);
        let same = of(&[grant(Some(&["a"]), Some("a = 1"), &[]), grant(Some(&["b"]), Some("a = 1"), &[])]).unwrap();
        assert!(same.columns.iter().all(|column| column.cases.is_empty()), "{same:?}");
    }

    #[test]
    fn value_wins_over_the_mask_of_another_grant_where_it_may_be_seen() {
        let masked = grant(None, None, &[("b", "'x'")]);
        assert!(of(&[masked.clone(), grant(None, None, &[])]).unwrap().is_whole());
        let found = of(&[masked, grant(None, Some("a = 1"), &[])]).unwrap();
        assert!(found.rows.is_empty() && found.columns[0].cases.is_empty());
        let [first, second] = &found.columns[1].cases[..] else { panic!("{found:?}") };
        assert!(first.mask.is_none() && first.when.is_some() && second.mask.is_some() && second.when.is_none());
    }
}

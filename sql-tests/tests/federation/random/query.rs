//! Queries, as trees that can be printed and made smaller.

use super::expr::Expr;
use super::kind::Kind;

/// A query: common tables, a body, an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) with: Vec<(String, Query)>,
    pub(super) body: Body,
    pub(super) order: Option<Order>,
}

/// An order, and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// By the first columns of the output, with `DESC` and `NULLS FIRST` as they fall. Where they are not all, a cut may keep any of several rows.
    pub(super) keys: Vec<&'static str>,
    pub(super) limit: Option<usize>,
    pub(super) offset: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Select(Box<Select>),
    Set { op: &'static str, left: Box<Body>, right: Box<Body> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Select {
    pub(super) quantifier: Quantifier,
    /// Named `o0`, `o1`, ...
    pub(super) items: Vec<Expr>,
    /// The first without a join.
    pub(super) from: Vec<Relation>,
    /// Joined by AND.
    pub(super) filters: Vec<Expr>,
    pub(super) group: Option<Group>,
    /// What the windows of a row say of it.
    pub(super) qualify: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantifier {
    All,
    Distinct,
    /// The first row of each value of so many of the first columns, by the order of the query.
    FirstOf(usize),
}

/// Whether columns of an output get names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// `o0`, `o1`, ...
    Numbered,
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) keys: Vec<Expr>,
    /// `{}` stands for the keys.
    pub(super) form: &'static str,
    pub(super) having: Option<Expr>,
}

/// The name of a common table.
pub(super) const COMMON: &str = "common";

/// Something that rows come from, and how it is joined to what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) join: &'static str,
    /// Joined by AND; none for a cross join.
    pub(super) on: Vec<Expr>,
    pub(super) rows: Origin,
    pub(super) alias: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A table or a common table, by name.
    Named(String),
    Derived(Box<Query>),
    /// What may name the columns of the tables before it.
    Lateral(Box<Query>),
    /// Rows of constants.
    Values(Vec<Vec<Expr>>),
    /// What the turn before added to the common table that is being made, up to the second turn; its columns are of these kinds.
    Turns(Vec<Kind>),
}

impl Query {
    pub(super) fn of(body: Body) -> Self {
        Self { with: Vec::new(), body, order: None }
    }

    pub(super) fn select(select: Select) -> Self {
        Self::of(Body::Select(Box::new(select)))
    }

    /// How many columns it has.
    pub(super) fn width(&self) -> usize {
        self.body.first().items.len()
    }

    /// As SQL of an expression, without names for its columns: DataFusion mistakes those of a correlated subquery for those
    /// of what it selects from.
    pub(super) fn unnamed_sql(&self) -> String {
        match &self.body {
            Body::Select(select) => select.sql_with(Naming::None),
            Body::Set { .. } => self.sql(),
        }
    }

    /// As SQL.
    pub(super) fn sql(&self) -> String {
        let with: Vec<String> = self.with.iter().map(|(name, query)| format!("{name} AS ({})", query.sql())).collect();
        let recursive = if self.with.iter().any(|(_, query)| query.is_recursive()) { "RECURSIVE " } else { "" };
        let with = if with.is_empty() { String::new() } else { format!("WITH {recursive}{} ", with.join(", ")) };
        let order = self.order.as_ref().map(|order| order.sql(self.width())).unwrap_or_default();
        format!("{with}{}{order}", self.body.sql())
    }

    /// Whether it is made of what it made before.
    fn is_recursive(&self) -> bool {
        let Body::Set { right, .. } = &self.body else { return false };
        matches!(right.first().from[0].rows, Origin::Turns(_))
    }

    /// Without LIMIT and OFFSET.
    pub(super) fn uncut(&self) -> Self {
        let uncut = |order: &Order| Order { limit: None, offset: None, ..order.clone() };
        Self { order: self.order.as_ref().map(uncut), ..self.clone() }
    }

    /// How many of its columns say the order of its rows.
    pub(super) fn ordered(&self) -> usize {
        self.order.as_ref().map_or(0, |order| order.keys.len().min(self.width()))
    }

    /// Whether it keeps the rows that come first.
    pub(super) fn cuts(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.limit.is_some() || order.offset.is_some())
    }

    /// Puts other constants in the place of those that columns are equal to.
    pub(super) fn replace_constants(&mut self, other: &mut dyn FnMut(Kind, &str) -> String) {
        self.with.iter_mut().for_each(|(_, query)| query.replace_constants(other));
        self.body.replace_constants(other);
    }

    /// As SQL with parameters for the constants that columns are equal to, and those constants.
    pub(super) fn with_parameters(&self) -> (String, Vec<String>) {
        let mut query = self.clone();
        let mut constants: Vec<String> = Vec::new();
        query.replace_constants(&mut |_, sql| {
            // Equal ones are one parameter, so that what is shown of a group is still its key.
            let known = constants.iter().position(|known| known == sql);
            let at = known.unwrap_or_else(|| {
                constants.push(sql.to_owned());
                constants.len() - 1
            });
            format!("${}", at + 1)
        });
        (query.sql(), constants)
    }

    /// Simpler queries, one step each.
    pub(super) fn simpler(&self) -> Vec<Query> {
        let mut found = Vec::new();
        if let Some(order) = &self.order {
            // Which row is the first of a value would be left open.
            if !matches!(self.body.first().quantifier, Quantifier::FirstOf(_)) {
                found.push(Self { order: None, ..self.clone() });
            }
            found.extend(order.simpler().into_iter().map(|order| Self { order: Some(order), ..self.clone() }));
        }
        for index in 0..self.with.len() {
            let mut without = self.clone();
            let (_, query) = without.with.remove(index);
            found.push(without);
            // A smaller one may turn for ever.
            for query in query.simpler().into_iter().filter(|_| !query.is_recursive()) {
                let mut changed = self.clone();
                changed.with[index].1 = query;
                found.push(changed);
            }
        }
        found.extend(self.body.simpler().into_iter().map(|body| Self { body, ..self.clone() }));
        found
    }
}

impl Order {
    fn sql(&self, width: usize) -> String {
        let keys: Vec<String> =
            self.keys.iter().take(width).enumerate().map(|(at, how)| format!("{}{how}", at + 1)).collect();
        let by = if keys.is_empty() { String::new() } else { format!(" ORDER BY {}", keys.join(", ")) };
        let limit = self.limit.map(|rows| format!(" LIMIT {rows}")).unwrap_or_default();
        let offset = self.offset.map(|rows| format!(" OFFSET {rows}")).unwrap_or_default();
        format!("{by}{limit}{offset}")
    }

    fn simpler(&self) -> Vec<Order> {
        let mut found = Vec::new();
        if self.offset.is_some() {
            found.push(Self { offset: None, ..self.clone() });
        }
        if self.limit.is_some() {
            found.push(Self { limit: None, ..self.clone() });
        }
        if self.keys.iter().any(|how| !how.is_empty()) {
            found.push(Self { keys: vec![""; self.keys.len()], ..self.clone() });
        }
        found
    }
}

impl Body {
    fn first(&self) -> &Select {
        match self {
            Self::Select(select) => select,
            Self::Set { left, .. } => left.first(),
        }
    }

    fn replace_constants(&mut self, other: &mut dyn FnMut(Kind, &str) -> String) {
        match self {
            Self::Select(select) => select.replace_constants(other),
            Self::Set { left, right, .. } => {
                left.replace_constants(other);
                right.replace_constants(other);
            }
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::Select(select) => select.sql(),
            Self::Set { op, left, right } => format!("({}) {op} ({})", left.sql(), right.sql()),
        }
    }

    fn simpler(&self) -> Vec<Body> {
        match self {
            Self::Select(select) => select.simpler().into_iter().map(|select| Self::Select(Box::new(select))).collect(),
            Self::Set { op, left, right } => {
                let mut found = vec![(**left).clone(), (**right).clone()];
                let set = |left: Body, right: Body| Self::Set { op, left: Box::new(left), right: Box::new(right) };
                let width = left.first().items.len();
                let narrower = (0..width).filter(|_| width > 1).map(|at| set(left.without(at), right.without(at)));
                found.extend(narrower);
                found.extend(left.simpler().into_iter().map(|left| set(left, (**right).clone())));
                found.extend(right.simpler().into_iter().map(|right| set((**left).clone(), right)));
                found
            }
        }
    }

    /// Without one column of the output.
    fn without(&self, item: usize) -> Body {
        let mut changed = self.clone();
        match &mut changed {
            Self::Select(select) => drop(select.items.remove(item)),
            Self::Set { left, right, .. } => {
                **left = left.without(item);
                **right = right.without(item);
            }
        }
        changed
    }
}

impl Select {
    fn replace_constants(&mut self, other: &mut dyn FnMut(Kind, &str) -> String) {
        self.items.iter_mut().for_each(|item| item.replace_constants(other));
        for relation in &mut self.from {
            relation.on.iter_mut().for_each(|on| on.replace_constants(other));
            if let Origin::Derived(query) | Origin::Lateral(query) = &mut relation.rows {
                query.replace_constants(other);
            }
        }
        self.filters.iter_mut().for_each(|filter| filter.replace_constants(other));
        if let Some(group) = &mut self.group {
            group.keys.iter_mut().chain(&mut group.having).for_each(|expr| expr.replace_constants(other));
        }
        self.qualify.iter_mut().for_each(|qualify| qualify.replace_constants(other));
    }

    fn sql(&self) -> String {
        self.sql_with(Naming::Numbered)
    }

    fn sql_with(&self, naming: Naming) -> String {
        let item = |(at, item): (usize, &Expr)| match naming {
            Naming::Numbered => format!("{} AS o{at}", item.sql()),
            Naming::None => item.sql(),
        };
        let items: Vec<String> = self.items.iter().enumerate().map(item).collect();
        let distinct = match self.quantifier {
            Quantifier::All => String::new(),
            Quantifier::Distinct => "DISTINCT ".to_owned(),
            Quantifier::FirstOf(columns) => {
                let of: Vec<String> = self.items.iter().take(columns).map(Expr::sql).collect();
                format!("DISTINCT ON ({}) ", of.join(", "))
            }
        };
        let from: Vec<String> = self.from.iter().map(Relation::sql).collect();
        let filters = if self.filters.is_empty() { String::new() } else { format!(" WHERE {}", all_of(&self.filters)) };
        let group = self.group.as_ref().map(Group::sql).unwrap_or_default();
        let qualify = self.qualify.as_ref().map(|qualify| format!(" QUALIFY {}", qualify.sql())).unwrap_or_default();
        format!("SELECT {distinct}{} FROM {}{filters}{group}{qualify}", items.join(", "), from.join(" "))
    }

    pub(super) fn simpler(&self) -> Vec<Select> {
        let mut found = Vec::new();
        let mut push = |change: &dyn Fn(&mut Select)| {
            let mut changed = self.clone();
            change(&mut changed);
            if changed != *self {
                found.push(changed);
            }
        };
        for at in (1..self.from.len()).rev() {
            push(&|select| drop(select.from.remove(at)));
        }
        if self.from.len() > 1 {
            push(&|select| {
                select.from.remove(0);
                select.from[0].join = "";
                select.from[0].on = Vec::new();
            });
        }
        for at in 0..self.filters.len() {
            push(&|select| drop(select.filters.remove(at)));
        }
        if self.items.len() > 1 {
            (0..self.items.len()).for_each(|at| push(&|select| drop(select.items.remove(at))));
        }
        push(&|select| select.quantifier = Quantifier::All);
        push(&|select| select.group = None);
        push(&|select| select.qualify = None);
        for qualify in self.qualify.iter().flat_map(Expr::simpler) {
            push(&|select| select.qualify = Some(qualify.clone()));
        }
        for (at, relation) in self.from.iter().enumerate() {
            for relation in relation.simpler() {
                push(&|select| select.from[at] = relation.clone());
            }
        }
        for group in self.group.iter().flat_map(Group::simpler) {
            push(&|select| select.group = Some(group.clone()));
        }
        for (at, filter) in self.filters.iter().enumerate() {
            filter.simpler().into_iter().for_each(|filter| push(&|select| select.filters[at] = filter.clone()));
        }
        for (at, item) in self.items.iter().enumerate() {
            item.simpler().into_iter().for_each(|item| push(&|select| select.items[at] = item.clone()));
        }
        found
    }
}

impl Group {
    fn sql(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(Expr::sql).collect();
        let by = if keys.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", self.form.replace("{}", &keys.join(", ")))
        };
        let having = self.having.as_ref().map(|having| format!(" HAVING {}", having.sql())).unwrap_or_default();
        format!("{by}{having}")
    }

    fn simpler(&self) -> Vec<Group> {
        let mut found = Vec::new();
        if self.having.is_some() {
            found.push(Self { having: None, ..self.clone() });
        }
        if self.form != "{}" {
            found.push(Self { form: "{}", ..self.clone() });
        }
        for at in 0..self.keys.len() {
            let mut changed = self.clone();
            changed.keys.remove(at);
            found.push(changed);
        }
        for having in self.having.iter().flat_map(Expr::simpler) {
            found.push(Self { having: Some(having), ..self.clone() });
        }
        found
    }
}

impl Relation {
    /// Whether its columns may be named.
    pub(super) fn shows(&self) -> bool {
        !matches!(self.join, "LEFT SEMI JOIN" | "LEFT ANTI JOIN")
    }

    fn sql(&self) -> String {
        let row = |row: &Vec<Expr>| format!("({})", row.iter().map(Expr::sql).collect::<Vec<_>>().join(", "));
        let (rows, columns) = match &self.rows {
            Origin::Named(name) => (name.clone(), String::new()),
            Origin::Derived(query) => (format!("({})", query.sql()), String::new()),
            Origin::Lateral(query) => (format!("LATERAL ({})", query.sql()), String::new()),
            Origin::Turns(_) => (format!("(SELECT * FROM {COMMON} WHERE o0 < 2)"), String::new()),
            Origin::Values(rows) => {
                let columns: Vec<String> = (0..rows[0].len()).map(|at| format!("o{at}")).collect();
                let rows: Vec<String> = rows.iter().map(row).collect();
                (format!("(VALUES {})", rows.join(", ")), format!(" ({})", columns.join(", ")))
            }
        };
        let on = if self.on.is_empty() { String::new() } else { format!(" ON {}", all_of(&self.on)) };
        let join = if self.join.is_empty() { String::new() } else { format!("{} ", self.join) };
        format!("{join}{rows} AS {}{columns}{on}", self.alias)
    }

    fn simpler(&self) -> Vec<Relation> {
        let mut found = Vec::new();
        if !matches!(self.join, "" | "INNER JOIN" | "CROSS JOIN") && !self.on.is_empty() {
            found.push(Self { join: "INNER JOIN", ..self.clone() });
        }
        if self.on.len() > 1 {
            for at in 0..self.on.len() {
                let mut changed = self.clone();
                changed.on.remove(at);
                found.push(changed);
            }
        }
        for (at, on) in self.on.iter().enumerate() {
            for on in on.simpler() {
                let mut changed = self.clone();
                changed.on[at] = on;
                found.push(changed);
            }
        }
        let mut push = |rows: Origin| found.push(Self { rows, ..self.clone() });
        match &self.rows {
            Origin::Named(_) | Origin::Turns(_) => {}
            Origin::Derived(query) => {
                query.simpler().into_iter().for_each(|query| push(Origin::Derived(Box::new(query))));
            }
            Origin::Lateral(query) => {
                query.simpler().into_iter().for_each(|query| push(Origin::Lateral(Box::new(query))));
            }
            Origin::Values(rows) => (0..rows.len()).filter(|_| rows.len() > 1).for_each(|at| {
                let mut fewer = rows.clone();
                fewer.remove(at);
                push(Origin::Values(fewer));
            }),
        }
        found
    }
}

fn all_of(filters: &[Expr]) -> String {
    filters.iter().map(|filter| format!("({})", filter.sql())).collect::<Vec<_>>().join(" AND ")
}

//! What a source can do with a pushed expression, as data.
//!
//! A connector writes a table of [`Rule`]s: operator x class of value -> [`Support`]. What is not in the table is
//! [`Support::No`]. [`Capabilities::offer`] reads the table for a whole filter and answers with the filter to push, which may be
//! weaker than the one that was asked for, and whether the engine must check the rows again.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;

use crate::{ColumnDef, CompareOp, Expr, Function, Like, Queries, SortKey, TableDef, ValueClass};

/// How well a source does an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Support {
    /// Not at all: it stays local.
    No,
    /// Every right row comes, and perhaps others: the engine checks again.
    Superset,
    /// Just the right rows come.
    Exact,
}

/// An operator of the capability table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operator {
    /// `=` and IN.
    Equal,
    /// `<>` and NOT IN.
    NotEqual,
    /// `<`, `<=`, `>`, `>=` and BETWEEN.
    Order,
    /// IS NULL and IS NOT NULL.
    IsNull,
    /// LIKE.
    Like,
    /// NOT LIKE.
    NotLike,
    /// ORDER BY with a limit. Only [`Support::Exact`] is of use.
    Sort,
}

impl Operator {
    /// Every operator, in declaration order; for generated documentation and for tests.
    pub const ALL: [Self; 7] =
        [Self::Equal, Self::NotEqual, Self::Order, Self::IsNull, Self::Like, Self::NotLike, Self::Sort];
}

/// An entry of the capability table.
pub type Rule = (Operator, ValueClass, Support);

/// What an expression of a whole query is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be computed.
    Value,
    /// To group, count distinct or sort by.
    Key,
}

/// Why one expression over these columns stays local though its class is in the table: a value that has no bind, a text that may be longer than
/// the source sorts by. `None` where nothing speaks against it.
pub type Objection = fn(&Expr, Purpose, &[ColumnDef]) -> Option<String>;

/// How a source puts its cores to work on one large statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallel {
    /// As it sees fit; or one core is all that it has for a reader.
    ByItself,
    /// A statement keeps one core busy, however large it is: several statements over ranges of a key are faster.
    ByParts,
    /// As it sees fit, but for groups of a key, and for many groups of many rows: those of ranges of the key, in several statements, are faster than all of them in one.
    ByGroups,
}

/// The capability table of one kind and version of source.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities {
    source: &'static str,
    rules: &'static [Rule],
    max_binds: usize,
    max_integers: usize,
    parallel: Parallel,
    queries: Option<&'static Queries>,
    objection: Objection,
    constants: Option<&'static [ValueClass]>,
    locality: Locality,
    list_lookup: ListLookup,
}

/// Whether a source looks the values of a long list up in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListLookup {
    /// It knows how many there are, and does so where that is less work.
    Weighed,
    /// It does so wherever there is an index, however many they are.
    Always,
}

/// Where a source works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locality {
    /// On a server: rows cost to ship, and its work is its own.
    Server,
    /// In this process: its rows cost nothing to ship, and its work is ours. Only what it does with less work than reading goes down.
    InProcess,
}

/// What a source makes of a filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The filter to push; `None` where nothing of it can be.
    pub filter: Option<Expr>,
    /// What the pushed filter is to the one that was asked for.
    pub support: Support,
    /// Why it is not exact, for EXPLAIN; empty where it is.
    pub reason: String,
}

impl Capabilities {
    /// The most values that the filters of one scan may bind, where the connector does not say otherwise.
    pub const DEFAULT_MAX_BINDS: usize = 10_000;

    /// A table for the kind of source that messages call `source`.
    pub const fn new(source: &'static str, rules: &'static [Rule]) -> Self {
        Self {
            source,
            rules,
            max_binds: Self::DEFAULT_MAX_BINDS,
            max_integers: Self::DEFAULT_MAX_BINDS,
            parallel: Parallel::ByItself,
            queries: None,
            objection: |_, _, _| None,
            constants: None,
            locality: Locality::Server,
            list_lookup: ListLookup::Weighed,
        }
    }

    /// The same table with another limit on the values of one scan.
    pub const fn with_max_binds(self, max_binds: usize) -> Self {
        Self { max_binds, max_integers: max_binds, ..self }
    }

    /// The same table for a source that takes a list of so many integers, as one value.
    pub const fn with_max_integers(self, max_integers: usize) -> Self {
        Self { max_integers, ..self }
    }

    /// The same table for a source that also takes whole queries.
    pub const fn with_queries(self, queries: &'static Queries) -> Self {
        Self { queries: Some(queries), ..self }
    }

    /// The same table with objections to single expressions of whole queries, and to sort keys.
    pub const fn with_objection(self, objection: Objection) -> Self {
        Self { objection, ..self }
    }

    /// Nothing, or why the expression stays local.
    pub(crate) fn unobjected(&self, expr: &Expr, purpose: Purpose, columns: &[ColumnDef]) -> Result<(), String> {
        (self.objection)(expr, purpose, columns).map_or(Ok(()), Err)
    }

    /// The same table for a source of which a large query is better asked in parts. Its [`Source::snapshot`](crate::Source::snapshot)
    /// must let them read one state; where it gives none, the query is asked whole.
    pub const fn in_parts(self) -> Self {
        Self { parallel: Parallel::ByParts, ..self }
    }

    /// The same table for a source of which the groups of a large table's key, and many groups, are better asked in parts, and nothing else. What
    /// [`in_parts`](Self::in_parts) says of one state holds here too.
    pub const fn in_groups(self) -> Self {
        Self { parallel: Parallel::ByGroups, ..self }
    }

    /// How the source puts its cores to work on one large statement.
    pub fn parallel(&self) -> Parallel {
        self.parallel
    }

    /// The same table for a source that takes constants of these classes alone as values of a query; without it, of every class.
    pub const fn with_constants(self, constants: &'static [ValueClass]) -> Self {
        Self { constants: Some(constants), ..self }
    }

    /// The same table for a source that works in this process.
    pub const fn in_process(self) -> Self {
        Self { locality: Locality::InProcess, ..self }
    }

    /// The same table for a source that deals so with long lists. One that always looks them up is sent lists that are too long for that in
    /// a form that no index serves ([`Expr::unindexed`]), and must take that form of every integer that it takes a list of.
    pub const fn with_list_lookup(self, list_lookup: ListLookup) -> Self {
        Self { list_lookup, ..self }
    }

    /// Whether the source looks the values of a long list up in an index.
    pub fn list_lookup(&self) -> ListLookup {
        self.list_lookup
    }

    /// Where the source works.
    pub fn locality(&self) -> Locality {
        self.locality
    }

    /// Whether a constant of this class may stand in a query as a value. What a column is compared with is another thing.
    pub fn takes_constant(&self, class: ValueClass) -> bool {
        self.constants.is_none_or(|known| known.contains(&class))
    }

    /// What the source computes of whole queries; `None` where it only takes scans.
    pub fn queries(&self) -> Option<&'static Queries> {
        self.queries
    }

    /// What messages call this kind of source.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// Every entry.
    pub fn rules(&self) -> &'static [Rule] {
        self.rules
    }

    /// The most values that the filters of one scan may bind.
    pub fn max_binds(&self) -> usize {
        self.max_binds
    }

    /// The most values of one list that a column of this class is looked up in.
    pub fn max_listed(&self, class: ValueClass) -> usize {
        if class == ValueClass::Integer { self.max_integers } else { self.max_binds }
    }

    /// How many of [`max_binds`](Self::max_binds) a filter takes.
    pub fn binds_of(&self, filter: &Expr, columns: &[ColumnDef]) -> usize {
        match filter {
            Expr::InList { expr, .. } if self.max_integers > self.max_binds => match **expr {
                Expr::Column(index) if columns[index].class == ValueClass::Integer => 1,
                _ => filter.literals(),
            },
            _ => filter.literals(),
        }
    }

    /// The entry for an operator on a class of values.
    pub fn support(&self, operator: Operator, class: ValueClass) -> Support {
        self.rules
            .iter()
            .find(|(rule_operator, rule_class, _)| (*rule_operator, *rule_class) == (operator, class))
            .map_or(Support::No, |(_, _, support)| *support)
    }

    /// What the source makes of a filter over `table`.
    ///
    /// A row passes a filter only where it is true, so a conjunction may lose what the source can't do and become a superset;
    /// a disjunction may not, and under NOT only an exact filter will do.
    pub fn offer(&self, filter: &Expr, table: &TableDef) -> Offer {
        self.offer_over(filter, &table.columns)
    }

    /// The same over the columns of a table or of a [`Relation`](crate::Relation).
    pub fn offer_over(&self, filter: &Expr, columns: &[ColumnDef]) -> Offer {
        if let Some(offer) = self.offer_cases(filter, columns) {
            return offer;
        }
        match filter {
            Expr::And(parts) => Offer::all(parts.iter().map(|part| self.offer_over(part, columns)).collect()),
            Expr::Or(parts) => Offer::any(parts.iter().map(|part| self.offer_over(part, columns)).collect()),
            Expr::Not(inner) => match self.offer_over(inner, columns) {
                Offer { filter: Some(inner), support: Support::Exact, .. } => Offer::exact(Expr::Not(Box::new(inner))),
                offer => Offer::no(format!("NOT needs an exact filter: {}", offer.reason)),
            },
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => self.offer_is_null(filter, inner, columns),
            Expr::Compare { op, left, right } => self.offer_compare(*op, left, right, columns),
            Expr::InList { expr, values, negated } => self.offer_in_list(filter, expr, values, *negated, columns),
            Expr::Like(like) => self.offer_like(filter, like, columns),
            Expr::Column(index) => self.offer_flag(*index, columns),
            Expr::Literal(_) => Offer::no("a constant is not a filter"),
            Expr::Call(_) => self.offer_condition(filter, columns),
        }
    }

    /// Whether the source can sort by these keys just as Arrow does, or why not.
    pub fn offer_sort(&self, keys: &[SortKey], table: &TableDef) -> Result<(), String> {
        self.sorts(keys, &table.columns)
    }

    /// What of a comparison of texts in small or in capital letters: true as well of every text with other letters than ASCII's, which the engine looks at again.
    fn offer_cases(&self, filter: &Expr, columns: &[ColumnDef]) -> Option<Offer> {
        if !matches!(filter, Expr::Compare { .. } | Expr::InList { .. } | Expr::Like(_)) {
            return None;
        }
        let mut texts: Vec<Expr> = Vec::new();
        filter.visit_cases(&mut |text| {
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        });
        if texts.is_empty() {
            return None;
        }
        let known = self.queries().map_or(&[][..], |queries| queries.cases);
        for text in &texts {
            match self.computes(text, columns) {
                Ok(column) if known.contains(&column.class) => {}
                Ok(_) => return Some(Offer::no(format!("LOWER and UPPER differ in {}", self.source))),
                Err(reason) => return Some(Offer::no(reason)),
            }
        }
        // What is made of such a text is a text that the source computes.
        let mut beside = columns.to_vec();
        let mut calls = Vec::new();
        let without = filter.map_calls(&mut |call| {
            if !matches!(call.function, Function::Lower | Function::Upper) {
                return None;
            }
            calls.push(Expr::Call(call.clone()));
            beside.push(Expr::Call(call.clone()).describe(columns));
            Some(Expr::Column(beside.len() - 1))
        });
        let offer = self.offer_over(&without, &beside);
        let Some(condition) = offer.filter else { return Some(offer) };
        let condition = condition.map_columns(&|index| match index.checked_sub(columns.len()) {
            Some(place) => calls[place].clone(),
            None => Expr::Column(index),
        });
        let beyond = |text| Expr::call(Function::BeyondAscii, vec![text], DataType::Boolean);
        let filter = Expr::Or([condition].into_iter().chain(texts.into_iter().map(beyond)).collect());
        let reason = format!("the case of letters beyond ASCII differs in {}", self.source);
        Some(Offer::new(filter, Support::Superset, reason))
    }

    fn offer_flag(&self, index: usize, columns: &[ColumnDef]) -> Offer {
        let column = &columns[index];
        match self.support(Operator::Equal, column.class) {
            Support::Exact if column.data_type == DataType::Boolean => Offer::exact(Expr::Column(index)),
            _ => Offer::no(self.reason(Operator::Equal, column)),
        }
    }

    fn offer_is_null(&self, filter: &Expr, inner: &Expr, columns: &[ColumnDef]) -> Offer {
        let Expr::Column(index) = inner else {
            return self.offer_computed(Operator::IsNull, filter, &[inner], columns);
        };
        let column = &columns[*index];
        match self.support(Operator::IsNull, column.class) {
            Support::No => Offer::no(self.reason(Operator::IsNull, column)),
            support => Offer::new(filter.clone(), support, self.reason(Operator::IsNull, column)),
        }
    }

    fn offer_compare(&self, op: CompareOp, left: &Expr, right: &Expr, columns: &[ColumnDef]) -> Offer {
        match (left, right) {
            (Expr::Column(index), Expr::Literal(value)) => self.offer_value(op, *index, value, columns),
            (Expr::Literal(value), Expr::Column(index)) => self.offer_value(op.swapped(), *index, value, columns),
            (Expr::Column(left), Expr::Column(right)) => self.offer_columns(op, *left, *right, columns),
            (left, right) => {
                let filter = Expr::compare(op, left.clone(), right.clone());
                self.offer_computed(operator_of(op), &filter, &[left, right], columns)
            }
        }
    }

    fn offer_value(&self, op: CompareOp, index: usize, value: &ScalarValue, columns: &[ColumnDef]) -> Offer {
        let column = &columns[index];
        let operator = operator_of(op);
        let support = self.support(operator, column.class);
        if support == Support::No {
            return Offer::no(self.reason(operator, column));
        }
        if let Some(reason) = unfit(column, value) {
            return Offer::no(reason);
        }
        let op = if support == Support::Superset { op.widened() } else { op };
        let filter = Expr::compare(op, Expr::Column(index), Expr::Literal(value.clone()));
        Offer::new(filter, support, self.reason(operator, column))
    }

    fn offer_columns(&self, op: CompareOp, left: usize, right: usize, columns: &[ColumnDef]) -> Offer {
        let (a, b) = (&columns[left], &columns[right]);
        let operator = operator_of(op);
        let alike = a.data_type == b.data_type && a.class == b.class && a.collation == b.collation;
        if alike && self.support(operator, a.class) == Support::Exact {
            return Offer::exact(Expr::compare(op, Expr::Column(left), Expr::Column(right)));
        }
        Offer::no(if alike {
            self.reason(operator, a)
        } else {
            format!("columns \"{}\" and \"{}\" are of different types or collations", a.name, b.name)
        })
    }

    fn offer_in_list(
        &self,
        filter: &Expr,
        expr: &Expr,
        values: &[ScalarValue],
        negated: bool,
        columns: &[ColumnDef],
    ) -> Offer {
        let operator = if negated { Operator::NotEqual } else { Operator::Equal };
        let Expr::Column(index) = expr else {
            let offer = self.offer_computed(operator, filter, &[expr], columns);
            let described = expr.describe(columns);
            return match values.iter().find_map(|value| unfit(&described, value)) {
                Some(reason) => Offer::no(reason),
                None => offer,
            };
        };
        let column = &columns[*index];
        let support = self.support(operator, column.class);
        if support == Support::No {
            return Offer::no(self.reason(operator, column));
        }
        let most = self.max_listed(column.class);
        if values.len() > most {
            return Offer::no(format!("IN has {} values, {} takes {most}", values.len(), self.source));
        }
        match values.iter().find_map(|value| unfit(column, value)) {
            Some(reason) => Offer::no(reason),
            None => Offer::new(filter.clone(), support, self.reason(operator, column)),
        }
    }

    fn offer_like(&self, filter: &Expr, like: &Like, columns: &[ColumnDef]) -> Offer {
        let column = match like.expr.as_ref() {
            Expr::Column(index) => columns[*index].clone(),
            computed => match self.computes(computed, columns) {
                Ok(column) => column,
                Err(reason) => return Offer::no(reason),
            },
        };
        if like.case_insensitive {
            return Offer::no("ILIKE folds case by the source's locale");
        }
        if trailing_escape(&like.pattern) {
            return Offer::no("sources refuse a pattern that ends with an escape character");
        }
        let operator = if like.negated { Operator::NotLike } else { Operator::Like };
        match self.support(operator, column.class) {
            Support::No => Offer::no(self.reason(operator, &column)),
            _ if like.pattern.contains('\0') => Offer::no("a pattern with NUL"),
            support => Offer::new(filter.clone(), support, self.reason(operator, &column)),
        }
    }

    /// A comparison of computed values: exact or not at all.
    fn offer_computed(&self, operator: Operator, filter: &Expr, sides: &[&Expr], columns: &[ColumnDef]) -> Offer {
        let mut described: Vec<ColumnDef> = Vec::with_capacity(sides.len());
        for side in sides {
            match self.computes(side, columns) {
                Ok(column) => described.push(column),
                Err(reason) => return Offer::no(reason),
            }
        }
        // A constant is sent as what it is compared with.
        let constants = sides.iter().map(|side| matches!(side, Expr::Literal(_)));
        let values: Vec<&ColumnDef> =
            described.iter().zip(constants).filter(|(_, constant)| !constant).map(|(column, _)| column).collect();
        let Some(first) = values.first() else { return Offer::no("a comparison of constants") };
        let alike = described.iter().all(|column| column.data_type == first.data_type)
            && values.iter().all(|column| column.class == first.class && column.collation == first.collation);
        if !alike {
            return Offer::no("a comparison of values of different types or collations");
        }
        match self.support(operator, first.class) {
            Support::Exact => Offer::exact(filter.clone()),
            _ => Offer::no(self.reason(operator, first)),
        }
    }

    /// A computed value as a condition.
    fn offer_condition(&self, filter: &Expr, columns: &[ColumnDef]) -> Offer {
        match self.computes(filter, columns) {
            Ok(column) if column.data_type == DataType::Boolean => {
                match self.support(Operator::Equal, ValueClass::Boolean) {
                    Support::Exact => Offer::exact(filter.clone()),
                    _ => Offer::no(self.reason(Operator::Equal, &column)),
                }
            }
            Ok(_) => Offer::no("a value that is no condition"),
            Err(reason) => Offer::no(reason),
        }
    }

    pub(crate) fn reason(&self, operator: Operator, column: &ColumnDef) -> String {
        let collation = column.collation.as_ref().map(|name| format!(" collation {name}")).unwrap_or_default();
        format!("{} on \"{}\" ({}{collation}) differs in {}", operator, column.name, column.remote_type, self.source)
    }
}

impl Offer {
    fn new(filter: Expr, support: Support, reason: String) -> Self {
        let reason = if support == Support::Exact { String::new() } else { reason };
        Self { filter: Some(filter), support, reason }
    }

    fn exact(filter: Expr) -> Self {
        Self { filter: Some(filter), support: Support::Exact, reason: String::new() }
    }

    fn no(reason: impl Into<String>) -> Self {
        Self { filter: None, support: Support::No, reason: reason.into() }
    }

    /// A conjunction: what can't be pushed is left out, and the rest is a superset.
    fn all(parts: Vec<Self>) -> Self {
        let exact = parts.iter().all(|part| part.support == Support::Exact);
        let reason = join_reasons(&parts);
        match Expr::all(parts.into_iter().filter_map(|part| part.filter).collect()) {
            Some(filter) => Self::new(filter, if exact { Support::Exact } else { Support::Superset }, reason),
            None => Self::no(reason),
        }
    }

    /// A disjunction: all of it or nothing.
    fn any(parts: Vec<Self>) -> Self {
        let support = parts.iter().map(|part| part.support).min().unwrap_or(Support::No);
        let reason = join_reasons(&parts);
        if support == Support::No {
            return Self::no(reason);
        }
        Self::new(Expr::Or(parts.into_iter().filter_map(|part| part.filter).collect()), support, reason)
    }
}

fn join_reasons(parts: &[Offer]) -> String {
    let reasons: Vec<&str> =
        parts.iter().map(|part| part.reason.as_str()).filter(|reason| !reason.is_empty()).collect();
    reasons.join("; ")
}

fn operator_of(op: CompareOp) -> Operator {
    match op {
        CompareOp::Equal => Operator::Equal,
        CompareOp::NotEqual => Operator::NotEqual,
        _ => Operator::Order,
    }
}

/// Why a value can't be compared with a column at any source, where that is so.
fn unfit(column: &ColumnDef, value: &ScalarValue) -> Option<String> {
    if value.is_null() {
        return Some("a comparison with NULL is never true".to_owned());
    }
    if value.data_type() != column.data_type {
        return Some(format!("\"{}\" is {}, the value {}", column.name, column.data_type, value.data_type()));
    }
    if let Err(reason) = value_fits(value) {
        return Some(reason.to_owned());
    }
    match value {
        ScalarValue::Utf8(Some(text)) if column.class == ValueClass::Uuid && !canonical_uuid(text) => {
            Some("the value is not a UUID in lower case with dashes".to_owned())
        }
        _ => None,
    }
}

/// Whether every source can take the value, or why not.
pub(crate) fn value_fits(value: &ScalarValue) -> Result<(), &'static str> {
    match value {
        ScalarValue::Float32(Some(number)) if !number.is_finite() => Err("the value is not finite"),
        ScalarValue::Float64(Some(number)) if !number.is_finite() => Err("the value is not finite"),
        ScalarValue::Utf8(Some(text)) if text.contains('\0') => Err("the value holds NUL"),
        _ => Ok(()),
    }
}

/// Whether the text is the one form in which UUIDs are read: lower case, dashes after 8, 12, 16 and 20 digits.
fn canonical_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

fn trailing_escape(pattern: &str) -> bool {
    pattern.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Order => "<",
            Self::IsNull => "IS NULL",
            Self::Like => "LIKE",
            Self::NotLike => "NOT LIKE",
            Self::Sort => "ORDER BY",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[Rule] = &[
        (Operator::Equal, ValueClass::Integer, Support::Exact),
        (Operator::Order, ValueClass::Integer, Support::Exact),
        (Operator::Equal, ValueClass::TextFolded, Support::Superset),
        (Operator::Order, ValueClass::Float, Support::Superset),
        (Operator::Equal, ValueClass::Uuid, Support::Exact),
    ];

    fn table() -> TableDef {
        TableDef::new(
            ["t"],
            vec![
                ColumnDef::new("id", DataType::Int64, "bigint", ValueClass::Integer),
                ColumnDef::new("name", DataType::Utf8, "varchar", ValueClass::TextFolded),
                ColumnDef::new("x", DataType::Float64, "double", ValueClass::Float),
                ColumnDef::new("note", DataType::Utf8, "json", ValueClass::Opaque),
                ColumnDef::new("u", DataType::Utf8, "uuid", ValueClass::Uuid),
            ],
        )
    }

    fn offer(filter: &Expr) -> Offer {
        Capabilities::new("example", RULES).offer(filter, &table())
    }

    fn equal(column: usize, value: ScalarValue) -> Expr {
        Expr::compare(CompareOp::Equal, Expr::Column(column), Expr::Literal(value))
    }

    fn id() -> Expr {
        equal(0, ScalarValue::from(7_i64))
    }

    #[test]
    fn conjunction_drops_what_the_source_cannot_do_and_becomes_a_superset() {
        let both = Expr::And(vec![id(), equal(3, ScalarValue::from("x"))]);
        let offer = offer(&both);
        assert_eq!((offer.filter, offer.support), (Some(id()), Support::Superset));
        assert!(offer.reason.contains("\"note\""), "{}", offer.reason);
    }

    #[test]
    fn disjunction_is_pushed_whole_or_not_at_all() {
        assert_eq!(offer(&Expr::Or(vec![id(), equal(3, ScalarValue::from("x"))])).support, Support::No);
        assert_eq!(offer(&Expr::Or(vec![id(), equal(1, ScalarValue::from("x"))])).support, Support::Superset);
    }

    #[test]
    fn negation_takes_only_exact_filters() {
        assert_eq!(offer(&Expr::Not(Box::new(id()))).support, Support::Exact);
        assert_eq!(offer(&Expr::Not(Box::new(equal(1, ScalarValue::from("x"))))).support, Support::No);
    }

    #[test]
    fn superset_of_an_order_comparison_includes_equality() {
        let less = Expr::compare(CompareOp::Less, Expr::Column(2), Expr::Literal(ScalarValue::from(0.0)));
        let offered = offer(&less);
        assert!(
            matches!(&offered.filter, Some(Expr::Compare { op: CompareOp::LessOrEqual, .. })),
            "a source may hold values for equal that the engine orders: {offered:?}"
        );
        let nan = Expr::compare(CompareOp::Less, Expr::Column(2), Expr::Literal(ScalarValue::from(f64::NAN)));
        assert_eq!(offer(&nan).support, Support::No);
    }

    #[test]
    fn literal_on_the_left_turns_the_operator_round() {
        let filter = Expr::compare(CompareOp::Less, Expr::Literal(ScalarValue::from(7_i64)), Expr::Column(0));
        let turned = Expr::compare(CompareOp::Greater, Expr::Column(0), Expr::Literal(ScalarValue::from(7_i64)));
        assert_eq!(offer(&filter).filter, Some(turned));
    }

    #[test]
    fn value_of_another_type_or_form_stays_local() {
        assert_eq!(offer(&equal(0, ScalarValue::from(7_i32))).support, Support::No);
        assert_eq!(offer(&equal(4, ScalarValue::from("ABC"))).support, Support::No);
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(offer(&equal(4, ScalarValue::from(uuid))).support, Support::Exact);
    }
}

//! What is asked of a world: one query of three engines, or one question put in two ways.

use super::expr::Expr;
use super::kind::Kind;
use super::query::{Body, Group, Origin, Quantifier, Query, Relation, Select};

/// A question that has one right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// A query, whose answer with pushdown, without, and over a local copy is the same.
    One(Query),
    /// A query that is asked again, and one that differs in constants alone: what was planned for the one may serve the other.
    Again { query: Query, other: Query, way: Way },
    /// A query and a materialized view that may answer it. The answer from the view, from the stores and over a local copy is the same.
    Views { view: Query, query: Query },
    /// Rows and a condition. Asked whole and in parts the answer is the same.
    Parts { form: Parts, select: Select, condition: Expr },
}

/// How a query is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As a text, its constants in it.
    Text,
    /// As a statement that was prepared once, with constants for its parameters.
    Prepared,
}

/// How rows are parted. The first three are ternary logic partitioning (Rigger and Su 2020): each row satisfies a condition,
/// or its negation, or neither. The last is their NoREC (2020): what an optimizer may use is counted against what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    Rows,
    Distinct,
    Aggregates,
    Count,
}

impl Question {
    /// As SQL: once for one query, with its view before it where it has one; the whole and its parts for the others.
    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::One(query) => vec![query.sql()],
            Self::Again { query, other, .. } => vec![query.sql(), other.sql()],
            Self::Views { view, query } => vec![view.sql(), query.sql()],
            Self::Parts { form, select, condition } => {
                let (whole, parts) = form.queries(select, condition);
                vec![whole.sql(), parts.sql()]
            }
        }
    }

    /// Simpler questions, one step each.
    pub(super) fn simpler(&self) -> Vec<Question> {
        match self {
            Self::One(query) => query.simpler().into_iter().map(Self::One).collect(),
            Self::Again { query, other, way } => {
                let pairs = query.simpler().into_iter().zip(other.simpler());
                pairs.map(|(query, other)| Self::Again { query, other, way: *way }).collect()
            }
            Self::Views { view, query } => {
                let views = |view: Query, query: Query| Self::Views { view, query };
                // Both lose a part together, or else the view would no longer answer.
                let both = view.simpler().into_iter().zip(query.simpler()).map(|(view, query)| views(view, query));
                let queries = query.simpler().into_iter().map(|query| views(view.clone(), query));
                both.chain(queries).chain(view.simpler().into_iter().map(|view| views(view, query.clone()))).collect()
            }
            Self::Parts { form, select, condition } => {
                let parts = |select: Select, condition: Expr| Self::Parts { form: *form, select, condition };
                let conditions = condition.simpler().into_iter().map(|condition| parts(select.clone(), condition));
                conditions.chain(select.simpler().into_iter().map(|select| parts(select, condition.clone()))).collect()
            }
        }
    }
}

impl Parts {
    pub(super) const ALL: [Self; 4] = [Self::Rows, Self::Distinct, Self::Aggregates, Self::Count];

    /// The whole and the parts.
    fn queries(self, select: &Select, condition: &Expr) -> (Query, Query) {
        match self {
            Self::Rows => (Query::select(select.clone()), parted(select, condition)),
            Self::Distinct => {
                let whole = Select { quantifier: Quantifier::Distinct, ..select.clone() };
                let parts = over(parted(select, condition), Quantifier::Distinct, columns(select));
                (Query::select(whole), parts)
            }
            Self::Aggregates => {
                let group = Some(Group { keys: Vec::new(), form: "{}", having: None });
                let whole = Select { items: aggregates(&select.items), group, ..select.clone() };
                let parts = over(parted(select, condition), Quantifier::All, aggregates(&columns(select)));
                (Query::select(whole), parts)
            }
            Self::Count => counts(select, condition),
        }
    }
}

fn parted(select: &Select, condition: &Expr) -> Query {
    let part = |form: &str| {
        let mut part = select.clone();
        part.filters.push(Expr::form(Kind::Bool, form, vec![condition.clone()]));
        Body::Select(Box::new(part))
    };
    let union = |left, right| Body::Set { op: "UNION ALL", left: Box::new(left), right: Box::new(right) };
    Query::of(union(union(part("{}"), part("NOT {}")), part("{} IS NULL")))
}

fn over(query: Query, quantifier: Quantifier, items: Vec<Expr>) -> Query {
    let rows = Origin::Derived(Box::new(query));
    let from = vec![Relation { join: "", on: Vec::new(), rows, alias: "parts".to_owned() }];
    Query::select(Select { quantifier, items, from, filters: Vec::new(), group: None, qualify: None })
}

fn columns(select: &Select) -> Vec<Expr> {
    let column = |(at, item): (usize, &Expr)| Expr::Literal { kind: item.kind(), sql: format!("parts.o{at}") };
    select.items.iter().enumerate().map(column).collect()
}

/// Aggregates that do not depend on the order of rows.
fn aggregates(items: &[Expr]) -> Vec<Expr> {
    let mut all = vec![Expr::form(Kind::Int, "count(*)", Vec::new())];
    for item in items {
        let mut add = |kind: Kind, form: &str| all.push(Expr::form(kind, form, vec![item.clone()]));
        add(Kind::Int, "count({})");
        match item.kind() {
            Kind::Int => add(Kind::Int, "sum({})"),
            kind => add(kind, "min({})"),
        }
        add(item.kind(), "max({})");
    }
    all
}

fn counts(select: &Select, condition: &Expr) -> (Query, Query) {
    let counted = |form: &str, filters: Vec<Expr>, args: Vec<Expr>| {
        let group = Some(Group { keys: Vec::new(), form: "{}", having: None });
        let items = vec![Expr::form(Kind::Int, form, args)];
        Query::select(Select { items, filters, group, ..select.clone() })
    };
    let mut filters = select.filters.clone();
    filters.push(condition.clone());
    let sum = "coalesce(sum(CASE WHEN {} THEN 1 ELSE 0 END), 0)";
    (counted("count(*)", filters, Vec::new()), counted(sum, select.filters.clone(), vec![condition.clone()]))
}

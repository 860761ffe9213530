//! Typed expressions, as trees that can be printed and taken apart.

use super::kind::Kind;
use super::query::Query;

/// An expression of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    /// A column, as SQL names it.
    Column { kind: Kind, sql: String, range: Range },
    /// A constant.
    Literal { kind: Kind, sql: String },
    /// A form of SQL with its arguments in the places of `{}`.
    Form { kind: Kind, form: String, args: Vec<Expr> },
    /// A form with a query in the place of `{q}`, and arguments in the places of `{}`.
    Subquery { kind: Kind, form: &'static str, args: Vec<Expr>, query: Box<Query> },
}

/// What is known of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// Small numbers that add up to the same in any order, times that fit into nanoseconds.
    Tame,
    Any,
}

impl Expr {
    pub(super) fn literal(kind: Kind, text: &str) -> Self {
        Self::Literal { kind, sql: kind.literal(text) }
    }

    pub(super) fn form(kind: Kind, form: impl Into<String>, args: Vec<Expr>) -> Self {
        Self::Form { kind, form: form.into(), args }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Column { kind, .. }
            | Self::Literal { kind, .. }
            | Self::Form { kind, .. }
            | Self::Subquery { kind, .. } => *kind,
        }
    }

    /// Whether any column is in it: a constant in GROUP BY would be a position.
    pub(super) fn has_column(&self) -> bool {
        match self {
            Self::Column { .. } => true,
            Self::Literal { .. } => false,
            Self::Form { args, .. } | Self::Subquery { args, .. } => args.iter().any(Self::has_column),
        }
    }

    /// Puts other constants in the place of those that columns are equal to.
    pub(super) fn replace_constants(&mut self, other: &mut dyn FnMut(Kind, &str) -> String) {
        match self {
            Self::Column { .. } | Self::Literal { .. } => {}
            Self::Form { form, args, .. } => {
                if let ("({} = {})", [Self::Column { .. }, Self::Literal { kind, sql }]) =
                    (form.as_str(), &mut args[..])
                {
                    *sql = other(*kind, sql);
                }
                args.iter_mut().for_each(|arg| arg.replace_constants(other));
            }
            Self::Subquery { args, query, .. } => {
                args.iter_mut().for_each(|arg| arg.replace_constants(other));
                query.replace_constants(other);
            }
        }
    }

    /// As SQL.
    pub(super) fn sql(&self) -> String {
        match self {
            Self::Column { sql, .. } | Self::Literal { sql, .. } => sql.clone(),
            Self::Form { form, args, .. } => fill(form, args),
            Self::Subquery { form, args, query, .. } => {
                let (before, after) = form.split_once("{q}").expect("a form of a subquery has a place for it");
                let (first, rest) = args.split_at(before.matches("{}").count());
                format!("{}{}{}", fill(before, first), query.unnamed_sql(), fill(after, rest))
            }
        }
    }

    /// Simpler expressions of the same kind, the simplest first; one step each.
    pub(super) fn simpler(&self) -> Vec<Expr> {
        let kind = self.kind();
        let mut found = Vec::new();
        let simplest = Self::Literal { kind, sql: kind.simplest() };
        if *self != simplest && !matches!(self, Self::Column { .. }) {
            found.push(simplest);
        }
        let (Self::Form { args, .. } | Self::Subquery { args, .. }) = self else { return found };
        found.extend(args.iter().filter(|arg| arg.kind() == kind).cloned());
        for (index, arg) in args.iter().enumerate() {
            found.extend(arg.simpler().into_iter().map(|arg| self.with_arg(index, arg)));
        }
        if let Self::Subquery { kind, form, args, query } = self {
            found.extend(query.simpler().into_iter().map(|query| Self::Subquery {
                kind: *kind,
                form,
                args: args.clone(),
                query: Box::new(query),
            }));
        }
        found
    }

    fn with_arg(&self, index: usize, arg: Expr) -> Self {
        let mut changed = self.clone();
        if let Self::Form { args, .. } | Self::Subquery { args, .. } = &mut changed {
            args[index] = arg;
        }
        changed
    }
}

fn fill(form: &str, args: &[Expr]) -> String {
    let mut pieces = form.split("{}");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for (piece, arg) in pieces.zip(args) {
        text += &arg.sql();
        text += piece;
    }
    text
}

//! Which columns a FROM clause has, as far as it can be told without the tables: those that USING makes one of two.

use sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};

use super::{each_in, normal, refused};
use crate::{Error, Result};

/// What a FROM clause, or a join in it, shows.
#[derive(Default)]
pub(super) struct Scope {
    /// What `*` shows, in this order.
    shown: Vec<Shown>,
    merged: Vec<(String, Merged)>,
    /// A column of USING of which it is not known which relation has it.
    unsure: Option<Ident>,
}

enum Shown {
    Merged(Ident, Box<Expr>),
    /// The columns of a relation without these.
    Relation {
        name: Option<Vec<Ident>>,
        without: Vec<Ident>,
    },
}

/// What a column of USING is where it is named alone.
#[derive(Clone)]
pub(super) enum Merged {
    Known(Box<Expr>),
    /// The planner finds it, since it is the left side's.
    Planned,
    /// It stands for several columns.
    Several,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Inner,
    Left,
    Right,
    Full,
    /// A join that shows the left side alone.
    Semi,
}

/// The kind of a join and its condition; none of those that the standard does not have.
pub(super) fn kind(join: &JoinOperator) -> Option<(Kind, &JoinConstraint)> {
    Some(match join {
        JoinOperator::Join(by) | JoinOperator::Inner(by) | JoinOperator::CrossJoin(by) => (Kind::Inner, by),
        JoinOperator::Left(by) | JoinOperator::LeftOuter(by) => (Kind::Left, by),
        JoinOperator::Right(by) | JoinOperator::RightOuter(by) => (Kind::Right, by),
        JoinOperator::FullOuter(by) => (Kind::Full, by),
        JoinOperator::LeftSemi(by) | JoinOperator::LeftAnti(by) => (Kind::Semi, by),
        _ => return None,
    })
}

fn kind_mut(join: &mut JoinOperator) -> Option<(Kind, &mut JoinConstraint)> {
    Some(match join {
        JoinOperator::Join(by) | JoinOperator::Inner(by) | JoinOperator::CrossJoin(by) => (Kind::Inner, by),
        JoinOperator::Left(by) | JoinOperator::LeftOuter(by) => (Kind::Left, by),
        JoinOperator::Right(by) | JoinOperator::RightOuter(by) => (Kind::Right, by),
        JoinOperator::FullOuter(by) => (Kind::Full, by),
        JoinOperator::LeftSemi(by) | JoinOperator::LeftAnti(by) => (Kind::Semi, by),
        _ => return None,
    })
}

impl Scope {
    /// Makes conditions of the USINGs of a FROM clause, and tells what it shows.
    pub(super) fn of(from: &mut [TableWithJoins]) -> Result<Self> {
        from.iter_mut().try_fold(Self::default(), |scope, tables| Ok(scope.beside(Self::of_joins(tables)?)))
    }

    fn of_joins(tables: &mut TableWithJoins) -> Result<Self> {
        let mut scope = Self::of_relation(&mut tables.relation)?;
        for join in &mut tables.joins {
            let right = Self::of_relation(&mut join.relation)?;
            let text = join.to_string().trim().to_owned();
            let Some((kind, constraint)) = kind_mut(&mut join.join_operator) else {
                return Err(unknown(&text, "this kind of join does not stand beside outer joins with USING"));
            };
            scope = match constraint {
                JoinConstraint::Using(names) if kind != Kind::Semi => {
                    let names = names.iter().map(column_name).collect::<Result<Vec<_>>>()?;
                    let (scope, condition) = scope.joined(right, kind, &names)?;
                    if let Some(condition) = condition {
                        *constraint = JoinConstraint::On(condition);
                    }
                    scope
                }
                JoinConstraint::Using(_) | JoinConstraint::Natural => {
                    return Err(unknown(&text, "its columns are not known beside outer joins with USING"));
                }
                JoinConstraint::On(condition) => {
                    let left = (kind == Kind::Semi).then(|| scope.merged.clone());
                    let shown = scope.shown.len();
                    let mut both = scope.beside(right);
                    both.resolve(condition)?;
                    if let Some(merged) = left {
                        both.shown.truncate(shown);
                        both.merged = merged;
                    }
                    both
                }
                JoinConstraint::None => scope.beside(right),
            };
        }
        Ok(scope)
    }

    fn of_relation(relation: &mut TableFactor) -> Result<Self> {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = relation {
            return Self::of_joins(table_with_joins);
        }
        if let TableFactor::NestedJoin { table_with_joins, alias: Some(alias) } = relation
            && super::using::Survey::of(std::slice::from_ref(table_with_joins.as_ref()))?.has_outer
        {
            let reason = "write ON, or a subquery, in place of the join in parentheses that has this name";
            return Err(refused(format!("an outer join with USING as {}", alias.name), reason));
        }
        let name = match (alias(relation), &*relation) {
            (Some(alias), _) => Some(vec![alias.name.clone()]),
            (None, TableFactor::Table { name, args: None, .. }) => {
                name.0.iter().map(|part| part.as_ident().cloned()).collect()
            }
            _ => None,
        };
        Ok(Self { shown: vec![Shown::Relation { name, without: vec![] }], ..Self::default() })
    }

    /// Both, joined by no column.
    fn beside(mut self, other: Self) -> Self {
        self.shown.extend(other.shown);
        for (name, merged) in other.merged {
            match self.merged.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = Merged::Several,
                None => self.merged.push((name, merged)),
            }
        }
        self.unsure = self.unsure.or(other.unsure);
        self
    }

    /// Both, joined by columns of these names, and the condition in the place of USING; none where the planner must find the columns.
    fn joined(mut self, mut other: Self, kind: Kind, names: &[Ident]) -> Result<(Self, Option<Expr>)> {
        let mut columns = vec![];
        for name in names {
            columns.push((self.column(name)?, other.column(name)?));
        }
        let is_known = |column: &(Option<Expr>, Option<Expr>)| column.0.is_some() && column.1.is_some();
        let all_known = columns.iter().all(is_known);
        let mut merged = vec![];
        let mut shown = vec![];
        let mut condition: Option<Expr> = None;
        let mut unsure = None;
        for (name, (left, right)) in names.iter().zip(columns) {
            let was_merged = self.get(name).is_some() || other.get(name).is_some();
            let now = match (kind, left.clone(), right.clone()) {
                // The planner's own USING does not know what an earlier one made of the column.
                _ if !all_known && was_merged => return Err(unsure_of(name)),
                (Kind::Inner | Kind::Left | Kind::Semi, Some(left), _) => Merged::Known(Box::new(left)),
                (Kind::Inner | Kind::Left | Kind::Semi, None, _) => Merged::Planned,
                (Kind::Right, _, Some(right)) => Merged::Known(Box::new(right)),
                (Kind::Full, Some(left), Some(right)) => Merged::Known(Box::new(coalesce(left, right))),
                (Kind::Right | Kind::Full, ..) => return Err(unsure_of(name)),
            };
            match (&now, left, right) {
                (Merged::Known(expr), Some(left), Some(right)) => {
                    shown.push(Shown::Merged(name.clone(), expr.clone()));
                    let equal = binary(left, BinaryOperator::Eq, right);
                    condition = Some(match condition {
                        Some(before) => binary(before, BinaryOperator::And, equal),
                        None => equal,
                    });
                }
                _ => unsure = unsure.or(Some(name.clone())),
            }
            merged.push((normal(name), now));
        }
        let is_named = |known: &str| names.iter().any(|name| normal(name) == known);
        self.merged.retain(|(known, _)| !is_named(known));
        other.merged.retain(|(known, _)| !is_named(known));
        let mut both = self.beside(other);
        both.shown.retain(|part| !matches!(part, Shown::Merged(name, _) if is_named(&normal(name))));
        shown.append(&mut both.shown);
        both.shown = shown;
        both.merged.extend(merged);
        both.unsure = both.unsure.or(unsure);
        Ok((both, condition.filter(|_| all_known)))
    }

    /// The columns of USING that `*` shows.
    pub(super) fn names(&self) -> impl Iterator<Item = &Ident> {
        self.shown.iter().filter_map(|part| match part {
            Shown::Merged(name, _) => Some(name),
            Shown::Relation { .. } => None,
        })
    }

    pub(super) fn get(&self, name: &Ident) -> Option<&Merged> {
        let name = normal(name);
        self.merged.iter().find(|(known, _)| *known == name).map(|(_, merged)| merged)
    }

    /// The column of this name, which USING then shows in the place of this one; none where several relations may have it.
    fn column(&mut self, name: &Ident) -> Result<Option<Expr>> {
        match self.get(name) {
            Some(Merged::Known(expr)) => return Ok(Some(expr.as_ref().clone())),
            Some(Merged::Planned | Merged::Several) => return Err(unsure_of(name)),
            None => {}
        }
        let mut relations = self.shown.iter_mut().filter_map(|part| match part {
            Shown::Relation { name, without } => Some((name, without)),
            Shown::Merged(..) => None,
        });
        let (Some((Some(relation), without)), None) = (relations.next(), relations.next()) else { return Ok(None) };
        without.push(Ident { value: normal(name), ..name.clone() });
        let mut path = relation.clone();
        path.push(name.clone());
        Ok(Some(Expr::CompoundIdentifier(path)))
    }

    /// Puts the columns themselves in the place of their names in an expression.
    pub(super) fn resolve(&self, expr: &mut Expr) -> Result<()> {
        each_in(expr, &mut |expr| self.resolve_one(expr))
    }

    pub(super) fn resolve_one(&self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Identifier(name) => match self.get(name) {
                Some(Merged::Known(known)) => *expr = known.as_ref().clone(),
                Some(Merged::Several) => {
                    let reason = "USING makes it of several joins; write the relation in front of it, and ON for USING";
                    return Err(refused(format!("the ambiguous column {name}"), reason));
                }
                Some(Merged::Planned) | None => {}
            },
            Expr::Lambda(lambda) if lambda.params.iter().any(|param| self.get(&param.name).is_some()) => {
                let reason = "a parameter has the name of a column of USING; give it another";
                return Err(refused(format!("the function {lambda}"), reason));
            }
            _ => {}
        }
        Ok(())
    }

    /// What `*` stands for.
    pub(super) fn wildcard(&self) -> Result<Vec<SelectItem>> {
        if let Some(name) = &self.unsure {
            return Err(unsure_of(name));
        }
        let item = |part: &Shown| match part {
            Shown::Merged(name, expr) => {
                Ok(SelectItem::ExprWithAlias { expr: expr.as_ref().clone(), alias: name.clone() })
            }
            Shown::Relation { name: Some(name), without } => {
                let names =
                    |names: &[Ident]| ObjectName(names.iter().cloned().map(ObjectNamePart::Identifier).collect());
                let opt_exclude = (!without.is_empty()).then(|| {
                    ExcludeSelectItem::Multiple(without.iter().map(|name| names(std::slice::from_ref(name))).collect())
                });
                Ok(SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(names(name)),
                    WildcardAdditionalOptions { opt_exclude, ..WildcardAdditionalOptions::default() },
                ))
            }
            Shown::Relation { name: None, .. } => {
                let reason = "a relation has no name; give each an alias, or write the columns";
                Err(refused("* over an outer join with USING", reason))
            }
        };
        self.shown.iter().map(item).collect()
    }
}

pub(super) fn alias(relation: &TableFactor) -> Option<&TableAlias> {
    match relation {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

fn column_name(name: &ObjectName) -> Result<Ident> {
    match &name.0[..] {
        [ObjectNamePart::Identifier(name)] => Ok(name.clone()),
        _ => Err(refused(format!("USING ({name})"), "USING takes names of columns")),
    }
}

fn unknown(join: &str, reason: &str) -> Error {
    refused(join, format!("{reason}; write ON"))
}

/// That it is not known without the tables' columns which column this is.
fn unsure_of(name: &Ident) -> Error {
    let reason = format!(
        "which of the joined relations has {name} is not known; give each an alias, and write ON with the relation in front of it"
    );
    refused(format!("the outer join with USING ({name})"), reason)
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// `coalesce(left, right)`, as one where the left is one already.
fn coalesce(left: Expr, right: Expr) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    if let Expr::Function(mut function) = left {
        if let FunctionArguments::List(list) = &mut function.args {
            list.args.push(argument(right));
        }
        return Expr::Function(function);
    }
    let args = vec![argument(left), argument(right)];
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new("coalesce"))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

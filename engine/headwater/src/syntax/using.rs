//! Outer joins with USING.
//!
//! Of a column that USING makes one of two the planner shows one side's, by the alphabet or by its place, and not the one that has a value. Here each is named by its
//! relation: the left side's of an inner and a left join, the right side's of a right join, `coalesce` of both of a full join. What the planner reads right is left as it is: inner joins, and left joins whose
//! columns are named in one USING each, without `*`. So are those left joins whose columns can't be told apart from the text, where `*` shows the left side's by the alphabet.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, Ident, JoinConstraint, OrderBy, OrderByKind, Select, SelectItem, TableFactor, TableWithJoins,
    Visit, Visitor, WildcardAdditionalOptions,
};

use super::scope::{Kind, Merged, Scope, alias, kind};
use super::{each_in, each_own, normal, refused};
use crate::Result;

/// Mends the outer joins of a SELECT.
pub(super) fn mend(select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<()> {
    let survey = Survey::of(&select.from)?;
    let has_wildcard = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
    if !survey.has_outer || !(has_wildcard || survey.is_misread()) {
        return Ok(());
    }
    let is_read_right = !survey.is_misread() && select.from.iter().all(shows_left_sides);
    let (mut mended, mut ordered) = (select.clone(), order_by.as_deref().cloned());
    match rewrite(&mut mended, ordered.as_mut()) {
        Ok(()) => {
            *select = mended;
            if let (Some(order_by), Some(ordered)) = (order_by, ordered) {
                *order_by = ordered;
            }
            Ok(())
        }
        Err(_) if is_read_right => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether `*` shows the left side's column of each USING: the planner takes the first by the relations' names.
fn shows_left_sides(tables: &TableWithJoins) -> bool {
    let Some(mut left) = place(&tables.relation).map(|place| vec![place]) else { return false };
    tables.joins.iter().all(|join| {
        let Some(right) = place(&join.relation) else { return false };
        let shows = match kind(&join.join_operator) {
            Some((Kind::Left, JoinConstraint::Using(_))) => left.iter().all(|left| *left < right),
            Some((Kind::Inner | Kind::Left, JoinConstraint::On(_) | JoinConstraint::None)) => true,
            Some((Kind::Inner, JoinConstraint::Using(_))) => true,
            _ => false,
        };
        left.push(right);
        shows
    })
}

/// Where a relation stands among others by its name: one without a name first, then those of fewer parts.
fn place(relation: &TableFactor) -> Option<(usize, Vec<String>)> {
    let parts = match (alias(relation), relation) {
        (_, TableFactor::NestedJoin { .. }) => return None,
        (Some(alias), _) => vec![normal(&alias.name)],
        (None, TableFactor::Table { name, args: None, .. }) => {
            name.0.iter().map(|part| part.as_ident().map(normal)).collect::<Option<Vec<String>>>()?
        }
        (None, TableFactor::Derived { .. }) => vec![],
        _ => return None,
    };
    Some((parts.len(), parts))
}

fn rewrite(select: &mut Select, mut order_by: Option<&mut OrderBy>) -> Result<()> {
    let scope = Scope::of(&mut select.from)?;
    let named = Named::of(select, &scope);
    let mut projection = vec![];
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) if is_plain(&options) => projection.extend(scope.wildcard()?),
            SelectItem::Wildcard(options) => {
                let reason = "write the columns, or ON for USING";
                return Err(refused(format!("*{options} over an outer join with USING"), reason));
            }
            SelectItem::UnnamedExpr(expr) => projection.push(match bare(&expr).cloned() {
                Some(alias) if scope.get(&alias).is_some_and(|merged| matches!(merged, Merged::Known(_))) => {
                    SelectItem::ExprWithAlias { expr, alias }
                }
                _ => SelectItem::UnnamedExpr(expr),
            }),
            other => projection.push(other),
        }
    }
    select.projection = projection;
    each_own(select, None, &mut |expr| scope.resolve_one(expr))?;
    if let Some(OrderByKind::Expressions(orders)) = order_by.as_mut().map(|order_by| &mut order_by.kind) {
        for order in orders {
            if !bare(&order.expr).is_some_and(|name| named.has(name)) {
                each_in(&mut order.expr, &mut |expr| scope.resolve_one(expr))?;
            }
        }
    }
    Ok(())
}

/// The names in a select list by which ORDER BY means the answer's column.
struct Named(Vec<String>);

impl Named {
    fn of(select: &Select, scope: &Scope) -> Self {
        let chosen = matches!(select.distinct, Some(Distinct::On(_)));
        // A column is the same by its own name; a computed one is sorted by in the answer, unless DISTINCT ON compares it.
        let stays = |name: &Ident| match scope.get(name) {
            Some(Merged::Known(known)) if matches!(**known, Expr::CompoundIdentifier(_)) => false,
            Some(_) => !chosen,
            None => true,
        };
        let mut names = vec![];
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { expr, alias } => match bare(expr) {
                    Some(name) if normal(name) == normal(alias) && !stays(name) => {}
                    _ => names.push(normal(alias)),
                },
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => names.extend(path.last().map(normal)),
                SelectItem::UnnamedExpr(expr) => names.extend(bare(expr).filter(|name| stays(name)).map(normal)),
                SelectItem::Wildcard(_) => names.extend(scope.names().filter(|name| stays(name)).map(normal)),
                _ => {}
            }
        }
        Self(names)
    }

    fn has(&self, name: &Ident) -> bool {
        self.0.contains(&normal(name))
    }
}

/// The name that an expression is, in parentheses or not.
fn bare(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::Nested(expr) => bare(expr),
        _ => None,
    }
}

fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none()
}

/// What joins a FROM clause has.
#[derive(Default)]
pub(super) struct Survey<'a> {
    /// Whether an outer join with USING is among them.
    pub(super) has_outer: bool,
    /// Whether one of those is a right or a full join.
    has_right: bool,
    names: Vec<String>,
    conditions: Vec<&'a Expr>,
}

impl<'a> Survey<'a> {
    pub(super) fn of(from: &'a [TableWithJoins]) -> Result<Self> {
        let mut survey = Self::default();
        from.iter().try_for_each(|tables| survey.add(tables))?;
        Ok(survey)
    }

    fn add(&mut self, tables: &'a TableWithJoins) -> Result<()> {
        self.add_relation(&tables.relation)?;
        for join in &tables.joins {
            self.add_relation(&join.relation)?;
            match kind(&join.join_operator) {
                Some((Kind::Left | Kind::Right | Kind::Full, JoinConstraint::Natural)) => {
                    let what = join.to_string().trim().to_owned();
                    let reason = "which columns both sides have is not known; write USING with the columns, or ON";
                    return Err(refused(what, reason));
                }
                Some((kind, JoinConstraint::Using(columns))) => {
                    self.has_outer |= matches!(kind, Kind::Left | Kind::Right | Kind::Full);
                    self.has_right |= matches!(kind, Kind::Right | Kind::Full);
                    let last = |part: &sqlparser::ast::ObjectNamePart| part.as_ident().map(normal);
                    self.names.extend(columns.iter().filter_map(|column| column.0.last().and_then(last)));
                }
                Some((_, JoinConstraint::On(condition))) => self.conditions.push(condition),
                _ => {}
            }
        }
        Ok(())
    }

    fn add_relation(&mut self, relation: &'a TableFactor) -> Result<()> {
        match relation {
            TableFactor::NestedJoin { table_with_joins, .. } => self.add(table_with_joins),
            _ => Ok(()),
        }
    }

    /// Whether the planner reads a name of USING wrong, or not at all, where it stands alone.
    fn is_misread(&self) -> bool {
        let is_twice = |(place, name)| self.names.iter().skip(place + 1).any(|other| other == name);
        self.has_right
            || self.names.iter().enumerate().any(is_twice)
            || self.conditions.iter().any(|condition| condition.visit(&mut Mentions(&self.names)).is_break())
    }
}

/// Stops at the first column that is named alone, of these.
struct Mentions<'a>(&'a [String]);

impl Visitor for Mentions<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) if self.0.contains(&normal(name)) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

//! Compiles a SELECT.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct as AstDistinct, Expr as Ast, GroupByExpr, Ident, OrderByExpr, Select as AstSelect,
    SelectItem, SelectItemQualifiedWildcardKind, Value as Literal,
};

use super::compile::{Beside, Compiler, Typed, keyed};
use super::names::{Scope, folded, name_of, parts, unknown_table};
use super::plan::{Asks, By, Column, Compare, Distinct, Expr, Join, Key, Select, Source, Step};
use super::value::Kind;
use crate::pg::error::{PgError, UNSUPPORTED};

impl Compiler<'_> {
    pub(super) fn select(
        &mut self,
        select: &AstSelect,
        order: &[&OrderByExpr],
    ) -> Result<(Select, Vec<Column>, Vec<Key>), PgError> {
        if select.into.is_some() || select.qualify.is_some() {
            return Err(PgError::new(UNSUPPORTED, "SELECT INTO and QUALIFY are not supported"));
        }
        let mut scope = Scope::default();
        let mut steps = Vec::new();
        for from in &select.from {
            self.from(from, &mut scope, &mut steps)?;
        }
        self.scopes.push(scope);
        self.beside.push(Beside::default());
        let compiled = self.inside(select, order, steps);
        let (scope, beside) = (self.scopes.pop().unwrap_or_default(), self.beside.pop().unwrap_or_default());
        let (mut select, columns, keys) = compiled?;
        select.is_grouped |= !beside.aggregates.is_empty();
        (select.width, select.aggregates, select.windows, select.sets) =
            (scope.width, beside.aggregates, beside.windows, beside.sets);
        Ok((select, columns, keys))
    }

    fn inside(
        &mut self,
        select: &AstSelect,
        order: &[&OrderByExpr],
        steps: Vec<Step>,
    ) -> Result<(Select, Vec<Column>, Vec<Key>), PgError> {
        let mut conditions = Vec::new();
        for part in select.selection.iter().flat_map(conjuncts) {
            conditions.push(self.condition(part)?);
        }
        let (steps, conditions) = self.ordered(steps, conditions);
        let (exprs, columns) = self.projection(&select.projection)?;
        let groups = self.groups(&select.group_by, &select.projection)?;
        let mut having = Vec::new();
        for part in select.having.iter().flat_map(conjuncts) {
            having.push(self.flag(part)?);
        }
        let mut keys = Vec::new();
        for key in order {
            let by = self.key(&key.expr, &columns)?;
            keys.push(keyed(key, by));
        }
        let distinct = match &select.distinct {
            None | Some(AstDistinct::All) => Distinct::No,
            Some(AstDistinct::Distinct) => Distinct::Rows,
            Some(AstDistinct::On(by)) => {
                Distinct::On(by.iter().map(|expr| Ok(self.term(expr)?.expr)).collect::<Result<_, PgError>>()?)
            }
        };
        let is_grouped = !groups.is_empty() || !having.is_empty();
        let select =
            Select { steps, conditions, is_grouped, groups, having, columns: exprs, distinct, ..Select::default() };
        Ok((select, columns, keys))
    }

    /// A condition, and the values of this SELECT's rows that it asks.
    pub(super) fn condition(&mut self, part: &Ast) -> Result<(Expr, Asks), PgError> {
        let depth = self.scopes.len().saturating_sub(1);
        self.marks.push((depth, Asks::new()));
        let condition = self.flag(part);
        let asks = self.marks.pop().map(|(_, asks)| asks).unwrap_or_default();
        Ok((condition?, asks))
    }

    /// The order in which relations are joined, each with the conditions that can be looked at once it is, and the conditions that ask nothing of them.
    ///
    /// Relations of inner joins that stand first may change places: the next is one that can be looked up by what is joined already, or else a small one.
    pub(super) fn ordered(&self, steps: Vec<Step>, conditions: Vec<(Expr, Asks)>) -> (Vec<Step>, Vec<Expr>) {
        let adds_nulls_before = steps.iter().any(|step| matches!(step.join, Join::Right | Join::Full));
        let (of_rows, free): (Vec<_>, Vec<_>) =
            conditions.into_iter().partition(|(_, asks)| adds_nulls_before && !steps.is_empty() || !asks.is_empty());
        let free = free.into_iter().map(|(condition, _)| condition).collect();
        let movable = match adds_nulls_before {
            true => 0,
            false => steps.iter().take_while(|step| step.join == Join::Inner && is_fixed(&step.source)).count(),
        };
        let mut pending = of_rows;
        let mut rest: Vec<Step> = steps;
        let mut fixed = rest.split_off(movable);
        for step in &mut rest {
            // What an inner join demands may be looked at whenever it can be.
            pending.extend(std::mem::take(&mut step.on).into_iter().zip(std::mem::take(&mut step.on_asks)));
        }
        let (mut ordered, mut bound) = (Vec::new(), Asks::new());
        while !rest.is_empty() {
            let costs = rest.iter().map(|step| self.cost(step, &pending, &bound));
            let next = costs.enumerate().min_by_key(|(_, cost)| *cost).map_or(0, |(place, _)| place);
            let mut step = rest.remove(next);
            step.key = find_key(&step, pending.iter().map(|(condition, _)| condition), &bound);
            bound.extend(step.offset..step.offset + step.width);
            step.filters = taken(&mut pending, &bound);
            ordered.push(step);
        }
        let last = fixed.len().saturating_sub(1);
        for (place, step) in fixed.iter_mut().enumerate() {
            step.key = find_key(step, step.on.iter(), &bound);
            bound.extend(step.offset..step.offset + step.width);
            if !adds_nulls_before || place == last {
                step.filters = taken(&mut pending, &bound);
            }
        }
        ordered.extend(fixed);
        (ordered, free)
    }

    /// How dear it is to join a relation next: whether it has to be gone through, and its rows.
    fn cost(&self, step: &Step, conditions: &[(Expr, Asks)], bound: &Asks) -> (u8, usize) {
        let rows = match &step.source {
            Source::Table(place) => self.tables.at(*place).rows.len(),
            _ => 1_000,
        };
        let own = step.offset..step.offset + step.width;
        let narrows = |asks: &Asks| !asks.is_empty() && asks.iter().all(|index| own.contains(index));
        if find_key(step, conditions.iter().map(|(condition, _)| condition), bound).is_some() {
            (0, rows)
        } else if conditions.iter().any(|(_, asks)| narrows(asks)) {
            (1, rows)
        } else {
            (2, rows)
        }
    }

    fn projection(&mut self, items: &[SelectItem]) -> Result<(Vec<Expr>, Vec<Column>), PgError> {
        let (mut exprs, mut columns) = (Vec::new(), Vec::new());
        let mut add = |term: Typed, name: String| {
            // What stays open is text.
            let kind = if term.kind == Kind::Unknown { Kind::Text } else { term.kind };
            exprs.push(term.expr);
            columns.push(Column { name, kind });
        };
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let term = self.term(expr)?;
                    add(self.settled(term), name_of(expr));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let term = self.term(expr)?;
                    add(self.settled(term), folded(alias));
                }
                SelectItem::Wildcard(_) => {
                    for (index, column) in self.all_columns(None)? {
                        add(self.column(index, &column), column.name);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let name = parts(name).pop().unwrap_or_default();
                    for (index, column) in self.all_columns(Some(&name))? {
                        add(self.column(index, &column), column.name);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => {
                    let fields = match self.term(expr)?.kind {
                        Kind::Record(fields) => fields,
                        _ => return Err(PgError::new("42809", "only a record has fields")),
                    };
                    for (index, (name, kind)) in fields.iter().enumerate() {
                        let record = self.term(expr)?;
                        add(
                            Typed { expr: Expr::Field(Box::new(record.expr), index), kind: kind.clone() },
                            name.clone(),
                        );
                    }
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(PgError::new(UNSUPPORTED, "a column has one name"));
                }
            }
        }
        Ok((exprs, columns))
    }

    fn all_columns(&self, relation: Option<&str>) -> Result<Vec<(usize, Column)>, PgError> {
        let Some(scope) = self.scopes.last() else { return Ok(vec![]) };
        if let Some(name) = relation.filter(|name| scope.relation(name).is_none()) {
            return Err(unknown_table(name));
        }
        let wanted = scope.relations.iter().filter(|known| relation.is_none_or(|name| known.name == name));
        Ok(wanted
            .flat_map(|known| {
                let numbered = known.columns.iter().enumerate();
                numbered
                    .filter(|(index, _)| relation.is_some() || !known.hidden[*index])
                    .map(|(index, column)| (known.offset + index, column.clone()))
            })
            .collect())
    }

    fn column(&mut self, index: usize, column: &Column) -> Typed {
        self.asks(self.scopes.len());
        Typed { expr: Expr::Column { up: 0, index }, kind: column.kind.clone() }
    }

    fn groups(&mut self, group_by: &GroupByExpr, items: &[SelectItem]) -> Result<Vec<Expr>, PgError> {
        let GroupByExpr::Expressions(exprs, modifiers) = group_by else {
            return Err(PgError::new(UNSUPPORTED, "GROUP BY ALL is not supported"));
        };
        if !modifiers.is_empty() {
            return Err(PgError::new(UNSUPPORTED, "grouping sets are not supported"));
        }
        let mut groups = Vec::new();
        for expr in exprs {
            let named = match expr {
                Ast::Value(value) => match &value.value {
                    Literal::Number(number, _) => number
                        .parse::<usize>()
                        .ok()
                        .and_then(|number| items.get(number.checked_sub(1)?))
                        .and_then(expr_of),
                    _ => None,
                },
                Ast::Identifier(name) if !self.is_column(name)? => {
                    items.iter().find(|item| has_alias(item, name)).and_then(expr_of)
                }
                _ => None,
            };
            groups.push(self.term(named.unwrap_or(expr))?.expr);
        }
        Ok(groups)
    }

    fn is_column(&self, name: &Ident) -> Result<bool, PgError> {
        let found = self.scopes.last().map(|scope| scope.find(&[folded(name)])).transpose()?;
        Ok(matches!(found, Some(Some(super::names::Found::Column(..)))))
    }

    /// What ORDER BY means: a column of the result by its number or name, or else something of the row.
    fn key(&mut self, expr: &Ast, columns: &[Column]) -> Result<By, PgError> {
        let place = match expr {
            Ast::Value(value) => match &value.value {
                Literal::Number(number, _) => number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)),
                _ => None,
            },
            Ast::Identifier(name) => columns.iter().position(|column| column.name == folded(name)),
            _ => None,
        };
        match place.filter(|place| *place < columns.len()) {
            Some(place) => Ok(By::Output(place)),
            None => Ok(By::Input(self.term(expr)?.expr)),
        }
    }
}

fn expr_of(item: &SelectItem) -> Option<&Ast> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn has_alias(item: &SelectItem, name: &Ident) -> bool {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => folded(alias) == folded(name),
        SelectItem::UnnamedExpr(expr) => name_of(expr) == folded(name),
        _ => false,
    }
}

/// The parts of a condition that must all hold.
pub(super) fn conjuncts(expr: &Ast) -> Vec<&Ast> {
    match expr {
        Ast::BinaryOp { left, op: BinaryOperator::And, right } => {
            let mut all = conjuncts(left);
            all.extend(conjuncts(right));
            all
        }
        Ast::Nested(inner) => conjuncts(inner),
        other => vec![other],
    }
}

/// Whether a relation's rows are the same whatever stands before it.
fn is_fixed(source: &Source) -> bool {
    match source {
        Source::Table(_) | Source::Cte(_) | Source::Joined(_) => true,
        Source::Query { is_lateral, .. } => !is_lateral,
        Source::Function { .. } => false,
    }
}

/// Takes the conditions that can be looked at now.
fn taken(pending: &mut Vec<(Expr, Asks)>, bound: &Asks) -> Vec<Expr> {
    let (now, later) = std::mem::take(pending).into_iter().partition(|(_, asks)| asks.is_subset(bound));
    *pending = later;
    let now: Vec<(Expr, Asks)> = now;
    now.into_iter().map(|(condition, _)| condition).collect()
}

/// An equality by which a relation's rows are looked up: a column of it, and what is known.
fn find_key<'a>(step: &Step, mut conditions: impl Iterator<Item = &'a Expr>, bound: &Asks) -> Option<(usize, Expr)> {
    let range = step.offset..step.offset + step.width;
    conditions.find_map(|condition| {
        let Expr::Compare(Compare::Equal, one, other) = condition else { return None };
        let sides = [(one, other), (other, one)];
        sides.into_iter().find_map(|(own, other)| match **own {
            Expr::Column { up: 0, index } if range.contains(&index) => {
                Some((index - range.start, known(other, bound)?))
            }
            _ => None,
        })
    })
}

/// An expression again, where it asks only what is there already.
fn known(expr: &Expr, bound: &Asks) -> Option<Expr> {
    Some(match expr {
        Expr::Constant(value) => Expr::Constant(value.clone()),
        Expr::Parameter(index) => Expr::Parameter(*index),
        Expr::Column { up, index } if *up > 0 || bound.contains(index) => Expr::Column { up: *up, index: *index },
        Expr::Cast { value, from, to } => {
            Expr::Cast { value: Box::new(known(value, bound)?), from: from.clone(), to: to.clone() }
        }
        _ => return None,
    })
}

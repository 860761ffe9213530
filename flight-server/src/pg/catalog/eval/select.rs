//! Compiles a SELECT.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct as AstDistinct, Expr as Ast, GroupByExpr, Ident, OrderByExpr, Select as AstSelect,
    SelectItem, SelectItemQualifiedWildcardKind, Value as Literal,
};

use super::compile::{Beside, Compiler, Typed, keyed};
use super::names::{Scope, folded, name_of, parts, unknown_table};
use super::plan::{By, Column, Compare, Distinct, Expr, Join, Key, Select, Step};
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
        mut steps: Vec<Step>,
    ) -> Result<(Select, Vec<Column>, Vec<Key>), PgError> {
        let mut conditions = Vec::new();
        if let Some(selection) = &select.selection {
            for part in conjuncts(selection) {
                let (condition, asks) = self.condition(part)?;
                place(condition, asks, &mut steps, &mut conditions);
            }
        }
        steps.iter_mut().for_each(find_key);
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

    /// A condition, and the last value of this SELECT's rows that it asks.
    pub(super) fn condition(&mut self, part: &Ast) -> Result<(Expr, Option<usize>), PgError> {
        let depth = self.scopes.len() - 1;
        self.marks.push((depth, None));
        let condition = self.flag(part);
        let asks = self.marks.pop().and_then(|(_, asks)| asks);
        Ok((condition?, asks))
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

/// Puts a condition of WHERE where all that it asks is there first.
fn place(condition: Expr, asks: Option<usize>, steps: &mut [Step], conditions: &mut Vec<Expr>) {
    let adds_nulls_before = steps.iter().any(|step| matches!(step.join, Join::Right | Join::Full));
    let found = match asks {
        _ if adds_nulls_before => steps.last_mut(),
        None => None,
        Some(asks) => steps.iter_mut().find(|step| asks < step.offset + step.width),
    };
    match found {
        Some(step) => step.filters.push(condition),
        None => conditions.push(condition),
    }
}

/// Finds an equality by which a relation's rows are looked up.
fn find_key(step: &mut Step) {
    let range = step.offset..step.offset + step.width;
    let of_filters = if step.join == Join::Inner { step.filters.len() } else { 0 };
    let mut conditions = step.on.iter().chain(&step.filters[..of_filters]);
    step.key = conditions.find_map(|condition| {
        let Expr::Compare(Compare::Equal, one, other) = condition else { return None };
        let sides = [(one, other), (other, one)];
        sides.into_iter().find_map(|(own, other)| match **own {
            Expr::Column { up: 0, index } if range.contains(&index) => {
                Some((index - range.start, known_before(other, range.start)?))
            }
            _ => None,
        })
    });
}

/// An expression again, where it asks only what is there before a relation.
fn known_before(expr: &Expr, offset: usize) -> Option<Expr> {
    Some(match expr {
        Expr::Constant(value) => Expr::Constant(value.clone()),
        Expr::Parameter(index) => Expr::Parameter(*index),
        Expr::Column { up, index } if *up > 0 || *index < offset => Expr::Column { up: *up, index: *index },
        Expr::Cast { value, from, to } => {
            Expr::Cast { value: Box::new(known_before(value, offset)?), from: from.clone(), to: to.clone() }
        }
        _ => return None,
    })
}

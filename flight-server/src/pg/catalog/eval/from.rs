//! Compiles a FROM: relations joined one after the other.

use datafusion::sql::sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, Ident, Join as AstJoin, JoinConstraint, JoinOperator, ObjectName,
    TableAlias, TableFactor, TableWithJoins,
};

use super::compile::{Beside, Compiler, Typed};
use super::names::{Scope, folded, last, parts, unknown_table};
use super::plan::{Asks, Call, Column, Compare, Expr, Join, Select, Set, Source, Step};
use super::select::conjuncts;
use super::sets;
use super::value::Kind;
use crate::pg::catalog::{SCHEMA, shape};
use crate::pg::error::{PgError, UNSUPPORTED};

impl Compiler<'_> {
    /// Adds what one part of a FROM joins.
    pub(super) fn from(
        &mut self,
        from: &TableWithJoins,
        scope: &mut Scope,
        steps: &mut Vec<Step>,
    ) -> Result<(), PgError> {
        let first = scope.relations.len();
        self.step(&from.relation, Join::Inner, scope, steps)?;
        for join in &from.joins {
            let before = scope.relations.len();
            let (how, constraint) = how_of(join)?;
            self.step(&join.relation, how, scope, steps)?;
            let on = match constraint {
                JoinConstraint::None => vec![],
                JoinConstraint::On(expr) => self.on(expr, scope)?,
                JoinConstraint::Using(names) => {
                    let names: Vec<String> = names.iter().map(last).collect();
                    self.using(&names, how, first, before, scope)?
                }
                JoinConstraint::Natural => {
                    let left = shown(scope, first..before);
                    let right = shown(scope, before..scope.relations.len());
                    let names: Vec<String> = right.into_iter().filter(|name| left.contains(name)).collect();
                    self.using(&names, how, first, before, scope)?
                }
            };
            if let Some(step) = steps.last_mut() {
                (step.on, step.on_asks) = on.into_iter().unzip();
            }
        }
        Ok(())
    }

    fn on(&mut self, expr: &Ast, scope: &mut Scope) -> Result<Vec<(Expr, Asks)>, PgError> {
        self.beside_scope(scope, |compiler| conjuncts(expr).into_iter().map(|part| compiler.condition(part)).collect())
    }

    /// Compiles something that sees what is joined so far.
    fn beside_scope<T>(
        &mut self,
        scope: &mut Scope,
        work: impl FnOnce(&mut Self) -> Result<T, PgError>,
    ) -> Result<T, PgError> {
        self.scopes.push(std::mem::take(scope));
        self.beside.push(Beside::default());
        let result = work(self);
        self.beside.pop();
        *scope = self.scopes.pop().unwrap_or_default();
        result
    }

    fn using(
        &mut self,
        names: &[String],
        how: Join,
        first: usize,
        before: usize,
        scope: &mut Scope,
    ) -> Result<Vec<(Expr, Asks)>, PgError> {
        let mut on = Vec::new();
        for name in names {
            let find = |range: std::ops::Range<usize>| {
                range.into_iter().find_map(|relation| {
                    let known = &scope.relations[relation];
                    let mut columns = known.columns.iter().enumerate();
                    let (index, column) =
                        columns.find(|(index, column)| column.name == *name && !known.hidden[*index])?;
                    Some((relation, index, known.offset + index, column.kind.clone()))
                })
            };
            let missing =
                || PgError::new("42703", format!("column \"{name}\" specified in USING clause does not exist"));
            let left = find(first..before).ok_or_else(missing)?;
            let right = find(before..scope.relations.len()).ok_or_else(missing)?;
            let hidden = if how == Join::Right { &left } else { &right };
            scope.relations[hidden.0].hidden[hidden.1] = true;
            self.asks(self.scopes.len() + 1);
            let column =
                |(_, _, index, kind): (usize, usize, usize, Kind)| Typed { expr: Expr::Column { up: 0, index }, kind };
            let asks = Asks::from([left.2, right.2]);
            on.push((self.compared(Compare::Equal, column(left), column(right))?.expr, asks));
        }
        Ok(on)
    }

    fn step(
        &mut self,
        factor: &TableFactor,
        join: Join,
        scope: &mut Scope,
        steps: &mut Vec<Step>,
    ) -> Result<(), PgError> {
        let (source, name, columns) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => self.table(name, alias.as_ref())?,
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                let calls = [(name.clone(), args.args.clone())];
                self.functions(&calls, alias.as_ref(), *with_ordinality, scope)?
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => {
                self.functions(&[(name.clone(), args.clone())], alias.as_ref(), *with_ordinality, scope)?
            }
            TableFactor::TableFunction { expr: Ast::Function(function), alias } => {
                use datafusion::sql::sqlparser::ast::FunctionArguments;
                let FunctionArguments::List(list) = &function.args else {
                    return Err(PgError::new(UNSUPPORTED, "a function of FROM takes a list of values"));
                };
                self.functions(&[(function.name.clone(), list.args.clone())], alias.as_ref(), false, scope)?
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
                let name = ObjectName::from(vec![Ident::new("unnest")]);
                let call = |expr: &Ast| (name.clone(), vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()))]);
                let calls: Vec<_> = array_exprs.iter().map(call).collect();
                self.functions(&calls, alias.as_ref(), *with_ordinality, scope)?
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let query = match lateral {
                    true => self.beside_scope(scope, |compiler| compiler.query(subquery))?,
                    false => self.query(subquery)?,
                };
                let columns = query.columns.clone();
                let name = alias.as_ref().map(|alias| folded(&alias.name)).unwrap_or_default();
                (Source::Query { query: Box::new(query), is_lateral: *lateral }, name, renamed(columns, alias.as_ref()))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.nested(table_with_joins, join, scope, steps);
            }
            _ => {
                return Err(PgError::new(
                    UNSUPPORTED,
                    "this kind of relation is not supported in questions of the catalog",
                ));
            }
        };
        let width = columns.len();
        let offset = scope.add(name, columns);
        if let (Source::Table(place), Some(relation)) = (&source, scope.relations.last_mut()) {
            let table = self.tables.at(*place);
            relation.oid = shape::find(table.schema, table.name).map_or(0, |shape| shape.oid);
        }
        steps.push(Step { source, offset, width, join, on: vec![], on_asks: vec![], filters: vec![], key: None });
        Ok(())
    }

    /// A join in parentheses: its relations stand beside the others, and its rows are made before.
    fn nested(
        &mut self,
        join: &TableWithJoins,
        how: Join,
        scope: &mut Scope,
        steps: &mut Vec<Step>,
    ) -> Result<(), PgError> {
        let (mut inner, mut inner_steps) = (Scope::default(), Vec::new());
        self.from(join, &mut inner, &mut inner_steps)?;
        let (inner_steps, _) = self.ordered(inner_steps, vec![]);
        let (offset, width) = (scope.width, inner.width);
        scope.width += width;
        scope.relations.extend(inner.relations.into_iter().map(|mut relation| {
            relation.offset += offset;
            relation
        }));
        let select = Select { steps: inner_steps, width, ..Select::default() };
        let source = Source::Joined(Box::new(select));
        steps.push(Step { source, offset, width, join: how, on: vec![], on_asks: vec![], filters: vec![], key: None });
        Ok(())
    }

    fn table(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
    ) -> Result<(Source, String, Vec<Column>), PgError> {
        let names = parts(name);
        let shown = alias.map(|alias| folded(&alias.name)).or_else(|| names.last().cloned()).unwrap_or_default();
        if let [one] = &names[..]
            && let Some(known) = self.with.iter().rev().find(|known| known.name == *one)
        {
            let (id, level, columns) = (known.id, known.level, known.columns.clone());
            self.asks(level);
            return Ok((Source::Cte(id), shown, renamed(columns, alias)));
        }
        let place = match &names[..] {
            [table] => self.tables.place(SCHEMA, table),
            [.., schema, table] => self.tables.place(schema, table),
            [] => None,
        };
        let Some(place) = place else { return Err(unknown_table(&names.join("."))) };
        let columns = self.tables.at(place).columns.iter();
        let columns = columns.map(|(name, kind)| Column { name: (*name).to_owned(), kind: kind.clone() }).collect();
        Ok((Source::Table(place), shown, renamed(columns, alias)))
    }

    /// Functions in a FROM: their rows side by side. They see what stands before them.
    fn functions(
        &mut self,
        calls: &[(ObjectName, Vec<FunctionArg>)],
        alias: Option<&TableAlias>,
        has_ordinality: bool,
        scope: &mut Scope,
    ) -> Result<(Source, String, Vec<Column>), PgError> {
        let (mut all, mut columns) = (Vec::new(), Vec::new());
        for (name, arguments) in calls {
            let name = last(name);
            let called = self.beside_scope(scope, |compiler| {
                let arguments = compiler.arguments(arguments)?;
                let kinds: Vec<Kind> = arguments.iter().map(|argument| argument.kind.clone()).collect();
                match sets::named(&name, &kinds) {
                    Some((set, columns)) => Ok((compiler.set_call(set, columns.len(), arguments)?, columns)),
                    None => {
                        let value = compiler.called(&name, arguments)?;
                        let kind = value.kind.clone();
                        Ok((Call { set: Set::Once, arguments: vec![value.expr], first: 1 }, vec![("", kind)]))
                    }
                }
            });
            let (call, yields) = called?;
            let is_one = yields.len() == 1;
            columns.extend(yields.into_iter().map(|(column, kind)| {
                // A single column has the name of the function, or its alias.
                let alias = alias.filter(|_| is_one && calls.len() == 1).map(|alias| folded(&alias.name));
                let name = alias.unwrap_or_else(|| if column.is_empty() { name.clone() } else { column.to_owned() });
                Column { name, kind }
            }));
            all.push(call);
        }
        if has_ordinality {
            columns.push(Column { name: "ordinality".to_owned(), kind: Kind::Int8 });
        }
        let first = calls.first().map(|(name, _)| last(name)).unwrap_or_default();
        let shown = alias.map_or(first, |alias| folded(&alias.name));
        Ok((Source::Function { calls: all, has_ordinality }, shown, renamed(columns, alias)))
    }
}

fn renamed(mut columns: Vec<Column>, alias: Option<&TableAlias>) -> Vec<Column> {
    let names = alias.into_iter().flat_map(|alias| &alias.columns);
    for (column, alias) in columns.iter_mut().zip(names) {
        column.name = folded(&alias.name);
    }
    columns
}

/// The columns that these relations show.
fn shown(scope: &Scope, relations: std::ops::Range<usize>) -> Vec<String> {
    let relations = scope.relations.get(relations).unwrap_or_default();
    let columns = relations.iter().flat_map(|relation| relation.columns.iter().zip(&relation.hidden));
    columns.filter(|(_, hidden)| !**hidden).map(|(column, _)| column.name.clone()).collect()
}

fn how_of(join: &AstJoin) -> Result<(Join, &JoinConstraint), PgError> {
    Ok(match &join.join_operator {
        JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::CrossJoin(on) => (Join::Inner, on),
        JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (Join::Left, on),
        JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (Join::Right, on),
        JoinOperator::FullOuter(on) => (Join::Full, on),
        _ => return Err(PgError::new(UNSUPPORTED, "this kind of join is not supported")),
    })
}

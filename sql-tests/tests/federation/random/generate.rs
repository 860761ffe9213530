//! Random queries over a schema: what follows a SELECT, from the outside in.

use std::collections::{BTreeMap, HashMap};

use headwater_sql_tests::dice::Dice;

use super::expr::{Expr, Range};
use super::express::{Express, Samples};
use super::kind::Kind;
use super::query::{Body, COMMON, Group, Order, Origin, Quantifier, Query, Relation, Select};
use super::world::Published;

/// Makes queries over published tables.
pub(super) struct Generator<'a> {
    pub(super) dice: Dice,
    tables: &'a [Published],
    samples: Samples,
    /// The values of columns, by what they are named in SQL.
    values: HashMap<String, &'a [String]>,
    /// How many aliases there are.
    aliases: usize,
    /// The common tables of the query: their names and the kinds of their columns.
    common: Vec<(String, Vec<Kind>)>,
    /// How many of a hundred relations are one of them.
    of_common: usize,
}

impl<'a> Generator<'a> {
    pub(super) fn new(dice: Dice, tables: &'a [Published]) -> Self {
        Self {
            dice,
            tables,
            samples: Samples::of(tables),
            values: HashMap::new(),
            aliases: 0,
            common: Vec::new(),
            of_common: 40,
        }
    }

    /// A query of any shape.
    pub(super) fn query(&mut self) -> Query {
        if self.dice.percent(6) {
            return self.strict();
        }
        let mut with = Vec::new();
        if self.dice.percent(10) {
            let query = if self.dice.percent(25) { self.recursive() } else { self.plain(1) };
            self.common.push((COMMON.to_owned(), kinds(&query.body)));
            with.push((COMMON.to_owned(), query));
        }
        let mut query = self.plain(2);
        query.with = with;
        query.order = self.order(query.width(), 40, 15);
        match self.dice.below(100) {
            0..6 => self.first_of(&mut query),
            6..20 => query.order.iter_mut().for_each(|order| order.keys.truncate(1)),
            _ => {}
        }
        query
    }

    /// A query, and the same with other constants for columns to be equal to.
    pub(super) fn query_and_other(&mut self) -> (Query, Query) {
        let mut query = self.query();
        if let Body::Select(select) = &mut query.body
            && self.dice.percent(70)
        {
            let column = self.dice.pick(&self.scope_of(&select.from)).clone();
            let constant = self.express(&[]).constant(column.kind());
            select.filters.push(Expr::form(Kind::Bool, "({} = {})", vec![column, constant]));
        }
        let mut other = query.clone();
        let mut others: BTreeMap<String, String> = BTreeMap::new();
        other.replace_constants(&mut |kind, sql| {
            // Equal constants get equal ones, so that what is shown of a group is still its key.
            let other = others.entry(sql.to_owned());
            other.or_insert_with(|| self.express(&[]).constant(kind).sql()).clone()
        });
        (query, other)
    }

    /// Rows, and what is joined to them twice over. The first column counts the turns.
    fn recursive(&mut self) -> Query {
        let mut first = self.rows(0, &[]);
        first.items.truncate(2);
        first.items.insert(0, Expr::literal(Kind::Int, "0"));
        let kinds: Vec<Kind> = first.items.iter().map(Expr::kind).collect();
        let (turns, mut scope) = self.named(Origin::Turns(kinds.clone()), &kinds);
        let count = Expr::form(Kind::Int, "({} + 1)", vec![scope[0].clone()]);
        let mut from = vec![turns];
        let columns = self.join_to_table(&mut from, &scope);
        scope.extend(columns);
        let mut items = vec![count];
        items.extend(kinds[1..].iter().map(|kind| self.express(&scope).value(*kind, 1)));
        let step = Select { quantifier: Quantifier::All, items, from, filters: Vec::new(), group: None, qualify: None };
        let body = |select: Select| Box::new(Body::Select(Box::new(select)));
        let op = if self.dice.percent(70) { "UNION ALL" } else { "UNION" };
        Query::of(Body::Set { op, left: body(first), right: body(step) })
    }

    /// The first row of each value of the first columns.
    fn first_of(&mut self, query: &mut Query) {
        let width = query.width();
        if let Body::Select(select) = &mut query.body {
            select.quantifier = Quantifier::FirstOf(self.dice.between(1, width.min(2)));
            query.order = self.order(width, 100, 0);
        }
    }

    /// A query that reads a common table more than once: groups, most often, of which there are few.
    pub(super) fn of_common(&mut self) -> Query {
        let mut select = self.rows(1, &[]);
        if self.dice.percent(70) {
            let scope = self.scope_of(&select.from);
            self.group(&mut select, &scope);
        }
        let common = Query::select(select);
        self.common.push((COMMON.to_owned(), kinds(&common.body)));
        self.of_common = 90;
        let mut query = self.plain(2);
        query.with = vec![(COMMON.to_owned(), common)];
        query.order = self.order(query.width(), 40, 0);
        query
    }

    /// Every row of a table, through forms that some values make fail.
    fn strict(&mut self) -> Query {
        let (relation, scope) = self.table();
        let items = (0..self.dice.between(1, 2)).map(|_| self.express(&scope).partial());
        let items = items.collect();
        let select = Select {
            quantifier: Quantifier::All,
            items,
            from: vec![relation],
            filters: Vec::new(),
            group: None,
            qualify: None,
        };
        Query::select(select)
    }

    /// A query without common tables, in which subqueries nest so deep.
    fn plain(&mut self, depth: usize) -> Query {
        let select = self.select(depth, &[]);
        if depth == 0 || !self.dice.percent(15) {
            return Query::select(select);
        }
        let kinds: Vec<Kind> = select.items.iter().map(Expr::kind).collect();
        let other = self.select(depth - 1, &[]);
        let mut right = other;
        right.items = match right.group {
            None => {
                let scope = self.scope_of(&right.from);
                kinds.iter().map(|kind| self.express(&scope).value(*kind, 1)).collect()
            }
            // What a group may show is its own; constants fill the rest.
            Some(_) => kinds
                .iter()
                .map(|kind| {
                    let item = right.items.iter().find(|item| item.kind() == *kind).cloned();
                    item.unwrap_or_else(|| Expr::Literal { kind: *kind, sql: kind.simplest() })
                })
                .collect(),
        };
        let op = *self.dice.pick(&[
            "UNION ALL",
            "UNION ALL",
            "UNION",
            "UNION",
            "INTERSECT",
            "EXCEPT",
            "EXCEPT",
            "EXCEPT ALL",
            "INTERSECT ALL",
        ]);
        let body = |select: Select| Box::new(Body::Select(Box::new(select)));
        Query::of(Body::Set { op, left: body(select), right: body(right) })
    }

    /// A SELECT; `outer` are the columns of the query around it.
    fn select(&mut self, depth: usize, outer: &[Expr]) -> Select {
        let mut select = self.rows(depth, outer);
        let scope = self.scope_of(&select.from);
        if self.dice.percent(35) {
            self.group(&mut select, &scope);
        } else if self.dice.percent(15) {
            select.quantifier = Quantifier::Distinct;
        }
        if depth > 0 && select.group.is_none() && self.dice.percent(8) {
            let subquery = match self.dice.percent(60) {
                true => self.scalar_subquery(&scope, depth - 1),
                false => self.tested_subquery(&scope, depth - 1),
            };
            select.items.push(subquery);
        }
        if self.dice.percent(10) {
            self.windows(&mut select, &scope);
        }
        select
    }

    /// Of rows or of groups.
    fn windows(&mut self, select: &mut Select, scope: &[Expr]) {
        let shown = select.items.clone();
        let scope = if select.group.is_some() { &shown } else { scope };
        // Two that tell equal rows apart would not have to agree on which is the first.
        match self.dice.below(10) {
            0..6 => select.items.push(self.express(scope).window()),
            6..8 => select.qualify = Some(self.express(scope).rank()),
            _ => {
                select.items.push(self.express(scope).window_of_equals());
                select.qualify = Some(self.express(scope).rank());
            }
        }
    }

    /// A SELECT of rows as they are: joins and filters, without groups.
    pub(super) fn rows(&mut self, depth: usize, outer: &[Expr]) -> Select {
        let (first, mut scope) = self.relation(depth);
        let mut from = vec![first];
        let joins = self.dice.weighted(&[(45, 0), (40, 1), (15, 2)]);
        for _ in 0..joins {
            let columns = self.join_to(&mut from, &scope, depth);
            scope.extend(columns);
        }
        let mut filters = Vec::new();
        for _ in 0..self.dice.weighted(&[(58, 0), (33, 1), (7, 2), (2, 3)]) {
            filters.push(match depth > 0 && self.dice.percent(18) {
                true => self.subquery_filter(&scope, depth - 1),
                false => self.express(&scope).value(Kind::Bool, 2),
            });
        }
        if from.len() > 1 && self.dice.percent(15) {
            let sides: Vec<Vec<Expr>> = [&from[..1], &from[1..]].map(|part| self.scope_of(part)).into();
            if sides.iter().all(|side| !side.is_empty()) {
                let of_each = sides.iter().map(|side| self.express(side).value(Kind::Bool, 1)).collect();
                filters.push(Expr::form(Kind::Bool, "({} OR {})", of_each));
            }
        }
        if !outer.is_empty() && self.dice.percent(70) {
            filters.extend(self.equality(outer, &scope));
        }
        let items = (0..self.dice.between(1, 4)).map(|_| self.express(&scope).item()).collect();
        Select { quantifier: Quantifier::All, items, from, filters, group: None, qualify: None }
    }

    /// A condition over the rows of a SELECT.
    pub(super) fn condition(&mut self, select: &Select) -> Expr {
        let scope = self.scope_of(&select.from);
        let depth = self.dice.between(1, 3);
        self.express(&scope).value(Kind::Bool, depth)
    }

    pub(super) fn group(&mut self, select: &mut Select, scope: &[Expr]) {
        let mut keys = Vec::new();
        for _ in 0..self.dice.weighted(&[(25, 0), (45, 1), (25, 2), (5, 3)]) {
            let key = match self.dice.percent(70) {
                true => self.dice.pick(scope).clone(),
                false => self.express(scope).item(),
            };
            if key.has_column() && !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut shown = keys.clone();
        for _ in 0..self.dice.between(usize::from(keys.is_empty()), 3) {
            shown.push(self.express(scope).aggregate());
        }
        let form = match keys.len() {
            2.. => {
                self.dice.weighted(&[(76, "{}"), (8, "ROLLUP({})"), (8, "CUBE({})"), (8, "GROUPING SETS ((), ({}))")])
            }
            _ => "{}",
        };
        let having = self.dice.percent(20).then(|| self.express(&shown).value(Kind::Bool, 1));
        select.items = shown.clone();
        if self.dice.percent(25) {
            let item = self.express(&shown).item();
            select.items.push(item);
        }
        select.group = Some(Group { keys, form, having });
    }

    /// Joins one more table or query to what is there, whose columns these are. Returns its own.
    pub(super) fn join_to(&mut self, from: &mut Vec<Relation>, scope: &[Expr], depth: usize) -> Vec<Expr> {
        if self.dice.percent(4) {
            let (relation, columns) = self.lateral(scope);
            from.push(relation);
            return columns;
        }
        let (mut relation, columns) = self.relation(depth);
        self.join(&mut relation, scope, &columns);
        let shows = relation.shows();
        from.push(relation);
        if shows { columns } else { Vec::new() }
    }

    /// Joins a table to what is there, so that each row is kept or left out.
    fn join_to_table(&mut self, from: &mut Vec<Relation>, scope: &[Expr]) -> Vec<Expr> {
        let (mut relation, columns) = self.table();
        relation.join = *self.dice.pick(&["INNER JOIN", "INNER JOIN", "LEFT JOIN"]);
        relation.on.extend(self.equality(scope, &columns));
        if relation.on.is_empty() {
            let both: Vec<Expr> = scope.iter().chain(&columns).cloned().collect();
            let condition = self.express(&both).value(Kind::Bool, 1);
            relation.on.push(condition);
        }
        from.push(relation);
        columns
    }

    /// Rows, or one row of aggregates, for each row of what is there.
    fn lateral(&mut self, scope: &[Expr]) -> (Relation, Vec<Expr>) {
        let mut select = self.rows(0, scope);
        if self.dice.percent(40) {
            let inner = self.scope_of(&select.from);
            select.items = vec![self.express(&inner).aggregate()];
            select.group = Some(Group { keys: Vec::new(), form: "{}", having: None });
        }
        let query = Query::select(select);
        let kinds = kinds(&query.body);
        let (mut relation, columns) = self.named(Origin::Lateral(Box::new(query)), &kinds);
        relation.join = *self.dice.pick(&["CROSS JOIN", "LEFT JOIN"]);
        if relation.join == "LEFT JOIN" {
            relation.on.push(Expr::literal(Kind::Bool, "true"));
        }
        (relation, columns)
    }

    fn join(&mut self, relation: &mut Relation, scope: &[Expr], columns: &[Expr]) {
        relation.join = self.dice.weighted(&[
            (50, "INNER JOIN"),
            (22, "LEFT JOIN"),
            (10, "RIGHT JOIN"),
            (10, "FULL JOIN"),
            (8, "CROSS JOIN"),
            (3, "LEFT SEMI JOIN"),
            (3, "LEFT ANTI JOIN"),
        ]);
        if relation.join == "CROSS JOIN" {
            return;
        }
        relation.on.extend(self.equality(scope, columns));
        if self.dice.percent(20) {
            relation.on.extend(self.equality(scope, columns));
        }
        let both: Vec<Expr> = scope.iter().chain(columns).cloned().collect();
        if relation.on.is_empty() || self.dice.percent(20) {
            let condition = self.express(&both).value(Kind::Bool, 1);
            relation.on.push(condition);
        }
    }

    /// A column of the one equal to a column of the other, where they have a kind in common.
    fn equality(&mut self, left: &[Expr], right: &[Expr]) -> Option<Expr> {
        let pairs: Vec<(&Expr, &Expr)> =
            left.iter().flat_map(|l| right.iter().map(move |r| (l, r))).filter(|(l, r)| l.kind() == r.kind()).collect();
        if pairs.is_empty() {
            return None;
        }
        let meet = |(left, right): &&(&Expr, &Expr)| {
            let (left, right) = (self.values.get(&left.sql()), self.values.get(&right.sql()));
            left.zip(right).is_some_and(|(left, right)| left.iter().any(|value| right.contains(value)))
        };
        let meeting: Vec<(&Expr, &Expr)> = pairs.iter().filter(meet).copied().collect();
        let from = if meeting.is_empty() || self.dice.percent(25) { &pairs } else { &meeting };
        let (left, right) = *self.dice.pick(from);
        Some(Expr::form(Kind::Bool, "({} = {})", vec![left.clone(), right.clone()]))
    }

    fn subquery_filter(&mut self, scope: &[Expr], depth: usize) -> Expr {
        let filter = match self.dice.percent(25) {
            true => self.compared_subquery(scope, depth),
            false => self.tested_subquery(scope, depth),
        };
        match self.dice.below(10) {
            0..2 => {
                let other = self.express(scope).value(Kind::Bool, 1);
                Expr::form(Kind::Bool, "({} OR {})", vec![other, filter])
            }
            2 => Expr::form(Kind::Bool, "(NOT {})", vec![filter]),
            _ => filter,
        }
    }

    fn compared_subquery(&mut self, scope: &[Expr], depth: usize) -> Expr {
        let subquery = self.scalar_subquery(scope, depth);
        let value = self.express(scope).value(subquery.kind(), 1);
        let form = *self.dice.pick(&["({} = {})", "({} > {})", "({} <= {})", "({} <> {})"]);
        Expr::form(Kind::Bool, form, vec![value, subquery])
    }

    fn tested_subquery(&mut self, scope: &[Expr], depth: usize) -> Expr {
        let form =
            *self.dice.pick(&["EXISTS ({q})", "NOT EXISTS ({q})", "{} IN ({q})", "{} IN ({q})", "{} NOT IN ({q})"]);
        let mut args = Vec::new();
        let mut select = match form.starts_with("{}") {
            true => {
                let select = self.rows(depth, &[]);
                args.push(self.dice.pick(scope).clone());
                select
            }
            false => {
                let mut select = self.rows(depth, scope);
                select.items.truncate(1);
                select
            }
        };
        if let Some(arg) = args.first() {
            let inner = self.scope_of(&select.from);
            select.items = vec![self.express(&inner).value(arg.kind(), 1)];
        }
        let item = select.items[0].clone();
        if item.has_column() && self.dice.percent(15) {
            let count = Expr::form(Kind::Int, "count(*)", Vec::new());
            let having = Expr::form(Kind::Bool, "({} > 1)", vec![count]);
            select.group = Some(Group { keys: vec![item], form: "{}", having: Some(having) });
        }
        Expr::Subquery { kind: Kind::Bool, form, args, query: Box::new(Query::select(select)) }
    }

    fn scalar_subquery(&mut self, scope: &[Expr], depth: usize) -> Expr {
        let correlated = if self.dice.percent(60) { scope } else { &[] };
        let mut select = self.rows(depth, correlated);
        let inner = self.scope_of(&select.from);
        select.items = vec![self.express(&inner).aggregate()];
        select.group = Some(Group { keys: Vec::new(), form: "{}", having: None });
        let kind = select.items[0].kind();
        Expr::Subquery { kind, form: "({q})", args: Vec::new(), query: Box::new(Query::select(select)) }
    }

    fn relation(&mut self, depth: usize) -> (Relation, Vec<Expr>) {
        if depth > 0 && self.dice.percent(12) {
            let mut query = self.plain(depth - 1);
            query.order = self.order(query.width(), 30, 0);
            let kinds = kinds(&query.body);
            return self.named(Origin::Derived(Box::new(query)), &kinds);
        }
        if !self.common.is_empty() && self.dice.percent(self.of_common) {
            let (name, kinds) = self.common[0].clone();
            return self.named(Origin::Named(name), &kinds);
        }
        if self.dice.percent(3) {
            return self.values();
        }
        self.table()
    }

    fn values(&mut self) -> (Relation, Vec<Expr>) {
        let kinds: Vec<Kind> = (0..self.dice.between(1, 3)).map(|_| *self.dice.pick(&Kind::ALL)).collect();
        let count = self.dice.between(1, 3);
        let row = |generator: &mut Self| kinds.iter().map(|kind| generator.express(&[]).constant(*kind)).collect();
        let rows = (0..count).map(|_| row(self)).collect();
        self.named(Origin::Values(rows), &kinds)
    }

    fn table(&mut self) -> (Relation, Vec<Expr>) {
        let table = self.dice.pick(self.tables);
        let alias = self.alias();
        let relation =
            Relation { join: "", on: Vec::new(), rows: Origin::Named(table.sql.clone()), alias: alias.clone() };
        let scope = columns_of(table, &alias);
        let values = table.columns.iter().map(|column| column.samples.as_slice());
        self.values.extend(scope.iter().map(Expr::sql).zip(values));
        (relation, scope)
    }

    fn named(&mut self, rows: Origin, kinds: &[Kind]) -> (Relation, Vec<Expr>) {
        let alias = self.alias();
        let scope = outputs(&alias, kinds);
        (Relation { join: "", on: Vec::new(), rows, alias }, scope)
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    /// The columns that a FROM brings into scope.
    pub(super) fn scope_of(&self, from: &[Relation]) -> Vec<Expr> {
        let columns = |relation: &Relation| match &relation.rows {
            Origin::Derived(query) | Origin::Lateral(query) => outputs(&relation.alias, &kinds(&query.body)),
            Origin::Values(rows) => outputs(&relation.alias, &rows[0].iter().map(Expr::kind).collect::<Vec<_>>()),
            Origin::Turns(kinds) => outputs(&relation.alias, kinds),
            Origin::Named(name) => match self.tables.iter().find(|table| table.sql == *name) {
                Some(table) => columns_of(table, &relation.alias),
                None => outputs(&relation.alias, &self.common[0].1),
            },
        };
        from.iter().filter(|relation| relation.shows()).flat_map(columns).collect()
    }

    /// An order by all columns in so many of a hundred cases, and a cut without an order in so many.
    pub(super) fn order(&mut self, width: usize, total: usize, loose: usize) -> Option<Order> {
        let limit = Some(self.dice.weighted(&[(5, 0), (30, 1), (40, self.dice.clone().between(2, 9)), (25, 20)]));
        let offset = self.dice.percent(25).then(|| self.dice.between(0, 5));
        let at = self.dice.below(100);
        let hows = ["", "", "", " DESC", " DESC", " NULLS FIRST", " DESC NULLS LAST"];
        if at < total {
            let keys = (0..width).map(|_| *self.dice.pick(&hows)).collect();
            let cut = self.dice.percent(85);
            Some(Order { keys, limit: limit.filter(|_| cut), offset: offset.filter(|_| cut) })
        } else if at < total + loose {
            Some(Order { keys: Vec::new(), limit, offset })
        } else {
            None
        }
    }

    pub(super) fn express<'s>(&'s mut self, scope: &'s [Expr]) -> Express<'s> {
        Express { dice: &mut self.dice, samples: &self.samples, scope }
    }
}

fn columns_of(table: &Published, alias: &str) -> Vec<Expr> {
    let column = |column: &super::world::PublishedColumn| Expr::Column {
        kind: column.kind,
        sql: format!("{alias}.{}", column.sql),
        range: if column.values.are_tame() { Range::Tame } else { Range::Any },
    };
    table.columns.iter().map(column).collect()
}

fn outputs(alias: &str, kinds: &[Kind]) -> Vec<Expr> {
    let column =
        |(at, kind): (usize, &Kind)| Expr::Column { kind: *kind, sql: format!("{alias}.o{at}"), range: Range::Any };
    kinds.iter().enumerate().map(column).collect()
}

fn kinds(body: &Body) -> Vec<Kind> {
    match body {
        Body::Select(select) => select.items.iter().map(Expr::kind).collect(),
        Body::Set { left, .. } => kinds(left),
    }
}

//! Queries with a materialized view beside them that holds what they ask for, most often: the view of fewer filters, more columns, finer groups
//! or a part of the joins.

use super::expr::Expr;
use super::generate::Generator;
use super::kind::Kind;
use super::query::{Group, Quantifier, Query, Select};

/// How many of a hundred filters of the query the view has too.
const SHARED: usize = 60;

impl Generator<'_> {
    /// A view and a query.
    pub(super) fn view_and_query(&mut self) -> (Query, Query) {
        let mut view = self.rows(0, &[]);
        let mut query = view.clone();
        view.filters.retain(|_| self.dice.percent(SHARED));
        if self.dice.percent(15) {
            let scope = self.scope_of(&query.from);
            self.join_to(&mut query.from, &scope, 0);
        }
        if self.dice.percent(50) {
            self.group_both(&mut view, &mut query);
        } else {
            self.show_both(&mut view, &mut query);
        }
        let mut query = Query::select(query);
        if self.dice.percent(25) {
            query.order = self.order(query.width(), 80, 0);
        }
        (Query::select(view), query)
    }

    /// The view shows columns; the query reads them, as rows or in groups.
    fn show_both(&mut self, view: &mut Select, query: &mut Select) {
        let scope = self.scope_of(&view.from);
        let all = self.dice.percent(60);
        view.items.extend(scope.iter().filter(|_| all || self.dice.percent(60)).cloned());
        let shown = view.items.clone();
        if self.dice.percent(60) {
            let filter = self.express(&shown).value(Kind::Bool, 1);
            query.filters.push(filter);
        }
        match self.dice.below(10) {
            0..4 => self.group(query, &shown),
            4 => query.quantifier = Quantifier::Distinct,
            5..8 => query.items = (0..self.dice.between(1, 4)).map(|_| self.express(&shown).item()).collect(),
            _ => {}
        }
        if query.group.is_none() && self.dice.percent(10) {
            view.quantifier = query.quantifier;
        }
    }

    /// Both group; the view by more keys, most often.
    fn group_both(&mut self, view: &mut Select, query: &mut Select) {
        let scope = self.scope_of(&view.from);
        let keys: Vec<Expr> = (0..self.dice.between(1, 3)).map(|_| self.dice.pick(&scope).clone()).collect();
        let mut keys: Vec<Expr> = keys
            .iter()
            .enumerate()
            .filter(|(at, key)| !keys[..*at].contains(key))
            .map(|(_, key)| key.clone())
            .collect();
        let aggregates: Vec<Expr> = (0..self.dice.between(1, 4)).map(|_| self.express(&scope).aggregate()).collect();
        view.items = keys.iter().chain(&aggregates).cloned().collect();
        view.group = Some(Group { keys: keys.clone(), form: "{}", having: None });
        if self.dice.percent(40) {
            let filter = self.express(&keys).value(Kind::Bool, 1);
            query.filters.push(filter);
        }
        keys.retain(|_| self.dice.percent(65));
        let mut shown = keys.clone();
        shown.extend(aggregates.into_iter().filter(|_| self.dice.percent(70)));
        if shown.is_empty() || self.dice.percent(20) {
            let aggregate = self.express(&scope).aggregate();
            shown.push(aggregate);
        }
        let having = self.dice.percent(20).then(|| self.express(&shown).value(Kind::Bool, 1));
        query.items = shown;
        query.group = Some(Group { keys, form: "{}", having });
    }
}

//! Random expressions over the columns in scope.

use std::collections::HashMap;

use headwater_sql_tests::dice::Dice;

use super::expr::{Expr, Range};
use super::forms::{
    AGGREGATES, COMPARE, Form, GENERIC, ORDERED_AGGREGATES, PARTIAL, PATTERNS, PLACES, RANKS, TAME, TAME_AGGREGATES,
    TOTAL, WINDOWS,
};
use super::kind::Kind;
use super::values::Values;
use super::world::Published;

/// Values that the tables hold, by kind: what constants are taken from, so that conditions find something.
#[derive(Debug, Default)]
pub(super) struct Samples(HashMap<Kind, Vec<String>>);

/// Whether a window tells rows apart that are equal in what orders it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    Equal,
    Sure,
}

/// Makes expressions over a scope.
pub(super) struct Express<'a> {
    pub(super) dice: &'a mut Dice,
    pub(super) samples: &'a Samples,
    pub(super) scope: &'a [Expr],
}

impl Samples {
    pub(super) fn of(tables: &[Published]) -> Self {
        let mut samples = Self::default();
        for column in tables.iter().flat_map(|table| &table.columns) {
            samples.0.entry(column.kind).or_default().extend(column.samples.iter().cloned());
        }
        samples
    }

    fn pick(&self, dice: &mut Dice, kind: Kind) -> String {
        match self.0.get(&kind).filter(|values| !values.is_empty()) {
            Some(values) if dice.percent(75) => dice.pick(values).clone(),
            _ => typical(kind).pick(dice),
        }
    }
}

impl Express<'_> {
    /// What a SELECT may show: a column or an expression of any kind.
    pub(super) fn item(&mut self) -> Expr {
        if self.dice.percent(45) {
            return self.dice.pick(self.scope).clone();
        }
        let kind = self.kind();
        let depth = self.dice.between(1, 2);
        self.value(kind, depth)
    }

    /// An expression of a kind, so many forms deep at most.
    pub(super) fn value(&mut self, kind: Kind, depth: usize) -> Expr {
        if kind == Kind::Bool && depth > 0 {
            return self.condition(depth);
        }
        if depth == 0 || self.dice.percent(25) {
            return self.leaf(kind);
        }
        if self.dice.percent(20) {
            return self.generic(kind, depth - 1);
        }
        if self.dice.percent(20)
            && let Some(expr) = self.of_tame(TAME, Some(kind))
        {
            return expr;
        }
        self.of_forms(TOTAL, kind, depth - 1)
    }

    /// An expression around a form that some values make fail.
    pub(super) fn partial(&mut self) -> Expr {
        let kinds: Vec<Kind> = PARTIAL.iter().map(|form| form.kind).collect();
        let kind = *self.dice.pick(&kinds);
        self.of_forms(PARTIAL, kind, 0)
    }

    /// An aggregate of columns or of expressions over them.
    pub(super) fn aggregate(&mut self) -> Expr {
        if self.dice.percent(25)
            && let Some(aggregate) = self.of_tame(TAME_AGGREGATES, None)
        {
            return aggregate;
        }
        if self.dice.percent(5)
            && let Some(aggregate) = self.ordered_aggregate()
        {
            return aggregate;
        }
        let here = self.kinds();
        let fitting: Vec<&Form> =
            AGGREGATES.iter().filter(|form| form.args.first().is_none_or(|kind| here.contains(kind))).collect();
        let form = *self.dice.pick(&fitting);
        let args = form.args.iter().enumerate().map(|(at, kind)| match at == 0 && self.dice.percent(70) {
            true => self.leaf(*kind),
            false => self.value(*kind, 1),
        });
        let args = args.collect();
        Expr::form(form.kind, form.form, args)
    }

    /// An aggregate of a column in an order that says of all values which comes first.
    fn ordered_aggregate(&mut self) -> Option<Expr> {
        let form = self.dice.pick(ORDERED_AGGREGATES);
        let column = self.column(form.args[0])?;
        // No argument: in a smaller question the order would be another than the column's.
        Some(Expr::form(form.kind, form.form.replace("{c}", &column.sql()), Vec::new()))
    }

    /// What the windows of a row say of it.
    pub(super) fn window(&mut self) -> Expr {
        match self.dice.percent(60) {
            true => self.window_of_equals(),
            false => self.window_of(PLACES, Places::Sure),
        }
    }

    /// The same for rows that are equal in what orders them.
    pub(super) fn window_of_equals(&mut self) -> Expr {
        self.window_of(WINDOWS, Places::Equal)
    }

    /// A condition that keeps the first rows of each part.
    pub(super) fn rank(&mut self) -> Expr {
        let rank = self.window_of(RANKS, Places::Sure);
        let rows = self.dice.between(1, 3).to_string();
        let form = *self.dice.pick(&["({} <= {})", "({} = {})", "({} < {})"]);
        Expr::form(Kind::Bool, form, vec![rank, Expr::literal(Kind::Int, &rows)])
    }

    fn window_of(&mut self, forms: &[Form], places: Places) -> Expr {
        let here = self.kinds();
        let fitting: Vec<&Form> =
            forms.iter().filter(|form| form.args.first().is_none_or(|kind| here.contains(kind))).collect();
        let form = *self.dice.pick(&fitting);
        let mut args: Vec<Expr> = form.args.iter().map(|kind| self.value(*kind, 1)).collect();
        let parts = self.dice.weighted(&[(30, 0), (55, 1), (15, 2)]);
        let orders = self.dice.weighted(&[(20, 0), (60, 1), (20, 2)]);
        args.extend((0..parts + orders).map(|_| self.dice.pick(self.scope).clone()));
        let hows = ["{}", "{}", "{} DESC", "{} NULLS FIRST", "{} DESC NULLS LAST"];
        let mut order: Vec<String> = (0..orders).map(|_| (*self.dice.pick(&hows)).to_owned()).collect();
        if places == Places::Sure {
            // No arguments: a smaller question must not leave it open which row stands first.
            order.extend(self.scope.iter().map(Expr::sql));
        }
        let parts =
            if parts == 0 { String::new() } else { format!("PARTITION BY {}", ["{}"].repeat(parts).join(", ")) };
        let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
        Expr::form(form.kind, form.form.replace("{w}", format!("{parts}{order}").trim()), args)
    }

    fn condition(&mut self, depth: usize) -> Expr {
        match self.dice.below(100) {
            0..55 => self.compare(depth - 1),
            55..65 => self.like(depth - 1),
            65..70 => self.leaf(Kind::Bool),
            70..73 => self.generic(Kind::Bool, depth - 1),
            _ => self.of_forms(TOTAL, Kind::Bool, depth - 1),
        }
    }

    fn compare(&mut self, depth: usize) -> Expr {
        let kind = self.kind();
        let form = *self.dice.pick(COMPARE);
        let first = match self.dice.percent(60) {
            true => self.column(kind).unwrap_or_else(|| self.value(kind, depth)),
            false => self.value(kind, depth),
        };
        let mut args = vec![first];
        for _ in 1..form.matches("{}").count() {
            args.push(match self.dice.percent(60) {
                true => self.constant(kind),
                false => self.value(kind, depth.min(1)),
            });
        }
        Expr::form(Kind::Bool, form, args)
    }

    fn like(&mut self, depth: usize) -> Expr {
        let op = *self.dice.pick(&["LIKE", "LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"]);
        let pattern = headwater_sql_tests::everywhere::literal(self.dice.pick::<&str>(PATTERNS));
        Expr::form(Kind::Bool, format!("({{}} {op} {pattern})"), vec![self.value(Kind::Text, depth)])
    }

    fn generic(&mut self, kind: Kind, depth: usize) -> Expr {
        let form = *self.dice.pick(GENERIC);
        let mut args = Vec::new();
        if form.contains("{?}") {
            args.push(self.value(Kind::Bool, depth.max(1)));
        }
        for _ in 0..form.matches("{}").count() {
            args.push(self.value(kind, depth));
        }
        Expr::form(kind, form.replace("{?}", "{}"), args)
    }

    /// One of the forms that make this kind; those whose arguments are in scope are preferred.
    fn of_forms(&mut self, forms: &[Form], kind: Kind, depth: usize) -> Expr {
        let here = self.kinds();
        let all: Vec<&Form> = forms.iter().filter(|form| form.kind == kind).collect();
        let fitting: Vec<&Form> =
            all.iter().filter(|form| form.args.iter().all(|kind| here.contains(kind))).copied().collect();
        let from = if fitting.is_empty() { &all } else { &fitting };
        if from.is_empty() {
            return self.leaf(kind);
        }
        let form = *self.dice.pick(from);
        let args = form.args.iter().map(|kind| self.value(*kind, depth)).collect();
        Expr::form(kind, form.form, args)
    }

    /// One of the forms that take a tame column, if there is any; of this kind, if it is said.
    fn of_tame(&mut self, forms: &[Form], kind: Option<Kind>) -> Option<Expr> {
        let tame: Vec<&Expr> =
            self.scope.iter().filter(|column| matches!(column, Expr::Column { range: Range::Tame, .. })).collect();
        let forms = forms.iter().filter(|form| kind.is_none_or(|kind| form.kind == kind));
        let all: Vec<Expr> = forms
            .flat_map(|form| {
                tame.iter().filter(|column| column.kind() == form.args[0]).map(move |column| (form, *column))
            })
            .map(|(form, column)| Expr::form(form.kind, form.form, vec![column.clone()]))
            .collect();
        (!all.is_empty()).then(|| self.dice.pick(&all).clone())
    }

    fn leaf(&mut self, kind: Kind) -> Expr {
        match self.dice.below(100) {
            0..75 => self.column(kind).unwrap_or_else(|| self.constant(kind)),
            75..95 => self.constant(kind),
            _ => Expr::Literal { kind, sql: kind.null() },
        }
    }

    pub(super) fn constant(&mut self, kind: Kind) -> Expr {
        if self.dice.percent(4) {
            return Expr::Literal { kind, sql: kind.null() };
        }
        Expr::literal(kind, &self.samples.pick(self.dice, kind))
    }

    fn column(&mut self, kind: Kind) -> Option<Expr> {
        let fitting: Vec<&Expr> = self.scope.iter().filter(|column| column.kind() == kind).collect();
        (!fitting.is_empty()).then(|| (*self.dice.pick(&fitting)).clone())
    }

    /// A kind, mostly of a column in scope.
    fn kind(&mut self) -> Kind {
        match self.dice.percent(88) {
            true => self.dice.pick(self.scope).kind(),
            false => *self.dice.pick(&Kind::ALL),
        }
    }

    fn kinds(&self) -> Vec<Kind> {
        self.scope.iter().map(Expr::kind).collect()
    }
}

/// What constants of a kind are taken from where no column has any.
fn typical(kind: Kind) -> Values {
    match kind {
        Kind::Int => Values::Int32,
        Kind::Decimal => Values::Money,
        Kind::Double => Values::WildDouble,
        Kind::Text => Values::Text,
        Kind::Date => Values::Date,
        Kind::Time => Values::Time,
        Kind::Timestamp => Values::Timestamp,
        Kind::Instant => Values::Instant,
        Kind::Bool => Values::Bool,
        Kind::Bytes => Values::Bytes,
    }
}

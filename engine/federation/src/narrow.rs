//! What a scan asks for once the keys of the joins above it are known.
//!
//! Keys go down as a list while they are few enough for one statement and expected to keep out enough rows; as the range that they
//! span otherwise. Where the list is complete (every row that it lets through has a partner in every join up to a top-N), the
//! source also cuts the rows to the first of that order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use headwater_source::{CompareOp, Expr, ListLookup, Relation, ScalarValue, Scan, SortKey, Support, TableDef};
use parking_lot::Mutex;

use crate::keys::{Reach, keys_of, range_of_keys};
use crate::region::{Asked, Parts, TableName, number};
use crate::scan::failed;
use crate::table::First;
use crate::{Pushdown, Service};

/// The scan as it was planned, before any key is known.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) service: Arc<Service>,
    /// The tables that are read.
    pub(crate) tables: Vec<TableName>,
    pub(crate) asked: Asked,
    pub(crate) scan: Arc<dyn Scan>,
    /// Whether keys may be sent at all: not while the session has pushdown off.
    pub(crate) pushes: Pushdown,
    /// How many rows are guessed to come without keys.
    pub(crate) rows: f64,
    /// What the rows are cut to where the keys of so many joins are complete.
    pub(crate) cut: Option<KeyedCut>,
    /// The keys that the statement can't be made without.
    pub(crate) bound: Option<Arc<BoundKeys>>,
    /// How the statement is divided as long as no list of keys narrows it.
    pub(crate) parts: Option<Parts>,
}

/// The first rows of an order, above so many joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyedCut {
    pub(crate) first: First,
    pub(crate) joins: usize,
}

impl KeyedCut {
    /// The same over a choice of the rows' columns; `None` where a key is not among them.
    pub(crate) fn projected(self, projection: &[usize]) -> Option<Self> {
        let place = |key: &SortKey| {
            let column = projection.iter().position(|index| *index == key.column)?;
            Some(SortKey { column, ..*key })
        };
        let keys = self.first.keys.iter().map(place).collect::<Option<_>>()?;
        Some(Self { first: First { keys, ..self.first }, ..self })
    }
}

/// Keys that one operator collects and another one binds.
#[derive(Debug, Default)]
pub(crate) struct BoundKeys(Mutex<Option<Arc<Vec<ScalarValue>>>>);

impl BoundKeys {
    /// Hands over the keys. At least one, and none is NULL.
    pub(crate) fn set(&self, keys: Vec<ScalarValue>) {
        *self.0.lock() = Some(Arc::new(keys));
    }

    fn get(&self) -> Option<Arc<Vec<ScalarValue>>> {
        self.0.lock().clone()
    }
}

/// The scan with the keys that came.
#[derive(Debug)]
pub(crate) enum Narrowed {
    /// No key came: there is nothing to ask.
    Empty,
    /// Read so, with so many keys bound; and why not with all that came.
    To { scan: Arc<dyn Scan>, keys: usize, unsent: Option<String> },
}

/// The share of rows that a list of keys may be expected to keep and still be worth sending. One that keeps more makes the source look
/// up nearly every row by itself.
const KEPT_MAX: f64 = 0.5;

/// The share of a column's range from which on a range of keys is not worth testing each row for, nor beginning with another table.
const SPANNED_MAX: f64 = 0.99;

/// So many keys are always worth sending.
const KEYS_FEW: usize = 100;

/// So many complete keys are sent where the source then returns the first rows of an order alone.
const KEYS_OF_A_CUT: usize = 10_000;

/// The share of a column's values that a source may look up by a list of keys where it does not weigh that itself. Beyond, it reads the table
/// and tests each row: MariaDB takes 12 to 20 times as long for a row by an index as for the next row of the table.
const LOOKED_UP_MAX: f64 = 0.07;

/// The same of an index that holds all that is read, where the source groups or joins what it finds. Of rows that it sends as they are, it finds half of the values by such an index in less time.
const LOOKED_UP_IN_INDEX_MAX: f64 = 0.3;

impl Planned {
    /// The scan with these filters too, as far as the source can use them.
    pub(crate) async fn narrowed_by(&self, filters: Vec<(Expr, Reach)>) -> Result<Narrowed> {
        if let Some(bound) = &self.bound {
            return self.bound_to(bound).await;
        }
        let source = self.service.source();
        let capabilities = source.capabilities();
        let mut chosen = Vec::new();
        let mut complete = 0;
        let mut unsent = filters.is_empty().then(|| "the join told none".to_owned());
        let mut room = capabilities.max_binds().saturating_sub(self.scan.statement().binds.len());
        for (filter, reach) in filters {
            let lets_cut = self.cut.is_some() && reach == Reach::Complete && keys_of(&filter) <= KEYS_OF_A_CUT;
            let listed = lets_cut || self.is_worth_a_list(&filter);
            if !listed {
                unsent = Some(format!("{} are most of the column's values", keys_of(&filter)));
            }
            let range = self.without_wide(range_of_keys(filter.clone())).map(|range| (range, Reach::Weaker));
            let list = listed.then(|| self.without_wide(filter)).flatten().map(|list| (list, reach));
            if list.is_none() && range.is_none() {
                unsent = unsent.or_else(|| Some("they span the column's values".to_owned()));
            }
            let forms = [list, range];
            for (form, reach) in forms.into_iter().flatten() {
                let offer = capabilities.offer_over(&form, self.asked.columns());
                let Some(filter) = offer.filter else {
                    unsent = Some(offer.reason);
                    continue;
                };
                let needed = capabilities.binds_of(&filter, self.asked.columns());
                if needed > room {
                    unsent = Some(format!("{} are more than the statement has room for", keys_of(&filter)));
                    continue;
                }
                room -= needed;
                complete += usize::from(reach == Reach::Complete && offer.support == Support::Exact);
                chosen.push(self.as_found(filter));
                break;
            }
        }
        let keys = chosen.iter().map(keys_of).sum();
        let Some(mut asked) = self.asked.narrowed(&chosen).filter(|_| !chosen.is_empty()) else {
            return Ok(Narrowed::To { scan: Arc::clone(&self.scan), keys: 0, unsent });
        };
        let mut parts = self.parts.as_ref();
        if chosen.iter().any(looks_up) {
            asked = asked.unsplit();
            parts = None;
        }
        if let Some(cut) = self.cut.as_ref().filter(|cut| cut.joins == complete) {
            asked = asked.cut(&cut.first);
            parts = None;
        }
        let scan = self.prepare(asked, parts).await?;
        // The streams of a plan are fixed before the keys are known.
        match scan.partitions() <= self.scan.partitions() {
            true => Ok(Narrowed::To { scan, keys, unsent }),
            false => {
                let unsent = Some("they need more streams than the plan has".to_owned());
                Ok(Narrowed::To { scan: Arc::clone(&self.scan), keys: 0, unsent })
            }
        }
    }

    async fn bound_to(&self, bound: &BoundKeys) -> Result<Narrowed> {
        let Some(keys) = bound.get() else { return internal_err!("a statement of keys was read before they came") };
        let filter = |rows: &Relation, column| {
            let list = Expr::Column(column).one_of(keys.to_vec());
            let Some((table, origin)) = rows.origin(column) else { return list };
            let data_type = &rows.columns()[column].data_type;
            self.found_by(list, data_type, table, origin)
        };
        let scan = self.prepare(self.asked.with_keys(&filter), None).await?;
        Ok(Narrowed::To { scan, keys: keys.len(), unsent: None })
    }

    pub(crate) async fn prepare(&self, asked: Asked, parts: Option<&Parts>) -> Result<Arc<dyn Scan>> {
        asked.prepare_parts(self.service.source().as_ref(), parts).await.map_err(|error| failed(&self.tables, error))
    }

    /// The filter with each list as the source had best find its rows.
    fn as_found(&self, filter: Expr) -> Expr {
        match &filter {
            Expr::And(parts) => Expr::And(parts.iter().map(|part| self.as_found(part.clone())).collect()),
            Expr::InList { expr, .. } => {
                let Expr::Column(index) = **expr else { return filter };
                let Some((table, column)) = self.origin(index) else { return filter };
                self.found_by(filter, &self.asked.columns()[index].data_type, table, column)
            }
            _ => filter,
        }
    }

    /// A list of keys of a table's column: in a form that no index serves where a source that does not weigh it would look up too many rows.
    fn found_by(&self, list: Expr, data_type: &DataType, table: &Arc<TableDef>, column: usize) -> Expr {
        let Expr::InList { expr, values, negated: false } = list else { return list };
        let weighed = self.service.source().capabilities().list_lookup() == ListLookup::Weighed;
        // Rows lie by their key: finding the next one by it costs no more than reading on.
        let leads = table.key.as_ref().and_then(|key| key.first()) == Some(&table.columns[column].name);
        let is_near = weighed || leads || !data_type.is_integer();
        let share = match (&self.asked, self.is_covered(table, column)) {
            (_, false) => LOOKED_UP_MAX,
            (Asked::Query(_), true) => LOOKED_UP_IN_INDEX_MAX,
            (Asked::Table(_), true) => 1.0,
        };
        // A source guesses that there are some tens of them.
        let few = |distinct: f64| values.len() as f64 <= (distinct * share).max(KEYS_FEW as f64);
        let looked_up = is_near || self.values_of(table, column).is_none_or(few);
        let expr = if looked_up { expr } else { Box::new(expr.unindexed(data_type.clone())) };
        Expr::InList { expr, values, negated: false }
    }

    /// Whether an index that the column leads holds all that is read of the table, with the primary key that stands in each of its entries.
    fn is_covered(&self, table: &Arc<TableDef>, column: usize) -> bool {
        let Some(known) = self.known(table) else { return false };
        let read: Vec<usize> = match &self.asked {
            Asked::Table(request) => {
                let mut read = request.projection.clone();
                request.filters.iter().for_each(|filter| filter.visit_columns(&mut |index| read.push(index)));
                read
            }
            Asked::Query(request) => {
                let used = request.relation.used_columns();
                used.into_iter().filter(|(of, _)| Arc::ptr_eq(of, table)).flat_map(|(_, read)| read).collect()
            }
        };
        let in_key = |index: usize| table.key.as_ref().is_some_and(|key| key.contains(&table.columns[index].name));
        known.statistics.indexes.iter().any(|index| {
            index.columns.first() == Some(&column)
                && read.iter().all(|column| index.columns.contains(column) || in_key(*column))
        })
    }

    fn known(&self, table: &Arc<TableDef>) -> Option<&TableName> {
        self.tables.iter().find(|known| Arc::ptr_eq(&known.definition, table))
    }

    /// Whether the keys are expected to keep out enough rows.
    fn is_worth_a_list(&self, filter: &Expr) -> bool {
        let Expr::InList { expr, values, .. } = filter else { return true };
        let Expr::Column(index) = **expr else { return true };
        if values.len() <= KEYS_FEW {
            return true;
        }
        match self.distinct(index) {
            Some(distinct) => (values.len() as f64) < distinct * KEPT_MAX,
            None => true,
        }
    }

    /// The filter without the ranges that hold all of their column's values, or nearly all.
    fn without_wide(&self, filter: Expr) -> Option<Expr> {
        let mut parts = vec![];
        flatten(filter, &mut parts);
        let mut spans: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (column, op, value) in parts.iter().filter_map(bound) {
            let span = spans.entry(column).or_insert((f64::NEG_INFINITY, f64::INFINITY));
            match op {
                CompareOp::GreaterOrEqual => span.0 = span.0.max(value),
                _ => span.1 = span.1.min(value),
            }
        }
        let is_wide = |column: &usize| spans.get(column).is_some_and(|span| self.spans(*column, *span));
        parts.retain(|part| !bound(part).is_some_and(|(column, ..)| is_wide(&column)));
        match parts.len() {
            0 | 1 => parts.pop(),
            _ => Some(Expr::And(parts)),
        }
    }

    /// Whether nearly all of a column's range lies between these bounds, as its source says.
    fn spans(&self, index: usize, (low, high): (f64, f64)) -> bool {
        let range = || {
            let (table, column) = self.origin(index)?;
            let known = self.known(table)?.statistics.columns.get(column)?;
            Some((number(known.min.as_ref()?)?, number(known.max.as_ref()?)?))
        };
        range().is_some_and(|(min, max)| high.min(max) - low.max(min) >= (max - min) * SPANNED_MAX)
    }

    /// How many values the table has in the column that a column of the rows is, as its source says.
    pub(crate) fn distinct(&self, index: usize) -> Option<f64> {
        let (table, column) = self.origin(index)?;
        self.values_of(table, column)
    }

    /// The table's column that a column of the rows is.
    fn origin(&self, index: usize) -> Option<(&Arc<TableDef>, usize)> {
        match &self.asked {
            Asked::Table(request) => Some((&request.table, index)),
            Asked::Query(request) => request.relation.origin(index),
        }
    }

    /// How many values the table has in a column.
    fn values_of(&self, table: &Arc<TableDef>, column: usize) -> Option<f64> {
        let known = self.known(table)?;
        let unique = known.statistics.indexes.iter().any(|of| of.unique && of.columns == [column]);
        let rows = known.statistics.rows.filter(|_| unique);
        let distinct = known.statistics.columns.get(column)?.distinct;
        rows.or(distinct).map(|distinct| distinct as f64)
    }
}

/// The parts of a condition that all must hold.
fn flatten(filter: Expr, parts: &mut Vec<Expr>) {
    match filter {
        Expr::And(inner) => inner.into_iter().for_each(|part| flatten(part, parts)),
        other => parts.push(other),
    }
}

/// The column of a bound of a range, and the bound.
fn bound(filter: &Expr) -> Option<(usize, CompareOp, f64)> {
    let Expr::Compare { op: op @ (CompareOp::GreaterOrEqual | CompareOp::LessOrEqual), left, right } = filter else {
        return None;
    };
    match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(value)) => Some((*column, *op, number(value)?)),
        _ => None,
    }
}

/// Whether rows are found by a list of keys, each by itself: reading them in parts would look each key up in each part.
fn looks_up(filter: &Expr) -> bool {
    match filter {
        Expr::And(parts) => parts.iter().any(looks_up),
        Expr::InList { expr, .. } => matches!(**expr, Expr::Column(_)),
        _ => false,
    }
}

/// Whether the source takes a list of keys of this column as it is, and how many at most.
pub(crate) fn takes_keys(service: &Service, relation: &Relation, column: usize) -> Option<usize> {
    let capabilities = service.source().capabilities();
    let data_type = &relation.columns().get(column)?.data_type;
    let sample = ScalarValue::new_default(data_type).ok()?;
    let list = Expr::Column(column).one_of(vec![sample]);
    let exact = capabilities.offer_over(&list, relation.columns()).support == Support::Exact;
    exact.then(|| capabilities.max_binds().saturating_sub(relation.literals()))
}

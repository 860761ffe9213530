//! What a scan asks for once the keys of the joins above it are known.
//!
//! Keys go down as a list while they are few enough for one statement and expected to keep out enough rows; as the range that they
//! span otherwise. Where the list is complete (every row that it lets through has a partner in every join up to a top-N), the
//! source also cuts the rows to the first of that order.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use headwater_source::{Expr, Relation, ScalarValue, Scan, SortKey, Support};
use parking_lot::Mutex;

use crate::keys::{Reach, keys_of, range_of_keys};
use crate::region::{Asked, Parts, TableName};
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
    /// Read so, with so many keys bound.
    To { scan: Arc<dyn Scan>, keys: usize },
}

/// The share of rows that a list of keys may be expected to keep and still be worth sending. One that keeps more makes the source look
/// up nearly every row by itself.
const KEPT_MAX: f64 = 0.5;

/// So many keys are always worth sending.
const KEYS_FEW: usize = 100;

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
        let mut room = capabilities.max_binds().saturating_sub(self.scan.statement().binds.len());
        for (filter, reach) in filters {
            let listed = self.is_worth_a_list(&filter);
            let range = range_of_keys(filter.clone());
            let forms = [listed.then_some((filter, reach)), Some((range, Reach::Weaker))];
            for (form, reach) in forms.into_iter().flatten() {
                let offer = capabilities.offer_over(&form, self.asked.columns());
                let Some(filter) = offer.filter else { continue };
                let needed = capabilities.binds_of(&filter, self.asked.columns());
                if needed > room {
                    continue;
                }
                room -= needed;
                complete += usize::from(reach == Reach::Complete && offer.support == Support::Exact);
                chosen.push(filter);
                break;
            }
        }
        let keys = chosen.iter().map(keys_of).sum();
        let Some(mut asked) = self.asked.narrowed(&chosen).filter(|_| !chosen.is_empty()) else {
            return Ok(Narrowed::To { scan: Arc::clone(&self.scan), keys: 0 });
        };
        let mut parts = self.parts.as_ref();
        if keys > 0 {
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
            true => Ok(Narrowed::To { scan, keys }),
            false => Ok(Narrowed::To { scan: Arc::clone(&self.scan), keys: 0 }),
        }
    }

    async fn bound_to(&self, bound: &BoundKeys) -> Result<Narrowed> {
        let Some(keys) = bound.get() else { return internal_err!("a statement of keys was read before they came") };
        let scan = self.prepare(self.asked.with_keys(&keys), None).await?;
        Ok(Narrowed::To { scan, keys: keys.len() })
    }

    pub(crate) async fn prepare(&self, asked: Asked, parts: Option<&Parts>) -> Result<Arc<dyn Scan>> {
        asked.prepare_parts(self.service.source().as_ref(), parts).await.map_err(|error| failed(&self.tables, error))
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

    /// How many values the table has in the column that a column of the rows comes from, as its source says.
    fn distinct(&self, index: usize) -> Option<f64> {
        let (table, column) = match &self.asked {
            Asked::Table(request) => (&request.table, index),
            Asked::Query(request) => request.relation.origin(index)?,
        };
        let known = self.tables.iter().find(|known| Arc::ptr_eq(&known.definition, table))?;
        let unique = known.statistics.indexes.iter().any(|of| of.unique && of.columns == [column]);
        let rows = known.statistics.rows.filter(|_| unique);
        let distinct = known.statistics.columns.get(column)?.distinct;
        rows.or(distinct).map(|distinct| distinct as f64)
    }
}

/// Whether the source takes a list of keys of this column as it is, and how many at most.
pub(crate) fn takes_keys(service: &Service, relation: &Relation, column: usize) -> Option<usize> {
    let capabilities = service.source().capabilities();
    let data_type = &relation.columns().get(column)?.data_type;
    let sample = ScalarValue::new_default(data_type).ok()?;
    let list = Expr::InList { expr: Box::new(Expr::Column(column)), values: vec![sample], negated: false };
    let exact = capabilities.offer_over(&list, relation.columns()).support == Support::Exact;
    exact.then(|| capabilities.max_binds().saturating_sub(relation.literals()))
}

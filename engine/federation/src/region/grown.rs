//! Sub-plans of one source while they grow, and what may be put on top of them.

use std::sync::Arc;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::{Column, DFSchemaRef};
use datafusion::logical_expr::{Expr as Logical, LogicalPlan, Projection, SortExpr, TableScan};
use headwater_source::{Capabilities, Expr, Groups, Node, Relation, SortKey, TableDef, TableStatistics};

use super::remote::Needed;
use crate::translate::Translator;
use crate::{Pushdown, RemoteTable, Service};

/// A table of a service, by its name in SQL.
#[derive(Debug, Clone)]
pub(crate) struct TableName {
    pub(crate) service: Arc<Service>,
    pub(crate) name: String,
    /// What it was when the query was planned.
    pub(crate) definition: Arc<TableDef>,
    /// What its source says of its rows.
    pub(crate) statistics: Arc<TableStatistics>,
}

/// A sub-plan of one source that is still growing.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub(super) service: Arc<Service>,
    pub(super) tables: Vec<TableName>,
    pub(super) relation: Relation,
    /// The names and types of the relation's columns.
    pub(super) schema: DFSchemaRef,
    /// The same as a plan over scans: what is used where the region is not worth a statement of its own.
    pub(super) plan: LogicalPlan,
    /// Which operators above stay local, and why; for EXPLAIN.
    pub(super) notes: Vec<String>,
    /// Whether groups at its top are put together above.
    pub(super) groups: Groups,
    pub(super) needed: Needed,
}

/// A sub-plan.
pub(super) enum Grown {
    /// Of one source.
    Region(Box<Region>),
    /// With finished regions only.
    Local(LogicalPlan),
}

/// Why an operator does not join the region beneath it.
pub(super) type Reason = String;

impl Region {
    /// A scan as a region; `None` of what is no service's table, and with pushdown off.
    pub(super) fn of_scan(scan: &TableScan) -> Option<Self> {
        let provider = source_as_provider(&scan.source).ok()?;
        let table = provider.downcast_ref::<RemoteTable>()?;
        let definition = table.definition();
        if table.pushdown() == Pushdown::Off || table.service().source().capabilities().queries().is_none() {
            return None;
        }
        if !table.unkept(&scan.filters).is_empty() {
            return None;
        }
        // What is not exact here stands in a filter above the scan, too.
        let filters: Vec<Expr> = scan.filters.iter().filter_map(|filter| table.offer(filter).filter).collect();
        let mut relation = Relation::table(Arc::clone(definition)).filter(filters);
        if let Some(projection) = &scan.projection {
            relation = relation.project(projection.iter().map(|index| Expr::Column(*index)).collect());
        }
        Some(Self {
            service: Arc::clone(table.service()),
            tables: vec![table.named()],
            relation,
            schema: Arc::clone(&scan.projected_schema),
            plan: LogicalPlan::TableScan(scan.clone()),
            notes: vec![],
            groups: Groups::Whole,
            needed: Needed::Once,
        })
    }

    pub(super) fn capabilities(&self) -> &Capabilities {
        self.service.source().capabilities()
    }

    /// Whether both are read from one store under one role.
    pub(super) fn is_of_one_source(&self, other: &Self) -> bool {
        let kind = |region: &Self| region.capabilities().source();
        kind(self) == kind(other) && self.service.source().location() == other.service.source().location()
    }

    /// A filter or key over the region's columns.
    pub(super) fn translate(&self, expr: &Logical) -> Result<Expr, Reason> {
        let resolve = |column: &Column| self.schema.maybe_index_of_column(column);
        Translator { columns: self.relation.columns(), resolve: &resolve }.expr(expr)
    }

    /// The same region with another operator on top.
    pub(super) fn grown(&self, relation: Relation, schema: DFSchemaRef, plan: LogicalPlan) -> Self {
        let (service, tables, notes) = (Arc::clone(&self.service), self.tables.clone(), self.notes.clone());
        let (groups, needed) = (Groups::Whole, self.needed);
        Self { service, tables, relation, schema, plan, notes, groups, needed }
    }

    /// The same, if the relation's columns have the types that the plan says.
    pub(super) fn grown_checked(
        &self,
        relation: Relation,
        schema: DFSchemaRef,
        plan: LogicalPlan,
    ) -> Result<Self, Reason> {
        check_types(&relation, &schema)?;
        Ok(self.grown(relation, schema, plan))
    }

    pub(super) fn beside(&self, other: &Self, relation: Relation, schema: DFSchemaRef, plan: LogicalPlan) -> Self {
        let mut region = self.grown(relation, schema, plan);
        region.tables.extend(other.tables.iter().cloned());
        region.notes.extend(other.notes.iter().cloned());
        region
    }

    /// The same, with the reason why an operator above stays local.
    pub(super) fn without(mut self, operator: &str, reason: &str) -> Self {
        self.notes.push(format!("{operator} not pushed: {reason}"));
        self
    }

    pub(super) fn projected(&self, projection: &Projection) -> Result<Relation, Reason> {
        let columns = self.relation.columns();
        let mut exprs = Vec::with_capacity(projection.expr.len());
        for expr in &projection.expr {
            let expr = self.translate(expr)?;
            self.capabilities().computes(&expr, columns)?;
            exprs.push(expr);
        }
        let relation = self.relation.clone().project(exprs);
        check_types(&relation, &projection.schema)?;
        Ok(relation)
    }

    /// The first rows of an order; `None` of a scan in an order of its own columns, which the optimizer has cut already.
    pub(super) fn first(&self, order: &[SortExpr], rows: u64) -> Result<Option<Relation>, Reason> {
        let columns = self.relation.columns();
        let own: Vec<Expr> = (0..columns.len()).map(Expr::Column).collect();
        // What is computed is a column until the rows are cut.
        let mut exprs = own.clone();
        let mut keys = Vec::with_capacity(order.len());
        for key in order {
            let column = match self.translate(&key.expr)? {
                Expr::Column(column) => column,
                Expr::Literal(_) => return Err("the order is of a constant".to_owned()),
                computed => {
                    self.capabilities().computes(&computed, columns)?;
                    exprs.push(computed);
                    exprs.len() - 1
                }
            };
            keys.push(SortKey { column, descending: !key.asc, nulls_first: key.nulls_first });
        }
        let computes = exprs.len() > own.len();
        if !computes && !self.is_worth_it() && keys.iter().all(|key| self.relation.origin(key.column).is_some()) {
            return Ok(None);
        }
        let relation = if computes { self.relation.clone().project(exprs) } else { self.relation.clone() };
        self.capabilities().sorts(&keys, relation.columns())?;
        let first = relation.top(keys, 0, rows);
        let first = if computes { first.project(own) } else { first };
        if first.literals() > self.capabilities().max_binds() {
            return Err("the statement would hold too many values".to_owned());
        }
        Ok(Some(first))
    }

    /// Any so many rows.
    pub(super) fn cut(self, rows: u64) -> Self {
        Self { relation: self.relation.top(vec![], 0, rows), ..self }
    }

    /// The most rows that there are, where they are cut.
    pub(super) fn rows_max(&self) -> Option<u64> {
        fn limit(relation: &Relation) -> Option<u64> {
            match relation.node() {
                Node::Top { limit, .. } => Some(*limit),
                Node::Project { input, .. } => limit(input),
                _ => None,
            }
        }
        limit(&self.relation)
    }

    /// Whether it reads so much that its source should not do it twice.
    pub(super) fn is_large(&self) -> bool {
        const ROWS_MIN: u64 = 10_000;
        self.tables.iter().filter_map(|table| table.statistics.rows).sum::<u64>() >= ROWS_MIN
    }

    /// Whether the region is more than a scan.
    pub(super) fn is_worth_it(&self) -> bool {
        fn combines(relation: &Relation) -> bool {
            matches!(relation.node(), Node::Join { .. } | Node::Aggregate { .. } | Node::UnionAll(_) | Node::Top { .. })
                || relation.inputs().into_iter().any(combines)
        }
        combines(&self.relation)
    }
}

impl From<Region> for Grown {
    fn from(region: Region) -> Self {
        Self::Region(Box::new(region))
    }
}

/// Whether a relation's columns are what the plan has them for.
pub(super) fn check_types(relation: &Relation, schema: &DFSchemaRef) -> Result<(), Reason> {
    let columns = relation.columns();
    let alike = columns.len() == schema.fields().len()
        && columns.iter().zip(schema.fields()).all(|(column, field)| column.data_type == *field.data_type());
    if alike { Ok(()) } else { Err("the types differ".to_owned()) }
}

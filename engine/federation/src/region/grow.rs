//! Growing regions over a logical plan, bottom up.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchemaRef, JoinType, Result, TableReference};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr as Logical, FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Projection,
    SkipType, Sort, SubqueryAlias, TableScan, Union,
};
use headwater_source::{Expr, Groups, JoinKind, Node, Relation, Support};

use super::eager::two_steps;
use super::estimate::{estimate, source_of};
use super::grown::{Grown, Reason, Region};
use super::parts::{Division, division, lies_in_groups};
use super::remote::{Bound, Needed, RemoteQuery};
use super::shared::SharedNode;
use crate::RemoteTable;

/// Grows the regions of one plan.
#[derive(Debug, Default)]
pub(super) struct Grower {
    finished: usize,
    /// The schemas of the aggregates whose groups are put together above.
    partial: Vec<DFSchemaRef>,
    /// The groups that the plan needs more than once. No operator joins them, so that they are asked for once.
    repeated: Vec<Relation>,
    /// Whether one source answers all of the plan.
    reach: Reach,
    above: Above,
}

/// What becomes of the rows of a plan: whether more of it may go down with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Above {
    /// They are the answer, or what is done with them is done here.
    #[default]
    Answer,
    /// Some of them are kept: the first ones, or those for which a condition is true.
    Cut,
    /// They are grouped, or joined to others.
    Combined,
}

impl Above {
    /// The same for the inputs of an operator.
    fn beneath(self, plan: &LogicalPlan) -> Self {
        match plan {
            // What a subquery says is compared here.
            LogicalPlan::Filter(filter) if holds_subquery(&filter.predicate) => Self::Answer,
            LogicalPlan::Limit(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(Sort { fetch: Some(_), .. }) => {
                Self::Cut
            }
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => self,
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) | LogicalPlan::Join(_) | LogicalPlan::Union(_) => {
                Self::Combined
            }
            _ => Self::Answer,
        }
    }
}

/// Whether one source answers all of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Reach {
    #[default]
    SeveralSources,
    OneSource,
}

impl Grower {
    /// One that knows which aggregates are only partial.
    pub(super) fn of_partial(partial: Vec<DFSchemaRef>) -> Self {
        Self { partial, ..Self::default() }
    }

    /// Finds the groups over large tables that the plan needs more than once.
    pub(super) fn find_repeated(&mut self, plan: &LogicalPlan) -> Result<()> {
        use datafusion::common::tree_node::TreeNodeRecursion;
        let (mut aggregates, mut shared) = (Vec::new(), Vec::new());
        plan.apply_with_subqueries(|plan| {
            // What several operators read is computed once.
            if let Some((_, rows)) = SharedNode::beneath(plan) {
                if shared.iter().any(|known| Arc::ptr_eq(known, rows)) {
                    return Ok(TreeNodeRecursion::Jump);
                }
                shared.push(Arc::clone(rows));
            }
            if let LogicalPlan::Aggregate(aggregate) = plan {
                aggregates.push(aggregate.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        if aggregates.len() < 2 {
            return Ok(());
        }
        let mut seen: Vec<Relation> = Vec::new();
        for aggregate in aggregates {
            let Grown::Region(region) = self.grow(aggregate.input.as_ref().clone())? else { continue };
            let Ok(grouped) = super::aggregate::aggregated(&aggregate, &region) else { continue };
            if !region.is_large() || self.repeated.contains(&grouped.relation) {
                continue;
            }
            match seen.contains(&grouped.relation) {
                true => self.repeated.push(grouped.relation),
                false => seen.push(grouped.relation),
            }
        }
        Ok(())
    }

    /// The plan with its regions as remote relations.
    pub(super) fn federate(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        self.reach = if source_of(&plan).is_some() { Reach::OneSource } else { Reach::SeveralSources };
        let grown = self.grow(plan)?;
        self.finish(grown)
    }

    /// The region of an aggregate that is done by the one source beneath it, averages and all.
    pub(super) fn groups_at_source(&mut self, plan: &LogicalPlan) -> Result<Option<Region>> {
        Ok(match self.grow(plan.clone())? {
            Grown::Region(region) => {
                Some(*region).filter(|region| matches!(region.relation.node(), Node::Aggregate { .. }))
            }
            Grown::Local(_) => None,
        })
    }

    pub(super) fn grow(&mut self, plan: LogicalPlan) -> Result<Grown> {
        let above = self.above;
        self.above = above.beneath(&plan);
        let grown = self.grown(plan, above);
        self.above = above;
        grown
    }

    fn grown(&mut self, plan: LogicalPlan, above: Above) -> Result<Grown> {
        match &plan {
            LogicalPlan::TableScan(scan) => Ok(match Region::of_scan(scan) {
                Some(region) => Grown::Region(Box::new(region)),
                None => Grown::Local(plan),
            }),
            LogicalPlan::Join(join) => {
                let left = self.grow(join.left.as_ref().clone())?;
                let right = self.grow(join.right.as_ref().clone())?;
                match (left, right) {
                    (Grown::Region(left), Grown::Region(right)) => match self.joined(join, &left, &right) {
                        Ok((relation, schema)) => Ok(left.beside(&right, relation, schema, plan.clone()).into()),
                        Err(reason) => {
                            let (left, right) = (left.without("join", &reason), right.without("join", &reason));
                            self.local(plan, vec![left.into(), right.into()])
                        }
                    },
                    (left, right) => self.local(plan, vec![left, right]),
                }
            }
            LogicalPlan::Union(union) => {
                let inputs =
                    union.inputs.iter().map(|input| self.grow(input.as_ref().clone())).collect::<Result<_>>()?;
                self.united(&plan, union, inputs)
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
            | LogicalPlan::Projection(Projection { input, .. })
            | LogicalPlan::Filter(Filter { input, .. })
            | LogicalPlan::Sort(Sort { input, .. })
            | LogicalPlan::Limit(Limit { input, .. })
            | LogicalPlan::Distinct(Distinct::All(input)) => match self.grow(input.as_ref().clone())? {
                Grown::Region(region) => self.unary(plan, *region),
                local => self.local(plan, vec![local]),
            },
            LogicalPlan::Aggregate(aggregate) => match self.grow(aggregate.input.as_ref().clone())? {
                Grown::Region(region) => match super::aggregate::aggregated(aggregate, &region) {
                    Ok(grouped) if above == Above::Combined && self.reduces_little(aggregate, &region, &grouped) => {
                        let reason = "there are nearly as many groups as rows, and they are only combined";
                        self.local(plan, vec![region.without("aggregate", reason).into()])
                    }
                    Ok(grouped) => {
                        let repeats = self.repeated.contains(&grouped.relation);
                        let needed = if repeats { Needed::Again } else { Needed::Once };
                        let region = Region { needed, ..*region };
                        let grown = match self.in_parts(aggregate, &region, &grouped, above)? {
                            Some(merged) => Grown::Local(merged),
                            None => self.aggregated(&plan, region, grouped)?,
                        };
                        if repeats { self.finish(grown).map(Grown::Local) } else { Ok(grown) }
                    }
                    Err(reason) => self.local(plan, vec![region.without("aggregate", &reason).into()]),
                },
                local => self.local(plan, vec![local]),
            },
            LogicalPlan::Window(window) => match self.grow(window.input.as_ref().clone())? {
                Grown::Region(region) => {
                    let noted = region.without("window", "functions over windows are evaluated locally");
                    self.local(plan, vec![noted.into()])
                }
                local => self.local(plan, vec![local]),
            },
            _ => {
                let inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
                let inputs = inputs.into_iter().map(|input| self.grow(input)).collect::<Result<_>>()?;
                self.local(plan, inputs)
            }
        }
    }

    /// The join as one relation, or why there is none.
    fn joined(
        &self,
        join: &Join,
        left: &Region,
        right: &Region,
    ) -> std::result::Result<(Relation, DFSchemaRef), Reason> {
        let tested_by = match join.join_type {
            JoinType::LeftSemi => Some(right),
            JoinType::RightSemi => Some(left),
            _ => None,
        };
        // Sources judge badly how few groups a condition on them leaves. Read first, they are keys, and what they test is looked up.
        if self.reach == Reach::SeveralSources && tested_by.is_some_and(|region| is_having(&region.relation)) {
            return Err("the groups that it tests for are read first, for their keys".to_owned());
        }
        super::join::joined(join, left, right)
    }

    /// An operator over one region: it joins, or it stays above.
    fn unary(&mut self, plan: LogicalPlan, region: Region) -> Result<Grown> {
        match &plan {
            LogicalPlan::SubqueryAlias(alias) => {
                let (relation, schema) = (region.relation.clone(), Arc::clone(&alias.schema));
                Ok(region.grown(relation, schema, plan).into())
            }
            LogicalPlan::Projection(projection) => match region.projected(projection) {
                Ok(relation) => {
                    let schema = Arc::clone(&projection.schema);
                    Ok(region.grown(relation, schema, plan).into())
                }
                Err(reason) => self.local(plan, vec![region.without("projection", &reason).into()]),
            },
            LogicalPlan::Filter(filter) => self.filtered(plan.clone(), filter, region),
            LogicalPlan::Sort(Sort { expr, fetch: Some(rows), .. }) => {
                let region = match region.first(expr, *rows as u64) {
                    Ok(Some(relation)) => Region { relation, ..region },
                    Ok(None) => region,
                    Err(reason) => region.without("top-N", &reason),
                };
                self.local(plan, vec![region.into()])
            }
            LogicalPlan::Limit(limit) if region.is_worth_it() => {
                let region = match (limit.get_skip_type()?, limit.get_fetch_type()?) {
                    (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) => {
                        region.cut((skip as u64).saturating_add(fetch as u64))
                    }
                    _ => region,
                };
                self.local(plan, vec![region.into()])
            }
            LogicalPlan::Distinct(_) => {
                let keys: Vec<Expr> = (0..region.relation.columns().len()).map(Expr::Column).collect();
                let columns = region.relation.columns();
                match keys.iter().try_for_each(|key| region.capabilities().groups(key, columns)) {
                    Ok(()) => {
                        let (relation, schema) =
                            (region.relation.clone().aggregate(keys, vec![]), Arc::clone(&region.schema));
                        Ok(region.grown(relation, schema, plan).into())
                    }
                    Err(reason) => self.local(plan, vec![region.without("DISTINCT", &reason).into()]),
                }
            }
            _ => self.local(plan, vec![region.into()]),
        }
    }

    /// The conjuncts that the source decides go down; the others stay above, even where a superset of them goes down too.
    fn filtered(&mut self, plan: LogicalPlan, filter: &Filter, region: Region) -> Result<Grown> {
        let (mut below, mut above, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for conjunct in split_conjunction(&filter.predicate) {
            match region.translate(conjunct) {
                Ok(translated) => {
                    let offer = region.capabilities().offer_over(&translated, region.relation.columns());
                    if offer.support != Support::Exact {
                        above.push(conjunct.clone());
                        reasons.push(offer.reason);
                    }
                    below.extend(offer.filter);
                }
                Err(reason) => {
                    above.push(conjunct.clone());
                    reasons.push(reason);
                }
            }
        }
        // A scan of its own says so itself of the filters that were handed to it.
        let is_said = |conjunct: &Logical| {
            !region.is_worth_it()
                && matches!(&region.plan, LogicalPlan::TableScan(scan) if scan.filters.contains(conjunct))
        };
        let unsaid = above.iter().zip(&reasons).filter(|(conjunct, _)| !is_said(conjunct));
        let unsaid: Vec<&Reason> = unsaid.map(|(_, reason)| reason).collect();
        let region = unsaid.into_iter().fold(region, |region, reason| region.without("filter", reason));
        let relation = region.relation.clone().filter(below);
        if relation.literals() > region.capabilities().max_binds() {
            return self.local(plan, vec![region.into()]);
        }
        let schema = Arc::clone(&region.schema);
        match conjunction(above) {
            None => Ok(region.grown(relation, schema, plan).into()),
            Some(_) if !region.is_worth_it() => self.local(plan, vec![region.into()]),
            Some(above) => {
                let narrowed = Region { relation, ..region };
                let input = Arc::new(self.finish(narrowed.into())?);
                let local = LogicalPlan::Filter(Filter::try_new(above, input)?);
                self.with_subqueries(local).map(Grown::Local)
            }
        }
    }

    fn united(&mut self, plan: &LogicalPlan, union: &Union, inputs: Vec<Grown>) -> Result<Grown> {
        let regions: Option<Vec<&Region>> = inputs
            .iter()
            .map(|input| match input {
                Grown::Region(region) => Some(region.as_ref()),
                Grown::Local(_) => None,
            })
            .collect();
        let united = regions
            .filter(|regions| regions.windows(2).all(|pair| pair[0].is_of_one_source(pair[1])))
            .and_then(|regions| {
                let relation = Relation::union_all(regions.iter().map(|region| region.relation.clone()).collect())?;
                let (first, others) = regions.split_first()?;
                let mut region = first.grown_checked(relation, Arc::clone(&union.schema), plan.clone()).ok()?;
                region.tables.extend(others.iter().flat_map(|other| other.tables.iter().cloned()));
                Some(region)
            });
        match united {
            Some(region) => Ok(region.into()),
            None => self.local(plan.clone(), inputs),
        }
    }

    /// An aggregate over a region: whole, or with the division of averages above it.
    fn aggregated(&mut self, plan: &LogicalPlan, region: Region, grouped: super::aggregate::Grouped) -> Result<Grown> {
        let super::aggregate::Grouped { relation, fields, outputs, schema } = grouped;
        let groups = match self.partial.iter().any(|partial| Arc::ptr_eq(partial, &schema)) {
            true => Groups::Merged,
            false => Groups::Whole,
        };
        if outputs.is_none() {
            return Ok(Region { groups, ..region.grown(relation, schema, plan.clone()) }.into());
        }
        let (scan, columns) = self.scan(&Region { relation, ..region }, fields, estimate(plan).rows, None)?;
        let outputs = outputs.unwrap_or_default();
        let exprs = outputs.iter().map(|output| output.expr(&columns)).collect();
        Ok(Grown::Local(renamed(exprs, scan, &schema)?))
    }

    /// Whether distinct rows are nearly as many as the rows, so that their source takes longer to find them than to send all.
    fn reduces_little(&self, aggregate: &Aggregate, region: &Region, grouped: &super::aggregate::Grouped) -> bool {
        const GROUPS_MANY: f64 = 100_000.0;
        const ROWS_PER_GROUP_MIN: f64 = 3.0;
        // What is not known of columns that go together makes the groups too many.
        const ROWS_SENT_MAX: f64 = 5_000_000.0;
        let partial = self.partial.iter().any(|partial| Arc::ptr_eq(partial, &aggregate.schema));
        if partial || !aggregate.aggr_expr.is_empty() {
            return false;
        }
        let rows = estimate(&aggregate.input).rows;
        let groups = estimate(&LogicalPlan::Aggregate(aggregate.clone())).rows;
        groups >= GROUPS_MANY
            && rows <= ROWS_SENT_MAX
            && rows < groups * ROWS_PER_GROUP_MIN
            && !lies_in_groups(&grouped.relation, &region.tables)
    }

    /// An aggregate over a large region whose source is better asked in parts: each part makes its own groups, and they are put together
    /// here. `None` where it is asked whole, as where the source then ships less of it.
    fn in_parts(
        &mut self,
        aggregate: &Aggregate,
        region: &Region,
        grouped: &super::aggregate::Grouped,
        above: Above,
    ) -> Result<Option<LogicalPlan>> {
        let goes_on = match self.reach {
            Reach::OneSource => above != Above::Answer,
            Reach::SeveralSources => above == Above::Cut,
        };
        // Averages are divided here, with all that is above them, and what is needed again is kept here.
        let stays = grouped.outputs.is_some() || matches!(region.needed, Needed::Again);
        if goes_on && !stays {
            return Ok(None);
        }
        let expected = estimate(&LogicalPlan::Aggregate(aggregate.clone())).rows;
        let divides = |groups| division(region, &grouped.relation, groups, expected).is_some();
        let partial = self.partial.iter().any(|partial| Arc::ptr_eq(partial, &aggregate.schema));
        // Groups that no other part has a share of are whole as they are.
        if partial || divides(Groups::Whole) || !divides(Groups::Merged) {
            return Ok(None);
        }
        let Some(two) = two_steps(aggregate)? else { return Ok(None) };
        let Ok(below) = super::aggregate::aggregated(&two.partial, region) else { return Ok(None) };
        if below.outputs.is_some() {
            return Ok(None);
        }
        let (relation, schema) = (below.relation, Arc::clone(&two.partial.schema));
        let plan = LogicalPlan::Aggregate(two.partial.clone());
        let rows = estimate(&plan).rows;
        let partial = Region { groups: Groups::Merged, ..region.grown(relation, schema, plan) };
        let (scan, columns) = self.scan(&partial, below.fields, rows, None)?;
        let scan = renamed(columns, scan, &partial.schema)?;
        two.merged(scan, aggregate).map(Some)
    }

    /// The groups of a region whose keys are bound at run time, as the columns of the aggregate that they are for.
    pub(super) fn bound_scan(
        &mut self,
        region: &Region,
        grouped: super::aggregate::Grouped,
        bound: &Bound,
        aggregate: &datafusion::logical_expr::Aggregate,
    ) -> Result<LogicalPlan> {
        let super::aggregate::Grouped { relation, fields, outputs, .. } = grouped;
        let rows = estimate(&LogicalPlan::Aggregate(aggregate.clone())).rows;
        let region = Region { relation, ..region.clone() };
        let (scan, columns) = self.scan(&region, fields, rows, Some(bound.clone()))?;
        let exprs = match outputs {
            Some(outputs) => outputs.iter().map(|output| output.expr(&columns)).collect(),
            None => columns,
        };
        renamed(exprs, scan, &aggregate.schema)
    }

    /// The operator over finished inputs.
    fn local(&mut self, plan: LogicalPlan, inputs: Vec<Grown>) -> Result<Grown> {
        let inputs: Vec<LogicalPlan> = inputs.into_iter().map(|input| self.finish(input)).collect::<Result<_>>()?;
        let mut inputs = inputs.into_iter();
        use datafusion::common::tree_node::TreeNode;
        let plan = plan.map_children(|child| {
            Ok(match inputs.next() {
                Some(input) => Transformed::yes(input),
                None => Transformed::no(child),
            })
        })?;
        self.with_subqueries(plan.data).map(Grown::Local)
    }

    fn with_subqueries(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let reach = self.reach;
        let plan = plan.map_subqueries(|subquery| self.federate(subquery).map(Transformed::yes))?.data;
        self.reach = reach;
        Ok(plan)
    }

    fn finish(&mut self, grown: Grown) -> Result<LogicalPlan> {
        match grown {
            Grown::Local(plan) => Ok(plan),
            Grown::Region(region) if !region.is_worth_it() => noted(region.plan, &region.notes),
            Grown::Region(region) => {
                let fields =
                    region.schema.fields().iter().map(|field| (field.data_type().clone(), field.is_nullable()));
                let rows = estimate(&region.plan).rows;
                let rows = region.rows_max().map_or(rows, |limit| rows.min(limit as f64));
                let (scan, columns) = self.scan(&region, fields.collect(), rows, None)?;
                renamed(columns, scan, &region.schema)
            }
        }
    }

    /// How the region's statement is divided.
    fn division(&self, region: &Region) -> Option<Division> {
        division(region, &region.relation, region.groups, estimate(&region.plan).rows)
    }

    /// The region as a scan of columns `c0`, `c1`, ...
    fn scan(
        &mut self,
        region: &Region,
        fields: Vec<(DataType, bool)>,
        rows: f64,
        bound: Option<Bound>,
    ) -> Result<(LogicalPlan, Vec<Logical>)> {
        self.finished += 1;
        let name = TableReference::bare(format!("remote_{}", self.finished));
        let named = fields.into_iter().enumerate();
        let fields: Vec<Field> =
            named.map(|(index, (data_type, nullable))| Field::new(format!("c{index}"), data_type, nullable)).collect();
        let columns =
            fields.iter().map(|field| Logical::Column(Column::new(Some(name.clone()), field.name()))).collect();
        let provider = RemoteQuery {
            service: Arc::clone(&region.service),
            relation: region.relation.clone(),
            schema: Arc::new(Schema::new(fields)),
            tables: region.tables.clone(),
            rows,
            cut: None,
            division: bound.is_none().then(|| self.division(region)).flatten(),
            bound,
            notes: region.notes.clone(),
            needed: region.needed,
        };
        let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(provider)), None)?.build()?;
        Ok((scan, columns))
    }
}

pub(super) fn holds_subquery(expr: &Logical) -> bool {
    use datafusion::common::tree_node::TreeNode;
    let is_one =
        |part: &Logical| matches!(part, Logical::ScalarSubquery(_) | Logical::Exists(_) | Logical::InSubquery(_));
    // It fails only where the closure does.
    expr.exists(|part| Ok(is_one(part))).unwrap_or(false)
}

/// Whether the relation is groups that meet a condition.
fn is_having(relation: &Relation) -> bool {
    match relation.node() {
        Node::Project { input, .. } => is_having(input),
        Node::Filter { input, .. } => matches!(input.node(), Node::Aggregate { .. }),
        _ => false,
    }
}

/// The expressions under the names of the plan that they stand for.
pub(super) fn renamed(exprs: Vec<Logical>, input: LogicalPlan, schema: &DFSchemaRef) -> Result<LogicalPlan> {
    let named = exprs
        .into_iter()
        .zip(schema.iter())
        .map(|(expr, (qualifier, field))| expr.alias_qualified(qualifier.cloned(), field.name()))
        .collect();
    let projection = Projection::try_new_with_schema(named, Arc::new(input), Arc::clone(schema))?;
    Ok(LogicalPlan::Projection(projection))
}

/// The plan, whose scan says in EXPLAIN which operators above stay local.
fn noted(plan: LogicalPlan, notes: &[String]) -> Result<LogicalPlan> {
    if notes.is_empty() {
        return Ok(plan);
    }
    use datafusion::common::tree_node::TreeNode;
    let rewritten = plan.transform_down(|plan| {
        let LogicalPlan::TableScan(scan) = &plan else { return Ok(Transformed::no(plan)) };
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = provider.downcast_ref::<RemoteTable>() else { return Ok(Transformed::no(plan)) };
        let source = provider_as_source(Arc::new(table.with_notes(notes)));
        Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan.clone() })))
    })?;
    Ok(rewritten.data)
}

/// The kind of a join and whether its sides change places.
pub(super) fn kind_of(join_type: datafusion::common::JoinType) -> Option<(JoinKind, super::join::Sides)> {
    use super::join::Sides::{AsWritten, Exchanged};
    use datafusion::common::JoinType as T;
    Some(match join_type {
        T::Inner => (JoinKind::Inner, AsWritten),
        T::Left => (JoinKind::Left, AsWritten),
        T::Right => (JoinKind::Left, Exchanged),
        T::LeftSemi => (JoinKind::Semi, AsWritten),
        T::RightSemi => (JoinKind::Semi, Exchanged),
        T::LeftAnti => (JoinKind::Anti, AsWritten),
        T::RightAnti => (JoinKind::Anti, Exchanged),
        _ => return None,
    })
}

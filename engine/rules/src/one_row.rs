//! Lets a subquery that looks a value up be a value.
//!
//! `(SELECT r.name FROM regions r WHERE r.id = c.region)` has one row at most where `r.id` is a key, and must not have more where it is none. DataFusion refuses every subquery that reads from outside and is
//! neither an aggregate nor cut (`check_subquery_expr` of datafusion-expr 55.2), and all of them in ORDER BY, GROUP BY and windows. Here the row becomes a group: by a key the greatest of its one value, else the list of them, of
//! which the query fails where it is read and has more than one, as it does in other databases. Where the value is sorted or grouped by, it is computed beneath.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Column, DFSchema, Dependency, Result, ScalarValue, exec_err, internal_err};
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, FetchType, LogicalPlan, Operator, Projection,
    ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::zeros::{holds, under_their_names};

/// The analyzer rule. It runs once types are settled.
#[derive(Debug, Default)]
pub struct OneRowOfEach;

impl AnalyzerRule for OneRowOfEach {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let looked_up = plan.transform_down_with_subqueries(|node| {
            if !holds(&node, reads_from_outside)? {
                return Ok(Transformed::no(node));
            }
            let grouped = under_their_names(node, |expr| expr.transform_up(of_one_row))?;
            grouped.transform_data(computed_beneath)
        })?;
        Ok(looked_up.data)
    }

    fn name(&self) -> &str {
        "headwater_one_row_of_each"
    }
}

fn reads_from_outside(part: &Expr) -> bool {
    matches!(part, Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty())
}

/// The value of a subquery's row as that of a group.
fn of_one_row(part: Expr) -> Result<Transformed<Expr>> {
    let Expr::ScalarSubquery(subquery) = part else { return Ok(Transformed::no(part)) };
    let rows = &subquery.subquery;
    let is_one = is_group(rows) || is_cut(rows)?;
    if subquery.outer_ref_columns.is_empty() || is_one || rows.schema().fields().len() != 1 {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    }
    let (is_looked_up, data_type) = (is_by_key(rows), rows.schema().field(0).data_type().clone());
    let value = vec![Expr::Column(Column::from(rows.schema().qualified_field(0)))];
    let group = match is_looked_up {
        true if has_greatest(&data_type) => max_udaf().call(value),
        true => first_value_udaf().call(value),
        false => array_agg_udaf().call(value),
    };
    let name = Column::from_name(group.schema_name().to_string());
    let groups = Arc::new(LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(rows), vec![], vec![group])?));
    // What is compared may be the value itself, and has its name.
    let named = Expr::Column(name).alias("__looked_up");
    let rows = Arc::new(LogicalPlan::Projection(Projection::try_new(vec![named], groups)?));
    let looked_up = Expr::ScalarSubquery(Subquery { subquery: rows, ..subquery });
    Ok(Transformed::yes(match is_looked_up {
        true => looked_up,
        false => Arc::new(ScalarUDF::from(OnlyValue::default())).call(vec![looked_up]),
    }))
}

/// Whether the subquery is an aggregate, which is looked at elsewhere.
pub(crate) fn is_group(rows: &LogicalPlan) -> bool {
    match rows {
        LogicalPlan::Projection(projection) => is_group(&projection.input),
        LogicalPlan::SubqueryAlias(named) => is_group(&named.input),
        LogicalPlan::Filter(filter) => matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_)),
        LogicalPlan::Aggregate(_) => true,
        _ => false,
    }
}

/// Whether the rows are cut to one, or are the row of a query that reads nothing.
fn is_cut(rows: &LogicalPlan) -> Result<bool> {
    match rows {
        LogicalPlan::Projection(projection) => is_cut(&projection.input),
        LogicalPlan::SubqueryAlias(named) => is_cut(&named.input),
        LogicalPlan::Filter(filter) => is_cut(&filter.input),
        LogicalPlan::Limit(limit) => Ok(matches!(limit.get_fetch_type()?, FetchType::Literal(Some(0 | 1)))),
        LogicalPlan::EmptyRelation(_) => Ok(true),
        _ => Ok(false),
    }
}

/// Whether the rows' key is compared with what is outside, or with constants.
fn is_by_key(rows: &LogicalPlan) -> bool {
    let filter = match rows {
        LogicalPlan::Projection(projection) => return is_by_key(&projection.input),
        LogicalPlan::SubqueryAlias(named) => return is_by_key(&named.input),
        LogicalPlan::Filter(filter) => filter,
        _ => return false,
    };
    let schema = filter.input.schema();
    let known: Vec<usize> = split_conjunction(&filter.predicate)
        .into_iter()
        .filter_map(|condition| compared(condition, schema))
        .filter_map(|column| schema.maybe_index_of_column(column))
        .collect();
    let keys = schema.functional_dependencies();
    keys.iter().any(|key| {
        key.mode == Dependency::Single && !key.nullable && key.source_indices.iter().all(|index| known.contains(index))
    })
}

/// The column that is equal to something that is the same for all rows.
fn compared<'a>(condition: &'a Expr, schema: &DFSchema) -> Option<&'a Column> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let is_same = |expr: &Expr| expr.column_refs().is_empty() && !expr.is_volatile();
    match (bare(left, schema), bare(right, schema)) {
        (Some(column), _) if is_same(right) => Some(column),
        (_, Some(column)) if is_same(left) => Some(column),
        _ => None,
    }
}

/// A column, or one of whole numbers as another type, in which they stay different.
fn bare<'a>(expr: &'a Expr, schema: &DFSchema) -> Option<&'a Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() || is_wide(field.data_type()) => {
            bare(expr, schema).filter(|_| expr.get_type(schema).is_ok_and(|from| from.is_integer()))
        }
        _ => None,
    }
}

/// Whether it is a decimal that has every whole number of 64 bits.
fn is_wide(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(precision, scale) if i16::from(*precision) - i16::from(*scale) >= 20)
}

/// Whether sources know the greatest of such values.
fn has_greatest(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_decimal()
        || matches!(data_type, DataType::Utf8 | DataType::Date32 | DataType::Timestamp(..))
}

/// Where DataFusion takes no such value (all but projections and conditions): the operator over rows that have it.
fn computed_beneath(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let input = match &node {
        LogicalPlan::Sort(sort) => Arc::clone(&sort.input),
        LogicalPlan::Aggregate(groups) => Arc::clone(&groups.input),
        LogicalPlan::Window(window) => Arc::clone(&window.input),
        _ => return Ok(Transformed::no(node)),
    };
    let mut values: Vec<Expr> = Vec::new();
    node.apply_expressions(|expr| {
        expr.apply(|part| {
            if reads_from_outside(part) && !values.contains(part) {
                values.push(part.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    let name = |index: usize| format!("__looked_up_{index}");
    let computed = values.iter().enumerate().map(|(index, value)| value.clone().alias(name(index)));
    let rows = match input.as_ref() {
        // What is sorted by need not be selected.
        LogicalPlan::Projection(selected)
            if !knows_outside(&input, &values) && knows_outside(&selected.input, &values) =>
        {
            let columns = selected.expr.iter().cloned().chain(computed).collect();
            LogicalPlan::Projection(Projection::try_new(columns, Arc::clone(&selected.input))?)
        }
        _ => {
            let columns = input.schema().columns().into_iter().map(Expr::Column).chain(computed).collect();
            LogicalPlan::Projection(Projection::try_new(columns, input)?)
        }
    };
    let shown: Vec<Expr> = node.schema().columns().into_iter().map(Expr::Column).collect();
    let named = under_their_names(node, |expr| {
        expr.transform_down(|part| {
            let place = values.iter().position(|value| *value == part);
            Ok(match place {
                Some(place) => Transformed::yes(Expr::Column(Column::from_name(name(place)))),
                None => Transformed::no(part),
            })
        })
    })?;
    let exprs = named.data.expressions();
    let over = named.data.with_new_exprs(exprs, vec![rows])?;
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(over))?)))
}

/// Whether the rows have all columns that the subqueries read from outside.
fn knows_outside(rows: &LogicalPlan, values: &[Expr]) -> bool {
    let read = values.iter().filter_map(|value| match value {
        Expr::ScalarSubquery(subquery) => Some(&subquery.outer_ref_columns),
        _ => None,
    });
    read.flatten().all(|column| match column {
        Expr::OuterReferenceColumn(_, column) => rows.schema().has_column(column),
        _ => true,
    })
}

/// The one value of a list; NULL of none.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyValue {
    signature: Signature,
}

impl Default for OnlyValue {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OnlyValue {
    fn name(&self) -> &str {
        "headwater_only_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [DataType::List(item)] => Ok(item.data_type().clone()),
            other => internal_err!("the only value is of a list and not of {other:?}"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let [lists] = take_function_args(self.name(), args.args)?;
        let values = only_values(&lists.to_array(rows)?)?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?),
            false => ColumnarValue::Array(values),
        })
    }
}

fn only_values(lists: &ArrayRef) -> Result<ArrayRef> {
    let lists = lists.as_list::<i32>();
    let place = |row: usize| {
        let length = if lists.is_valid(row) { lists.value_length(row) } else { 0 };
        match length {
            0 => Ok(None),
            1 => Ok(u32::try_from(lists.value_offsets()[row]).ok()),
            _ => exec_err!(
                "a subquery that is a value has {length} rows for one row of the query around it; add a condition, an aggregate, or ORDER BY and LIMIT 1"
            ),
        }
    };
    let places = (0..lists.len()).map(place).collect::<Result<UInt32Array>>()?;
    Ok(take(lists.values(), &places, None)?)
}

//! Aggregates over a region.
//!
//! An average is asked for as sum and count; the division is the engine's own ([`mean`]).

use arrow::datatypes::DataType;
use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::expr::AggregateFunction as Call;
use datafusion::logical_expr::{Aggregate as Logical, Expr as LogicalExpr};
use headwater_source::{Aggregate, AggregateFunction, Expr, Function, Relation, ValueClass};

use super::grown::{Reason, Region, check_types};
use super::mean::mean;

/// A region grouped.
pub(super) struct Grouped {
    pub(super) relation: Relation,
    /// Types and nullability of the relation's columns.
    pub(super) fields: Vec<(DataType, bool)>,
    /// What makes the aggregate's columns of the relation's; `None` where they are the same.
    pub(super) outputs: Option<Vec<Output>>,
    pub(super) schema: DFSchemaRef,
}

/// A column of the aggregate.
pub(super) enum Output {
    /// A column of the relation.
    Column(usize),
    /// The quotient of two.
    Mean { sum: usize, count: usize, data_type: DataType },
}

impl Output {
    /// The column over the relation's.
    pub(super) fn expr(&self, columns: &[LogicalExpr]) -> LogicalExpr {
        match self {
            Self::Column(index) => columns[*index].clone(),
            Self::Mean { sum, count, data_type } => {
                mean(columns[*sum].clone(), columns[*count].clone(), data_type.clone())
            }
        }
    }
}

/// The aggregate as a relation, or why there is none.
pub(super) fn aggregated(aggregate: &Logical, region: &Region) -> Result<Grouped, Reason> {
    let columns = region.relation.columns();
    let mut keys = Vec::with_capacity(aggregate.group_expr.len());
    for key in &aggregate.group_expr {
        if matches!(key, LogicalExpr::GroupingSet(_)) {
            return Err("grouping sets are done locally".to_owned());
        }
        let key = region.translate(key)?;
        region.capabilities().groups(&key, columns)?;
        keys.push(key);
    }
    let schema = &aggregate.schema;
    let field = |index: usize| (schema.field(index).data_type().clone(), schema.field(index).is_nullable());
    let mut fields: Vec<(DataType, bool)> = (0..keys.len()).map(field).collect();
    let mut outputs: Vec<Output> = (0..keys.len()).map(Output::Column).collect();
    let mut aggregates = Vec::new();
    let mut averages = false;
    for (index, call) in aggregate.aggr_expr.iter().enumerate() {
        let (data_type, nullable) = field(keys.len() + index);
        let call = called(call)?;
        let next = keys.len() + aggregates.len();
        if call.func.name() == "avg" {
            averages = true;
            let [sum, count] = sum_and_count(call, region)?;
            fields.extend([(sum.data_type.clone(), true), (DataType::Int64, false)]);
            aggregates.extend([sum, count]);
            outputs.push(Output::Mean { sum: next, count: next + 1, data_type });
        } else {
            aggregates.push(plain(call, region, data_type.clone())?);
            fields.push((data_type, nullable));
            outputs.push(Output::Column(next));
        }
    }
    for aggregate in &aggregates {
        region.capabilities().aggregates(aggregate, columns)?;
    }
    let relation = region.relation.clone().aggregate(keys, aggregates);
    if relation.literals() > region.capabilities().max_binds() {
        return Err("the statement would hold too many values".to_owned());
    }
    let outputs = if averages { Some(outputs) } else { None };
    match outputs {
        None => check_types(&relation, schema)?,
        Some(_) => check_sums(&relation, &fields)?,
    }
    Ok(Grouped { relation, fields, outputs, schema: schema.clone() })
}

fn called(expr: &LogicalExpr) -> Result<&Call, Reason> {
    match expr {
        LogicalExpr::Alias(alias) => called(&alias.expr),
        LogicalExpr::AggregateFunction(call) => Ok(call),
        other => Err(format!("{} is aggregated locally", other.variant_name())),
    }
}

fn plain(call: &Call, region: &Region, data_type: DataType) -> Result<Aggregate, Reason> {
    let params = &call.params;
    if !params.order_by.is_empty() || params.null_treatment.is_some() {
        return Err("an ordered aggregate is done locally".to_owned());
    }
    let condition = params.filter.as_ref().map(|filter| region.translate(filter)).transpose()?;
    let function = match (call.func.name(), params.distinct) {
        ("count", false) => AggregateFunction::Count,
        ("count", true) => AggregateFunction::CountDistinct,
        ("sum", false) => AggregateFunction::Sum,
        ("min", _) => AggregateFunction::Min,
        ("max", _) => AggregateFunction::Max,
        (name, _) => return Err(format!("{name} is aggregated locally")),
    };
    let arg = match params.args.as_slice() {
        [LogicalExpr::Literal(value, _)] if function == AggregateFunction::Count && !value.is_null() => None,
        [arg] => Some(region.translate(arg)?),
        _ => return Err(format!("{} of several values is done locally", call.func.name())),
    };
    if let Some(Expr::Literal(_)) = arg {
        return Err("an aggregate of a constant is done locally".to_owned());
    }
    Ok(Aggregate { function, arg, condition, data_type })
}

/// What an average is made of. Integers are averaged as floats, which hold their sums exactly as long as they are of 32 bits.
fn sum_and_count(call: &Call, region: &Region) -> Result<[Aggregate; 2], Reason> {
    let params = &call.params;
    if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
        return Err("such an average is done locally".to_owned());
    }
    let condition = params.filter.as_ref().map(|filter| region.translate(filter)).transpose()?;
    let [arg] = params.args.as_slice() else { return Err("an average of several values".to_owned()) };
    let arg = match arg {
        LogicalExpr::Cast(cast) if *cast.field.data_type() == DataType::Float64 => region.translate(&cast.expr)?,
        other => region.translate(other)?,
    };
    let (arg, data_type) = match arg.describe(region.relation.columns()).data_type {
        DataType::Decimal128(precision, scale) => {
            /// The digits that DataFusion's sum of decimals has more than its argument.
            const SUM_DIGITS: u8 = 10;
            (arg, DataType::Decimal128((precision + SUM_DIGITS).min(38), scale))
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            (Expr::call(Function::Widen, vec![arg], DataType::Int64), DataType::Int64)
        }
        other => return Err(format!("avg of {other} is done locally")),
    };
    let of =
        |function, data_type| Aggregate { function, arg: Some(arg.clone()), condition: condition.clone(), data_type };
    Ok([of(AggregateFunction::Sum, data_type), of(AggregateFunction::Count, DataType::Int64)])
}

/// A sum that may have wrapped round has no mean.
fn check_sums(relation: &Relation, fields: &[(DataType, bool)]) -> Result<(), Reason> {
    for (column, (data_type, _)) in relation.columns().iter().zip(fields) {
        if column.data_type != *data_type {
            return Err("the types differ".to_owned());
        }
        if column.class == ValueClass::Total {
            return Err("the sum of an average may leave its type's range".to_owned());
        }
    }
    Ok(())
}

//! The keys of a join's other side, as a filter for the source.
//!
//! DataFusion's hash join knows the keys of its build side before it reads its probe side, and tells them in a dynamic filter: their
//! range, and while they are few the keys themselves. [`key_filter`] turns what such a filter says into an expression that may
//! travel. It may be weaker than the dynamic filter, never stronger: the join itself drops what does not match.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr, Literal,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use headwater_rules::other_zero;
use headwater_source::{ColumnDef, CompareOp, Expr};

use crate::subqueries::{is_constant, value_of};

/// What a dynamic filter says of a scan's rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum KeyFilter {
    /// Nothing that a source could use.
    Nothing,
    /// No row can match: nothing need be asked.
    NoRow,
    /// Only rows for which this is true can match.
    Rows(Expr, Reach),
}

/// What a filter of keys says of the rows that it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Each of them has a partner in the join.
    Complete,
    /// Some of them may have none.
    Weaker,
}

impl Reach {
    /// Of two conditions that both must hold: where one is complete, the other takes nothing from it.
    fn of_both(self, other: Self) -> Self {
        if self == Self::Complete || other == Self::Complete { Self::Complete } else { Self::Weaker }
    }

    fn of_either(self, other: Self) -> Self {
        if self == Self::Complete && other == Self::Complete { Self::Complete } else { Self::Weaker }
    }
}

/// Reads a dynamic filter over rows whose columns are those of `columns` at the places of `projection`.
pub(crate) fn key_filter(filter: &Arc<dyn PhysicalExpr>, columns: &[ColumnDef], projection: &[usize]) -> KeyFilter {
    let places: Vec<Option<usize>> = projection.iter().copied().map(Some).collect();
    Reader { columns, places: &places, of: Teller::Join }.read(filter)
}

/// Reads the filter of a sort, or a condition on subqueries' values, over rows of which not all columns are of `columns`: the others have no place.
pub(crate) fn row_filter(filter: &Arc<dyn PhysicalExpr>, columns: &[ColumnDef], places: &[Option<usize>]) -> KeyFilter {
    Reader { columns, places, of: Teller::Row }.read(filter)
}

/// Whether a condition on subqueries' values will say anything once they are known.
pub(crate) fn may_filter(condition: &Arc<dyn PhysicalExpr>, columns: &[ColumnDef], places: &[Option<usize>]) -> bool {
    Reader { columns, places, of: Teller::Row }.may_read(condition)
}

/// Which of `columns` a sort's key is, if its filter can say anything of it.
pub(crate) fn order_column(
    key: &Arc<dyn PhysicalExpr>,
    columns: &[ColumnDef],
    places: &[Option<usize>],
) -> Option<usize> {
    Reader { columns, places, of: Teller::Row }.column(key)
}

/// How many key values a filter holds.
pub(crate) fn keys_of(filter: &Expr) -> usize {
    match filter {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().map(keys_of).sum(),
        Expr::InList { values, .. } => values.len(),
        Expr::Compare { op: CompareOp::Equal, .. } => 1,
        _ => 0,
    }
}

/// The filter with each list of keys as the range that they span.
pub(crate) fn range_of_keys(filter: Expr) -> Expr {
    match filter {
        Expr::And(parts) => Expr::And(parts.into_iter().map(range_of_keys).collect()),
        Expr::Or(parts) => Expr::Or(parts.into_iter().map(range_of_keys).collect()),
        // Invariant: `sorted` put them in order.
        Expr::InList { expr, values, negated: false } if values.len() > 2 => {
            let bound = |op, value: &ScalarValue| Expr::compare(op, (*expr).clone(), Expr::Literal(value.clone()));
            let (first, last) = (&values[0], &values[values.len() - 1]);
            Expr::And(vec![bound(CompareOp::GreaterOrEqual, first), bound(CompareOp::LessOrEqual, last)])
        }
        other => other,
    }
}

struct Reader<'a> {
    columns: &'a [ColumnDef],
    places: &'a [Option<usize>],
    of: Teller,
}

/// Whose filter is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Teller {
    /// It says which keys there are. Where NULL is one of them it says nothing: its list is weighed, and found by an index, as a list of values alone.
    Join,
    /// It says which rows there are, or may still be wanted.
    Row,
}

impl Reader<'_> {
    fn read(&self, filter: &Arc<dyn PhysicalExpr>) -> KeyFilter {
        if let Some(dynamic) = filter.downcast_ref::<DynamicFilterPhysicalExpr>() {
            return dynamic.current().map_or(KeyFilter::Nothing, |current| self.read(&current));
        }
        if let Some(literal) = filter.downcast_ref::<Literal>() {
            return match literal.value() {
                ScalarValue::Boolean(Some(false)) => KeyFilter::NoRow,
                _ => KeyFilter::Nothing,
            };
        }
        if let Some(binary) = filter.downcast_ref::<BinaryExpr>() {
            return self.binary(binary);
        }
        if let Some(case) = filter.downcast_ref::<CaseExpr>() {
            return self.case(case);
        }
        if let Some(list) = filter.downcast_ref::<InListExpr>() {
            return self.in_list(list);
        }
        match self.of {
            Teller::Join => KeyFilter::Nothing,
            Teller::Row => self.nullness(filter),
        }
    }

    fn nullness(&self, filter: &Arc<dyn PhysicalExpr>) -> KeyFilter {
        let is_null = filter.downcast_ref::<IsNullExpr>().map(IsNullExpr::arg);
        let is_not_null = filter.downcast_ref::<IsNotNullExpr>().map(IsNotNullExpr::arg);
        let column = |tested| self.column(tested).map(|index| Box::new(Expr::Column(index)));
        let test =
            is_null.and_then(column).map(Expr::IsNull).or_else(|| is_not_null.and_then(column).map(Expr::IsNotNull));
        test.map_or(KeyFilter::Nothing, |test| KeyFilter::Rows(test, Reach::Weaker))
    }

    fn binary(&self, binary: &BinaryExpr) -> KeyFilter {
        match binary.op() {
            Operator::And => both(self.read(binary.left()), self.read(binary.right())),
            Operator::Or => either(self.read(binary.left()), self.read(binary.right())),
            _ if self.of == Teller::Row => self.comparison(binary),
            Operator::GtEq => self.bound(CompareOp::GreaterOrEqual, binary),
            Operator::LtEq => self.bound(CompareOp::LessOrEqual, binary),
            _ => KeyFilter::Nothing,
        }
    }

    fn may_read(&self, condition: &Arc<dyn PhysicalExpr>) -> bool {
        let Some(binary) = condition.downcast_ref::<BinaryExpr>() else {
            return self.read(condition) != KeyFilter::Nothing;
        };
        let (left, right) = (binary.left(), binary.right());
        match binary.op() {
            Operator::And => self.may_read(left) || self.may_read(right),
            Operator::Or => self.may_read(left) && self.may_read(right),
            Operator::Eq | Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq => {
                let compares = |column, value| self.column(column).is_some() && is_constant(value);
                compares(left, right) || compares(right, left)
            }
            _ => false,
        }
    }

    fn comparison(&self, binary: &BinaryExpr) -> KeyFilter {
        let is_turned = self.column(binary.left()).is_none();
        let (column, value) = if is_turned { (binary.right(), binary.left()) } else { (binary.left(), binary.right()) };
        let op = match if is_turned { binary.op().swap() } else { Some(*binary.op()) } {
            Some(Operator::Gt) => CompareOp::Greater,
            Some(Operator::GtEq) => CompareOp::GreaterOrEqual,
            Some(Operator::Lt) => CompareOp::Less,
            Some(Operator::LtEq) => CompareOp::LessOrEqual,
            Some(Operator::Eq) => CompareOp::Equal,
            _ => return KeyFilter::Nothing,
        };
        match (self.column(column), literal(value).or_else(|| value_of(value))) {
            // Nothing compares to NULL.
            (Some(_), Some(value)) if value.is_null() => KeyFilter::NoRow,
            (Some(index), Some(value)) => self.bounded(op, index, &value),
            _ => KeyFilter::Nothing,
        }
    }

    /// A partitioned join picks the branch by a hash of the key; a row may match if any branch lets it through.
    fn case(&self, case: &CaseExpr) -> KeyFilter {
        let branches = case.when_then_expr().iter().map(|(_, then)| then);
        let Some(rest) = case.else_expr() else { return KeyFilter::Nothing };
        branches.chain([rest]).map(|branch| self.read(branch)).reduce(either).unwrap_or(KeyFilter::Nothing)
    }

    fn bound(&self, op: CompareOp, binary: &BinaryExpr) -> KeyFilter {
        match self.column(binary.left()).zip(literal(binary.right())) {
            Some((index, value)) => self.bounded(op, index, &value),
            None => KeyFilter::Nothing,
        }
    }

    fn bounded(&self, op: CompareOp, index: usize, value: &ScalarValue) -> KeyFilter {
        match as_type(value, &self.columns[index].data_type) {
            Some(value) => KeyFilter::Rows(Expr::compare(op, Expr::Column(index), Expr::Literal(value)), Reach::Weaker),
            // A bound that the column's own type has not bounds nothing.
            None => KeyFilter::Nothing,
        }
    }

    fn in_list(&self, list: &InListExpr) -> KeyFilter {
        if list.negated() {
            return KeyFilter::Nothing;
        }
        let Some(values) = list.list().iter().map(literal).collect::<Option<Vec<ScalarValue>>>() else {
            return KeyFilter::Nothing;
        };
        if let Some(index) = self.column(list.expr()) {
            return self.one_of(index, &values);
        }
        match list.expr().downcast_ref::<ScalarFunctionExpr>() {
            Some(function) if function.name() == "struct" => self.one_of_each(function.args(), &values),
            _ => KeyFilter::Nothing,
        }
    }

    fn one_of(&self, index: usize, values: &[ScalarValue]) -> KeyFilter {
        let data_type = &self.columns[index].data_type;
        let mut distinct: HashSet<ScalarValue> = values
            .iter()
            // A key that the column's type can't hold matches none of its values.
            .filter_map(|value| as_type(value, data_type))
            .collect();
        // The join has 0.0 and -0.0 equal; a list may be compared by bits.
        let zeros: Vec<ScalarValue> = distinct.iter().filter_map(other_zero).collect();
        distinct.extend(zeros);
        if distinct.is_empty() {
            return KeyFilter::NoRow;
        }
        let expr = Box::new(Expr::Column(index));
        KeyFilter::Rows(Expr::InList { expr, values: sorted(distinct), negated: false }, Reach::Complete)
    }

    /// Keys of several columns: each column on its own, which lets more rows through than the pairs would.
    fn one_of_each(&self, columns: &[Arc<dyn PhysicalExpr>], values: &[ScalarValue]) -> KeyFilter {
        let part = |position: usize, column: &Arc<dyn PhysicalExpr>| {
            let index = self.column(column)?;
            let values = values.iter().map(|value| field(value, position)).collect::<Option<Vec<_>>>()?;
            Some(self.one_of(index, &values))
        };
        let parts = columns.iter().enumerate().filter_map(|(position, column)| part(position, column));
        match parts.reduce(both) {
            Some(KeyFilter::Rows(filter, _)) => KeyFilter::Rows(filter, Reach::Weaker),
            other => other.unwrap_or(KeyFilter::Nothing),
        }
    }

    /// The table's column behind an expression: itself, or a cast of a whole number or a decimal to a type that has all of its values.
    fn column(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
        if let Some(column) = expr.downcast_ref::<Column>() {
            return self.places.get(column.index()).copied().flatten();
        }
        let cast = expr.downcast_ref::<CastExpr>()?;
        let index = self.column(cast.expr())?;
        widens(&self.columns[index].data_type, cast.cast_type()).then_some(index)
    }
}

fn both(left: KeyFilter, right: KeyFilter) -> KeyFilter {
    match (left, right) {
        (KeyFilter::NoRow, _) | (_, KeyFilter::NoRow) => KeyFilter::NoRow,
        (KeyFilter::Nothing, other) | (other, KeyFilter::Nothing) => other,
        (KeyFilter::Rows(left, a), KeyFilter::Rows(right, b)) => {
            KeyFilter::Rows(conjunction(left, right), a.of_both(b))
        }
    }
}

fn either(left: KeyFilter, right: KeyFilter) -> KeyFilter {
    match (left, right) {
        (KeyFilter::Nothing, _) | (_, KeyFilter::Nothing) => KeyFilter::Nothing,
        (KeyFilter::NoRow, other) | (other, KeyFilter::NoRow) => other,
        (KeyFilter::Rows(left, a), KeyFilter::Rows(right, b)) => {
            KeyFilter::Rows(disjunction(left, right), a.of_either(b))
        }
    }
}

/// A list of keys makes their range superfluous.
fn conjunction(left: Expr, right: Expr) -> Expr {
    let mut parts = Vec::new();
    for side in [left, right] {
        match side {
            Expr::And(inner) => parts.extend(inner),
            other => parts.push(other),
        }
    }
    let listed: HashSet<usize> = parts.iter().filter_map(listed_column).collect();
    parts.retain(|part| !matches!(part, Expr::Compare { left, .. } if matches!(**left, Expr::Column(index) if listed.contains(&index))));
    if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) }
}

/// Lists of keys of one column make one list.
fn disjunction(left: Expr, right: Expr) -> Expr {
    match (left, right) {
        (Expr::InList { expr, values, negated: false }, Expr::InList { expr: other, values: more, negated: false })
            if expr == other =>
        {
            let distinct: HashSet<ScalarValue> = values.into_iter().chain(more).collect();
            Expr::InList { expr, values: sorted(distinct), negated: false }
        }
        (left, right) => Expr::Or(vec![left, right]),
    }
}

/// In order: the same keys make the same statement, and an index is walked one way.
fn sorted(values: HashSet<ScalarValue>) -> Vec<ScalarValue> {
    let mut values: Vec<ScalarValue> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values
}

fn listed_column(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::InList { expr, .. } => match **expr {
            Expr::Column(index) => Some(index),
            _ => None,
        },
        _ => None,
    }
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    expr.downcast_ref::<Literal>().map(|literal| literal.value().clone())
}

fn field(value: &ScalarValue, position: usize) -> Option<ScalarValue> {
    match value {
        ScalarValue::Struct(row) => ScalarValue::try_from_array(row.column(position), 0).ok(),
        _ => None,
    }
}

/// The column behind an expression over these columns: itself, or a cast of a whole number or a decimal to a type that has all of its values. What is said of it
/// holds of the column too.
pub(crate) fn column_behind(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<usize> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Some(column.index());
    }
    let cast = expr.downcast_ref::<CastExpr>()?;
    let index = column_behind(cast.expr(), schema)?;
    widens(schema.field(index).data_type(), cast.cast_type()).then_some(index)
}

/// The value as one of another type; `None` of NULL, and where that type has none that is equal.
fn as_type(value: &ScalarValue, data_type: &DataType) -> Option<ScalarValue> {
    let cast = value.cast_to(data_type).ok().filter(|cast| !cast.is_null())?;
    // A decimal loses its fraction where it becomes a whole number.
    let same =
        cast.data_type() == value.data_type() || cast.cast_to(&value.data_type()).is_ok_and(|back| back == *value);
    same.then_some(cast)
}

/// Whether every value of one type of whole numbers or decimals is a value of the other. A decimal is no whole number, whatever its digits.
fn widens(from: &DataType, to: &DataType) -> bool {
    match (integer(from), integer(to)) {
        (Some((from_bits, true)), Some((to_bits, true))) | (Some((from_bits, false)), Some((to_bits, false))) => {
            from_bits <= to_bits
        }
        (Some((from_bits, false)), Some((to_bits, true))) => from_bits < to_bits,
        (_, Some(_)) => false,
        _ => match (digits(from), digits(to)) {
            (Some((whole, fraction)), Some((to_whole, to_fraction))) => whole <= to_whole && fraction <= to_fraction,
            _ => false,
        },
    }
}

/// How many digits a whole number or a decimal has before its point, and after it.
fn digits(data_type: &DataType) -> Option<(i16, i16)> {
    match data_type {
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            Some((i16::from(*precision) - i16::from(*scale), i16::from(*scale)))
        }
        other => integer(other).map(|(bits, is_signed)| {
            let whole = match (bits, is_signed) {
                (8, _) => 3,
                (16, _) => 5,
                (32, _) => 10,
                (_, true) => 19,
                (_, false) => 20,
            };
            (whole, 0)
        }),
    }
}

fn integer(data_type: &DataType) -> Option<(u8, bool)> {
    Some(match data_type {
        DataType::Int8 => (8, true),
        DataType::Int16 => (16, true),
        DataType::Int32 => (32, true),
        DataType::Int64 => (64, true),
        DataType::UInt8 => (8, false),
        DataType::UInt16 => (16, false),
        DataType::UInt32 => (32, false),
        DataType::UInt64 => (64, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{col, in_list, lit};
    use headwater_source::{TableDef, ValueClass};

    use super::*;

    fn table() -> TableDef {
        let column = |name: &str, data_type| ColumnDef::new(name, data_type, "int", ValueClass::Integer);
        TableDef::new(["t"], vec![column("other", DataType::Int64), column("id", DataType::Int32)])
    }

    fn schema() -> Schema {
        Schema::new(vec![Field::new("id", DataType::Int32, true)])
    }

    fn read(filter: &Arc<dyn PhysicalExpr>) -> KeyFilter {
        key_filter(filter, &table().columns, &[1])
    }

    fn id() -> Arc<dyn PhysicalExpr> {
        col("id", &schema()).unwrap()
    }

    fn and(left: Arc<dyn PhysicalExpr>, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, Operator::And, right))
    }

    fn ids(values: &[i32]) -> Expr {
        let values = values.iter().map(|value| ScalarValue::from(*value)).collect();
        Expr::InList { expr: Box::new(Expr::Column(1)), values, negated: false }
    }

    fn compare(left: Arc<dyn PhysicalExpr>, op: Operator, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, op, right))
    }

    #[test]
    fn null_among_keys_says_nothing_and_in_an_order_may_be_first() {
        let null: Arc<dyn PhysicalExpr> = Arc::new(IsNullExpr::new(id()));
        let first = compare(null.clone(), Operator::Or, compare(id(), Operator::Gt, lit(7_i32)));
        assert_eq!(read(&first), KeyFilter::Nothing);
        let wanted = Expr::Or(vec![
            Expr::IsNull(Box::new(Expr::Column(1))),
            Expr::compare(CompareOp::Greater, Expr::Column(1), Expr::Literal(ScalarValue::from(7_i32))),
        ]);
        assert_eq!(row_filter(&first, &table().columns, &[Some(1)]), KeyFilter::Rows(wanted, Reach::Weaker));
        // A column of another input.
        assert_eq!(row_filter(&first, &table().columns, &[None]), KeyFilter::Nothing);
    }

    #[test]
    fn comparisons_are_read_from_either_side_and_with_null_no_row_is_left() {
        let turned = compare(lit(7_i32), Operator::GtEq, id());
        let wanted = Expr::compare(CompareOp::LessOrEqual, Expr::Column(1), Expr::Literal(ScalarValue::from(7_i32)));
        let read = |filter: &Arc<dyn PhysicalExpr>| row_filter(filter, &table().columns, &[Some(1)]);
        assert_eq!(read(&turned), KeyFilter::Rows(wanted, Reach::Weaker));
        let null = compare(id(), Operator::Eq, lit(ScalarValue::Int32(None)));
        assert_eq!(read(&null), KeyFilter::NoRow);
        assert_eq!(read(&compare(turned.clone(), Operator::Or, null.clone())), read(&turned));
        assert_eq!(read(&compare(turned, Operator::And, null)), KeyFilter::NoRow);
        // Beyond the column's range, and a column with a column.
        let wide: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(id(), DataType::Int64, None));
        assert_eq!(read(&compare(wide, Operator::Lt, lit(1_i64 << 40))), KeyFilter::Nothing);
        assert_eq!(read(&compare(id(), Operator::Lt, id())), KeyFilter::Nothing);
    }

    #[test]
    fn list_of_keys_is_sorted_distinct_and_replaces_their_range() {
        let list = in_list(id(), vec![lit(7), lit(3), lit(7)], &false, &schema()).unwrap();
        let range: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(id(), Operator::GtEq, lit(3)));
        assert_eq!(read(&and(range, list)), KeyFilter::Rows(ids(&[3, 7]), Reach::Complete));
    }

    #[test]
    fn keys_that_the_column_cannot_hold_match_nothing() {
        let wide: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(id(), DataType::Int64, None));
        let keys = vec![lit(5_i64), lit(5_000_000_000_i64), lit(ScalarValue::Int64(None))];
        let list = in_list(Arc::clone(&wide), keys, &false, &schema()).unwrap();
        assert_eq!(read(&list), KeyFilter::Rows(ids(&[5]), Reach::Complete));
        let none = in_list(wide, vec![lit(5_000_000_000_i64)], &false, &schema()).unwrap();
        assert_eq!(read(&none), KeyFilter::NoRow);
    }

    #[test]
    fn what_is_not_understood_weakens_a_conjunction_and_voids_a_disjunction() {
        let range: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(id(), Operator::LtEq, lit(9)));
        let strange: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(id(), Operator::NotEq, lit(9)));
        assert!(matches!(read(&and(Arc::clone(&range), Arc::clone(&strange))), KeyFilter::Rows(_, Reach::Weaker)));
        let or: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(range, Operator::Or, strange));
        assert_eq!(read(&or), KeyFilter::Nothing);
        assert_eq!(read(&lit(false)), KeyFilter::NoRow);
        assert_eq!(read(&lit(true)), KeyFilter::Nothing);
    }

    #[test]
    fn keys_that_are_too_many_are_told_as_their_range() {
        let bound = |op, value: i32| Expr::compare(op, Expr::Column(1), Expr::Literal(ScalarValue::from(value)));
        let range = Expr::And(vec![bound(CompareOp::GreaterOrEqual, 1), bound(CompareOp::LessOrEqual, 9)]);
        assert_eq!(range_of_keys(ids(&[1, 5, 9])), range);
        assert_eq!(range_of_keys(Expr::Or(vec![ids(&[1, 5, 9]), ids(&[20])])), Expr::Or(vec![range, ids(&[20])]));
    }

    #[test]
    fn branches_of_a_partitioned_join_are_united() {
        let list = |key: i32| in_list(id(), vec![lit(key)], &false, &schema()).unwrap();
        let case: Arc<dyn PhysicalExpr> = Arc::new(
            CaseExpr::try_new(Some(id()), vec![(lit(0), list(1)), (lit(1), list(2))], Some(lit(false))).unwrap(),
        );
        assert_eq!(read(&case), KeyFilter::Rows(ids(&[1, 2]), Reach::Complete));
    }
}

//! A table in ranges of a column of whole numbers, to be read at the same time.

use arrow::datatypes::DataType;
use headwater_source::{CompareOp, Expr, ScalarValue};

/// The filters of so many ranges of equal width between the column's least and greatest value; `None` where these are too near to each other. The outer ranges are open: whatever
/// the values are when the rows are read, each row is in just one.
pub(crate) fn divided(
    column: usize,
    data_type: &DataType,
    (first, last): (i128, i128),
    count: usize,
) -> Option<Vec<Expr>> {
    let parts = i128::try_from(count).ok()?;
    if last - first < parts {
        return None;
    }
    let bound = |op, part: usize| {
        let at = first + (last - first + 1) * i128::try_from(part).ok()? / parts;
        let value = ScalarValue::Decimal128(Some(at), 38, 0).cast_to(data_type).ok()?;
        Some(Expr::compare(op, Expr::Column(column), Expr::Literal(value)))
    };
    (0..count)
        .map(|part| match part {
            0 => bound(CompareOp::Less, 1),
            last if last + 1 == count => bound(CompareOp::GreaterOrEqual, last),
            part => Some(Expr::And(vec![bound(CompareOp::GreaterOrEqual, part)?, bound(CompareOp::Less, part + 1)?])),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(filters: &[Expr]) -> Vec<String> {
        let one = |expr: &Expr| match expr {
            Expr::Compare { op, right, .. } => format!(
                "{}{}",
                op.sql(),
                match right.as_ref() {
                    Expr::Literal(value) => value.to_string(),
                    other => panic!("{other}"),
                }
            ),
            other => panic!("{other}"),
        };
        filters
            .iter()
            .map(|filter| match filter {
                Expr::And(parts) => parts.iter().map(one).collect::<Vec<_>>().join(" "),
                single => one(single),
            })
            .collect()
    }

    #[test]
    fn ranges_meet_and_the_outer_ones_are_open() {
        let parts = divided(0, &DataType::Int64, (1, 300), 3).unwrap();
        assert_eq!(bounds(&parts), ["<101", ">=101 <201", ">=201"]);
        let all = (i128::from(i64::MIN), i128::from(i64::MAX));
        assert_eq!(bounds(&divided(0, &DataType::Int64, all, 2).unwrap()), ["<0", ">=0"]);
        let unsigned = divided(0, &DataType::UInt64, (0, i128::from(u64::MAX)), 2).unwrap();
        assert_eq!(bounds(&unsigned), ["<9223372036854775808", ">=9223372036854775808"]);
    }

    #[test]
    fn fewer_keys_than_parts_are_read_whole() {
        assert_eq!(divided(0, &DataType::Int32, (5, 6), 3), None);
    }
}

//! How many values an expression has at most, going by what it computes.

use datafusion::common::Column;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use headwater_rules::DAY_OF;
use headwater_source::CalendarUnit;

/// The days of a year, on average.
const YEAR: f64 = 365.2425;

/// The microseconds of a day: timestamps are numbers of microseconds, and dates of days.
const MICROS_OF_DAY: f64 = 86_400e6;

/// More days than any date has: what is more is microseconds.
const DAYS_MAX: f64 = 1e8;

/// The bound, where there is one. `range` says the least and the greatest value of a column as numbers.
pub(super) fn distinct_at_most(expr: &Expr, range: &impl Fn(&Column) -> Option<(f64, f64)>) -> Option<f64> {
    match expr {
        Expr::Cast(cast) => distinct_at_most(&cast.expr, range),
        Expr::ScalarFunction(call) => of_calendar(call, range),
        Expr::BinaryExpr(BinaryExpr { op: Operator::Modulo, right, .. }) => match right.as_ref() {
            // As many remainders below zero.
            Expr::Literal(value, _) => super::selectivity::number(value).map(|by| (2.0 * by.abs() - 1.0).max(1.0)),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { op, .. }) if op.supports_propagation() || op.is_logic_operator() => Some(3.0),
        Expr::Not(_) | Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::Like(_) | Expr::InList(_) | Expr::Between(_) => {
            Some(3.0)
        }
        Expr::Case(case) => {
            let values = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
            let constant = values.clone().all(|value| matches!(value.as_ref(), Expr::Literal(..)));
            constant.then(|| values.count() as f64 + 1.0)
        }
        _ => None,
    }
}

fn of_calendar(call: &ScalarFunction, range: &impl Fn(&Column) -> Option<(f64, f64)>) -> Option<f64> {
    let name = || match call.args.first()? {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_ascii_lowercase),
        _ => None,
    };
    let days = |moment: &Expr| {
        let Expr::Column(column) = moment else { return None };
        let (least, greatest) = range(column)?;
        let of_times = least.abs().max(greatest.abs()) > DAYS_MAX;
        Some((greatest - least) / if of_times { MICROS_OF_DAY } else { 1.0 })
    };
    match (call.func.name(), call.args.as_slice()) {
        (DAY_OF, [moment]) => days(moment).map(|days| days.floor() + 2.0),
        ("date_trunc", [_, moment]) => {
            let unit = days_of(CalendarUnit::parse(&name()?)?);
            days(moment).map(|days| (days / unit).floor() + 2.0)
        }
        ("date_part", [_, moment]) => Some(match name()?.as_str() {
            "year" => (days(moment)? / YEAR).floor() + 2.0,
            "quarter" | "qtr" => 4.0,
            "month" => 12.0,
            "week" => 53.0,
            "day" => 31.0,
            "doy" => 366.0,
            "dow" | "isodow" => 7.0,
            "hour" => 24.0,
            "minute" | "second" => 60.0,
            _ => return None,
        }),
        _ => None,
    }
}

fn days_of(unit: CalendarUnit) -> f64 {
    match unit {
        CalendarUnit::Year => YEAR,
        CalendarUnit::Quarter => YEAR / 4.0,
        CalendarUnit::Month => YEAR / 12.0,
        CalendarUnit::Week => 7.0,
        CalendarUnit::Day => 1.0,
        CalendarUnit::Hour => 1.0 / 24.0,
        CalendarUnit::Minute => 1.0 / 1_440.0,
        CalendarUnit::Second => 1.0 / 86_400.0,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::functions::datetime::{date_part, date_trunc};
    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn calendar_says_how_many_values_there_are() {
        let two_years = |column: &Column| match column.name.as_str() {
            "day" => Some((19_000.0, 19_730.0)),
            _ => Some((19_000.0 * MICROS_OF_DAY, 19_730.0 * MICROS_OF_DAY)),
        };
        let truncated = |unit: &str, column: &str| date_trunc().call(vec![lit(unit), col(column)]);
        for (expr, expected) in [
            (truncated("month", "day"), 25.0),
            (truncated("year", "moment"), 3.0),
            (date_part().call(vec![lit("DOW"), col("day")]), 7.0),
            (col("n") % lit(10), 19.0),
            (col("n").gt(lit(10)), 3.0),
        ] {
            assert_eq!(distinct_at_most(&expr, &two_years), Some(expected), "{expr}");
        }
        assert_eq!(distinct_at_most(&truncated("month", "day"), &|_| None), None);
        assert_eq!(distinct_at_most(&(col("n") + lit(10)), &two_years), None);
    }
}

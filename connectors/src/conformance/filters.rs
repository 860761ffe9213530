//! Filters: what a source takes as exact or as a superset, it keeps.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use headwater_source::{CompareOp, Expr, Like, Offer, ScalarValue, ScanRequest, Support};

use super::local::{self, multiset};
use super::read::{Checked, Subject, broken, ensure};
use super::{Violation, fixture};

const RULE: &str = "a pushed filter keeps what it was offered as";

const OPERATORS: [CompareOp; 6] = [
    CompareOp::Equal,
    CompareOp::NotEqual,
    CompareOp::Less,
    CompareOp::LessOrEqual,
    CompareOp::Greater,
    CompareOp::GreaterOrEqual,
];

const PATTERNS: &[&str] = &[
    "%",
    "",
    "a%",
    "A%",
    "%a",
    "%A%",
    "_",
    "__",
    "%\\%",
    "under\\_score",
    "%\\\\%",
    "%ß%",
    "é%",
    "%'%",
    "%\"%",
    "1%",
    "a ",
    "%\n%",
    "日_",
];

pub(super) async fn pushed_filters_obey_what_they_were_offered_as(subject: &Subject) -> Checked {
    let rows = subject.read_whole(RULE, &subject.all()).await?;
    for filter in filters(subject, &rows)? {
        check(subject, &rows, &filter).await?;
    }
    Ok(())
}

async fn check(subject: &Subject, rows: &RecordBatch, filter: &Expr) -> Checked {
    let Offer { filter: Some(pushed), support, .. } = subject.source.capabilities().offer(filter, &subject.table)
    else {
        return Ok(());
    };
    let request = ScanRequest { projection: vec![subject.id()?], filters: vec![pushed], ..subject.all() };
    let batches = subject.read(RULE, &request).await?;
    let got = multiset(&request.schema(), &batches).map_err(broken(RULE))?;
    let right =
        local::filter(filter, rows).and_then(|right| right.project(&[subject.id_or_first()])).map_err(broken(RULE))?;
    let right = multiset(&request.schema(), &[right]).map_err(broken(RULE))?;
    let obeys = match support {
        Support::Exact => got == right,
        _ => right.iter().all(|row| got.binary_search(row).is_ok()),
    };
    ensure(RULE, obeys, || {
        format!("{filter} with {filter:?}, offered as {support:?}: {} rows came, {} are right", got.len(), right.len())
    })
}

/// Every operator on every column with the values that it holds, and combinations of them.
fn filters(subject: &Subject, rows: &RecordBatch) -> Checked<Vec<Expr>> {
    let mut filters = Vec::new();
    for index in 0..rows.num_columns() {
        let literals = literals(rows, index)?;
        filters.extend(comparisons(index, &literals));
        filters.extend(lists(index, &literals));
        filters.push(Expr::IsNull(Box::new(Expr::Column(index))));
        filters.push(Expr::IsNotNull(Box::new(Expr::Column(index))));
        match rows.column(index).data_type() {
            DataType::Boolean => filters.push(Expr::Column(index)),
            DataType::Utf8 => filters.extend(patterns(index)),
            _ => {}
        }
    }
    filters.extend(column_pairs(subject));
    let combined = combinations(&filters);
    let negated: Vec<Expr> = filters.iter().cloned().map(|filter| Expr::Not(Box::new(filter))).collect();
    filters.extend(negated);
    filters.extend(combined);
    Ok(filters)
}

/// The column's own values without NULL and duplicates, and edge values of its type that it may not hold.
fn literals(rows: &RecordBatch, index: usize) -> Checked<Vec<ScalarValue>> {
    /// The most values of one column, so that a long one does not crowd out the others.
    const VALUES_MAX: usize = 48;
    let column = rows.column(index);
    let mut literals: Vec<ScalarValue> = Vec::new();
    for row in 0..column.len() {
        let value = ScalarValue::try_from_array(column, row)
            .map_err(|error| Violation { rule: RULE, detail: error.to_string() })?;
        if !value.is_null() && !literals.contains(&value) && literals.len() < VALUES_MAX {
            literals.push(value);
        }
    }
    literals.extend(edges(column.data_type()));
    Ok(literals)
}

fn edges(data_type: &DataType) -> Vec<ScalarValue> {
    match data_type {
        DataType::Int64 => [i64::MIN, i64::MAX, 0, 50].map(ScalarValue::from).to_vec(),
        DataType::Float64 => [-0.0, 0.0, f64::NAN, f64::INFINITY, 0.3, f64::EPSILON].map(ScalarValue::from).to_vec(),
        DataType::Utf8 => ["A ", "É", "\0", "a\0", "\u{10ffff}", "zzz", "%"].map(ScalarValue::from).to_vec(),
        DataType::Date32 => {
            [i32::MIN, -719_529, 2_932_897, i32::MAX, 19_783].map(|days| ScalarValue::Date32(Some(days))).to_vec()
        }
        DataType::Timestamp(_, zone) => [i64::MIN, -1_000_000, 1_709_210_096_123_457, i64::MAX]
            .map(|micros| ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()))
            .to_vec(),
        DataType::Binary => [fixture::BYTES[1], b"a\0"].map(|bytes| ScalarValue::Binary(Some(bytes.to_vec()))).to_vec(),
        DataType::Decimal128(precision, scale) => {
            [-2, 2, 1249].map(|units| ScalarValue::Decimal128(Some(units), *precision, *scale)).to_vec()
        }
        _ => vec![],
    }
}

fn comparisons(index: usize, literals: &[ScalarValue]) -> Vec<Expr> {
    let compare = |op, value: &ScalarValue| Expr::compare(op, Expr::Column(index), Expr::Literal(value.clone()));
    let mut filters: Vec<Expr> =
        literals.iter().flat_map(|value| OPERATORS.into_iter().map(move |op| compare(op, value))).collect();
    // The literal on the left.
    let turned = literals.iter().take(1);
    filters
        .extend(turned.map(|value| Expr::compare(CompareOp::Less, Expr::Literal(value.clone()), Expr::Column(index))));
    filters
}

fn lists(index: usize, literals: &[ScalarValue]) -> Vec<Expr> {
    let list = |values: &[ScalarValue], negated| Expr::InList {
        expr: Box::new(Expr::Column(index)),
        values: values.to_vec(),
        negated,
    };
    let odd: Vec<ScalarValue> = literals.iter().step_by(2).cloned().collect();
    let mut lists = Vec::new();
    // A list of one zero tells the zeros apart.
    let zeros = literals.iter().filter(|value| matches!(value, ScalarValue::Float64(Some(0.0))));
    let zeros = zeros.map(std::slice::from_ref);
    for values in [&literals[..literals.len().min(1)], &odd, literals].into_iter().chain(zeros) {
        if !values.is_empty() {
            lists.extend([list(values, false), list(values, true)]);
        }
    }
    lists
}

fn patterns(index: usize) -> Vec<Expr> {
    let like = |pattern: &&str, negated| {
        Expr::Like(Like {
            expr: Box::new(Expr::Column(index)),
            pattern: (*pattern).to_owned(),
            negated,
            case_insensitive: false,
        })
    };
    PATTERNS.iter().flat_map(|pattern| [like(pattern, false), like(pattern, true)]).collect()
}

/// Comparisons of a column with itself and with its neighbours of one type.
fn column_pairs(subject: &Subject) -> Vec<Expr> {
    let columns = &subject.table.columns;
    let mut pairs = Vec::new();
    for left in 0..columns.len() {
        for right in 0..columns.len() {
            if columns[left].data_type == columns[right].data_type {
                pairs.extend(OPERATORS.map(|op| Expr::compare(op, Expr::Column(left), Expr::Column(right))));
            }
        }
    }
    pairs
}

/// Conjunctions and disjunctions of filters that are far from each other in the list, and long chains.
fn combinations(filters: &[Expr]) -> Vec<Expr> {
    /// The distance, prime so that all columns and operators meet.
    const STRIDE: usize = 37;
    let mut combined = Vec::new();
    for (index, filter) in filters.iter().enumerate().step_by(3) {
        let other = filters[(index * STRIDE + 11) % filters.len()].clone();
        combined.push(Expr::And(vec![filter.clone(), other.clone()]));
        combined.push(Expr::Or(vec![filter.clone(), other.clone()]));
    }
    if let Some(first) = filters.first() {
        combined.push(Expr::Or(vec![first.clone(); 1500]));
        combined.push(Expr::And(vec![first.clone(); 1500]));
    }
    combined
}

impl Subject {
    fn id_or_first(&self) -> usize {
        self.table.column_index("id").unwrap_or(0)
    }
}

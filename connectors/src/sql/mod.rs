//! Renders requests as one SELECT, for the connectors whose sources speak SQL.
//!
//! A [`Dialect`] says how its source quotes, binds, compares and computes; [`select`] makes the shape of the statement and
//! [`expr`] its expressions, the same for all. Only names from the source's own catalog and numbers of rows enter the text.
//! Every value is a [`Bind`].
//!
//! Invariant: filters, keys and aggregates have passed `Capabilities`, so only the shapes that it lets through arrive here; any
//! other is [`Error::Unsupported`], not a guess.

mod expr;
mod lead;
mod select;

use headwater_source::{
    Aggregate, AggregateFunction, Call, ColumnDef, CompareOp, Error, Expr, Function, Relation, RemoteStatement, Result,
    ScanRequest, ServiceName, SortKey,
};

use select::Writer;

/// What a column is rendered for. A dialect may have to spell a column differently for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// In the outermost select list, where it is read.
    Read,
    /// A side of `=`, `<>` or IN.
    Equality,
    /// A side of `<`, `<=`, `>` or `>=`.
    Order,
    /// The left side of LIKE.
    Like,
    /// The same for a pattern that says the same of a text's bytes as of its characters: none of its wildcards stands for one character.
    LikeBytes,
    /// A sort key, or the argument of min and max.
    Sort,
    /// The argument of IS NULL.
    IsNull,
    /// The argument of a function.
    Argument,
    /// A key of GROUP BY, or the argument of count(DISTINCT).
    Group,
    /// A side of a comparison that an index serves and that may not be exact by itself; see [`Dialect::hint`].
    Indexed,
}

/// Whether a comparison that filters needs company for an index to serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// It stands alone.
    Alone,
    /// The comparison in the form of [`Use::Indexed`], which is true wherever the exact one is, goes beside it, or beside what it lacks to be exact
    /// ([`Dialect::proviso`]).
    Beside,
}

/// How rows are found whose value is in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// By an index of the column, where there is one.
    ByIndex,
    /// The value is computed, so that no index serves it: each row is tested.
    ByTest,
}

/// What becomes of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    /// It is one of WHERE's conjuncts: a row is kept where it is true, and nowhere else.
    Required,
    /// Rows are kept where it is true: false and NULL are one.
    Kept,
    /// All three of its values matter.
    Valued,
}

/// How the values of a statement are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// A placeholder names its value, so a value that is needed twice is sent once.
    ByNumber,
    /// Placeholders take the values in turn.
    ByPlace,
}

/// What HAVING may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Having {
    /// Groups' keys and aggregates.
    OnGroups,
    /// Aggregates only: a key is looked for among the columns of the select list.
    OnAggregates,
}

/// When columns are written with their table's alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Where there are several tables.
    WhereNeeded,
    /// Always.
    Qualified,
}

/// A side of a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// What it is as a column.
    pub(crate) column: ColumnDef,
    /// Its text, as [`Dialect::column`] gives it for the comparison; of a bound value, the placeholder.
    pub(crate) text: String,
}

/// How one kind of source writes SQL.
pub(crate) trait Dialect {
    /// The character that quotes identifiers; doubled inside.
    const QUOTE: char;

    /// How placeholders are numbered.
    const NUMBERING: Numbering = Numbering::ByNumber;

    /// What HAVING may name.
    const HAVING: Having = Having::OnGroups;

    /// The limit that stands before an offset where there is none, for sources that have no offset without a limit.
    const LIMIT_OF_NONE: Option<u64> = None;

    /// What stands between SELECT and its columns where more is read of each row than what it is grouped by, and rows do not lie by that.
    const GROUPED_OUT_OF_ORDER: &'static str = "";

    /// What joins two tables of which the first is to be read first, where the source is better told that.
    const READ_FIRST: Option<&'static str> = None;

    /// When columns are written with their table's alias.
    const NAMING: Naming = Naming::WhereNeeded;

    /// The placeholder of the `number`-th value, counted from 1, compared with or taken as `remote_type`.
    fn placeholder(&self, number: usize, remote_type: &str) -> String;

    /// The column's expression where it is used for `purpose`; `text` is its quoted name, or a computed value.
    fn column(&self, column: &ColumnDef, text: String, purpose: Use) -> String;

    /// The type as which a value compared with the column is bound.
    fn bind_type(&self, column: &ColumnDef, purpose: Use) -> String;

    /// A sort key over the column's expression. Where the column has no NULL, saying where they go would only keep an index from
    /// being used.
    fn sort_key(&self, column: &ColumnDef, expression: &str, key: SortKey) -> String;

    /// As what a text is matched with the pattern of a LIKE.
    fn like_use(&self, _pattern: &str) -> Use {
        Use::Like
    }

    /// What follows the pattern of a LIKE so that `\` is its escape character.
    fn like_escape(&self) -> &'static str {
        ""
    }

    /// The condition as the source evaluates it, where values have to be put otherwise there.
    fn lowered(&self, condition: Expr) -> Expr {
        condition
    }

    /// The same for a LIKE.
    fn like_hint(&self, _column: &ColumnDef) -> Hint {
        Hint::Alone
    }

    /// A key of GROUP BY as it stands in the select list, where `by` is what it is grouped by.
    fn group_value(&self, _column: &ColumnDef, _text: &str, by: &str) -> String {
        by.to_owned()
    }

    /// A comparison.
    fn compare(&self, op: CompareOp, left: &Side, right: &Side) -> String {
        format!("{} {} {}", left.text, op.sql(), right.text)
    }

    /// The type as which a list of values compared with the column is bound whole, where the source takes lists.
    fn list_type(&self, _column: &ColumnDef) -> Option<String> {
        None
    }

    /// The same for a list that all rows must be in, where the source finds rows by such lists in another way.
    fn keys_type(&self, _column: &ColumnDef, _values: usize) -> Option<String> {
        None
    }

    /// The condition that the text is in a list that is bound as [`Dialect::keys_type`].
    fn one_of_keys(&self, text: &str, list: &str, _remote_type: &str, _finding: Finding) -> String {
        format!("{text} = ANY ({list})")
    }

    /// The most values of a list that is written twice; see [`Dialect::hint`].
    fn hinted_values_max(&self) -> usize {
        usize::MAX
    }

    /// Whether a comparison with the column, where it filters, is also written so that an index serves it.
    fn hint(&self, _op: CompareOp, _column: &ColumnDef) -> Hint {
        Hint::Alone
    }

    /// What must be true of the column beside a comparison in the form of [`Use::Indexed`] for that to be exact, where this is less than
    /// to compare exactly.
    fn proviso(&self, _column: &ColumnDef, _text: &str) -> Option<String> {
        None
    }

    /// Whether `=` and IN with constants are exact in the form of [`Use::Indexed`], with nothing beside them.
    fn equals_exactly(&self, _column: &ColumnDef) -> bool {
        false
    }

    /// Whether `left IN (SELECT right ...)` compares as [`Dialect::compare`] does for equality.
    fn plain_equality(&self, _left: &ColumnDef, _right: &ColumnDef) -> Equality {
        Equality::ByOperator
    }

    /// A function of the arguments' texts; `None` where the source has none.
    fn call(&self, call: &Call, args: &[String]) -> Option<String> {
        standard_call(call, args)
    }

    /// An aggregate of the argument's text; `result` says what it is read as.
    fn aggregate(&self, aggregate: &Aggregate, arg: &str, _result: &ColumnDef) -> String {
        standard_aggregate(aggregate.function, arg)
    }
}

/// Whether `=` alone compares two columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equality {
    /// By the operator alone.
    ByOperator,
    /// By more than the operator.
    ByMore,
}

/// What the first table of a statement is called in it, where columns are qualified.
pub(crate) const FIRST_ALIAS: &str = "t1";

/// How many conditions stand in one row. Parsers make a chain of AND or OR as deep as it is long, and refuse what is too deep: longer ones
/// are put in parentheses, so many at a time.
const CHAIN_MAX: usize = 100;

/// The conditions as one.
fn chain(mut parts: Vec<String>, word: &str) -> String {
    while parts.len() > CHAIN_MAX {
        parts = parts.chunks(CHAIN_MAX).map(|some| format!("({})", some.join(word))).collect();
    }
    parts.join(word)
}

/// Functions that most sources spell alike.
pub(crate) fn standard_call(call: &Call, args: &[String]) -> Option<String> {
    Some(match (call.function, args) {
        (Function::Add, [a, b]) => format!("({a} + {b})"),
        (Function::Subtract, [a, b]) => format!("({a} - {b})"),
        (Function::Multiply, [a, b]) => format!("({a} * {b})"),
        (Function::Negate, [a]) => format!("(- {a})"),
        (Function::Coalesce, args) => format!("COALESCE({})", args.join(", ")),
        (Function::NullIf, [a, b]) => format!("NULLIF({a}, {b})"),
        (Function::Absolute, [a]) => format!("abs({a})"),
        (Function::TrimStart, [a]) => format!("ltrim({a})"),
        (Function::TrimEnd, [a]) => format!("rtrim({a})"),
        (Function::Replace, [a, from, to]) => format!("replace({a}, {from}, {to})"),
        _ => return None,
    })
}

/// Aggregates as all sources spell them.
pub(crate) fn standard_aggregate(function: AggregateFunction, arg: &str) -> String {
    match function {
        AggregateFunction::CountDistinct => format!("count(DISTINCT {arg})"),
        other => format!("{}({arg})", other.name()),
    }
}

/// Quotes an identifier that the source's catalog gave us.
///
/// Doubling the quote character is all that quoting is; a name with NUL can't be sent and is refused.
pub(crate) fn quote(name: &str, quote: char, service: &ServiceName) -> Result<String> {
    quoted(name, quote).ok_or_else(|| {
        let reason = format!("the name {name:?} holds NUL");
        Error::Unsupported { service: service.clone(), reason }
    })
}

/// The same; `None` of a name that can't be sent.
pub(crate) fn quoted(name: &str, quote: char) -> Option<String> {
    if name.contains('\0') {
        return None;
    }
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push(quote);
    for c in name.chars() {
        if c == quote {
            quoted.push(quote);
        }
        quoted.push(c);
    }
    quoted.push(quote);
    Some(quoted)
}

/// Renders a request as `SELECT ... FROM ... [WHERE ...] [ORDER BY ...] [LIMIT ...]`.
///
/// An empty projection selects the constant 1, so that the source still yields a row for each row.
pub(crate) fn render<D: Dialect>(dialect: &D, service: &ServiceName, request: &ScanRequest) -> Result<RemoteStatement> {
    render_relation(dialect, service, &relation(request))
}

/// Renders a whole query, its columns as they are read.
pub(crate) fn render_relation<D: Dialect>(
    dialect: &D,
    service: &ServiceName,
    relation: &Relation,
) -> Result<RemoteStatement> {
    Writer::new(dialect, service, relation).statement(relation)
}

/// A scan as a query.
fn relation(request: &ScanRequest) -> Relation {
    let rows = Relation::table(request.table.clone()).filter(request.filters.clone());
    let cut = match (request.limit, request.sort.is_empty()) {
        (None, true) => rows,
        (limit, _) => rows.top(request.sort.clone(), 0, limit.unwrap_or(u64::MAX)),
    };
    cut.project(request.projection.iter().map(|index| Expr::Column(*index)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::DataType;
    use headwater_source::{ScalarValue, TableDef, ValueClass};

    use super::*;

    struct Plain;

    impl Dialect for Plain {
        const QUOTE: char = '"';

        fn placeholder(&self, number: usize, _: &str) -> String {
            format!("${number}")
        }

        fn column(&self, _: &ColumnDef, quoted: String, _: Use) -> String {
            quoted
        }

        fn bind_type(&self, column: &ColumnDef, _: Use) -> String {
            column.remote_type.clone()
        }

        fn sort_key(&self, _: &ColumnDef, expression: &str, key: SortKey) -> String {
            format!("{expression}{}", if key.descending { " DESC" } else { "" })
        }
    }

    fn service() -> ServiceName {
        ServiceName::parse("shop").unwrap()
    }

    fn request() -> ScanRequest {
        let columns = vec![
            ColumnDef::new("id", DataType::Int64, "bigint", ValueClass::Integer),
            ColumnDef::new("na\"me", DataType::Utf8, "text", ValueClass::Text),
        ];
        ScanRequest::all(Arc::new(TableDef::new(["public", "or\"ders"], columns)))
    }

    #[test]
    fn statement_holds_names_and_placeholders_and_no_value() {
        let name = Expr::compare(
            CompareOp::Equal,
            Expr::Column(1),
            Expr::Literal(ScalarValue::from("'; DROP TABLE orders; --")),
        );
        let ids = Expr::InList {
            expr: Box::new(Expr::Column(0)),
            values: vec![ScalarValue::from(1_i64), ScalarValue::from(2_i64)],
            negated: true,
        };
        let mut request = request();
        request.filters = vec![Expr::Or(vec![name, Expr::IsNull(Box::new(Expr::Column(1)))]), ids];
        request.sort = vec![SortKey { column: 0, descending: true, nulls_first: true }];
        request.limit = Some(10);
        let statement = render(&Plain, &service(), &request).unwrap();
        assert_eq!(
            statement.text,
            "SELECT \"id\", \"na\"\"me\" FROM \"public\".\"or\"\"ders\" \
             WHERE \"id\" NOT IN ($1, $2) AND (\"na\"\"me\" = $3 OR \"na\"\"me\" IS NULL) ORDER BY \"id\" DESC LIMIT 10"
        );
        assert_eq!(statement.to_string(), format!("{} binds=[bigint, bigint, text]", statement.text));
    }

    #[test]
    fn empty_projection_still_yields_rows() {
        let mut request = request();
        request.projection.clear();
        let statement = render(&Plain, &service(), &request).unwrap();
        assert_eq!(statement.text, "SELECT 1 FROM \"public\".\"or\"\"ders\"");
    }

    #[test]
    fn long_chain_is_no_deeper_than_a_parser_takes() {
        let parts = vec!["a".to_owned(); CHAIN_MAX * CHAIN_MAX + 1];
        let text = chain(parts.clone(), " OR ");
        assert_eq!(text.matches('a').count(), parts.len());
        let longest = text.split(['(', ')']).map(|row| row.matches(" OR ").count()).max().unwrap();
        assert!(longest < CHAIN_MAX, "{longest}");
        assert_eq!(chain(parts[..3].to_vec(), " AND "), "a AND a AND a");
    }

    #[test]
    fn name_with_nul_is_refused() {
        assert!(quote("a\0b", '"', &service()).is_err());
        assert_eq!(quote("a`b", '`', &service()).unwrap(), "`a``b`");
    }
}

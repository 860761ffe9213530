//! Renders a [`ScanRequest`] as one SELECT, for the connectors whose sources speak SQL.
//!
//! A [`Dialect`] says how its source quotes, binds and compares; the shape of the statement is the same for all.
//! Only names from the source's own catalog and numbers of rows enter the text. Every value is a [`Bind`].
//!
//! Invariant: the filters have passed `Capabilities::offer`, so only the shapes that it lets through arrive here; any
//! other is [`Error::Unsupported`], not a guess.

use headwater_source::{
    Bind, ColumnDef, CompareOp, Error, Expr, Like, RemoteStatement, Result, ScalarValue, ScanRequest, ServiceName,
    SortKey,
};

/// What a column is rendered for. A dialect may have to spell a column differently for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// In the select list.
    Read,
    /// A side of `=`, `<>` or IN.
    Equality,
    /// A side of `<`, `<=`, `>` or `>=`.
    Order,
    /// The left side of LIKE.
    Like,
    /// A sort key.
    Sort,
    /// The argument of IS NULL.
    IsNull,
}

/// How one kind of source writes SQL.
pub(crate) trait Dialect {
    /// The character that quotes identifiers; doubled inside.
    const QUOTE: char;

    /// The placeholder of the `number`-th value, counted from 1, compared with or taken as `remote_type`.
    fn placeholder(&self, number: usize, remote_type: &str) -> String;

    /// The column's expression where it is used for `purpose`; `quoted` is its quoted name.
    fn column(&self, column: &ColumnDef, quoted: String, purpose: Use) -> String;

    /// The type as which a value compared with the column is bound.
    fn bind_type(&self, column: &ColumnDef, purpose: Use) -> String;

    /// A sort key over the column's expression. Where the column has no NULL, saying where they go would only keep an index from
    /// being used.
    fn sort_key(&self, column: &ColumnDef, expression: &str, key: SortKey) -> String;

    /// What follows the pattern of a LIKE so that `\` is its escape character.
    fn like_escape(&self) -> &'static str {
        ""
    }
}

/// Quotes an identifier that the source's catalog gave us.
///
/// Doubling the quote character is all that quoting is; a name with NUL can't be sent and is refused.
pub(crate) fn quote(name: &str, quote: char, service: &ServiceName) -> Result<String> {
    if name.contains('\0') {
        let reason = format!("the name {name:?} holds NUL");
        return Err(Error::Unsupported { service: service.clone(), reason });
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
    Ok(quoted)
}

/// Renders a request as `SELECT ... FROM ... [WHERE ...] [ORDER BY ...] [LIMIT ...]`.
///
/// An empty projection selects the constant 1, so that the source still yields a row for each row.
pub(crate) fn render<D: Dialect>(dialect: &D, service: &ServiceName, request: &ScanRequest) -> Result<RemoteStatement> {
    let mut renderer = Renderer { dialect, service, request, binds: Vec::new() };
    let text = renderer.select()?;
    Ok(RemoteStatement { text, binds: renderer.binds })
}

struct Renderer<'a, D> {
    dialect: &'a D,
    service: &'a ServiceName,
    request: &'a ScanRequest,
    binds: Vec<Bind>,
}

impl<D: Dialect> Renderer<'_, D> {
    fn select(&mut self) -> Result<String> {
        let request = self.request;
        let items: Vec<String> =
            request.projection.iter().map(|index| self.column(*index, Use::Read)).collect::<Result<_>>()?;
        let items = if items.is_empty() { "1".to_owned() } else { items.join(", ") };
        let mut text = format!("SELECT {items} FROM {}", self.table()?);
        let filters: Vec<String> = request.filters.iter().map(|filter| self.filter(filter)).collect::<Result<_>>()?;
        if !filters.is_empty() {
            text.push_str(" WHERE ");
            text.push_str(&filters.join(" AND "));
        }
        let keys: Vec<String> = request.sort.iter().map(|key| self.sort_key(*key)).collect::<Result<_>>()?;
        if !keys.is_empty() {
            text.push_str(" ORDER BY ");
            text.push_str(&keys.join(", "));
        }
        if let Some(limit) = request.limit {
            // A count of rows from the plan, not a value of the query's data: digits cannot say anything else.
            text.push_str(&format!(" LIMIT {limit}"));
        }
        Ok(text)
    }

    fn table(&self) -> Result<String> {
        let parts: Vec<String> =
            self.request.table.path.iter().map(|part| quote(part, D::QUOTE, self.service)).collect::<Result<_>>()?;
        Ok(parts.join("."))
    }

    fn column_def(&self, index: usize) -> Result<&ColumnDef> {
        self.request.table.columns.get(index).ok_or_else(|| self.unsupported(format!("there is no column {index}")))
    }

    fn column(&self, index: usize, purpose: Use) -> Result<String> {
        let column = self.column_def(index)?;
        let quoted = quote(&column.name, D::QUOTE, self.service)?;
        Ok(self.dialect.column(column, quoted, purpose))
    }

    fn sort_key(&self, key: SortKey) -> Result<String> {
        let expression = self.column(key.column, Use::Sort)?;
        Ok(self.dialect.sort_key(self.column_def(key.column)?, &expression, key))
    }

    fn filter(&mut self, filter: &Expr) -> Result<String> {
        match filter {
            Expr::Column(index) => self.column(*index, Use::Equality),
            Expr::And(parts) => self.joined(parts, " AND "),
            Expr::Or(parts) => self.joined(parts, " OR "),
            Expr::Not(inner) => Ok(format!("NOT ({})", self.filter(inner)?)),
            Expr::IsNull(inner) => Ok(format!("{} IS NULL", self.operand(inner, Use::IsNull)?)),
            Expr::IsNotNull(inner) => Ok(format!("{} IS NOT NULL", self.operand(inner, Use::IsNull)?)),
            Expr::Compare { op, left, right } => self.compare(*op, left, right),
            Expr::InList { expr, values, negated } => self.in_list(expr, values, *negated),
            Expr::Like(like) => self.like(like),
            other => Err(self.unsupported(format!("the filter {other}"))),
        }
    }

    fn joined(&mut self, parts: &[Expr], separator: &str) -> Result<String> {
        let parts: Vec<String> = parts.iter().map(|part| self.filter(part)).collect::<Result<_>>()?;
        Ok(format!("({})", parts.join(separator)))
    }

    fn compare(&mut self, op: CompareOp, left: &Expr, right: &Expr) -> Result<String> {
        let purpose = match op {
            CompareOp::Equal | CompareOp::NotEqual => Use::Equality,
            _ => Use::Order,
        };
        let text = self.operand(left, purpose)?;
        match right {
            Expr::Literal(value) => {
                let bind = self.bind(left, value, purpose)?;
                Ok(format!("{text} {} {bind}", op.sql()))
            }
            _ => Ok(format!("{text} {} {}", op.sql(), self.operand(right, purpose)?)),
        }
    }

    fn in_list(&mut self, expr: &Expr, values: &[ScalarValue], negated: bool) -> Result<String> {
        let text = self.operand(expr, Use::Equality)?;
        let binds: Vec<String> =
            values.iter().map(|value| self.bind(expr, value, Use::Equality)).collect::<Result<_>>()?;
        Ok(format!("{text} {}IN ({})", if negated { "NOT " } else { "" }, binds.join(", ")))
    }

    fn like(&mut self, like: &Like) -> Result<String> {
        if like.case_insensitive {
            return Err(self.unsupported("ILIKE".to_owned()));
        }
        let text = self.operand(&like.expr, Use::Like)?;
        let pattern = self.bind(&like.expr, &ScalarValue::from(like.pattern.as_str()), Use::Like)?;
        Ok(format!("{text} {}LIKE {pattern}{}", if like.negated { "NOT " } else { "" }, self.dialect.like_escape()))
    }

    fn operand(&self, expr: &Expr, purpose: Use) -> Result<String> {
        match expr {
            Expr::Column(index) => self.column(*index, purpose),
            other => Err(self.unsupported(format!("the operand {other}"))),
        }
    }

    /// Binds a value that is compared with `against` and returns its placeholder.
    fn bind(&mut self, against: &Expr, value: &ScalarValue, purpose: Use) -> Result<String> {
        let Expr::Column(index) = against else {
            return Err(self.unsupported(format!("a value beside {against}")));
        };
        let remote_type = self.dialect.bind_type(self.column_def(*index)?, purpose);
        let placeholder = self.dialect.placeholder(self.binds.len() + 1, &remote_type);
        self.binds.push(Bind { value: value.clone(), remote_type });
        Ok(placeholder)
    }

    fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { service: self.service.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::DataType;
    use headwater_source::{TableDef, ValueClass};

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
             WHERE (\"na\"\"me\" = $1 OR \"na\"\"me\" IS NULL) AND \"id\" NOT IN ($2, $3) ORDER BY \"id\" DESC LIMIT 10"
        );
        assert_eq!(statement.to_string(), format!("{} binds=[text, bigint, bigint]", statement.text));
    }

    #[test]
    fn empty_projection_still_yields_rows() {
        let mut request = request();
        request.projection.clear();
        let statement = render(&Plain, &service(), &request).unwrap();
        assert_eq!(statement.text, "SELECT 1 FROM \"public\".\"or\"\"ders\"");
    }

    #[test]
    fn name_with_nul_is_refused() {
        assert!(quote("a\0b", '"', &service()).is_err());
        assert_eq!(quote("a`b", '`', &service()).unwrap(), "`a``b`");
    }
}

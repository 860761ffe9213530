//! What may be completed at the prompt: keywords, services, tables, columns.

use std::collections::BTreeSet;

use super::target::Relation;

/// Words that begin or join the clauses of a query.
const KEYWORDS: &[&str] = &[
    "ALL",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COALESCE",
    "COUNT",
    "CROSS",
    "CURRENT_DATE",
    "DATE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SET",
    "SHOW",
    "SUM",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// The names of the catalog, arranged for completion.
#[derive(Debug, Default)]
pub(super) struct Names {
    relations: Vec<Relation>,
}

impl Names {
    pub(super) fn new(relations: Vec<Relation>) -> Self {
        Self { relations }
    }

    /// Where the word before the cursor starts, and what it may become. `line` is all that was typed, `cursor` a byte of it.
    pub(super) fn complete(&self, line: &str, cursor: usize) -> (usize, Vec<String>) {
        let before = &line[..cursor];
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |index| index + before[index..].chars().next().map_or(0, char::len_utf8));
        let word = &before[start..];
        let found: BTreeSet<String> = match before[..start].strip_suffix('.') {
            Some(qualified) => self.after_dot(last_word(qualified), line, word),
            None if word.is_empty() => BTreeSet::new(),
            None => self.anything(word),
        };
        (start, found.into_iter().collect())
    }

    /// After `service.` its tables; after a table's name or alias its columns.
    fn after_dot(&self, qualifier: &str, line: &str, word: &str) -> BTreeSet<String> {
        let tables =
            self.relations.iter().filter(|relation| same(&relation.service, qualifier)).map(|relation| &relation.name);
        let table = table_of(line, qualifier).unwrap_or(qualifier);
        let columns = self.relations.iter().filter(|relation| same(&relation.name, table)).flat_map(columns);
        tables.chain(columns).filter(|name| begins(name, word)).map(|name| spelled(name)).collect()
    }

    fn anything(&self, word: &str) -> BTreeSet<String> {
        let is_lower = word.chars().any(char::is_lowercase);
        let keywords = KEYWORDS.iter().filter(|keyword| begins(keyword, word));
        let keywords = keywords.map(|keyword| if is_lower { keyword.to_lowercase() } else { (*keyword).to_owned() });
        let names = self
            .relations
            .iter()
            .flat_map(|relation| [&relation.service, &relation.name].into_iter().chain(columns(relation)));
        keywords.chain(names.filter(|name| begins(name, word)).map(|name| spelled(name))).collect()
    }
}

fn columns(relation: &Relation) -> impl Iterator<Item = &String> {
    relation.schema.iter().flat_map(|schema| schema.fields().iter().map(|field| field.name()))
}

/// The table that an alias stands for: the word before it, or before its AS.
fn table_of<'a>(line: &'a str, alias: &str) -> Option<&'a str> {
    let words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || ",();".contains(c)).filter(|word| !word.is_empty()).collect();
    words.windows(2).enumerate().find_map(|(index, pair)| {
        let [before, word] = pair else { return None };
        if !same(word, alias) {
            return None;
        }
        let table = if same(before, "as") { words.get(index.checked_sub(1)?)? } else { before };
        Some(last_word(table))
    })
}

fn last_word(text: &str) -> &str {
    text.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or(text)
}

fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

fn begins(name: &str, word: &str) -> bool {
    name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

/// A name as it must be typed: quoted where folding to lower case would change it.
fn spelled(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn names() -> Names {
        let relation = |service: &str, name: &str, columns: &[&str]| Relation {
            service: service.to_owned(),
            name: name.to_owned(),
            kind: "BASE TABLE".to_owned(),
            schema: Some(Arc::new(Schema::new(
                columns.iter().map(|column| Field::new(*column, DataType::Int64, true)).collect::<Vec<_>>(),
            ))),
        };
        Names::new(vec![
            relation("orders", "orders", &["id", "placed_at", "Total"]),
            relation("orders", "order_lines", &["order_id", "line"]),
        ])
    }

    fn completed(line: &str) -> Vec<String> {
        names().complete(line, line.len()).1
    }

    #[test]
    fn service_is_completed_by_its_tables() {
        assert_eq!(completed("SELECT * FROM orders.order_"), ["order_lines"]);
    }

    #[test]
    fn alias_is_completed_by_the_tables_columns() {
        let line = "SELECT l. FROM orders.order_lines AS l JOIN orders.orders o";
        assert_eq!(
            names().complete(line, "SELECT l.".len()),
            ("SELECT l.".len(), vec!["line".to_owned(), "order_id".to_owned()])
        );
        assert_eq!(completed("SELECT 1 FROM orders.orders o WHERE o.pl"), ["placed_at"]);
    }

    #[test]
    fn keyword_keeps_the_case_that_was_begun() {
        assert_eq!(completed("sel"), ["select"]);
        assert_eq!(completed("SEL"), ["SELECT"]);
    }

    #[test]
    fn name_that_folding_would_change_is_quoted() {
        assert_eq!(completed("SELECT o.To"), Vec::<String>::new());
        assert_eq!(completed("SELECT orders.To"), ["\"Total\""]);
        assert_eq!(completed("é"), Vec::<String>::new());
    }
}

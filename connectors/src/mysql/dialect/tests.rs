//! Statements as MariaDB is sent them.

use std::sync::Arc;

use arrow::datatypes::TimeUnit;
use headwater_source::{JoinKind, Like, Relation, ScalarValue, ServiceName, TableDef};

use super::*;
use crate::sql::render_relation;

const JSON: MysqlDialect = MysqlDialect { lists: Lists::Json };

fn table() -> Relation {
    let column = |name: &str, declared: &str, data_type, class| ColumnDef::new(name, data_type, declared, class);
    let mut text = column("c1", "varchar(20)", DataType::Utf8, ValueClass::TextFolded);
    text.collation = Some("utf8mb4_general_ci".to_owned());
    let number = column("c0", "bigint(20)", DataType::Int64, ValueClass::Integer);
    Relation::table(Arc::new(TableDef::new(["shop", "orders"], vec![number, text])))
}

fn text(relation: &Relation) -> String {
    render_relation(&JSON, &ServiceName::parse("shop").unwrap(), relation).unwrap().text
}

fn above(column: usize) -> Expr {
    Expr::compare(CompareOp::Greater, Expr::Column(column), Expr::Literal(ScalarValue::from(7_i64)))
}

#[test]
fn having_names_aggregates_and_a_filter_on_a_key_stands_outside() {
    let grouped = table().aggregate(vec![Expr::Column(0)], vec![Aggregate::count_rows()]);
    let by = "SELECT `c0`, count(*) FROM `shop`.`orders` GROUP BY `c0`";
    assert_eq!(text(&grouped.clone().filter(vec![above(1)])), format!("{by} HAVING count(*) > ?"));
    let key = Expr::Or(vec![above(0), above(1)]);
    assert_eq!(
        text(&grouped.filter(vec![key])),
        "SELECT t1.c0, t1.c1 FROM (SELECT `c0` AS c0, count(*) AS c1 FROM `shop`.`orders` GROUP BY `c0`) t1 \
         WHERE (t1.c0 > ? OR t1.c1 > ?)"
    );
}

#[test]
fn groups_by_which_rows_do_not_lie_are_not_made_along_an_index_that_lacks_what_is_read() {
    let sum = |column| Aggregate {
        function: AggregateFunction::Sum,
        arg: Some(Expr::Column(column)),
        condition: None,
        data_type: DataType::Int64,
    };
    let number = |name| ColumnDef::new(name, DataType::Int64, "bigint(20)", ValueClass::Integer);
    let table = || TableDef::new(["shop", "lines"], vec![number("order"), number("quantity")]);
    let of = |rows: Relation, key, aggregate| {
        text(&rows.aggregate(vec![Expr::Column(key)], vec![aggregate])).split('`').next().unwrap().to_owned()
    };
    let start = |table: TableDef, key, aggregate| of(Relation::table(Arc::new(table)), key, aggregate);
    assert_eq!(start(table(), 0, sum(1)), "SELECT SQL_BIG_RESULT ");
    assert_eq!(start(table().with_key(["order"]), 1, sum(0)), "SELECT SQL_BIG_RESULT ");
    assert_eq!(start(table().with_key(["order"]), 0, sum(1)), "SELECT ", "rows lie by their key");
    assert_eq!(start(table(), 0, Aggregate::count_rows()), "SELECT ", "the index has all that is asked");
    assert_eq!(start(table(), 0, sum(0)), "SELECT ");
    let filtered = |column| Relation::table(Arc::new(table())).filter(vec![above(column)]);
    assert_eq!(of(filtered(1), 0, Aggregate::count_rows()), "SELECT SQL_BIG_RESULT ");
    assert_eq!(of(filtered(0), 0, Aggregate::count_rows()), "SELECT ");
}

#[test]
fn order_of_a_select_within_is_not_by_an_alias_of_the_same_name() {
    let key = SortKey { column: 0, descending: false, nulls_first: true };
    let cut = table().project(vec![Expr::Column(1), Expr::Column(0)]).top(vec![SortKey { column: 1, ..key }], 0, 5);
    assert_eq!(
        text(&cut.filter(vec![above(1)])),
        "SELECT t2.c0, t2.c1 FROM (SELECT t1.`c1` AS c0, t1.`c0` AS c1 FROM `shop`.`orders` t1 \
         ORDER BY t1.`c0` LIMIT 5) t2 WHERE t2.c1 > ?"
    );
}

#[test]
fn offset_stands_behind_a_limit_even_where_there_is_none() {
    assert!(text(&table().top(vec![], 3, u64::MAX)).ends_with(" LIMIT 18446744073709551615 OFFSET 3"));
    assert!(text(&table().top(vec![], 3, 2)).ends_with(" LIMIT 2 OFFSET 3"));
}

fn literal(value: impl Into<ScalarValue>) -> Expr {
    Expr::Literal(value.into())
}

/// The condition of a query over rows of a number, a text, two dates, a price and a time.
fn condition(filters: Vec<Expr>) -> String {
    let date = |name: &str| ColumnDef::new(name, DataType::Date32, "date", ValueClass::Date);
    let price = ColumnDef::new("price", DataType::Decimal128(15, 2), "decimal(15,2)", ValueClass::Decimal);
    let mut columns = table().columns().to_vec();
    let of_time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let at = ColumnDef::new("at", of_time, "datetime", ValueClass::Timestamp);
    columns.extend([date("sent"), date("due"), price, at]);
    let table = Relation::table(Arc::new(TableDef::new(["shop", "orders"], columns)));
    text(&table.filter(filters)).split_once(" WHERE ").unwrap().1.to_owned()
}

#[test]
fn what_is_quickly_tested_comes_first_and_what_others_lack_comes_last_and_once() {
    let sent = |op, day: i32| Expr::compare(op, Expr::Column(2), literal(ScalarValue::Date32(Some(day))));
    let no_zero = "MONTH(`sent`) > 0 AND DAYOFMONTH(`sent`) > 0";
    assert_eq!(
        condition(vec![
            Expr::compare(CompareOp::Equal, Expr::Column(1), literal("a")),
            sent(CompareOp::GreaterOrEqual, 0),
            sent(CompareOp::Less, 9)
        ]),
        format!(
            "`sent` >= ? AND `sent` < ? AND `c1` = ? COLLATE utf8mb4_general_ci AND {no_zero} \
             AND CAST(`c1` AS BINARY) = CAST(? AS BINARY)"
        )
    );
    assert_eq!(condition(vec![sent(CompareOp::Equal, 0)]), "`sent` = ?", "what equals a date is one");
    let moment = ScalarValue::TimestampMicrosecond(Some(500_000), None);
    assert_eq!(
        condition(vec![Expr::compare(CompareOp::Equal, Expr::Column(5), literal(moment))]),
        "`at` = ? AND CASE WHEN MONTH(`at`) > 0 AND DAYOFMONTH(`at`) > 0 THEN `at` END = ?",
        "the server may look up what it has cut"
    );
    assert_eq!(
        condition(vec![Expr::Column(2).one_of(vec![ScalarValue::Date32(Some(0)), ScalarValue::Date32(Some(1))])]),
        "`sent` IN (?, ?)"
    );
    assert_eq!(
        condition(vec![Expr::compare(CompareOp::Equal, Expr::Column(2), Expr::Column(3))]),
        format!("`sent` = `due` AND {no_zero} AND MONTH(`due`) > 0 AND DAYOFMONTH(`due`) > 0"),
        "two zero dates are equal, two NULLs are not"
    );
    // Within a disjunction all of a condition stands together; where NULL is not false, each date is as it is read.
    assert_eq!(
        condition(vec![Expr::Or(vec![sent(CompareOp::Less, 0), above(0)])]),
        format!("((`sent` < ? AND {no_zero}) OR `c0` > ?)")
    );
    assert_eq!(
        condition(vec![Expr::Not(Box::new(sent(CompareOp::Less, 0)))]),
        format!("NOT (CASE WHEN {no_zero} THEN `sent` END < ?)")
    );
}

#[test]
fn date_of_which_a_filter_says_that_it_is_one_stands_as_it_is() {
    let date = |name: &str| ColumnDef::new(name, DataType::Date32, "date", ValueClass::Date);
    let table = |name: &str| Relation::table(Arc::new(TableDef::new(["shop", name], vec![date("sent"), date("due")])));
    let since = Expr::compare(CompareOp::GreaterOrEqual, Expr::Column(0), literal(ScalarValue::Date32(Some(0))));
    let year = |column: usize| {
        let (function, args) = (Function::Year, vec![Expr::Column(column)]);
        Expr::Call(Call { function, args, data_type: DataType::Int64 })
    };
    let latest = |column: usize| Aggregate {
        function: AggregateFunction::Max,
        arg: Some(Expr::Column(column)),
        condition: None,
        data_type: DataType::Date32,
    };
    let no_zero = |text: &str| format!("MONTH({text}) > 0 AND DAYOFMONTH({text}) > 0");
    let due = format!("CASE WHEN {} THEN `due` END", no_zero("`due`"));
    let sent = format!("`sent` >= ? AND {}", no_zero("`sent`"));
    let rows = || table("orders").filter(vec![since.clone()]);
    assert_eq!(
        text(&rows().aggregate(vec![year(0), year(1)], vec![latest(0), latest(1)])),
        format!(
            "SELECT YEAR(`sent`), YEAR({due}), max(`sent`), max({due}) FROM `shop`.`orders` WHERE {sent} \
             GROUP BY YEAR(`sent`), YEAR({due})"
        )
    );
    let filled = table("orders").filter(vec![Expr::IsNotNull(Box::new(Expr::Column(0)))]);
    assert_eq!(
        text(&filled.aggregate(vec![Expr::Column(0)], vec![])),
        format!("SELECT `sent` FROM `shop`.`orders` WHERE {} GROUP BY `sent`", no_zero("`sent`"))
    );
    // A row that finds no partner has no date: NULLs go where they are asked for.
    let on = vec![Expr::compare(CompareOp::Equal, Expr::Column(1), Expr::Column(3))];
    let key = SortKey { column: 2, descending: false, nulls_first: false };
    let joined = text(&table("customers").join(JoinKind::Left, rows(), on).top(vec![key], 0, 5));
    assert!(joined.ends_with("ORDER BY t2.`sent` IS NULL, t2.`sent` LIMIT 5"), "{joined}");
    let (_, from) = joined.split_once(" LEFT JOIN ").unwrap();
    assert!(from.contains(&format!("t2.`sent` >= ? AND {}", no_zero("t2.`sent`"))), "{joined}");
}

#[test]
fn pattern_without_a_wildcard_for_one_character_is_looked_for_in_the_bytes() {
    let like = |pattern: &str| {
        let pattern = pattern.to_owned();
        condition(vec![Expr::Like(Like {
            expr: Box::new(Expr::Column(1)),
            pattern,
            negated: true,
            case_insensitive: false,
        })])
    };
    assert_eq!(like("%a%b%"), r"CAST(`c1` AS BINARY) NOT LIKE CAST(? AS BINARY) ESCAPE '\\'");
    assert_eq!(like("%a_b%"), r"CONVERT(`c1` USING utf8mb4) COLLATE utf8mb4_bin NOT LIKE ? ESCAPE '\\'");
}

#[test]
fn table_of_which_rows_are_only_looked_up_is_not_read_first() {
    let number = |name: &str| ColumnDef::new(name, DataType::Int64, "bigint(20)", ValueClass::Integer);
    let table = |name: &str, key: &[&str]| {
        let columns = vec![number("id"), number("of"), number("n")];
        Relation::table(Arc::new(TableDef::new(["shop", name], columns).with_key(key.iter().copied())))
    };
    let equal = |left, right| Expr::compare(CompareOp::Equal, Expr::Column(left), Expr::Column(right));
    let lines = || table("lines", &["id", "n"]);
    let orders = || table("orders", &["id"]);
    let joined = || lines().join(JoinKind::Inner, orders(), vec![equal(1, 3)]);
    let from = |relation: &Relation| text(relation).split_once(" FROM ").unwrap().1.to_owned();
    let led = "`shop`.`lines` t1 STRAIGHT_JOIN `shop`.`orders` t2 ON t1.`of` = t2.`id`";
    let chosen = "`shop`.`lines` t1 JOIN `shop`.`orders` t2 ON t1.`of` = t2.`id`";
    assert_eq!(from(&joined()), led);
    assert_eq!(from(&joined().filter(vec![above(2)])), format!("{led} WHERE t1.`n` > ?"));
    let swapped = orders().join(JoinKind::Inner, lines().filter(vec![above(2)]), vec![equal(0, 4)]);
    assert_eq!(
        from(&swapped),
        "`shop`.`lines` t2 STRAIGHT_JOIN `shop`.`orders` t1 ON t1.`id` = t2.`of` WHERE t2.`n` > ?"
    );
    // What keeps out rows of the other may be the better begin.
    assert_eq!(from(&joined().filter(vec![above(5)])), format!("{chosen} WHERE t2.`n` > ?"));
    let narrowed = lines().join(JoinKind::Inner, orders().filter(vec![above(2)]), vec![equal(1, 3)]);
    assert_eq!(from(&narrowed), format!("{chosen} WHERE t2.`n` > ?"));
    let key = SortKey { column: 4, descending: false, nulls_first: true };
    assert!(from(&joined().top(vec![key], 0, 5)).starts_with(chosen), "in the order of an index of the other");
    assert!(from(&joined().top(vec![SortKey { column: 1, ..key }], 0, 5)).starts_with(led));
    let grouped = |column| joined().aggregate(vec![Expr::Column(column)], vec![Aggregate::count_rows()]);
    assert!(from(&grouped(3)).starts_with(chosen), "rows lie by these groups");
    assert!(from(&grouped(4)).starts_with(led));
    let more = lines().join(JoinKind::Inner, orders(), vec![equal(1, 3), equal(2, 5)]);
    assert!(!text(&more).contains("STRAIGHT_JOIN"), "more is asked of it than its key");
    let odd = orders().join(JoinKind::Inner, lines(), vec![equal(0, 4), equal(3, 5)]);
    assert!(!text(&odd).contains("STRAIGHT_JOIN"));
    // By a part of the key, or by another column, several rows are found.
    let by_part = orders().join(JoinKind::Inner, lines(), vec![equal(1, 3)]);
    assert!(!text(&by_part).contains("STRAIGHT_JOIN"));
    let left = lines().join(JoinKind::Left, orders(), vec![equal(1, 3)]);
    assert!(!text(&left).contains("STRAIGHT_JOIN"));
    // A small table is the better begin; of two that are looked up, the smaller one.
    let sized = |name: &str, rows| {
        let mut table = TableDef::new(["shop", name], vec![number("id"), number("of"), number("n")]).with_key(["id"]);
        table.rows_estimate = Some(rows);
        Relation::table(Arc::new(table))
    };
    let by = |lines, orders| sized("lines", lines).join(JoinKind::Inner, sized("orders", orders), vec![equal(1, 3)]);
    assert_eq!(from(&by(1_000, 10)), led);
    assert_eq!(from(&by(1_001, 10)), chosen);
    let by_keys = |left, right| sized("lines", left).join(JoinKind::Inner, sized("orders", right), vec![equal(0, 3)]);
    assert!(from(&by_keys(10, 20)).starts_with("`shop`.`lines` t1 STRAIGHT_JOIN"));
    assert!(from(&by_keys(20, 10)).starts_with("`shop`.`orders` t2 STRAIGHT_JOIN"));
    // Along a chain, until something else than the first table is asked.
    let chain = || joined().join(JoinKind::Inner, table("customers", &["id"]), vec![equal(4, 6)]);
    assert_eq!(from(&chain()), format!("{led} STRAIGHT_JOIN `shop`.`customers` t3 ON t2.`of` = t3.`id`"));
    assert!(!text(&chain().filter(vec![above(8)])).contains("STRAIGHT_JOIN"));
    let semi = chain().join(JoinKind::Semi, table("chosen", &["id"]), vec![equal(6, 9)]);
    assert!(!text(&semi).contains("STRAIGHT_JOIN"));
    let semi = chain().join(JoinKind::Semi, table("chosen", &["id"]), vec![equal(0, 9)]);
    assert!(text(&semi).contains("STRAIGHT_JOIN"));
}

fn one_of(count: i64) -> Expr {
    let values = (0..count).map(ScalarValue::from).collect();
    Expr::InList { expr: Box::new(Expr::Column(0)), values, negated: false }
}

#[test]
fn long_list_that_rows_must_be_in_is_one_value_and_one_text() {
    let found = text(&table().filter(vec![one_of(100)]));
    assert!(
        found.ends_with(" WHERE `c0` IN (SELECT j.k FROM JSON_TABLE(?, '$[*]' COLUMNS (k BIGINT PATH '$')) j)"),
        "{found}"
    );
    assert_eq!(found, text(&table().filter(vec![one_of(5_000)])));
    assert!(text(&table().filter(vec![one_of(3)])).ends_with(" WHERE `c0` IN (?, ?, ?)"));
    // Elsewhere the server would make the rows anew for each row that it looks at.
    let either = Expr::Or(vec![one_of(100), above(0)]);
    let not = Expr::Not(Box::new(one_of(100)));
    let counted = Aggregate { condition: Some(one_of(100)), ..Aggregate::count_rows() };
    for relation in [table().filter(vec![either]), table().filter(vec![not]), table().aggregate(vec![], vec![counted])]
    {
        assert!(!text(&relation).contains("JSON_TABLE"));
    }
    // Where no index is to serve it, it is a condition on the rows and no table to be joined.
    let values = (0..100).map(ScalarValue::from).collect();
    let tested = table().filter(vec![Expr::Column(0).unindexed(DataType::Int64).one_of(values)]);
    assert!(
        text(&tested).ends_with(
            " WHERE CASE WHEN COALESCE(`c0`) IN (SELECT j.k FROM JSON_TABLE(?, '$[*]' COLUMNS (k BIGINT PATH '$')) j) \
             THEN TRUE END"
        ),
        "{}",
        text(&tested)
    );
    let old = MysqlDialect { lists: Lists::Placeholders };
    let statement = render_relation(&old, &ServiceName::parse("shop").unwrap(), &table().filter(vec![one_of(100)]));
    assert_eq!(statement.unwrap().binds.len(), 100);
}

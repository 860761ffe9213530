//! Values of every type, and values that the log leaves out.

use headwater_source::{Error, Kept, RowOp};

use super::{Followed, followed_with, text};
use crate::following::{Following, failure_of, row_count, rows};

#[tokio::test]
async fn loose_numerics_come_as_the_decimal_that_the_manifest_says() {
    let columns = "id int PRIMARY KEY, free numeric, list numeric[]";
    let followed =
        Followed::new(&format!("CREATE TABLE t ({columns}); CREATE TABLE bad (id int PRIMARY KEY, free numeric)"))
            .await;
    let options = [("url", text(&followed.database.url())), ("numeric", text("decimal(38,9)"))];
    let following = Following::installed(followed_with(&followed.slot, &options), &["t", "bad"]).await;
    let mut replica = following.snapshot().await;
    followed.run("INSERT INTO t VALUES (1, 1.50, '{0.25,NULL}'), (2, -99999999999999999999999999999.999999999, '{}'), (3, NULL, NULL)").await;
    followed.run("UPDATE t SET free = free / 2 WHERE id = 1").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.iter().map(row_count).sum::<usize>(), 5);
    followed.run("INSERT INTO bad VALUES (1, 0.0000000001)").await;
    let mut changes = following.changes(replica.position()).await;
    let error = failure_of(&mut changes).await.report();
    assert!(error.contains("\"free\"") && error.contains("behind the point"), "{error}");
}

#[tokio::test]
async fn every_type_comes_as_a_scan_yields_it() {
    let types = [
        ("boolean", vec!["true", "false"]),
        ("smallint", vec!["-32768", "32767"]),
        ("integer", vec!["-2147483648", "2147483647"]),
        ("bigint", vec!["-9223372036854775808", "9223372036854775807"]),
        ("oid", vec!["0", "4294967295"]),
        ("real", vec!["'-0'", "'NaN'", "3.4028235e38", "1e-45", "0.1", "'Infinity'"]),
        ("double precision", vec!["'-0'", "'NaN'", "'-Infinity'", "0.1", "4.9e-324", "1.7976931348623157e308"]),
        ("numeric(12,2)", vec!["-9999999999.99", "0.01", "0", "10000"]),
        ("numeric(38,38)", vec!["1e-38", "-0.5"]),
        ("numeric(3,-2)", vec!["99900", "-100"]),
        ("numeric(3,5)", vec!["0.00999"]),
        ("numeric(76,6)", vec!["-1234567890123456789012345678901234567890.000001"]),
        ("numeric", vec!["'NaN'", "1.50", "1e-60", "'-Infinity'"]),
        ("text", vec!["''", "'  a '", "E'O''Brien \\\\ \"x\" \\n'", "'日本 𝄞 é'"]),
        ("varchar(40)", vec!["' x '"]),
        ("name", vec!["'n'"]),
        ("char(8)", vec!["'ab'", "' a '", "''"]),
        ("bpchar", vec!["'ab  '"]),
        ("\"char\"", vec!["'x'", "''"]),
        ("bytea", vec!["''", "'\\x00ff27'"]),
        ("date", vec!["'4714-11-24 BC'", "'5874897-12-31'", "'0001-01-01'", "'infinity'", "'-infinity'"]),
        ("time", vec!["'00:00'", "'23:59:59.999999'", "'24:00'", "'01:02:03.5'"]),
        (
            "timestamp",
            vec![
                "'4714-11-24 00:00:00 BC'",
                "'1969-12-31 23:59:59.999999'",
                "'294247-01-10 04:00:54.775806'",
                "'infinity'",
            ],
        ),
        ("timestamptz", vec!["'4714-11-24 00:00:00+00 BC'", "'2024-02-29 12:00:00.5+05:30'", "'-infinity'"]),
        ("interval", vec!["'1 year 2 months -3 days 04:05:06.000007'", "'-178000000 years'", "'0'", "'-1 second'"]),
        ("uuid", vec!["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
        ("json", vec!["'{\"b\" : 1}'"]),
        ("jsonb", vec!["'{\"b\" : 1, \"a\": [1, null]}'"]),
        ("mood", vec!["'sad'", "'O''k \"x\"'"]),
        ("small", vec!["7"]),
        ("word", vec!["'x  '"]),
        ("timetz", vec!["'04:05:06.5+02'"]),
        ("bit(3)", vec!["B'101'"]),
        ("varbit", vec!["B'1'"]),
        ("inet", vec!["'10.0.0.1'", "'10.0.0.1/8'", "'::1'"]),
        ("cidr", vec!["'10.0.0.0/8'", "'10.0.0.1'"]),
        ("macaddr", vec!["'08:00:2b:01:02:03'"]),
        ("money", vec!["12.5", "-3"]),
        ("xml", vec!["'<a/>'"]),
        ("int4range", vec!["'[1,3]'"]),
        ("int4multirange", vec!["'{[1,2)}'"]),
        ("pair", vec!["(1, 'x y')"]),
        ("point", vec!["'(1,2)'"]),
        ("tsvector", vec!["'a b'"]),
        ("pg_lsn", vec!["'0/10'"]),
        ("regclass", vec!["'pg_class'", "'public.t'"]),
        ("int[]", vec!["'{1,NULL,-2147483648}'", "'{}'", "'[7:7]={5}'"]),
        ("small[]", vec!["'{1}'"]),
        ("text[]", vec!["ARRAY['a,b', NULL, '', 'NULL', 'x\"y\\z', '{', ' ']", "'{}'"]),
        ("char(3)[]", vec!["ARRAY['x', 'xyz']::char(3)[]"]),
        ("mood[]", vec!["'{sad,NULL}'"]),
        ("uuid[]", vec!["'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'"]),
        ("jsonb[]", vec!["ARRAY['{\"a\":1}']::jsonb[]"]),
        ("numeric[]", vec!["'{NaN,1.50}'"]),
        ("numeric(9,2)[]", vec!["'{1.5,-2}'"]),
        ("float8[]", vec!["'{NaN,-0,1e300}'"]),
        ("bytea[]", vec!["ARRAY['\\x00ff'::bytea]"]),
        ("timestamptz[]", vec!["ARRAY['2024-02-29 12:00:00.5+05:30'::timestamptz]"]),
        ("date[]", vec!["'{2024-01-01,infinity}'"]),
        ("interval[]", vec!["ARRAY['1 day 2 hours'::interval]"]),
        ("boolean[]", vec!["'{t,f,NULL}'"]),
        ("inet[]", vec!["'{10.0.0.1,NULL}'"]),
        ("pair[]", vec!["ARRAY[(1,'x')::pair]"]),
    ];
    let columns: Vec<String> = types.iter().enumerate().map(|(n, (name, _))| format!("c{n} {name}")).collect();
    let followed = Followed::new(&format!(
        "CREATE TYPE mood AS ENUM ('sad', 'O''k \"x\"'); CREATE TYPE pair AS (a int, b text);
         CREATE DOMAIN small AS smallint; CREATE DOMAIN word AS char(4);
         CREATE TABLE t (id int PRIMARY KEY, {})",
        columns.join(", ")
    ))
    .await;
    followed.run("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; INSERT INTO t (id) VALUES (-1)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    let longest = types.iter().map(|(_, literals)| literals.len()).max().unwrap();
    for id in 0..longest {
        let cast = |(name, literals): &(&str, Vec<&str>)| match literals.get(id) {
            Some(literal) => format!("({literal})::{name}"),
            None => "NULL".to_owned(),
        };
        let values: Vec<String> = types.iter().map(cast).collect();
        followed.run(&format!("INSERT INTO t VALUES ({id}, {})", values.join(", "))).await;
    }
    followed.run("UPDATE t SET id = id + 100 WHERE id >= 0").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.iter().map(row_count).sum::<usize>(), 3 * longest);
    let reloaded = following.snapshot().await;
    following.agree(&reloaded).await;
}

#[tokio::test]
async fn value_that_no_scan_can_read_is_named() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, v numeric(9,2), a int[])").await;
    let following = followed.of(&["t"]).await;
    for (sql, column, what) in [
        ("INSERT INTO t VALUES (1, 'NaN', NULL)", "v", "NaN"),
        ("INSERT INTO t VALUES (2, 1, '{{1,2},{3,4}}')", "a", "2 dimensions"),
    ] {
        let replica = following.snapshot().await;
        followed.run(sql).await;
        let mut changes = following.changes(replica.position()).await;
        match failure_of(&mut changes).await {
            Error::Value { table, column: found, reason, .. } => {
                assert_eq!((table.as_str(), found.as_str()), ("public.t", column));
                assert!(reason.contains(what), "{reason}");
            }
            other => panic!("{}", other.report()),
        }
        followed.run("DELETE FROM t").await;
    }
}

#[tokio::test]
async fn stored_value_that_an_update_leaves_alone_is_kept() {
    let followed = Followed::new(
        "CREATE TABLE t (id int PRIMARY KEY, big text, n int);
         ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL;
         INSERT INTO t VALUES (1, repeat('x', 100000), 1), (2, 'small', 1)",
    )
    .await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed.run("UPDATE t SET n = 2").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    let changes = rows(&taken[0])[0];
    assert_eq!(changes.ops, [RowOp::DeleteKey, RowOp::InsertOver, RowOp::DeleteKey, RowOp::InsertOver]);
    assert_eq!(changes.kept, [Kept { row: 1, column: 1 }]);
    followed.run("UPDATE t SET id = 3 WHERE id = 1; UPDATE t SET big = repeat('y', 100000) WHERE id = 3").await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn stored_key_that_an_update_leaves_alone_is_found() {
    let followed = Followed::new(
        "CREATE TABLE t (k text, n int, other text); ALTER TABLE t ALTER COLUMN k SET STORAGE EXTERNAL;
         ALTER TABLE t ALTER COLUMN other SET STORAGE EXTERNAL; ALTER TABLE t ADD PRIMARY KEY (k);
         INSERT INTO t VALUES (repeat('k', 2500), 1, repeat('o', 9000))",
    )
    .await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed.run("UPDATE t SET n = 2").await;
    following.catch_up_and_agree(&mut replica).await;
    followed.run("DELETE FROM t").await;
    following.catch_up_and_agree(&mut replica).await;
}

//! A cast that does not fit is an error, unless the query says try_cast.

use headwater_sql_tests::everywhere::Everywhere;

async fn everywhere() -> Everywhere {
    let rows = "INSERT INTO t VALUES (1, 300, '12'), (2, 7, 'twelve'), (3, NULL, NULL), (4, 9223372036854775807, '')";
    Everywhere::with(
        &format!("CREATE TABLE t (id int, v bigint, s text); {rows}"),
        &format!("CREATE TABLE t (id int, v bigint, s varchar(20)); {rows}"),
        &format!("CREATE TABLE t (id INTEGER, v INTEGER, s TEXT); {rows}"),
    )
    .await
}

#[tokio::test]
async fn cast_that_overflows_is_an_error_both_ways() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    for query in [
        "SELECT CAST(v AS TINYINT) FROM {t} WHERE id = 1",
        "SELECT CAST(v AS INT) FROM {t}",
        "SELECT CAST(s AS INT) FROM {t} WHERE id = 2",
        "SELECT id FROM {t} WHERE CAST(s AS INT) = 12",
        "SELECT CAST(v AS DECIMAL(5,2)) FROM {t} WHERE id = 4",
        "SELECT CAST(s AS DATE) FROM {t} WHERE id = 2",
    ] {
        for answer in everywhere.agrees(&reference, query).await {
            assert!(answer.is_err(), "{query}: {:?}", answer.unwrap().texts());
        }
    }
}

#[tokio::test]
async fn try_cast_that_overflows_is_null_both_ways() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    for query in [
        "SELECT TRY_CAST(v AS TINYINT) FROM {t}",
        "SELECT TRY_CAST(s AS INT) FROM {t}",
        "SELECT id FROM {t} WHERE TRY_CAST(s AS INT) IS NULL",
        "SELECT id FROM {t} WHERE TRY_CAST(s AS INT) = 12",
        "SELECT id FROM {t} WHERE TRY_CAST(v AS SMALLINT) = 300",
    ] {
        for answer in everywhere.agrees(&reference, query).await {
            answer.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
}

#[tokio::test]
async fn comparison_with_a_value_of_another_type_means_what_it_means_locally() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    for test in [
        "v = 300.0",
        "v = 300.5",
        "v > 299.5",
        "v = '300'",
        "v = '0300'",
        "v < 9223372036854775807.5",
        "s = 12",
        "s > 2",
        "v = true",
        "s = '12 '",
        "v = CAST(300 AS SMALLINT)",
        "CAST(v AS DOUBLE) = 9223372036854775808.0",
        "CAST(v AS VARCHAR) = '300'",
        "CAST(v AS SMALLINT) = 300",
        "CAST(v AS VARCHAR) LIKE '3%'",
        "v IN (300, 7.0)",
        "v IN ('300')",
        "v BETWEEN 6.9 AND 300.1",
        "CAST(id AS BIGINT) = 1",
        "id = CAST(1 AS BIGINT)",
        "id < 3000000000",
    ] {
        everywhere.agrees(&reference, &format!("SELECT id FROM {{t}} WHERE {test}")).await;
    }
}

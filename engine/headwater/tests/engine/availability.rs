//! A service that is down, changes or breaks.

use headwater::ErrorKind;

use crate::sheet::Sheet;

#[tokio::test]
async fn service_that_is_down_fails_its_own_queries_by_name_and_works_once_it_is_back() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    shop.take_down();
    let engine = Sheet::engine(&[&shop, &store]).await;
    assert_eq!(engine.discover().await.len(), 1);
    engine.sql("SELECT * FROM store.items").await.unwrap().collect().await.unwrap();

    let error = engine.sql("SELECT * FROM shop.items").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.report(), "service \"shop\" is unavailable at memory of shop: the sheet was taken away");
    let tables = engine.catalog().await;
    let listed = tables.iter().find(|table| table.service == "shop").unwrap();
    assert!(listed.name == "items" && listed.schema.is_none(), "{listed:?}");

    shop.bring_back();
    engine.sql("SELECT * FROM shop.items").await.unwrap().collect().await.unwrap();
}

#[tokio::test]
async fn service_that_breaks_in_the_middle_gives_an_error_and_no_answer() {
    let shop = Sheet::new("shop");
    shop.fail_after_first_batch();
    let engine = Sheet::engine(&[&shop]).await;
    for sql in ["SELECT * FROM shop.items", "SELECT count(*) FROM shop.items a JOIN shop.items b ON a.id = b.id"] {
        let error = engine.sql(sql).await.unwrap().collect().await.unwrap_err();
        assert_eq!(
            error.report(),
            "service \"shop\" failed while reading table \"items\": the sheet was torn",
            "{sql}"
        );
    }
}

#[tokio::test]
async fn renamed_column_is_seen_by_the_next_query_and_never_shifts() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    let session = engine.session();
    session.sql("SELECT name FROM shop.items").await.unwrap().collect().await.unwrap();
    shop.rename_name_to("title");
    // A query by the new name plans with the new description; one by the old name says that the column is gone.
    session.sql("SELECT title FROM shop.items").await.unwrap().collect().await.unwrap();
    let error = session.sql("SELECT name FROM shop.items").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    shop.rename_name_to("label");
    let schema = session.sql("SELECT * FROM shop.items").await.map(|answer| answer.schema());
    match schema {
        Ok(schema) => assert_eq!(schema.field(1).name(), "label"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Changed),
    }
}

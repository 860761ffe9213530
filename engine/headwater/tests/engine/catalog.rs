//! Names: services, search path, listings.

use arrow::array::AsArray;
use headwater::{ErrorKind, Session};

use crate::sheet::Sheet;

async fn names(session: &Session, sql: &str) -> Vec<String> {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let columns =
        batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    columns.collect()
}

#[tokio::test]
async fn unqualified_name_is_looked_up_along_the_search_path_in_order() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    let engine = Sheet::engine(&[&shop, &store]).await;
    let session = engine.session();
    let error = session.sql("SELECT * FROM items").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().contains("write shop.items or SET search_path = shop"), "{}", error.report());

    session.sql("SET search_path = store, shop").await.unwrap().collect().await.unwrap();
    session.sql("SELECT i.id FROM items i JOIN items ON items.id = i.id").await.unwrap().collect().await.unwrap();
    store.last_asked();
    assert_eq!(names(&session, "SHOW search_path").await, ["headwater.search_path"]);

    let error = session.sql("SET search_path = stoer").await.unwrap_err();
    assert!(error.report().contains("did you mean \"store\"?"), "{}", error.report());
    let error = session.sql("SELECT * FROM itms").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn settings_belong_to_their_session() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    let (first, second) = (engine.session(), engine.session());
    first.sql("SET search_path = shop").await.unwrap();
    first.sql("SELECT * FROM items").await.unwrap();
    assert!(second.sql("SELECT * FROM items").await.is_err());
}

#[tokio::test]
async fn information_schema_lists_a_service_that_is_down_without_its_columns() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    shop.take_down();
    let session = Sheet::engine(&[&shop, &store]).await.session();
    let sql = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'items' ORDER BY 1";
    assert_eq!(names(&session, sql).await, ["shop", "store"]);
    let sql = "SELECT DISTINCT table_schema FROM information_schema.columns WHERE table_name = 'items'";
    assert_eq!(names(&session, sql).await, ["store"]);
    assert_eq!(names(&session, "DESCRIBE store.items").await, ["id", "name"]);
    session.sql("SHOW TABLES").await.unwrap().collect().await.unwrap();
    assert_eq!(names(&session, "SHOW SCHEMAS").await, ["headwater", "shop", "store"]);
}

#[tokio::test]
async fn misspelt_service_or_table_is_told_its_neighbour() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    for (sql, hint) in
        [("SELECT * FROM shp.items", "did you mean \"shop\"?"), ("SELECT * FROM shop.item", "did you mean \"items\"?")]
    {
        let error = engine.sql(sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{sql}: {error:?}");
        assert!(error.report().contains(hint), "{}", error.report());
    }
}

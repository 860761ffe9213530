//! Arrow's Flight SQL client.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::FlightInfo;
use arrow_flight::error::Result as FlightResult;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables};
use futures::{StreamExt, TryStreamExt};
use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::rows;
use headwater_sql_tests::wait;
use tonic::transport::{Channel, Endpoint};

use crate::{HOSTILE, Server, everywhere};

pub(crate) type Client = FlightSqlServiceClient<Channel>;

async fn client(server: &Server) -> Client {
    connect(&server.address).await
}

/// A client on a connection of its own.
pub(crate) async fn connect(address: &std::net::SocketAddr) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    Client::new(endpoint.connect().await.unwrap())
}

async fn fetch(client: &mut Client, info: FlightInfo) -> FlightResult<Rows> {
    let mut read: Option<SchemaRef> = info.clone().try_decode_schema().ok().map(Arc::new);
    let mut batches = Vec::new();
    for endpoint in info.endpoint {
        let mut stream = client.do_get(endpoint.ticket.unwrap()).await?;
        while let Some(batch) = stream.try_next().await? {
            read = Some(batch.schema());
            batches.push(batch);
        }
    }
    Ok(Rows::of(&read.expect("an answer has a schema"), &batches))
}

pub(crate) async fn ask(client: &mut Client, query: &str) -> Result<Rows, String> {
    let info = client.execute(query.to_owned(), None).await.map_err(|error| error.to_string())?;
    fetch(client, info).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_answers_as_the_engine_does() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = client(&server).await;
    for query in [
        "SELECT * FROM pg.t",
        "SELECT p.id, m.s_bin, l.s FROM pg.t p JOIN my.t m ON p.id = m.id LEFT JOIN lite.t l ON l.s = m.s",
        "SELECT * FROM pg.many WHERE id <= 30000",
        "SELECT sum(price), min(at), max(at), count(*) FROM pg.many",
        "SELECT * FROM my.t WHERE false",
        "SELECT 1 AS one, NULL AS nothing, [1, NULL] AS list, {'a': 1} AS record, X'00ff' AS bytes",
    ] {
        let found = ask(&mut client, query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(found.difference(&rows(&everywhere.engine, query).await), None, "{query}");
    }
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statement_binds_typed_values_and_never_text() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = client(&server).await;
    for service in ["pg", "my", "lite"] {
        let mut prepared =
            client.prepare(format!("SELECT id FROM {service}.t WHERE s = $1 AND id >= $2"), None).await.unwrap();
        let types: Vec<DataType> =
            prepared.parameter_schema().unwrap().fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, DataType::Int64], "{service}");
        let schema = Arc::new(Schema::new(vec![
            Field::new("$1", DataType::Utf8, true),
            Field::new("$2", DataType::Int64, true),
        ]));
        for (id, text) in HOSTILE.iter().enumerate() {
            let values = RecordBatch::try_new(
                Arc::clone(&schema),
                vec![Arc::new(StringArray::from(vec![*text])), Arc::new(Int64Array::from(vec![0]))],
            );
            prepared.set_parameters(values.unwrap()).unwrap();
            let info = prepared.execute().await.unwrap();
            let found = fetch(&mut client, info).await.unwrap();
            assert_eq!(found.column(), [id.to_string()], "{service}: {text:?}");
        }
        prepared.close().await.unwrap();
    }
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn view_is_defined_read_and_dropped_by_each_way_to_send_a_statement() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = client(&server).await;
    let query = "SELECT p.id, l.s FROM pg.t p JOIN lite.t l ON l.s = p.s";
    let created = ask(&mut client, &format!("CREATE MATERIALIZED VIEW v.joined AS {query}")).await.unwrap();
    assert_eq!(created.texts(), [["v.joined", "shown"]]);
    let found = ask(&mut client, "SELECT * FROM v.joined ORDER BY id").await.unwrap();
    let expected = rows(&everywhere.engine, &format!("{query} ORDER BY id")).await;
    assert_eq!(found.rows, expected.rows);
    let mut prepared = client.prepare("REFRESH MATERIALIZED VIEW v.joined".to_owned(), None).await.unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap().texts(), [["v.joined", "shown"]]);
    assert!(ask(&mut client, "EXPLAIN MATERIALIZED VIEW v.joined").await.unwrap().rows.len() > 2);
    assert_eq!(client.execute_update("DROP MATERIALIZED VIEW v.joined".to_owned(), None).await.unwrap(), 0);
    assert!(ask(&mut client, "SELECT * FROM v.joined").await.unwrap_err().contains("not found"));
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn catalog_tells_schemas_tables_columns_and_keys() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = client(&server).await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap().column(), ["headwater"]);
    let info = client
        .get_db_schemas(CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some("l%".to_owned()) })
        .await
        .unwrap();
    let schemas = fetch(&mut client, info).await.unwrap();
    assert_eq!(schemas.texts(), [["headwater", "lite"]]);
    let request = CommandGetTables {
        catalog: Some("headwater".to_owned()),
        db_schema_filter_pattern: Some("pg".to_owned()),
        table_name_filter_pattern: Some("%".to_owned()),
        table_types: vec![],
        include_schema: true,
    };
    let info = client.get_tables(request).await.unwrap();
    let tables = fetch(&mut client, info).await.unwrap();
    let names: Vec<&str> = tables.texts().iter().map(|row| row[2]).collect();
    assert_eq!(names, ["many", "t"]);
    let request = CommandGetPrimaryKeys { catalog: None, db_schema: Some("pg".to_owned()), table: "many".to_owned() };
    let info = client.get_primary_keys(request).await.unwrap();
    let keys = fetch(&mut client, info).await.unwrap();
    assert!(keys.texts().len() == 1 && keys.texts()[0].contains(&"id"), "{:?}", keys.texts());
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert!(!fetch(&mut client, info).await.unwrap().rows.is_empty());
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_names_its_cause_and_the_server_goes_on() {
    let everywhere = everywhere().await;
    everywhere.postgres.execute("CREATE TABLE bad (n numeric(5,2)); INSERT INTO bad SELECT i % 10 FROM generate_series(1, 30000) i; INSERT INTO bad VALUES ('NaN')").await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = client(&server).await;
    for (query, part) in [
        ("SELECT * FROM pg.nowhere", "nowhere"),
        ("SELEC 1", "SELEC"),
        ("INSERT INTO pg.t VALUES (1, 'x')", "INSERT"),
        ("SELECT n FROM pg.bad", "NaN"),
        ("SELECT 1 / (id - id) FROM my.t", "ivide by zero"),
        ("SELECT CAST(s AS INT) FROM lite.t", "ast"),
    ] {
        let message = ask(&mut client, query).await.map(|found| format!("{:?}", found.texts())).unwrap_err();
        assert!(message.contains(part), "{query}: {message}");
        assert!(!message.contains(&headwater_sql_tests::canary()), "the message has the password");
    }
    assert_eq!(ask(&mut client, "SELECT count(*) FROM pg.many").await.unwrap().column(), ["100000"]);
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_leaves_stops_the_statement_at_the_source() {
    let everywhere = everywhere().await;
    everywhere
        .postgres
        .execute("CREATE VIEW endless AS SELECT a.id, repeat(a.name, 20) AS pad FROM many a, many b")
        .await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut leaving = client(&server).await;
    let info = leaving.execute("SELECT id, pad FROM pg.endless".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = leaving.do_get(ticket).await.unwrap();
    // The first rows come while the statement runs: ten thousand million more are to come.
    let first = wait::within("the first batch comes", Duration::from_secs(20), stream.next()).await;
    assert!(first.unwrap().unwrap().num_rows() > 0);
    assert_eq!(everywhere.postgres.running("endless").await, 1);
    drop(stream);
    drop(leaving);
    wait::until("the statement is stopped", Duration::from_secs(3), async || {
        everywhere.postgres.running("endless").await == 0
    })
    .await;
    let mut next = client(&server).await;
    assert_eq!(ask(&mut next, "SELECT count(*) FROM pg.t").await.unwrap().column(), ["7"]);
    drop(next);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_get_their_own_answers() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut asking = Vec::new();
    for number in 0..20 {
        let mut client = client(&server).await;
        asking.push(tokio::spawn(async move {
            let query = format!(
                "SELECT m.id FROM pg.many m JOIN my.t t ON t.id + {number} = m.id ORDER BY m.id LIMIT 1 OFFSET 1"
            );
            (number, ask(&mut client, &query).await)
        }));
    }
    for task in asking {
        let (number, found) = wait::within("every client is answered", Duration::from_secs(60), task).await.unwrap();
        let smallest = if number == 0 { 2 } else { number + 1 };
        assert_eq!(found.unwrap().column(), [smallest.to_string()], "client {number}");
    }
    server.stop().await;
}

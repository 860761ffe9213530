//! An engine over services that are followed, and when its views are where their sources are.

use std::path::Path;
use std::time::Duration;

use headwater::{Engine, Session, ViewOptions};
use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::{Pushdown, Services, ask, session};
use headwater_sql_tests::wait;

use crate::DEADLINE;
use crate::store::Store;

pub(crate) fn options() -> ViewOptions {
    ViewOptions {
        head_interval: Duration::from_millis(100),
        checkpoint_interval: Duration::from_millis(100),
        stale_wait: DEADLINE,
        ..ViewOptions::default()
    }
}

pub(crate) fn options_with(state: &Path) -> ViewOptions {
    ViewOptions { state: Some(state.into()), ..options() }
}

pub(crate) async fn engine(services: &Services, options: ViewOptions) -> Engine {
    let builder = Engine::builder().services_dir(services.manifests()).connectors(headwater_connectors::all());
    builder.views(options).build().await.unwrap_or_else(|error| panic!("{}", error.report()))
}

pub(crate) async fn asked(session: &Session, sql: &str) -> Rows {
    ask(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Makes the views `v.NAME`, which show.
pub(crate) async fn create(engine: &Engine, views: &[(&str, &str)]) {
    let session = engine.session();
    for (name, query) in views {
        let created = asked(&session, &format!("CREATE MATERIALIZED VIEW v.{name} AS {query}")).await;
        if created.texts()[0][1] != "shown" {
            shown(engine, name).await;
        }
    }
}

/// Waits until a view shows.
pub(crate) async fn shown(engine: &Engine, name: &str) {
    let session = engine.session();
    let query = format!("SELECT count(*) FROM headwater.views WHERE name = '{name}' AND state = 'live'");
    wait::until("the view shows", DEADLINE, async || asked(&session, &query).await.column() == ["1"]).await;
}

/// A session that demands of each service what its store has committed by now.
pub(crate) async fn up_to_date(engine: &Engine, stores: &[(&str, &Store)]) -> Session {
    let session = session(engine, Pushdown::Off).await;
    let mut tokens = vec![];
    for (service, store) in stores {
        tokens.push(format!("{service}: \"{}\"", store.token().await));
    }
    asked(&session, &format!("SET headwater.at_least = '{{{}}}'", tokens.join(", "))).await;
    session
}

/// Each view is what its query gives over the services. Nobody writes meanwhile.
pub(crate) async fn agree(engine: &Engine, stores: &[(&str, &Store)], views: &[(&str, &str)]) {
    let session = up_to_date(engine, stores).await;
    for (name, query) in views {
        let (shown, expected) =
            (asked(&session, &format!("SELECT * FROM v.{name}")).await, asked(&session, query).await);
        if let Some(difference) = shown.difference(&expected) {
            panic!("v.{name} is not its query: {difference}");
        }
    }
}

/// What `headwater.feeds` says of a service.
pub(crate) async fn feed(engine: &Engine, service: &str, column: &str) -> String {
    let query = format!("SELECT {column} FROM headwater.feeds WHERE service = '{service}'");
    asked(&engine.session(), &query).await.texts().first().map(|row| row[0].to_owned()).unwrap_or_default()
}

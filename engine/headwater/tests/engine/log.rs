//! What the log says of a query: one line, when it is over, without a word that the user wrote.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::sheet::Sheet;

/// Keeps the fields of every event of the engine.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Fields>>>);

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("headwater")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().push(fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Kept {
    /// The fields of the lines about queries that have ended since this was last asked.
    fn ended(&self) -> Vec<BTreeMap<String, String>> {
        let events = std::mem::take(&mut *self.0.lock());
        let is_query = |fields: &BTreeMap<_, _>| fields.get("message").is_some_and(|text| text == "query finished");
        events.into_iter().map(|fields| fields.0).filter(is_query).collect()
    }
}

#[tokio::test]
async fn each_query_is_one_line_with_what_it_cost_and_no_literal() {
    let kept = Kept::default();
    let _log = tracing::subscriber::set_default(kept.clone());
    let shop = Sheet::new("shop");
    let session = Sheet::engine(&[&shop]).await.session();
    let canary = "SELECT id, name || 'canary' FROM shop.items WHERE name <> 'canary' AND id < 12345678";
    session.sql(canary).await.unwrap().collect().await.unwrap();
    let lines = kept.ended();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let field = |name: &str| line.get(name).map(String::as_str);
    assert_eq!((field("outcome"), field("statements")), (Some("complete"), Some("1")), "{line:?}");
    assert_eq!((field("rows"), field("rows_shipped")), (Some("3"), Some("4")), "{line:?}");
    for name in ["query_id", "ms", "first_row_ms", "bytes_shipped"] {
        assert!(field(name).is_some_and(|value| value.parse::<u64>().is_ok()), "{name}: {line:?}");
    }
    let mut stream = session.sql(canary).await.unwrap().into_stream().unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    shop.fail_after_first_batch();
    session.sql(canary).await.unwrap().collect().await.unwrap_err();
    let lines = kept.ended();
    let outcomes: Vec<&str> = lines.iter().map(|line| line["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["cancelled", "failed: Unavailable"]);
    assert!(!format!("{lines:?}").contains("canary") && !format!("{lines:?}").contains("12345678"), "{lines:?}");
}

//! Of which state an answer over views is: its epoch, the positions of the sources, and how far behind them it may be.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use headwater_source::Position;
use headwater_views::{Epoch, Vector, ViewId};
use serde_json::{Map, Value, json};

use super::registry::Shared;

/// The state that an answer over materialized views shows. The same for every view of the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamp {
    /// The epoch.
    pub epoch: u64,
    /// The services whose tables the views read, by name.
    pub sources: BTreeMap<String, SourceStamp>,
}

/// What an answer shows of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceStamp {
    /// The position in the source's log: everything up to it shows, and nothing after it.
    pub position: Position,
    /// How long ago that was the newest state, at most, when the query was planned; `None` where it is not known.
    pub lag: Option<Duration>,
    /// What the positions promise: `transactional`, `listing` or `polled`.
    pub class: &'static str,
}

impl Stamp {
    /// The stamp as metadata of a schema: `headwater.epoch`, and `headwater.vector`, `headwater.lag_ms_max` and `headwater.class`, each a JSON object
    /// with a value for each service.
    pub fn metadata(&self) -> HashMap<String, String> {
        let object = |value: &dyn Fn(&SourceStamp) -> Value| {
            let values = self.sources.iter().map(|(service, source)| (service.clone(), value(source)));
            Value::Object(values.collect::<Map<_, _>>()).to_string()
        };
        let lag = |source: &SourceStamp| json!(source.lag.map(|lag| lag.as_secs_f64() * 1_000.0));
        HashMap::from([
            ("headwater.epoch".to_owned(), self.epoch.to_string()),
            ("headwater.vector".to_owned(), object(&|source| json!(source.position.token()))),
            ("headwater.lag_ms_max".to_owned(), object(&lag)),
            ("headwater.class".to_owned(), object(&|source| json!(source.class))),
        ])
    }
}

/// Positions as JSON: what `SET headwater.at_least` takes.
pub(super) fn vector_json(vector: &Vector) -> String {
    let tokens = vector.iter().map(|(service, position)| (service.to_owned(), json!(position.token())));
    Value::Object(tokens.collect::<Map<_, _>>()).to_string()
}

impl Shared {
    /// The stamp of an answer that reads these views at an epoch.
    pub(crate) fn stamp(&self, epoch: &Epoch, views: impl IntoIterator<Item = ViewId>) -> Stamp {
        let mut sources = BTreeMap::new();
        for shown in views.into_iter().filter_map(|view| epoch.view(view)) {
            for (service, position) in shown.vector.iter() {
                let followed = self.followed.read().get(service).cloned();
                let class = followed.as_ref().map_or("polled", |followed| followed.class());
                let lag = self.age(service, position);
                let new = SourceStamp { position: position.clone(), lag, class };
                // A view that has failed stays behind the others: of two positions the older one is told.
                let told = sources.entry(service.to_owned()).or_insert_with(|| new.clone());
                if new.position < told.position {
                    *told = new;
                }
            }
        }
        Stamp { epoch: epoch.number, sources }
    }
}

//! Feeds and views in numbers, for [`Engine::metrics`](crate::Engine::metrics).

use std::sync::Arc;

use super::registry::Shared;
use crate::access::Sight;
use crate::access::guard::{may_know, may_read};
use crate::{FeedMetrics, ViewMetrics};

impl Shared {
    /// How the feeds and the views stand. Asks no source.
    pub(crate) async fn metrics(self: &Arc<Self>) -> (Vec<FeedMetrics>, Vec<ViewMetrics>) {
        let followed: Vec<_> = self.followed.read().values().cloned().collect();
        let sources: Vec<_> = followed.iter().map(|followed| followed.source).collect();
        let statuses = self.with_core(move |core| {
            sources
                .iter()
                .map(|source| core.source_status(*source).ok().map(|status| status.waiting))
                .collect::<Vec<_>>()
        });
        let waiting = statuses.await.unwrap_or_else(|_| vec![None; followed.len()]);
        let feeds = followed.iter().zip(waiting).map(|(followed, waiting)| FeedMetrics {
            service: followed.name().to_owned(),
            stage: followed.stage().0.word(),
            waiting: waiting.unwrap_or_default() as u64,
            rows_loaded: followed.rows_loaded(),
        });
        (feeds.collect(), self.view_metrics())
    }

    fn view_metrics(&self) -> Vec<ViewMetrics> {
        let epoch = self.published.latest();
        let mut views = Vec::new();
        for (name, definition) in self.definitions.read().iter() {
            let shown = epoch.view(definition.view);
            let ages = shown.iter().flat_map(|shown| shown.vector.iter()).filter_map(|(service, position)| {
                Some((service.to_owned(), self.age(service, position)?.as_secs_f64()))
            });
            views.push(ViewMetrics {
                view: name.to_string(),
                rows: shown.map(|shown| shown.version.num_rows() as u64),
                staleness_seconds: ages.collect(),
            });
        }
        views
    }

    /// Every view that is seen: schema, name, and its query where that may be known.
    pub(crate) fn defined(&self, sight: Option<&Sight>) -> Vec<(String, String, String)> {
        let definitions = self.definitions.read();
        let seen = definitions.iter().filter(|(_, definition)| may_read(sight, &definition.shape.table));
        seen.map(|(name, definition)| {
            let known = may_know(sight, &definition.shape.table, name);
            let sql = if known { definition.sql.clone() } else { String::new() };
            (name.schema.clone(), name.name.clone(), sql)
        })
        .collect()
    }
}

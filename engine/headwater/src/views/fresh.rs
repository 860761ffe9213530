//! How fresh a query wants its views, and waiting for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_federation::{OnStale, Settings};
use headwater_source::Position;
use headwater_views::{Epoch, ViewId};

use super::ask::ViewName;
use super::registry::Shared;
use crate::{Error, Result};

/// What a session demands of the views that it reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    at_least: BTreeMap<String, String>,
    max_staleness: Option<Duration>,
    on_stale: OnStale,
}

/// What a query reads.
#[derive(Debug)]
pub(crate) enum Found {
    /// The views at this epoch.
    Epoch(Arc<Epoch>),
    /// The sources themselves, since the views are not fresh enough and the session wants it so.
    Live,
}

/// Why an epoch will not do.
#[derive(Debug)]
struct Lacking {
    view: ViewName,
    what: String,
    /// Whether time will mend it.
    waiting_helps: bool,
    /// Whether asking the source where its log ends may mend it.
    ask: Option<String>,
    /// Whether reading the sources gives what the view lacks.
    live_helps: bool,
}

impl Demand {
    /// Whether the session said how old an answer may be.
    pub(crate) fn bounds_staleness(&self) -> bool {
        self.max_staleness.is_some()
    }

    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            at_least: settings.at_least.0.clone(),
            max_staleness: settings.max_staleness.0,
            on_stale: settings.on_stale,
        }
    }
}

impl Shared {
    /// An epoch that is fresh enough for a query, or what the session wants otherwise.
    pub(crate) async fn fresh(self: &Arc<Self>, views: &[(ViewName, ViewId)], demand: &Demand) -> Result<Found> {
        let mut news = self.news.subscribe();
        let deadline = Instant::now() + self.options.stale_wait;
        let mut asked = false;
        loop {
            news.mark_unchanged();
            let epoch = self.published.latest();
            let Some(lacking) = self.lacking(&epoch, views, demand)? else { return Ok(Found::Epoch(epoch)) };
            // The source may have nothing new, and only its head tells.
            if let Some(service) = lacking.ask.as_ref().filter(|_| !asked) {
                asked = true;
                self.ask_head(service).await;
                continue;
            }
            match demand.on_stale {
                OnStale::Live if lacking.live_helps => return Ok(Found::Live),
                OnStale::Error => return Err(stale(lacking, None)),
                _ if !lacking.waiting_helps => return Err(stale(lacking, None)),
                _ => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // A view can grow too stale again while nothing happens at its source, so heads are asked for again.
            if left.is_zero() || tokio::time::timeout(left, news.changed()).await.is_err() {
                return Err(stale(lacking, Some(self.options.stale_wait)));
            }
        }
    }

    /// One epoch for some views, and for each of them why it will not do there. Nothing is waited for; sources that nothing was heard of for too
    /// long are asked where their logs end. `pinned` is the epoch that it has to be, if any.
    pub(crate) async fn fresh_now(
        self: &Arc<Self>,
        views: &[(ViewName, ViewId)],
        demand: &Demand,
        pinned: Option<Arc<Epoch>>,
    ) -> Result<(Arc<Epoch>, Vec<Option<String>>)> {
        let epoch = || pinned.clone().unwrap_or_else(|| self.published.latest());
        let mut asked = BTreeSet::new();
        loop {
            let epoch = epoch();
            let mut why = Vec::new();
            let mut ask = None;
            for view in views {
                let lacking = self.lacking(&epoch, std::slice::from_ref(view), demand)?;
                ask = ask.or_else(|| {
                    lacking.as_ref().and_then(|lacking| lacking.ask.clone()).filter(|service| !asked.contains(service))
                });
                why.push(lacking.map(|lacking| format!("it {}", lacking.what)));
            }
            let Some(service) = ask else { return Ok((epoch, why)) };
            self.ask_head(&service).await;
            asked.insert(service);
        }
    }

    fn lacking(&self, epoch: &Epoch, views: &[(ViewName, ViewId)], demand: &Demand) -> Result<Option<Lacking>> {
        for (name, view) in views {
            let lack = |what: String, waiting_helps, ask, live_helps| {
                Ok(Some(Lacking { view: name.clone(), what, waiting_helps, ask, live_helps }))
            };
            let Some(shown) = epoch.view(*view) else {
                let behind: Vec<String> = self.behind.lock().iter().map(|service| format!("\"{service}\"")).collect();
                let what = match behind.is_empty() {
                    true => "is not loaded yet".to_owned(),
                    false => format!(
                        "is not loaded yet; not all views have come to where service {} was when the engine started",
                        behind.join(", ")
                    ),
                };
                return lack(what, true, None, true);
            };
            let frozen = shown.has_failed;
            for (other, held) in views.iter().filter_map(|(other, view)| Some((other, epoch.view(*view)?))) {
                if let Some(service) = held.vector.differs(&shown.vector) {
                    let what = format!("shows service \"{service}\" at another position than view \"{other}\" does");
                    return lack(what, !frozen && !held.has_failed, None, true);
                }
            }
            for (service, token) in &demand.at_least {
                let Some(position) = shown.vector.position(service) else { continue };
                if !self.covers(service, position, token)? {
                    let what = format!("shows service \"{service}\" at {position}, not yet at {token}");
                    return lack(what, !frozen, None, true);
                }
            }
            let Some(bound) = demand.max_staleness else { continue };
            for (service, position) in shown.vector.iter() {
                let age = self.age(service, position);
                if age.is_none_or(|age| age > bound) {
                    let age = age.map_or_else(|| "an unknown time".to_owned(), |age| format!("{} ms", age.as_millis()));
                    let what = format!("may be {age} behind service \"{service}\"");
                    return lack(what, !frozen, Some(service.to_owned()), true);
                }
            }
        }
        Ok(None)
    }

    fn covers(&self, service: &str, position: &Position, token: &str) -> Result<bool> {
        let followed = self.followed.read().get(service).cloned();
        match followed.as_ref().and_then(|followed| followed.feed.as_ref()) {
            Some(feed) => Ok(feed.covers(position, token)?),
            None => {
                let reason =
                    format!("service \"{service}\" has no feed, so no view can be known to show a write of it");
                Err(super::registry::refused("headwater.at_least", &reason))
            }
        }
    }

    /// How long ago the state was current that a view shows of a service, at most; `None` where nothing is known.
    pub(super) fn age(&self, service: &str, position: &Position) -> Option<Duration> {
        let followed = self.followed.read().get(service).cloned()?;
        followed.fresh_at(position).map(|at| at.elapsed())
    }

    async fn ask_head(&self, service: &str) {
        let Some(followed) = self.followed.read().get(service).cloned() else { return };
        let Some(feed) = &followed.feed else { return };
        let at = Instant::now();
        // A source that does not answer leaves the view as stale as it was.
        if let Ok(head) = feed.head().await {
            followed.saw_head(at, head);
        }
    }
}

fn stale(lacking: Lacking, waited: Option<Duration>) -> Error {
    let Lacking { view, what, .. } = lacking;
    let waited = waited.map(|waited| format!(" after {} ms", waited.as_millis())).unwrap_or_default();
    Error::Stale(format!(
        "materialized view \"{view}\" {what}{waited}; try again later, or set headwater.on_stale to live"
    ))
}

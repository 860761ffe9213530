//! Views that read now() over real feeds: rows come and go at their moments, in each database's own type of times, while nobody writes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::cast::AsArray;
use arrow::datatypes::Int64Type;
use headwater::{Subscription, ViewOptions};
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;

use crate::DEADLINE;
use crate::follow::{asked, create, engine, options};
use crate::store::{Databases, Store, sqlite};

/// The services, and the time of an event as a view says it.
const SERVICES: [(&str, &str); 3] =
    [("pg", "at"), ("my", "at"), ("lite", "arrow_cast(at, 'Timestamp(Millisecond, None)')")];

/// Milliseconds since 1970 as a literal of each database.
fn literal(service: &str, ms: i64) -> String {
    match service {
        "pg" => format!("to_timestamp({ms} / 1000.0)"),
        "my" => format!("FROM_UNIXTIME({ms} / 1000.0)"),
        _ => ms.to_string(),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// What of each event came and went, until an event went.
async fn told(changes: &mut Subscription, last: i64) -> BTreeMap<i64, (usize, usize)> {
    let mut times: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
    let following = async {
        while times.get(&last).is_none_or(|(_, went)| *went == 0) {
            let change = changes.next().await.unwrap().unwrap();
            let ids = change.delta.rows().column(0).as_primitive::<Int64Type>();
            for (id, weight) in ids.values().iter().zip(change.delta.weights()) {
                let times = times.entry(*id).or_default();
                if *weight > 0 {
                    times.0 += 1;
                } else {
                    times.1 += 1;
                }
                assert!(times.0 == times.1 || times.0 == times.1 + 1, "event {id} is there once or not at all");
            }
        }
    };
    wait::within("the last event is over", DEADLINE, following).await;
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_and_go_at_their_moments_over_each_database() {
    let mut databases = Databases::default();
    let create_table =
        |of_times: &str| format!("CREATE TABLE events (id bigint NOT NULL PRIMARY KEY, at {of_times} NOT NULL);");
    let (services, pg) = databases.postgres(Services::new(), "pg", &create_table("timestamptz")).await;
    let (services, my) = databases.mariadb(services, "my", &create_table("timestamp(3)")).await;
    let (services, lite) = sqlite(services, "lite", &create_table("bigint"));
    let stores: [&Store; 3] = [&pg, &my, &lite];
    let options = ViewOptions { clock_interval: Duration::from_millis(20), ..options() };
    let engine = engine(&services, options).await;
    let recent = |service: &str, at: &str| {
        format!("SELECT id FROM {service}.events WHERE {at} > now() - interval '2 seconds' AND {at} <= now()")
    };
    let all = SERVICES.map(|(service, at)| recent(service, at));
    let views: Vec<(&str, String)> = SERVICES.iter().map(|(service, _)| *service).zip(all.clone()).collect();
    let views: Vec<(&str, &str)> = views.iter().map(|(name, query)| (*name, query.as_str())).collect();
    let joint = format!("SELECT count(*) AS n FROM ({})", all.join(" UNION ALL "));
    create(&engine, &views).await;
    create(&engine, &[("joint", &joint)]).await;
    let mut followed: Vec<Subscription> =
        SERVICES.iter().map(|(service, _)| engine.subscribe_to_changes(&format!("v.{service}")).unwrap()).collect();
    let now = now_ms();
    for ((service, _), store) in SERVICES.iter().zip(stores) {
        // One that is long over, one of now, some to come; one of these is put off, and one is taken back while it shows or before.
        let event = |id: i64, after_ms: i64| format!("({id}, {})", literal(service, now + after_ms));
        let events = [event(1, -60_000), event(2, 0), event(3, 1_500), event(4, 600), event(5, 3_000)].join(", ");
        store.run(&format!("INSERT INTO events VALUES {events}")).await;
        store.run(&format!("UPDATE events SET at = {} WHERE id = 1", literal(service, now + 5_000))).await;
        store.run("DELETE FROM events WHERE id = 4").await;
    }
    for (changes, (service, _)) in followed.iter_mut().zip(SERVICES) {
        let times = told(changes, 1).await;
        for id in [1, 3, 5] {
            assert_eq!(times.get(&id), Some(&(1, 1)), "event {id} of {service} came once and went once: {times:?}");
        }
        assert!(times.keys().all(|id| *id <= 5), "{times:?}");
    }
    let session = engine.session();
    wait::until("nothing is recent", DEADLINE, async || {
        asked(&session, "SELECT n FROM v.joint").await.column() == ["0"]
    })
    .await;
    // A while of its own, so that the query's now() and the view's are one for the rows that there are.
    let later = now_ms();
    for ((service, _), store) in SERVICES.iter().zip(stores) {
        store.run(&format!("UPDATE events SET at = {}", literal(service, later - 3_600_000))).await;
        store.run(&format!("INSERT INTO events VALUES (9, {})", literal(service, later + 3_600_000))).await;
    }
    for (name, query) in &views {
        let far = query.replace("2 seconds", "2 hours");
        let name = format!("far_{name}");
        create(&engine, &[(&name, &far)]).await;
        wait::until("the view is its query", DEADLINE, async || {
            let (shown, live) =
                (asked(&session, &format!("SELECT * FROM v.{name}")).await, asked(&session, &far).await);
            shown.difference(&live).is_none() && !live.texts().is_empty()
        })
        .await;
    }
}

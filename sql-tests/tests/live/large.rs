//! One transaction of half a million rows shows whole or not at all.

use headwater::{Engine, ViewOptions};
use headwater_sql_tests::services::Services;

use crate::follow::{asked, create, engine, options};
use crate::store::{Databases, Store};
use crate::watch::Watch;

const ROWS: i64 = 500_000;

const SCHEMA: &str =
    "CREATE TABLE wide (id bigint NOT NULL PRIMARY KEY, part bigint NOT NULL, n bigint NOT NULL, s text)";

const VIEWS: [(&str, &str); 2] = [
    ("counted", "SELECT count(*) AS rows_there, coalesce(sum(n), 0) AS n FROM bank.wide"),
    ("parts", "SELECT part, count(*) AS rows_there, sum(n) AS n FROM bank.wide GROUP BY part"),
];

/// What the engine may grow by while it takes the transactions, in bytes: the table itself takes about a third of it.
const GROWTH_BYTES: u64 = 2 << 30;

#[tokio::test(flavor = "multi_thread")]
async fn transaction_of_half_a_million_rows_shows_whole_or_not_at_all() {
    let mut databases = Databases::default();
    let (services, store) = databases.postgres(Services::new(), "bank", SCHEMA).await;
    // Smaller epochs than the transaction.
    let engine = engine(&services, ViewOptions { epoch_rows: 10_000, ..options() }).await;
    create(&engine, &VIEWS).await;
    let watch = Watch::views(&engine, &["counted", "parts"]);
    let before = resident_bytes();
    for statement in [
        format!("INSERT INTO wide SELECT i, i % 10, i, 'row ' || i FROM generate_series(1, {ROWS}) i"),
        format!(
            "BEGIN; UPDATE wide SET n = n + 1 WHERE id % 2 = 0; DELETE FROM wide WHERE id % 2 = 1; INSERT INTO wide SELECT i + {ROWS}, 3, 1, NULL FROM generate_series(1, 1000) i; COMMIT"
        ),
    ] {
        store.run(&statement).await;
        agreed(&engine, &store).await;
    }
    store.run("TRUNCATE wide").await;
    agreed(&engine, &store).await;
    let grown = peak_bytes().saturating_sub(before);
    eprintln!("{} MiB more at the most", grown >> 20);
    assert!(grown < GROWTH_BYTES, "{grown} bytes");
    let whole = [
        vec![0, 0],
        vec![ROWS, ROWS * (ROWS + 1) / 2],
        vec![ROWS / 2 + 1000, (ROWS / 2) * (ROWS / 2 + 1) + ROWS / 2 + 1000],
    ];
    let (versions, _) = watch
        .judge(&engine, |version| {
            let counted = version["counted"].keys().next().unwrap();
            assert!(whole.contains(counted), "{counted:?} is a part of a transaction");
            let parts: i64 = version["parts"].keys().map(|row| row[1]).sum();
            assert_eq!(parts, counted[0], "both views are of one version");
        })
        .await;
    assert!(versions >= 4, "{versions}");
}

/// The views are what the source computes of the table.
async fn agreed(engine: &Engine, store: &Store) {
    let session = engine.session();
    asked(&session, &format!("SET headwater.at_least = '{{bank: {}}}'", store.token().await)).await;
    for (name, query) in VIEWS {
        let (shown, expected) =
            (asked(&session, &format!("SELECT * FROM v.{name}")).await, asked(&session, query).await);
        assert_eq!(shown.difference(&expected), None, "v.{name}");
    }
}

/// The memory of this process now.
fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// The most that it ever had.
fn peak_bytes() -> u64 {
    status("VmHWM:")
}

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

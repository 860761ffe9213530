//! Questions over four services, beside hand-written statements and beside DuckDB, in one run.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin federated [SCALE_FACTOR]`
//!
//! TPC-H (scale factor 0.2 where none is given) is split over Postgres (customer, nation, region), MariaDB (orders, lineitem), SQLite (part) and
//! Parquet (supplier, partsupp). First come the eight questions of [`QUESTIONS`], beside statements written by hand over the bare drivers, then
//! TPC-H's 22 queries. DuckDB with its scanners is asked too where `HEADWATER_BENCH_DUCKDB` names a Python that has it. The sides take turns,
//! and each table has medians. An answer whose number of rows is not that of the others ends the program.

use std::time::Duration;

use futures::TryStreamExt;
use headwater::Engine;
use headwater_benches::duckdb::{DuckDb, Stores};
use headwater_benches::hand::{Asked, Hand};
use headwater_benches::questions::QUESTIONS;
use headwater_benches::{Median, Moved, RUNS, median, timed};
use headwater_sql_tests::tpch::{Tpch, queries};

/// The scale factor where none is given: 1,200,000 lines.
const SCALE_FACTOR: f64 = 0.2;

#[tokio::main]
async fn main() {
    let scale_factor = std::env::args().nth(1).map_or(SCALE_FACTOR, |text| text.parse().expect("a scale factor"));
    let tpch = Tpch::load_at(scale_factor).await;
    let engine = tpch.services.engine().await;
    let stores = Stores {
        customers: tpch.customers.url(),
        orders: tpch.orders.url(),
        catalog: tpch.services.directory().join("catalog.db"),
        suppliers: tpch.services.folder("suppliers"),
    };
    let mut duckdb = DuckDb::start(&stores).await;
    let mut hand = Hand::connect(&stores.customers, &stores.orders).await;

    println!("Scale factor {scale_factor}. Milliseconds are medians of {RUNS} runs.\n");
    println!("| question | by hand, ms | headwater, ms | DuckDB, ms | rows shipped by hand | by headwater |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (index, question) in QUESTIONS.iter().enumerate() {
        let (mut by_hand, mut ours, mut theirs) = (vec![], vec![], vec![]);
        let (mut shipped_by_hand, mut shipped) = (0, 0);
        for _ in 0..=RUNS {
            let mut ask_by_hand = async || {
                let asked = hand.ask(index).await;
                shipped_by_hand = asked.shipped;
                Moved { rows: asked.rows, bytes: 0 }
            };
            by_hand.push(timed(&mut ask_by_hand).await);
            let mut ask_headwater = async || {
                let asked = ask(&engine, question.sql).await;
                shipped = asked.shipped;
                Moved { rows: asked.rows, bytes: 0 }
            };
            ours.push(timed(&mut ask_headwater).await);
            theirs.extend(peer(duckdb.as_mut(), question.sql).await);
        }
        let (by_hand, ours) = (median(&by_hand[1..]), median(&ours[1..]));
        assert_eq!(ours.moved.rows, by_hand.moved.rows, "{}", question.name);
        let times = format!("{:.1} | {:.1} | {}", ms(by_hand.time), ms(ours.time), shown(&theirs, ours));
        println!("| {} | {times} | {shipped_by_hand} | {shipped} |", question.name);
    }

    println!("\n| TPC-H | headwater, ms | DuckDB, ms | headwater / DuckDB |");
    println!("|---|---:|---:|---:|");
    let mut ratios = Vec::new();
    for (number, sql) in queries() {
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..=RUNS {
            let mut ask_headwater = async || Moved { rows: ask(&engine, &sql).await.rows, bytes: 0 };
            ours.push(timed(&mut ask_headwater).await);
            theirs.extend(peer(duckdb.as_mut(), &sql).await);
        }
        let ours = median(&ours[1..]);
        let ratio = (theirs.len() > 1).then(|| ms(ours.time) / ms(median(&theirs[1..]).time));
        ratios.extend(ratio);
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!("| {number} | {:.1} | {} | {ratio} |", ms(ours.time), shown(&theirs, ours));
    }
    if !ratios.is_empty() {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        println!("\nGeometric mean of the ratios: {mean:.2}, over {} queries.", ratios.len());
    }
}

async fn ask(engine: &Engine, sql: &str) -> Asked {
    let answer = engine.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
    let log = answer.remote_statements();
    let rows =
        answer.into_stream().expect("the query starts").try_fold(0, async |rows, batch| Ok(rows + batch.num_rows()));
    let rows = rows.await.unwrap_or_else(|error| panic!("{sql}: {error}")) as u64;
    Asked { rows, shipped: log.totals().rows }
}

/// One run of the peer, where there is one and it answers.
async fn peer(duckdb: Option<&mut DuckDb>, sql: &str) -> Option<(Moved, Duration)> {
    match duckdb?.ask(sql).await {
        Ok((rows, time)) => Some((Moved { rows, bytes: 0 }, time)),
        Err(error) => {
            eprintln!("DuckDB: {error}");
            None
        }
    }
}

fn shown(theirs: &[(Moved, Duration)], ours: Median) -> String {
    if theirs.len() < 2 {
        return "-".to_owned();
    }
    let theirs = median(&theirs[1..]);
    assert_eq!(theirs.moved.rows, ours.moved.rows, "the answers have different numbers of rows");
    format!("{:.1}", ms(theirs.time))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

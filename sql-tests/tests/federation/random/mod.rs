//! Random queries over random small schemas, spread over the stores: the answer with pushdown, without, and of a plain
//! DataFusion over a copy of the tables is the same; and the whole is the sum of its parts.
//!
//! `HEADWATER_RANDOM_SEED=7 ./test random` asks what seed 7 says and nothing else; `HEADWATER_RANDOM_SECONDS=3600 ./test random`
//! lets each test run so long, from a seed on that no run had before, or from the one that is said. A failure is made small and printed with all that it takes to see it again.

mod cases;
mod expr;
mod express;
mod forms;
mod generate;
mod judge;
mod kind;
mod known;
mod outside;
mod part;
mod query;
mod question;
mod report;
mod schema;
mod shrink;
mod values;
mod view;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use headwater_sql_tests::dice::Dice;

use generate::Generator;
use judge::{Verdict, judge};
use question::{Parts, Question, Way};
use schema::{Schema, Spread};
use shrink::Failure;
use world::World;

/// How many schemas a test asks where nothing is said: always the same ones, so that a change is to blame for a failure.
const SCHEMAS: u64 = 2;

/// How long it asks at most, where nothing is said. Two run at a time.
const SECONDS: u64 = 60;

/// How many questions one schema is asked.
const QUESTIONS: u64 = 40;

/// One question in so many is explained, to count in which ways they are answered.
const EXPLAINED: u64 = 5;

/// How long a failure is made smaller.
const SHRINKING: Duration = Duration::from_secs(60);

/// After so many failures a test ends.
const FAILURES_MAX: usize = 5;

/// What a test asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Queries,
    Parts,
    /// Queries that were asked before, with other constants too.
    Again,
    /// Queries with a materialized view beside each, which may answer it.
    Views,
    /// Queries of somebody who may read a part of each table.
    OfPart,
    /// Queries that read a common table more than once.
    Common,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_over_one_store_are_answered_as_over_a_local_copy() {
    run(Spread::One, Asked::Queries, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_across_stores_are_answered_as_over_a_local_copy() {
    run(Spread::Any, Asked::Queries, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_parted_by_a_condition_are_all_the_rows() {
    run(Spread::One, Asked::Parts, 3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_a_view_may_answer_are_answered_as_over_a_local_copy() {
    let tally = run(Spread::Any, Asked::Views, 5_000).await;
    assert!(tally.viewed * 4 > tally.right, "a view answers more than a quarter: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_of_who_may_read_a_part_are_answered_as_over_a_copy_of_that_part() {
    run(Spread::Any, Asked::OfPart, 6_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_read_a_common_table_again_are_answered_as_over_a_local_copy() {
    run(Spread::Any, Asked::Common, 8_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_were_asked_before_are_answered_as_over_a_local_copy() {
    let tally = run(Spread::Any, Asked::Again, 7_000).await;
    assert!(tally.drafted * 4 > tally.right, "a draft is kept for more than a quarter: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_queries_over_one_store_are_answered_as_over_a_local_copy() {
    run(Spread::One, Asked::Queries, 4_000).await;
}

/// Counts of what became of the questions.
#[derive(Debug, Default)]
struct Tally {
    schemas: u64,
    right: u64,
    /// Of which so many have no row.
    empty: u64,
    rows: usize,
    /// How many plans were looked at, and the ways in which they answer.
    explained: u64,
    ways: BTreeMap<&'static str, u64>,
    refused: u64,
    /// Questions that a view answered.
    viewed: u64,
    /// Questions for which a draft was kept.
    drafted: u64,
    /// Defects of DataFusion itself.
    known: BTreeMap<&'static str, u64>,
}

async fn run(spread: Spread, asked: Asked, first: u64) -> Tally {
    let long = variable("HEADWATER_RANDOM_SECONDS");
    let schemas = long.map_or(SCHEMAS, |_| u64::MAX);
    let seconds = long.unwrap_or(SECONDS);
    let said = variable("HEADWATER_RANDOM_SEED");
    let first = said.unwrap_or_else(|| first + long.map_or(0, |_| new_seed()));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    eprintln!("seeds from {first}");
    for seed in first.. {
        if let Some(failure) = ask_schema(seed, spread, asked, until, &mut tally).await {
            let failure = failure.shrink(Instant::now() + SHRINKING).await;
            let text =
                format!("HEADWATER_RANDOM_SEED={seed} ({spread:?}, {asked:?}): {}", report::report(&failure).await);
            eprintln!("{text}");
            failures.push(text);
        }
        tally.schemas += 1;
        let enough = tally.schemas >= schemas || Instant::now() > until;
        if is_alone() || enough || failures.len() == FAILURES_MAX {
            break;
        }
    }
    eprintln!("{tally:?}");
    assert!(failures.is_empty(), "{} wrong answers:\n{}", failures.len(), failures.join("\n\n"));
    assert!(tally.right > tally.refused, "most questions have an answer: {tally:?}");
    tally
}

/// A seed that is small enough to be typed, and far from the fixed ones.
fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    1_000_000 + now.as_millis() as u64 % 1_000_000_000
}

/// Asks all that a seed says, and returns the first failure.
async fn ask_schema(seed: u64, spread: Spread, asked: Asked, until: Instant, tally: &mut Tally) -> Option<Failure> {
    let mut dice = Dice::branch(seed, 0);
    let schema = Schema { is_limited: asked == Asked::OfPart, ..Schema::random(&mut dice, spread) };
    let world = World::of(&schema, &settings(&mut dice)).await;
    // A seed that is asked for alone is asked whole.
    let until = (!is_alone()).then_some(until);
    for number in 1..=QUESTIONS {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let question = question(Generator::new(Dice::branch(seed, number), &world.relations), asked);
        match judge(&world, &question).await {
            Verdict::Right(rows) => {
                tally.right += 1;
                tally.rows += rows;
                tally.empty += u64::from(rows == 0);
                if let Question::Views { query, .. } = &question {
                    tally.viewed += u64::from(report::is_viewed(&world, &query.sql()).await);
                } else if asked == Asked::Again {
                    tally.drafted += u64::from(report::has_draft(&world, &question.texts()[0]).await);
                } else if number % EXPLAINED == 0 {
                    tally.explained += 1;
                    for way in report::ways(&world, &question.texts()[0]).await {
                        *tally.ways.entry(way).or_default() += 1;
                    }
                }
            }
            Verdict::Refused => tally.refused += 1,
            Verdict::Known(reason) => *tally.known.entry(reason).or_default() += 1,
            Verdict::Wrong(fault, answers) => return Some(Failure { world, question, fault, answers }),
        }
    }
    None
}

fn question(mut generator: Generator<'_>, asked: Asked) -> Question {
    match asked {
        Asked::Queries | Asked::OfPart => Question::One(generator.query()),
        Asked::Common => Question::One(generator.of_common()),
        Asked::Again => {
            let way = if generator.dice.percent(40) { Way::Prepared } else { Way::Text };
            let (query, other) = generator.query_and_other();
            Question::Again { query, other, way }
        }
        Asked::Views => {
            let (view, query) = generator.view_and_query();
            Question::Views { view, query }
        }
        Asked::Parts => {
            let form = *generator.dice.pick(&Parts::ALL);
            let select = generator.rows(1, &[]);
            let condition = generator.condition(&select);
            Question::Parts { form, select, condition }
        }
    }
}

/// Settings that change plans and no answers: small batches, several partitions, joins that partition their inputs.
fn settings(dice: &mut Dice) -> Vec<String> {
    let mut settings = vec![format!("SET datafusion.execution.target_partitions = {}", dice.pick(&[1, 3]))];
    if dice.percent(50) {
        settings.push("SET datafusion.execution.batch_size = 5".to_owned());
    }
    if dice.percent(40) {
        settings.push("SET datafusion.optimizer.hash_join_single_partition_threshold = 0".to_owned());
        settings.push("SET datafusion.optimizer.hash_join_single_partition_threshold_rows = 0".to_owned());
    }
    settings
}

/// Whether one seed is asked for and no other.
fn is_alone() -> bool {
    variable("HEADWATER_RANDOM_SEED").is_some() && variable("HEADWATER_RANDOM_SECONDS").is_none()
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, found {text:?}")))
}

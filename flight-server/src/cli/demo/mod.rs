//! `headwater demo`: an example shop of four services, and a question across them.
//!
//! The shop is the same on every machine: its data comes from a generator with a fixed seed and dates that do not move.
//! A directory that is not the demo's own is never written into; a marker file says which is.

mod data;
mod directory;
mod random;
mod words;
mod write;

use std::path::Path;
use std::time::Instant;

use futures::TryStreamExt;
use headwater::{Engine, RemoteStatementReport};

use super::args::Format;
use super::failure::{Failure, say};
use super::output::Output;
use super::progress::grouped;
use super::run::{duration, shipped};
use directory::{State, prepare};

/// The question: what do late deliveries to business customers cost, by country and category?
const QUESTION: &str = "\
SELECT c.country, p.category, count(DISTINCT o.id) AS late_orders, sum(l.quantity * l.unit_price) AS revenue
FROM shipping.shipments s
JOIN orders.orders o       ON o.id = s.order_id
JOIN orders.order_lines l  ON l.order_id = o.id
JOIN catalog.products p    ON p.id = l.product_id
JOIN customers.customers c ON c.id = o.customer_id
WHERE s.status = 'late' AND c.segment = 'business' AND o.placed_at >= '2025-10-01'
GROUP BY c.country, p.category
ORDER BY revenue DESC, c.country, p.category
LIMIT 8";

pub(super) async fn run(dir: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    match prepare(dir)? {
        State::Ready => say(&format!("The example shop is in {}.", dir.display()))?,
        State::Empty => {
            let owned = dir.to_owned();
            let counts = tokio::task::spawn_blocking(move || directory::lay_out(&owned))
                .await
                .map_err(|error| Failure::failed(format!("the shop can't be laid out: {error}")))??;
            let elapsed = duration(started.elapsed());
            say(&format!("Laid out an example shop in {} ({elapsed}).\n  {counts}", dir.display()))?;
        }
    }
    say("\nFour services, each with a store of its own:")?;
    for (service, store) in directory::SERVICES {
        say(&format!("  {service:<10} {store}"))?;
    }
    ask(dir).await?;
    say(&what_next(dir))
}

async fn ask(dir: &Path) -> Result<(), Failure> {
    let engine = Engine::builder()
        .services_dir(dir.join(directory::SERVICES_DIR))
        .connectors(headwater_connectors::all())
        .build()
        .await?;
    say(&format!(
        "\nOne question to all of them: what do late deliveries to business customers touch?\n\n{QUESTION};\n"
    ))?;
    let started = Instant::now();
    let answer = engine.sql(QUESTION).await?;
    let (schema, log) = (answer.schema(), answer.remote_statements());
    let mut stream = answer.into_stream()?;
    let (mut batches, mut first_row) = (Vec::new(), None);
    while let Some(batch) = stream.try_next().await.map_err(headwater::Error::from)? {
        first_row.get_or_insert_with(|| started.elapsed());
        batches.push(batch);
    }
    let elapsed = started.elapsed();
    let mut output = Output::new(Format::Table, &schema, std::io::stdout())?;
    for batch in &batches {
        output.write(batch)?;
    }
    output.finish()?;
    say(&format!("\nAnswered in {}. What went to each store, and what came back:", duration(elapsed)))?;
    tell(&log.statements())?;
    shipped(log.totals(), first_row).map_or(Ok(()), |cost| say(&format!("\n  In all: {cost}.")))
}

fn tell(statements: &[RemoteStatementReport]) -> Result<(), Failure> {
    for report in statements {
        let (rows, kib) = (grouped(report.rows), grouped(report.bytes.div_ceil(1024)));
        say(&format!("\n  {:<10} {rows} rows, {kib} KiB\n             {}", report.service, report.statement))?;
    }
    Ok(())
}

/// Commands that work from where the user is.
fn what_next(dir: &Path) -> String {
    let program = program();
    let services = quoted(&dir.join(directory::SERVICES_DIR).display().to_string());
    format!(
        "
What to type next:

  A prompt over the shop, with history and completion; try \\d, and EXPLAIN before the question above:
    {program} sql --services {services}

  A question of your own:
    {program} sql --services {services} \"SELECT country, count(*) FROM customers.customers GROUP BY country ORDER BY 2 DESC\"

  A server, and a client that asks it:
    {program} serve --services {services}
    {program} sql --connect grpc://127.0.0.1:50051 \"SELECT * FROM shipping.shipments LIMIT 5\"

  What a service says of itself:
    cat {services}/orders.yaml
    {program} check {services}"
    )
}

/// The program as the user called it.
fn program() -> String {
    std::env::args().next().map_or_else(|| "headwater".to_owned(), |program| quoted(&program))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("target/release/headwater"), "target/release/headwater");
        assert_eq!(quoted("it's here"), "'it'\\''s here'");
    }
}

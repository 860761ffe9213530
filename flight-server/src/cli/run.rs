//! Runs a statement and writes its result.

use std::io::{BufWriter, IsTerminal};
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use futures::StreamExt;
use headwater::RemoteTotals;

use super::args::Format;
use super::failure::Failure;
use super::interrupt::Interrupts;
use super::output::Output;
use super::progress::{Progress, grouped};
use super::target::Target;

/// What the metadata of a subscription's schema holds.
const SUBSCRIPTION_KEY: &str = "headwater.subscription";

/// How long the first rows of a subscription are held back, so that a table's widths are taken from more than one.
const HELD_BACK: Duration = Duration::from_millis(100);

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Display {
    pub(super) format: Format,
    pub(super) timing: Timing,
}

/// Whether the time is printed beside the number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    On,
    Off,
}

/// Runs a statement to its end, to an error, or to a signal.
pub(super) async fn run(target: &Target, text: &str, display: Display, interrupts: &Interrupts) -> Result<(), Failure> {
    interrupts.cancellable(written(target, text, display)).await.unwrap_or(Err(Failure::Cancelled))
}

async fn written(target: &Target, text: &str, display: Display) -> Result<(), Failure> {
    let started = Instant::now();
    let progress = Progress::begin();
    let mut running = target.run(text).await?;
    let log = running.log.take();
    progress.watch(log.clone());
    let stdout = std::io::stdout();
    // What is shown on a terminal and the progress line would write over each other.
    let shares_terminal = stdout.is_terminal();
    let mut output = Output::new(display.format, &running.schema, BufWriter::new(stdout))?;
    let mut rows = 0;
    let mut first_row = None;
    let endless = running.schema.metadata().contains_key(SUBSCRIPTION_KEY);
    loop {
        let next = match endless {
            true => match tokio::time::timeout(HELD_BACK, running.batches.next()).await {
                Ok(next) => next,
                Err(_) => {
                    progress.end();
                    output.show()?;
                    running.batches.next().await
                }
            },
            false => running.batches.next().await,
        };
        let Some(batch) = next else { break };
        let batch = batch?;
        rows += batch.num_rows();
        if rows > 0 {
            first_row.get_or_insert_with(|| started.elapsed());
        }
        progress.add_rows(batch.num_rows());
        if shares_terminal {
            progress.end();
        }
        output.write(&batch)?;
        // Where the next batch is always there already, Ctrl-C would otherwise never be looked at.
        tokio::task::yield_now().await;
    }
    progress.end();
    output.finish()?;
    if display.format == Format::Table {
        eprintln!("{}", summary(rows, &running.schema, started.elapsed(), display.timing));
        if let (Timing::On, Some(cost)) = (display.timing, log.and_then(|log| shipped(log.totals(), first_row))) {
            eprintln!("({cost})");
        }
        if let (Timing::On, Some(state)) = (display.timing, state(&running.schema)) {
            eprintln!("({state})");
        }
    }
    Ok(())
}

/// Of which state of materialized views a result is; `None` where it is of none.
fn state(schema: &Schema) -> Option<String> {
    let epoch = schema.metadata().get("headwater.epoch")?;
    let object = |key: &str| {
        let text = schema.metadata().get(key)?;
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).ok()
    };
    let lags = object("headwater.lag_ms_max").unwrap_or_default();
    let mut text = format!("views of epoch {epoch}");
    for (service, token) in object("headwater.vector").unwrap_or_default() {
        let lag = lags.get(&service).and_then(serde_json::Value::as_f64);
        let lag = lag.map_or_else(String::new, |ms| {
            format!(", at most {} old", duration(Duration::from_secs_f64(ms / 1_000.0)))
        });
        text.push_str(&format!("; {service} at {}{lag}", token.as_str().unwrap_or_default()));
    }
    Some(text)
}

/// What a statement cost at its sources; `None` where it asked none.
pub(super) fn shipped(totals: RemoteTotals, first_row: Option<Duration>) -> Option<String> {
    let RemoteTotals { statements, rows, bytes } = totals;
    if statements == 0 {
        return None;
    }
    let of = |count: u64, one: &str, more: &str| format!("{} {}", grouped(count), if count == 1 { one } else { more });
    let mut text = format!(
        "{}, {} and {} KiB shipped",
        of(statements, "remote statement", "remote statements"),
        of(rows, "row", "rows"),
        grouped(bytes.div_ceil(1024))
    );
    if let Some(time) = first_row {
        text.push_str(&format!(", first row after {}", duration(time)));
    }
    Some(text)
}

fn summary(rows: usize, schema: &Schema, elapsed: Duration, timing: Timing) -> String {
    let rows = match rows {
        // SET has no result.
        0 if schema.fields().is_empty() => "done".to_owned(),
        1 => "1 row".to_owned(),
        rows => format!("{} rows", grouped(rows as u64)),
    };
    match timing {
        Timing::On => format!("({rows}, {})", duration(elapsed)),
        Timing::Off => format!("({rows})"),
    }
}

/// A duration as people read it.
pub(super) fn duration(elapsed: Duration) -> String {
    match elapsed.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn summary_counts_rows_and_time() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        assert_eq!(summary(1, &schema, Duration::from_micros(1250), Timing::On), "(1 row, 1.2 ms)");
        assert_eq!(summary(12_345, &schema, Duration::from_millis(2340), Timing::On), "(12,345 rows, 2.34 s)");
        assert_eq!(summary(0, &schema, Duration::ZERO, Timing::Off), "(0 rows)");
        assert_eq!(summary(0, &Schema::empty(), Duration::ZERO, Timing::Off), "(done)");
    }

    #[test]
    fn state_of_views_is_told_where_a_result_reads_any() {
        let metadata = [
            ("headwater.epoch", "12"),
            ("headwater.vector", r#"{"bank":"0/16B","shop":"7"}"#),
            ("headwater.lag_ms_max", r#"{"bank":2.5,"shop":null}"#),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let schema = Schema::empty().with_metadata(metadata);
        assert_eq!(state(&schema).as_deref(), Some("views of epoch 12; bank at 0/16B, at most 2.5 ms old; shop at 7"));
        assert_eq!(state(&Schema::empty()), None);
    }

    #[test]
    fn cost_at_the_sources_is_told_where_there_was_any() {
        let totals = RemoteTotals { statements: 3, rows: 1200, bytes: 4000 };
        let expected = "3 remote statements, 1,200 rows and 4 KiB shipped, first row after 2.0 ms";
        assert_eq!(shipped(totals, Some(Duration::from_millis(2))).as_deref(), Some(expected));
        let one = RemoteTotals { statements: 1, rows: 1, bytes: 1 };
        assert_eq!(shipped(one, None).as_deref(), Some("1 remote statement, 1 row and 1 KiB shipped"));
        assert_eq!(shipped(RemoteTotals::default(), None), None);
    }
}

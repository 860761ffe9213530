//! The line that says how far a long statement is.
//!
//! Only on a terminal, only once a statement runs for half a second, and gone before anything else is printed.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater::RemoteLog;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// How long a statement runs before the line appears.
const DELAY: Duration = Duration::from_millis(500);

/// How often the line changes.
const PERIOD: Duration = Duration::from_millis(200);

/// Goes to the line's start and clears it.
const ERASE: &str = "\r\x1b[2K";

/// A line on stderr while a statement runs. Dropping it erases the line.
pub(super) struct Progress {
    shared: Arc<Shared>,
    painter: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    rows: AtomicU64,
    log: Mutex<Option<RemoteLog>>,
    line: Mutex<Line>,
}

#[derive(Default, PartialEq, Eq)]
enum Line {
    #[default]
    Blank,
    Painted,
    /// Something else owns the terminal now.
    Over,
}

impl Progress {
    /// Begins to watch a statement.
    pub(super) fn begin() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let painter = std::io::stderr().is_terminal().then(|| tokio::spawn(paint(Arc::clone(&shared), Instant::now())));
        Self { shared, painter }
    }

    /// What goes to the sources.
    pub(super) fn watch(&self, log: Option<RemoteLog>) {
        *self.shared.log.lock() = log;
    }

    /// Counts rows of the result.
    pub(super) fn add_rows(&self, rows: usize) {
        self.shared.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Erases the line for good.
    pub(super) fn end(&self) {
        let mut line = self.shared.line.lock();
        if *line == Line::Painted {
            eprint!("{ERASE}");
        }
        *line = Line::Over;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
        if let Some(painter) = &self.painter {
            painter.abort();
        }
    }
}

async fn paint(shared: Arc<Shared>, started: Instant) {
    tokio::time::sleep(DELAY).await;
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let text = text(started.elapsed(), shared.rows.load(Ordering::Relaxed), &remote_rows(&shared));
        let mut line = shared.line.lock();
        if *line == Line::Over {
            return;
        }
        *line = Line::Painted;
        eprint!("{ERASE}{text}");
        // A terminal that can't be written to has no line to show.
        let _unwritable = std::io::stderr().flush();
    }
}

/// The rows that each service sent so far.
fn remote_rows(shared: &Shared) -> Vec<(String, u64)> {
    let mut totals: Vec<(String, u64)> = Vec::new();
    for statement in shared.log.lock().iter().flat_map(RemoteLog::statements) {
        match totals.iter_mut().find(|(service, _)| *service == statement.service) {
            Some((_, rows)) => *rows += statement.rows,
            None => totals.push((statement.service, statement.rows)),
        }
    }
    totals
}

fn text(elapsed: Duration, rows: u64, remote: &[(String, u64)]) -> String {
    let mut text = format!("{:.1} s, {} rows", elapsed.as_secs_f64(), grouped(rows));
    for (service, rows) in remote {
        text.push_str(&format!("  {service}: {}", grouped(*rows)));
    }
    text
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(["0", "999", "1,000", "1,234,567"].map(String::from), [0, 999, 1000, 1_234_567].map(grouped));
    }

    #[test]
    fn line_names_each_service() {
        let remote = [("orders".to_owned(), 1200), ("customers".to_owned(), 3)];
        assert_eq!(text(Duration::from_millis(1250), 7, &remote), "1.2 s, 7 rows  orders: 1,200  customers: 3");
    }
}

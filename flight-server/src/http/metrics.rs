//! Prometheus's text format, version 0.0.4.
//!
//! Written by hand: there is nothing to register, since the engine's numbers are all there is, and a library would add a registry of its own beside them.
//! Names are `headwater_*`, units come last, labels are `service`, `view`, `outcome` and `stage`.

use std::fmt::Write;

use headwater::{Metrics, QUERY_SECONDS};

/// The numbers as text.
pub(super) fn text(metrics: &Metrics) -> String {
    let mut page = Page::default();
    queries(&mut page, metrics);
    services(&mut page, metrics);
    memory(&mut page, metrics);
    views(&mut page, metrics);
    page.text
}

fn queries(page: &mut Page, metrics: &Metrics) {
    page.family("headwater_build_info", "gauge", "The version that runs.");
    page.sample("headwater_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.family("headwater_queries_running", "gauge", "Queries that run.");
    page.sample("headwater_queries_running", &[], metrics.queries_running as f64);
    page.family("headwater_queries_waiting", "gauge", "Queries that wait for one of those to end.");
    page.sample("headwater_queries_waiting", &[], metrics.queries_waiting as f64);
    page.family("headwater_queries_total", "counter", "Queries that ended, by how.");
    for outcome in ["complete", "failed", "cancelled"] {
        let count = metrics.queries.get(outcome).copied().unwrap_or_default();
        page.sample("headwater_queries_total", &[("outcome", outcome)], count as f64);
    }
    let seconds = &metrics.query_seconds;
    page.family(
        "headwater_query_seconds",
        "histogram",
        "How long queries took, from when their answer was read to its end.",
    );
    for (end, count) in QUERY_SECONDS.iter().zip(seconds.at_most) {
        page.sample("headwater_query_seconds_bucket", &[("le", &end.to_string())], count as f64);
    }
    page.sample("headwater_query_seconds_bucket", &[("le", "+Inf")], seconds.count as f64);
    page.sample("headwater_query_seconds_sum", &[], seconds.sum);
    page.sample("headwater_query_seconds_count", &[], seconds.count as f64);
    page.family("headwater_answer_rows_total", "counter", "Rows of all answers.");
    page.sample("headwater_answer_rows_total", &[], metrics.rows as f64);
}

fn services(page: &mut Page, metrics: &Metrics) {
    type Read = fn(&headwater::ServiceMetrics) -> u64;
    let families: [(&str, &str, Read); 3] = [
        ("headwater_service_statements_total", "Statements sent to a service.", |service| service.statements),
        ("headwater_service_rows_total", "Rows received from a service.", |service| service.rows),
        (
            "headwater_service_bytes_total",
            "Bytes of the batches received from a service, as Arrow holds them.",
            |service| service.bytes,
        ),
    ];
    for (name, help, read) in families {
        page.family(name, "counter", help);
        for (service, numbers) in &metrics.services {
            page.sample(name, &[("service", service)], read(numbers) as f64);
        }
    }
}

fn memory(page: &mut Page, metrics: &Metrics) {
    for (name, help, bytes) in [
        ("headwater_memory_bytes", "Memory that the operators of queries hold.", metrics.memory_bytes),
        ("headwater_memory_max_bytes", "The most that they may hold.", metrics.memory_bytes_max),
        ("headwater_spill_bytes", "Room on disk that spilling queries hold.", metrics.spill_bytes),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], bytes as f64);
    }
}

fn views(page: &mut Page, metrics: &Metrics) {
    page.family("headwater_feed_stage", "gauge", "What is done with a followed service now.");
    for feed in &metrics.feeds {
        page.sample("headwater_feed_stage", &[("service", &feed.service), ("stage", feed.stage)], 1.0);
    }
    page.family("headwater_feed_waiting_transactions", "gauge", "Transactions that wait for those of other services.");
    for feed in &metrics.feeds {
        page.sample("headwater_feed_waiting_transactions", &[("service", &feed.service)], feed.waiting as f64);
    }
    page.family("headwater_feed_rows_loaded_total", "counter", "Rows that a followed service's tables were read with.");
    for feed in &metrics.feeds {
        page.sample("headwater_feed_rows_loaded_total", &[("service", &feed.service)], feed.rows_loaded as f64);
    }
    page.family("headwater_view_rows", "gauge", "Rows of a materialized view.");
    for view in &metrics.views {
        if let Some(rows) = view.rows {
            page.sample("headwater_view_rows", &[("view", &view.view)], rows as f64);
        }
    }
    page.family(
        "headwater_view_staleness_seconds",
        "gauge",
        "How far a materialized view is behind a service that it reads.",
    );
    for view in &metrics.views {
        for (service, seconds) in &view.staleness_seconds {
            let labels = [("view", view.view.as_str()), ("service", service)];
            page.sample("headwater_view_staleness_seconds", &labels, *seconds);
        }
    }
}

/// The text so far.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String never fails.
        let _never = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _never = write!(self.text, "{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _never = writeln!(self.text, " {value}");
    }
}

/// A label's value: names of services and views may hold anything.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_each_family_once_and_ends_with_a_line() {
        let page = text(&Metrics::default());
        let families: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut names: Vec<&str> = families.iter().filter_map(|line| line.split(' ').next()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{page}");
        assert!(page.ends_with('\n'));
        assert!(page.contains("headwater_queries_total{outcome=\"complete\"} 0\n"), "{page}");
        assert!(page.contains("headwater_query_seconds_bucket{le=\"0.025\"} 0\n"), "{page}");
    }

    /// Every metric that the dashboard asks for is one that there is, and every family is on it.
    #[test]
    fn dashboard_asks_for_the_metrics_that_there_are() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana/headwater.json");
        let dashboard = std::fs::read_to_string(file).unwrap();
        serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
        let page = text(&Metrics::default());
        let families: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let is_of_a_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let asked: Vec<&str> = dashboard
            .match_indices("headwater_")
            .map(|(start, _)| &dashboard[start..])
            .map(|rest| &rest[..rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len())])
            .map(|name| name.strip_suffix("_bucket").unwrap_or(name))
            .collect();
        for name in &asked {
            assert!(families.contains(name), "the dashboard asks for {name}");
        }
        for family in families {
            assert!(asked.contains(&family), "the dashboard does not show {family}");
        }
    }

    #[test]
    fn label_cannot_break_out_of_its_quotes() {
        let mut page = Page::default();
        page.sample("x", &[("view", "a\"b\\c\nd")], 1.5);
        assert_eq!(page.text, "x{view=\"a\\\"b\\\\c\\nd\"} 1.5\n");
    }
}

//! The log on stderr: lines for people, or one JSON object a line for machines (`--log-format json`).
//!
//! An object has `time` (RFC 3339, UTC), `level`, `message` and the fields of what is told under their own names.

use std::fmt;
use std::io::IsTerminal;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::args::LogFormat;

/// The environment variable that sets what is logged.
const VARIABLE: &str = "HEADWATER_LOG";

/// Libraries that log statements, plans or values when they are asked to say more: what a query holds is in no log.
const SILENCED: [&str; 6] =
    ["sqlparser=warn", "datafusion=warn", "tokio_postgres=warn", "mysql_async=warn", "h2=warn", "rustyline=warn"];

/// Begins to log what the environment asks for, or else this.
pub(super) fn begin(default: &str, format: LogFormat) {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        eprintln!("warning: {VARIABLE} is not understood: {error}");
        EnvFilter::new(default)
    });
    let quiet = SILENCED.iter().filter_map(|directive| directive.parse().ok());
    let filter = quiet.fold(filter, EnvFilter::add_directive);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => log.with_ansi(false).event_format(Objects).init(),
    }
}

/// Writes an event as one JSON object.
struct Objects;

impl<S, N> FormatEvent<S, N> for Objects
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        fields.0.insert("time".to_owned(), Value::from(time));
        fields.0.insert("level".to_owned(), Value::from(event.metadata().level().as_str().to_ascii_lowercase()));
        event.record(&mut fields);
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        // Where in its sources a library of the other kind of logging stands is of no use.
        if field.name().starts_with("log.") {
            return;
        }
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn event_is_one_object_whatever_is_in_it() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(Objects).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(service = "a\"b\n", rows = 7_u64, done = true, "said {}", "it");
        });
        let bytes = kept.0.lock().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["message"], "said it");
        assert_eq!(object["service"], "a\"b\n");
        assert_eq!(
            (&object["rows"], &object["done"], &object["level"]),
            (&Value::from(7), &Value::from(true), &Value::from("info"))
        );
        assert!(object["time"].as_str().unwrap().ends_with('Z'), "{object}");
    }
}

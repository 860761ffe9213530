//! Traces for OpenTelemetry, over OTLP: a span for each statement, and one beneath it for each remote statement.
//!
//! `headwater serve` starts it where it is told where to send them (`--otlp-endpoint`, or the variables that OpenTelemetry has for that). Spans are made once a statement is over
//! ([`spans`]), queued, and sent by a thread of the SDK; what the queue does not hold is dropped. A collector that is away stops no query: it is warned of ([`export`]).
//!
//! OTLP goes over gRPC, which is in the tree for Flight already. The SDK reads `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and
//! `OTEL_TRACES_SAMPLER_ARG`, `OTEL_BSP_*`, and the exporter `OTEL_EXPORTER_OTLP_HEADERS`, `_TIMEOUT` and `_CERTIFICATE`, each as OpenTelemetry's specification says.
//!
//! Rejected: a layer of `tracing` that makes spans of log events. Every query would pay for spans that nobody wants, and what a dependency logs would be in them.

mod export;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use headwater::QueryObserver;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{info, warn};
use uuid::Uuid;

use export::Watched;
use spans::Spans;

/// How long the spans of the last statements may take to be sent when the server stops.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// What the service is called where `OTEL_SERVICE_NAME` does not say.
const SERVICE_NAME: &str = "headwater";

/// Sends traces until it is stopped.
#[derive(Debug)]
pub(crate) struct Telemetry {
    provider: SdkTracerProvider,
}

/// The environment's variables.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Telemetry {
    /// Starts sending to a collector; `None` where none is named by the command line or the environment. To be called in a runtime.
    ///
    /// # Errors
    /// Why the collector can't be one: a malformed address, or a protocol that is not spoken. Whether it is there is not asked.
    pub(crate) fn start(endpoint: Option<&str>, variable: Variables<'_>) -> Result<Option<Self>, String> {
        if !is_wanted(endpoint, variable) {
            return Ok(None);
        }
        grpc_only(variable)?;
        let mut exporter = SpanExporter::builder().with_tonic();
        if let Some(endpoint) = endpoint {
            exporter = exporter.with_endpoint(endpoint);
        }
        let exporter = exporter.build().map_err(|error| error.to_string())?;
        let provider =
            SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(Watched::new(exporter)).build();
        info!("traces are sent over OTLP");
        Ok(Some(Self { provider }))
    }

    /// What an engine tells of its statements.
    pub(crate) fn observer(&self) -> Arc<dyn QueryObserver> {
        Arc::new(Spans::new(self.provider.tracer(SERVICE_NAME)))
    }

    /// Sends what is left, for as long as that may take.
    pub(crate) async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH_MAX)).await;
        match stopped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the last traces were not sent"),
            Err(error) => warn!(%error, "the last traces were not sent"),
        }
    }
}

fn set(variable: Variables<'_>, name: &str) -> Option<String> {
    variable(name).filter(|value| !value.trim().is_empty())
}

fn is_wanted(endpoint: Option<&str>, variable: Variables<'_>) -> bool {
    let is = |name: &str, value: &str| set(variable, name).is_some_and(|set| set.trim().eq_ignore_ascii_case(value));
    let is_off = is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none");
    let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    endpoint.is_some() || !is_off && named.iter().any(|name| set(variable, name).is_some())
}

/// Refuses a protocol that the environment asks for and that is not spoken here.
fn grpc_only(variable: Variables<'_>) -> Result<(), String> {
    let asked = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let asked = asked.iter().find_map(|name| Some((name, set(variable, name)?)));
    match asked {
        Some((name, protocol)) if protocol.trim() != "grpc" => Err(format!(
            "{name} asks for \"{protocol}\", and traces are sent over grpc: set it to grpc, and the endpoint to the collector's port for it (usually 4317)"
        )),
        _ => Ok(()),
    }
}

/// Who sends: what the environment says, with a name of our own where it says none.
fn resource() -> Resource {
    let named = Resource::builder().build().get(&Key::new("service.name"));
    let builder = match named {
        Some(name) if !name.as_str().starts_with("unknown_service") => Resource::builder(),
        _ => Resource::builder().with_service_name(SERVICE_NAME),
    };
    builder
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(endpoint: Option<&str>, variables: &[(&str, &str)]) -> bool {
        is_wanted(endpoint, &|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn traces_are_sent_where_somebody_says_whereto_and_nowhere_else() {
        assert!(!wanted(None, &[]));
        assert!(!wanted(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]));
        assert!(wanted(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]));
        assert!(wanted(None, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4317")]));
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(!wanted(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), off]));
        }
        assert!(wanted(Some("http://c:4317"), &[]));
    }

    #[test]
    fn protocol_that_is_not_spoken_is_refused_by_the_name_of_its_variable() {
        let asked = |value: &'static str| {
            grpc_only(&move |name| (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| value.to_owned()))
        };
        assert_eq!(asked("grpc"), Ok(()));
        let error = asked("http/protobuf").unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && error.contains("4317"), "{error}");
    }

    #[tokio::test]
    async fn malformed_endpoint_is_an_error_and_one_that_is_away_is_none() {
        assert!(Telemetry::start(Some("not a url"), &|_| None).is_err());
        let telemetry = Telemetry::start(Some("http://127.0.0.1:9"), &|_| None).unwrap().unwrap();
        telemetry.stop().await;
    }
}

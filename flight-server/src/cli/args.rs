//! What may be typed after `headwater`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "headwater",
    about = "One SQL surface over the stores of many services; the data stays with the service that owns it.",
    version = VERSION.as_str(),
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
New here? Run `headwater demo`: it lays out an example shop of four services and asks across them.

Exit codes: 0 all went well, 1 a query or a check failed, 2 the command line was wrong.
Set HEADWATER_LOG (error, warn, info, debug) to see more or less of the log on stderr."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lay out an example shop of four services and ask across them
    #[command(after_help = "\
Examples:
  headwater demo                 in ./headwater-demo
  headwater demo /tmp/shop       somewhere else

Running it again uses the shop that is there. Nothing is ever written into a directory that holds
anything else.")]
    Demo {
        /// Where the shop goes
        #[arg(value_name = "DIR", default_value = "headwater-demo")]
        dir: PathBuf,
    },
    /// Serve the services over Arrow Flight SQL and the Postgres protocol
    #[command(after_help = "\
Examples:
  headwater serve --services services
  headwater serve --services services --search-path orders,customers --flight-addr 127.0.0.1:9000
  headwater serve --services services --config headwater.yaml
  headwater serve --services services --flight-addr 0.0.0.0:50051 --pg-addr 0.0.0.0:5432 \\
      --tls-cert server.crt --tls-key server.key --users users.yaml

With --users, users read what access.yaml beside the manifests grants them, and nothing without it.
Certificates, the users file and access.yaml are read again when they change, and on SIGHUP.
A service that can't be reached does not stop the others. Ctrl-C or SIGTERM stops the server; running
statements may finish within 10 seconds.")]
    Serve(ServeArgs),
    /// Ask SQL: embedded over a directory of services, or of a running server
    #[command(after_help = "\
Examples:
  headwater sql --services services \"SELECT * FROM orders.orders LIMIT 10\"
  headwater sql --services services                       a prompt, with history and completion
  headwater sql --connect grpc://127.0.0.1:50051 --format csv \"SELECT ...\" > result.csv
  headwater sql --services services < statements.sql

Statements end with `;`. The first that fails ends the run. Ctrl-C cancels the running statement.")]
    Sql(SqlArgs),
    /// Check every manifest of a directory and reach its sources
    #[command(after_help = "\
Example:
  headwater check services

Prints one line per fault and exits with 1 if there is any.")]
    Check {
        /// The directory of manifests, one YAML file per service
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Bring a server's materialized views to what the files in DIR/views define
    #[command(after_help = "\
Examples:
  headwater apply --services services --dry-run             only say what would change
  headwater apply --services services
  headwater apply --services services --connect grpc://127.0.0.1:9000

DIR/views/*.sql hold CREATE MATERIALIZED VIEW statements. A view whose statement is gone is dropped; views
that were made by SQL are left alone. A server that was started with --services DIR does the same at its
start and at SIGHUP.")]
    Apply(ApplyArgs),
    /// Look after what follows a service's changes
    #[command(subcommand)]
    Feed(FeedCommand),
    /// Make what the users file holds of passwords and tokens
    #[command(subcommand)]
    User(UserCommand),
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum UserCommand {
    /// Read a password from stdin and print the hashes that go into the users file
    #[command(after_help = "\
Example:
  printf '%s' \"$PASSWORD\" | headwater user hash

Prints the lines `password:` (Argon2id, for Flight SQL and HTTP) and `scram:` (SCRAM-SHA-256, for the Postgres
protocol). They go below the user's name in the file of `serve --users`; docs/security.md shows one.")]
    Hash,
    /// Make an API token and the line of the users file that knows it
    #[command(after_help = "\
Example:
  headwater user token

Prints the token, which is shown this once and kept nowhere, and the line `sha256:` for the users file.")]
    Token,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FeedCommand {
    /// Remove everything that a service's feed put in place at its source
    #[command(after_help = "\
Example:
  headwater feed drop orders --services services

Says what was removed. Stop the server that follows the service first. Views over the service must be
built anew afterwards.")]
    Drop(FeedArgs),
    /// Say where a service's feed stands at its source
    Status(FeedArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FeedArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// The directory of manifests, one YAML file per service
    #[arg(long, value_name = "DIR")]
    pub(crate) services: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The directory of manifests, with the views' files in its folder `views`
    #[arg(long, value_name = "DIR")]
    pub(crate) services: PathBuf,
    /// The running server
    #[arg(long, value_name = "grpc://HOST:PORT", default_value = "grpc://127.0.0.1:50051")]
    pub(crate) connect: String,
    #[command(flatten)]
    pub(crate) access: ConnectArgs,
    /// Say what would change and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The directory of manifests, one YAML file per service
    #[arg(long, value_name = "DIR")]
    pub(crate) services: PathBuf,
    /// Services in which unqualified table names are looked up, in this order
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) search_path: Vec<String>,
    /// A YAML file with the engine's limits; docs/limits.md lists them
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where materialized views are kept over restarts, a directory or the URL of an object store (s3://bucket/prefix); without it they
    /// end with the server
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) state: Option<String>,
    /// How often what changed is written there, in milliseconds; sources keep their changes until then
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), requires = "state")]
    pub(crate) checkpoint_interval_ms: u64,
    /// The address for Arrow Flight SQL; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    pub(crate) flight_addr: String,
    /// The address for the Postgres protocol, 127.0.0.1:5432 for example; without it there is none
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) pg_addr: Option<String>,
    /// The address for /healthz, /readyz and /metrics, 127.0.0.1:8080 for example; without it there is none
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http_addr: Option<String>,
    /// The users file: who may come in, and by what; docs/security.md shows one
    #[arg(long, value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
    /// Record in this file who reads what, a line of JSON a statement; docs/security.md says what is in it
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Send traces to this collector of OpenTelemetry, over gRPC: http://127.0.0.1:4317 for example; OTEL_EXPORTER_OTLP_ENDPOINT says so too
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) tls: ServeTlsArgs,
    /// Allow addresses that other machines can reach without users or without encryption
    #[arg(long)]
    pub(crate) insecure: bool,
    /// How the log on stderr is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ServeTlsArgs {
    /// The server's certificate and those between it and its authority, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authority whose certificates clients must show, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectArgs {
    /// The user, with --connect; the password is read from HEADWATER_PASSWORD. HEADWATER_TOKEN holds a token instead of both
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The authority of the server's certificate, PEM; the system's where it is left out
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// A certificate to show to the server, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl ConnectArgs {
    /// The first of these options that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--user", self.user.is_some()),
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) access: ConnectArgs,
    /// Services in which unqualified table names are looked up, in this order
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) search_path: Vec<String>,
    /// A YAML file with the engine's limits, with --services; docs/limits.md lists them
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    pub(crate) config: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// One or more statements; without them a prompt, or the statements on stdin
    #[arg(value_name = "SQL")]
    pub(crate) statements: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TargetArgs {
    /// A directory of manifests, one YAML file per service; no server is needed
    #[arg(long, value_name = "DIR")]
    pub(crate) services: Option<PathBuf>,
    /// A running server
    #[arg(long, value_name = "grpc[+tls]://HOST:PORT")]
    pub(crate) connect: Option<String>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// With a header
    Csv,
    /// One object per line
    Json,
    /// An Arrow IPC stream
    Arrow,
}

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (datafusion, arrow) = (datafusion::DATAFUSION_VERSION, arrow::ARROW_VERSION);
    format!("{} (DataFusion {datafusion}, Arrow {arrow})", env!("CARGO_PKG_VERSION"))
});

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sql_needs_one_target() {
        assert!(Cli::try_parse_from(["headwater", "sql", "SELECT 1"]).is_err());
        assert!(Cli::try_parse_from(["headwater", "sql", "--services", "a", "--connect", "grpc://b:1"]).is_err());
        let cli =
            Cli::try_parse_from(["headwater", "sql", "--services", "a", "--search-path", "x,y", "SELECT 1"]).unwrap();
        let Command::Sql(args) = cli.command else { panic!("sql expected") };
        assert_eq!(args.search_path, ["x", "y"]);
        // A server has limits of its own.
        assert!(Cli::try_parse_from(["headwater", "sql", "--connect", "grpc://b:1", "--config", "c.yaml"]).is_err());
    }
}

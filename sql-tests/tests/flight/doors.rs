//! Every door of one engine, in this process, and the users and certificates that guard it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use headwater::Engine;
use headwater_server::auth::Gate;
use headwater_server::tls::{Tls, TlsFiles};
use headwater_server::{Security, flight, http, pg};
use headwater_sql_tests::certificates::Identity;
use headwater_sql_tests::{canary, logs, variable, wait};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use headwater_sql_tests::process::headwater;

/// Ada's password, which no log, error or metric may ever hold: that of this run, and what quoting gets wrong.
pub(crate) static CANARY: LazyLock<String> = LazyLock::new(|| format!("{}: pass\"word'", canary()));

/// Flight SQL, the Postgres protocol and HTTP over one engine.
pub(crate) struct Doors {
    pub(crate) flight: SocketAddr,
    pub(crate) postgres: SocketAddr,
    pub(crate) http: SocketAddr,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    watching: JoinHandle<()>,
    engine: Engine,
}

impl Doors {
    pub(crate) async fn open(engine: Engine, security: Security) -> Self {
        Self::open_with(engine, security, flight::Limits::default(), pg::Limits::default()).await
    }

    /// The doors, with limits of their own.
    pub(crate) async fn open_with(
        engine: Engine,
        security: Security,
        flight_limits: flight::Limits,
        pg_limits: pg::Limits,
    ) -> Self {
        logs::begin();
        let (stop, stopped) = watch::channel(false);
        let until = || {
            let mut stopped = stopped.clone();
            async move {
                stopped.wait_for(|stopped| *stopped).await.ok();
            }
        };
        let bind = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let (one, two, three) = (bind().await, bind().await, bind().await);
        let [flight, postgres, http] = [&one, &two, &three].map(|listener| listener.local_addr().unwrap());
        let serving = vec![
            tokio::spawn({
                let (engine, security, until) = (engine.clone(), security.clone(), until());
                async move { flight::serve_secured(engine, one, until, flight_limits, security).await.unwrap() }
            }),
            tokio::spawn({
                let (engine, security, until) = (engine.clone(), security.clone(), until());
                async move { pg::serve(engine, two, until, pg_limits, security).await.unwrap() }
            }),
            tokio::spawn({
                let (engine, security, until, stopped) = (engine.clone(), security.clone(), until(), stopped.clone());
                async move { http::serve(engine, three, stopped, until, security).await }
            }),
        ];
        let watching = tokio::spawn(security.watch());
        Self { flight, postgres, http, stop, serving, watching, engine }
    }

    pub(crate) async fn close(self) {
        println!("{:?}", self.engine.metrics().await);
        self.stop.send_replace(true);
        self.watching.abort();
        for door in self.serving {
            wait::within("a door closes", Duration::from_secs(30), door).await.unwrap();
        }
    }
}

/// A users file, written by what the command prints.
pub(crate) struct UsersFile {
    _directory: TempDir,
    pub(crate) path: PathBuf,
}

impl UsersFile {
    /// Ada with the canary for a password, and a token.
    pub(crate) fn new() -> (Self, String) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("users.yaml");
        let file = Self { _directory: directory, path };
        let (token, digest) = made_token();
        let tokens = format!("    certificate: ada.example.com\n    tokens:\n      ci: {{sha256: {digest}}}\n");
        file.write("ada", &CANARY, &tokens);
        (file, token)
    }

    pub(crate) fn write(&self, user: &str, password: &str, more: &str) {
        let hashes = command(&["user", "hash"], password);
        let lines: String = hashes.lines().map(|line| format!("    {line}\n")).collect();
        std::fs::write(&self.path, format!("users:\n  {user}:\n{lines}{more}")).unwrap();
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate::of_file(&self.path).unwrap()
    }
}

/// A token and the digest of it that a users file has.
pub(crate) fn made_token() -> (String, String) {
    let made = command(&["user", "token"], "");
    let line = |start: &str| made.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
    (line("token: "), line("sha256: "))
}

/// What `headwater` prints, given this on stdin.
fn command(arguments: &[&str], input: &str) -> String {
    let mut child =
        Command::new(headwater()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn tls(server: &Identity, client_authority: Option<PathBuf>) -> Arc<Tls> {
    let (certificate, key) = (server.certificate.clone(), server.key.clone());
    Tls::open(TlsFiles { certificate, key, client_authority }).unwrap()
}

/// Runs a program to its end; what it printed, and whether it was content.
pub(crate) async fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let running = tokio::process::Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .kill_on_drop(true)
        .output();
    let output = wait::within("the program ends", Duration::from_secs(120), running).await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Kept with the test's output, which is searched.
    println!("{text}");
    (output.status.success(), text)
}

/// Runs a Python script of the folder `python`.
pub(crate) async fn python(script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let mut all = vec![script.to_str().unwrap()];
    all.extend(arguments);
    run(Path::new(&variable("HEADWATER_TEST_PYTHON")), &all, variables).await
}

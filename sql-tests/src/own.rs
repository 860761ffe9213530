//! Servers of one test alone, to be killed, restarted and misconfigured: a Postgres and a MariaDB, each with its data in a temporary directory.
//!
//! `./test` says where Postgres's programs are and, where it runs as root, which user the servers run as
//! (`HEADWATER_TEST_POSTGRES_BIN`, `HEADWATER_TEST_SERVER_USER`). A server is as durable as one in production is against the death of its
//! process: what it has confirmed is there when it starts again. The death of the machine is not tried, so nothing is synced to the disk.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tempfile::TempDir;

use crate::{canary, variable, wait};

/// How long a server may take to be made, and to answer.
const DEADLINE: Duration = Duration::from_secs(90);

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Postgres,
    Mariadb,
}

/// A server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct OwnServer {
    kind: Kind,
    directory: TempDir,
    port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

impl OwnServer {
    /// A Postgres, with settings beside those that logical replication needs, as `name=value`.
    pub async fn postgres(settings: &[&str]) -> Self {
        let server = Self::new(Kind::Postgres, settings);
        let data = server.data();
        let initdb = Path::new(&variable("HEADWATER_TEST_POSTGRES_BIN")).join("initdb");
        let arguments = ["-U", "headwater", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"];
        finished(as_server(&initdb).args(arguments).arg(&data));
        server.started().await
    }

    /// A MariaDB with a binary log in row format, with settings beside, as arguments.
    pub async fn mariadb(settings: &[&str]) -> Self {
        let server = Self::new(Kind::Mariadb, settings);
        let arguments =
            ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"];
        let directory = format!("--datadir={}", server.data().display());
        finished(as_server(Path::new("mariadb-install-db")).args(arguments).arg(directory));
        let sql = format!(
            "CREATE DATABASE test CHARACTER SET utf8mb4;\nCREATE USER 'headwater'@'%' IDENTIFIED BY '{}';\n\
             GRANT ALL PRIVILEGES ON *.* TO 'headwater'@'%';\n",
            canary()
        );
        let file = server.directory.path().join("init.sql");
        std::fs::write(&file, sql).expect("a file can be written");
        let mut server = server;
        server.settings.push(format!("--init-file={}", file.display()));
        let mut server = server.started().await;
        server.settings.pop();
        server
    }

    fn new(kind: Kind, settings: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        // The server's user passes through it.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a directory can be made");
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
        if let Some(user) = user() {
            finished(Command::new("chown").arg(format!("{user}:")).arg(&data));
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self { kind, directory, port, settings, process: None }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The server's URL: a user with every privilege.
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://headwater@127.0.0.1:{}/postgres", self.port),
            Kind::Mariadb => format!("mysql://headwater:{}@127.0.0.1:{}/test", canary(), self.port),
        }
    }

    /// SIGKILL. What the server left stays as it is.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it can be waited for");
        }
    }

    /// Starts it over what it left, and waits until it answers.
    pub async fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        wait::until("the server answers", DEADLINE, async || {
            let ended =
                self.process.as_mut().is_none_or(|process| process.try_wait().expect("it can be asked").is_some());
            if ended {
                // The first try may find that the children of the one that was killed are not gone yet.
                self.process = Some(self.spawn());
            }
            self.answers().await
        })
        .await;
    }

    async fn started(mut self) -> Self {
        self.start().await;
        self
    }

    fn spawn(&self) -> Child {
        let data = self.data();
        let mut command = match self.kind {
            Kind::Postgres => {
                let postgres = Path::new(&variable("HEADWATER_TEST_POSTGRES_BIN")).join("postgres");
                let mut command = as_server(&postgres);
                command.arg("-D").arg(&data).args(["-p", &self.port.to_string()]);
                let directory = format!("unix_socket_directories={}", data.display());
                let needed = [
                    "listen_addresses=127.0.0.1",
                    "wal_level=logical",
                    "fsync=off",
                    "full_page_writes=off",
                    &directory,
                ];
                for setting in needed.into_iter().chain(self.settings.iter().map(String::as_str)) {
                    command.args(["-c", setting]);
                }
                command
            }
            Kind::Mariadb => {
                let mut command = as_server(Path::new("mariadbd"));
                command.args([
                    "--no-defaults",
                    "--bind-address=127.0.0.1",
                    "--skip-name-resolve",
                    "--innodb-buffer-pool-size=32M",
                ]);
                command.args(["--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL", "--server-id=1"]);
                // What was confirmed outlives the process.
                command.args(["--innodb-flush-log-at-trx-commit=2", "--character-set-server=utf8mb4"]);
                command.arg(format!("--datadir={}", data.display())).arg(format!("--port={}", self.port));
                command.arg(format!("--socket={}/mysql.sock", data.display())).args(&self.settings);
                command
            }
        };
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log"));
        let log = log.expect("a log can be written");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log).stdin(Stdio::null());
        command.spawn().expect("the server can be started")
    }

    async fn answers(&self) -> bool {
        match self.kind {
            Kind::Postgres => match tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    client.simple_query("SELECT 1").await.is_ok()
                }
                Err(_) => false,
            },
            Kind::Mariadb => {
                let options = mysql_async::Opts::from_url(&self.url()).expect("a URL");
                match mysql_async::Conn::new(options).await {
                    Ok(mut conn) => conn.query_drop("SELECT 1").await.is_ok(),
                    Err(_) => false,
                }
            }
        }
    }

    /// The end of the server's log, to be printed with a failure.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the log of {:?}:\n{}", self.kind, self.log());
        }
        self.kill();
    }
}

/// The user that servers run as where this process is root, which they refuse.
fn user() -> Option<String> {
    std::env::var("HEADWATER_TEST_SERVER_USER").ok().filter(|user| !user.is_empty())
}

/// A command as the servers' user. The kernel ends it if this process is killed outright.
fn as_server(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user() {
        let group = Command::new("id").args(["-g", &user]).output().expect("id tells the user's group").stdout;
        let group = String::from_utf8_lossy(&group).trim().to_owned();
        command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups");
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).current_dir("/");
    command
}

fn finished(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

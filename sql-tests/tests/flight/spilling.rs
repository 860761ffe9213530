//! What the command line spills goes with it: also where its query fails, and after a kill with the next that spills there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use headwater_sql_tests::process::headwater;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

const DEADLINE: Duration = Duration::from_secs(60);

/// Two stores of some 20 MB each, a configuration whose memory does not hold them, and where is spilled.
struct Large {
    services: Services,
    spill: TempDir,
    config: PathBuf,
}

/// Its answer does not fit in a pipe: nobody reads it, so what was spilled for it stays.
const SORT: &str = "SELECT id, pad FROM a.large ORDER BY md5(pad)";

/// A hash join holds its smaller side, beside a sort that spills.
const JOIN: &str =
    "SELECT * FROM (SELECT id, pad FROM a.large ORDER BY md5(pad) LIMIT 190000) x JOIN b.large y ON x.pad = y.pad";

impl Large {
    fn new() -> Self {
        let table = "CREATE TABLE large (id INTEGER PRIMARY KEY, pad TEXT); \
            INSERT INTO large WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) \
            SELECT i, printf('%0100d', i * 7919 % 200000) FROM n";
        let services = Services::new().with_sqlite("a", table).with_sqlite("b", table);
        let spill = TempDir::new().unwrap();
        let config = services.directory().join("headwater.yaml");
        let limits = format!("limits:\n  memory_bytes: 16777216\n  spill_directory: \"{}\"\n", spill.path().display());
        std::fs::write(&config, limits).unwrap();
        Self { services, spill, config }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn asking(&self, sql: &str) -> Command {
        let mut command = self.command(&headwater());
        command.arg("sql").arg("--services").arg(self.services.manifests());
        command.arg("--config").arg(&self.config).args(["--format", "csv", sql]);
        command
    }

    /// The exit code, and what it said.
    async fn asked(&self, sql: &str) -> (Option<i32>, String) {
        ended(self.asking(sql)).await
    }

    /// A command that has spilled, has begun to answer, and can't go on.
    async fn held(&self) -> Child {
        let mut child = self.asking(SORT).spawn().unwrap();
        let answer = child.stdout.as_mut().unwrap();
        wait::within("it answers", DEADLINE, answer.read_u8()).await.unwrap();
        child
    }

    fn directories(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.spill.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn is_empty(&self) -> bool {
        self.directories().is_empty()
    }
}

async fn ended(mut command: Command) -> (Option<i32>, String) {
    let child = command.spawn().unwrap();
    let output = wait::within("the command ends", DEADLINE, child.wait_with_output()).await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn files(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn command_whose_query_fails_for_want_of_memory_leaves_nothing() {
    let large = Large::new();
    for _ in 0..3 {
        let (code, said) = large.asked(JOIN).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("memory_bytes"), "{said}");
        assert!(large.is_empty(), "{} files stay", files(large.spill.path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_has_spilled_goes_with_the_next_start_and_what_a_live_one_has_stays() {
    let large = Large::new();
    let (mut killed, mut alive) = (large.held().await, large.held().await);
    killed.kill().await.unwrap();
    assert_eq!(large.directories().len(), 2);
    let (code, said) = large.asked("SELECT 1").await;
    assert_eq!(code, Some(0), "{said}");
    let stays = large.directories();
    assert_eq!(stays.len(), 1, "{stays:?}");
    assert!(files(&stays[0]) > 1, "what it spilled is there beside its lock");
    alive.kill().await.unwrap();
    let (code, said) = large.asked("SELECT 1").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(large.is_empty(), "{} files stay", files(large.spill.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn spill_that_the_system_refuses_is_an_error_that_names_the_directory_and_the_setting() {
    let large = Large::new();
    // A limit of the size of files stands for a full disk: writing fails, and the process is not ended by it.
    let mut command = large.command(Path::new("sh"));
    command.arg("-c").arg("trap '' XFSZ; ulimit -f 200; exec \"$@\"").arg("sh").arg(headwater());
    command.arg("sql").arg("--services").arg(large.services.manifests());
    command.arg("--config").arg(&large.config).args(["--format", "csv", SORT]);
    let (code, said) = ended(command).await;
    assert_eq!(code, Some(1), "{said}");
    let directory = large.spill.path().display().to_string();
    assert!(said.contains(&directory) && said.contains("spill_directory") && said.contains("too large"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(large.is_empty(), "{} files stay", files(large.spill.path()));
}

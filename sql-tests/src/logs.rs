//! The logs of a test: where those of this process go, and those of the `headwater` processes that it starts.
//!
//! `./test` searches all of them for the password of the run. Those of this process are part of the test's output; those of others are files in
//! HEADWATER_TEST_LOGS, called by the test, since a test that passes may have read and dropped them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// As much as a server would be asked to say that has a fault; libraries that log statements or values stay silent, as they do there.
const FILTER: &str = "info,headwater=debug,headwater_server=debug,headwater_federation=debug,headwater_connectors=debug,\
                      headwater_views=debug,sqlparser=warn,datafusion=warn,tokio_postgres=warn,mysql_async=warn,h2=warn";

/// Begins to log what the servers in this process say.
pub fn begin() {
    // A test that opens several servers begins once.
    let _begun = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(FILTER))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .try_init();
}

/// The program as a script that runs it and keeps a copy of its log; the program itself where nobody keeps logs.
pub(crate) fn kept(program: &Path) -> PathBuf {
    static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
    let Ok(logs) = std::env::var("HEADWATER_TEST_LOGS") else { return program.to_owned() };
    SCRIPT.get_or_init(|| script(program, &Path::new(&logs).join(test()))).clone()
}

/// This test, as a name of a directory.
fn test() -> String {
    let mut arguments = std::env::args();
    let binary = arguments.next().unwrap_or_default();
    let binary = Path::new(&binary).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let binary = binary.rsplit_once('-').map_or(binary.clone(), |(name, _)| name.to_owned());
    // What nextest passes: `--exact`, and the one test to run.
    let test = arguments.find(|argument| !argument.starts_with('-')).unwrap_or_else(|| "tests".to_owned());
    format!("{binary}.{}.{}", test.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "."), std::process::id())
}

fn script(program: &Path, directory: &Path) -> PathBuf {
    std::fs::create_dir_all(directory).expect("a directory for logs can be made");
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    // The script becomes the program, so that signals and the exit code are the program's own.
    let text = format!(
        "#!/usr/bin/env bash\nexec {} \"$@\" 2> >(exec tee -a {}/$$.log >&2)\n",
        quoted(program),
        quoted(directory)
    );
    let script = directory.join("headwater");
    std::fs::write(&script, text).expect("a script can be written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    script
}

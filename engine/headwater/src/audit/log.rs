//! The file of the audit log.
//!
//! Invariant: a line is written with one call and whole, or an error is returned; what was written of it before an error is ended by a line break before the next. Lines
//! are given to the system and not forced to the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tracing::{error, info};

/// The longest name of somebody who failed to log in that is written, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A file of audit records. Shared by an engine and by the doors in front of it.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` after a failure: it is opened again with the next line.
    file: Option<File>,
    /// Whether the last line may be there in part.
    is_torn: bool,
}

impl AuditLog {
    /// Opens the file for appending, and makes it where there is none.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Arc<Self>> {
        let path = path.into();
        let state = State { file: Some(opened(&path)?), is_torn: false };
        Ok(Arc::new(Self { path, state: Mutex::new(state) }))
    }

    /// Opens the file again by its name, where the open one is not that one any more: after it was moved away. Where that can't be, the open one is
    /// written on, and the log says so.
    pub fn reopen(&self) {
        let mut state = self.state.lock();
        if state.file.as_ref().is_some_and(|file| is_still(file, &self.path)) {
            return;
        }
        match opened(&self.path) {
            Ok(file) => {
                *state = State { file: Some(file), is_torn: false };
                info!(file = %self.path.display(), "the audit log was opened again");
            }
            Err(error) => error!(file = %self.path.display(), %error, "the audit log can't be opened again"),
        }
    }

    /// Somebody was not let in. `user` is the name that they gave.
    pub fn login_refused(&self, user: &str, door: &'static str, address: IpAddr, reason: &str) {
        let user = &user[..user.floor_char_boundary(NAME_BYTES_MAX)];
        let mut line = line("login", Some(user), Some(door), Some(address));
        line.insert("outcome".to_owned(), json!("denied"));
        line.insert("reason".to_owned(), json!(reason));
        if let Err(error) = self.write(&line) {
            error!(%error, "a refused login could not be written to the audit log");
        }
    }

    pub(super) fn write(&self, line: &Map<String, Value>) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut text = if state.is_torn { "\n".to_owned() } else { String::new() };
        text.push_str(&Value::Object(line.clone()).to_string());
        text.push('\n');
        let mut file = match state.file.take() {
            Some(file) => file,
            None => opened(&self.path)?,
        };
        state.is_torn = true;
        file.write_all(text.as_bytes())?;
        *state = State { file: Some(file), is_torn: false };
        Ok(())
    }
}

/// What every line begins with.
pub(super) fn line(
    event: &str,
    user: Option<&str>,
    door: Option<&'static str>,
    address: Option<IpAddr>,
) -> Map<String, Value> {
    let line = json!({
        "at": now(),
        "event": event,
        "user": user,
        "door": door.unwrap_or("program"),
        "address": address.map(|address| address.to_string()),
    });
    match line {
        Value::Object(line) => line,
        _ => Map::new(),
    }
}

/// The time in UTC, to the microsecond.
fn now() -> Option<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = timestamp_us_to_datetime(i64::try_from(since.as_micros()).ok()?)?;
    Some(time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

fn opened(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether a file is the one that has this name now.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let named = std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let open = file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((named, open), (Ok(named), Ok(open)) if named == open)
}

#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn file_that_was_moved_away_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("audit.jsonl"), directory.path().join("audit.1"));
        let log = AuditLog::open(&path).unwrap();
        let refused = |name: &str| log.login_refused(name, "flight", IpAddr::from([127, 0, 0, 1]), "wrong password");
        refused("ada");
        log.reopen();
        refused("bob");
        std::fs::rename(&path, &old).unwrap();
        refused("eve");
        log.reopen();
        refused("dan\u{e9}\n");
        let names =
            |lines: Vec<Value>| lines.iter().map(|line| line["user"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(lines(&old)), ["ada", "bob", "eve"]);
        let [line] = &lines(&path)[..] else { panic!("one line is in the new file") };
        assert_eq!(line["user"], "dan\u{e9}\n");
        assert_eq!(
            (&line["door"], &line["address"], &line["outcome"]),
            (&json!("flight"), &json!("127.0.0.1"), &json!("denied"))
        );
        assert_eq!(line["at"].as_str().unwrap().len(), "2026-01-01T00:00:00.000000Z".len());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk_is_an_error_of_each_line() {
        let log = AuditLog::open("/dev/full").unwrap();
        assert!(log.write(&line("start", None, None, None)).is_err());
        assert!(log.write(&line("start", None, None, None)).is_err());
    }
}

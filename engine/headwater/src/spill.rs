//! Where queries spill: files of DataFusion's disk manager, in a directory that the engine makes in the spill directory.
//!
//! That directory goes with the engine. A file in it is locked for as long as the process lives, so that whoever finds it unlocked knows that its
//! owner was killed: the next start removes what is left. Directories that are locked, or have no such file, are another's.
//!
//! A directory that was removed meanwhile is made again once the spill directory is there. What the system refuses is an error that names the directory.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::{DiskManager, SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;
use parking_lot::Mutex;

use crate::error::Passed;

/// How the names of the disk manager's directories begin.
const PREFIX: &str = "datafusion-";

/// The file that is locked while its owner lives.
const LOCK: &str = "lock";

/// That file before it is locked: whoever finds it leaves it alone.
const UNLOCKED: &str = "lock.new";

/// What an engine spills to.
#[derive(Debug, Clone)]
pub(crate) struct Spill(Arc<Held>);

#[derive(Debug)]
struct Held {
    /// The spill directory, in which the engine's own is.
    directory: PathBuf,
    limit_bytes: u64,
    files: Arc<DiskManager>,
    /// Bytes that the disk manager counts and that were not written: it counts before it writes.
    unwritten: AtomicU64,
    /// None where the file system has no locks: then the directory is never removed by another.
    lock: Mutex<Option<File>>,
}

/// A file, and what it is in.
struct Spilled {
    file: Arc<dyn SpillFile>,
    held: Arc<Held>,
}

struct Writing {
    writer: Box<dyn SpillWriter>,
    held: Arc<Held>,
}

impl Spill {
    /// Removes what killed processes left in the directory, and makes one of its own there.
    pub(crate) fn open(directory: &Path, limit_bytes: u64) -> Result<Self> {
        reclaim(directory);
        let files = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![directory.to_owned()]))
            .with_max_temp_directory_size(limit_bytes)
            .build()?;
        let lock = files.temp_dir_paths().first().and_then(|own| locked(own));
        Ok(Self(Arc::new(Held {
            directory: directory.to_owned(),
            limit_bytes,
            files: Arc::new(files),
            unwritten: AtomicU64::new(0),
            lock: Mutex::new(lock),
        })))
    }

    /// How many bytes are spilled now.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.files.used_disk_space().saturating_sub(self.0.unwritten.load(Ordering::Relaxed))
    }
}

impl TempFileFactory for Spill {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        let Self(held) = self;
        let created = match held.files.create_tmp_file(description) {
            Err(error) if is_missing(&error) && held.restore() => held.files.create_tmp_file(description),
            created => created,
        };
        let file = created.map_err(|error| held.refused(error))?;
        Ok(Arc::new(Spilled { file, held: Arc::clone(held) }))
    }
}

impl Held {
    /// Makes the engine's directory again where the spill directory is there; whether that went well.
    fn restore(&self) -> bool {
        let mut lock = self.lock.lock();
        let own = self.files.temp_dir_paths();
        let Some(own) = own.first().filter(|_| self.directory.is_dir()) else { return false };
        match private().create(own) {
            Ok(()) => {
                *lock = locked(own);
                true
            }
            // Another query was faster.
            Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
        }
    }

    fn refused(&self, error: DataFusionError) -> DataFusionError {
        match error {
            DataFusionError::IoError(error) => DataFusionError::IoError(self.refused_io(error)),
            other => other,
        }
    }

    /// What the system refuses names the directory; the disk manager's own limit is told as it is.
    fn refused_io(&self, error: io::Error) -> io::Error {
        match of_system(&error) {
            Some(reason) => {
                let directory = self.directory.display().to_string();
                io::Error::other(Passed::Spill { directory, reason: reason.to_string() })
            }
            None => error,
        }
    }

    /// The same where so many bytes were to be written, which are no longer counted.
    fn refused_write(&self, error: io::Error, bytes: usize) -> io::Error {
        if of_system(&error).is_some() {
            let bytes = bytes as u64;
            let unwritten = self.unwritten.fetch_add(bytes, Ordering::Relaxed) + bytes;
            // It fails only where spilling is forbidden.
            let _forbidden = self.files.set_max_temp_directory_size(self.limit_bytes.saturating_add(unwritten));
        }
        self.refused_io(error)
    }
}

impl SpillFile for Spilled {
    fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    fn size(&self) -> Option<u64> {
        self.file.size()
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        self.file.read_stream()
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let writer = self.file.open_writer().map_err(|error| self.held.refused(error))?;
        Ok(Box::new(Writing { writer, held: Arc::clone(&self.held) }))
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(|error| self.held.refused_write(error, bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(|error| self.held.refused_io(error))
    }
}

impl SpillWriter for Writing {
    fn finish(&mut self) -> Result<()> {
        self.writer.finish().map_err(|error| self.held.refused(error))
    }
}

fn is_missing(error: &DataFusionError) -> bool {
    matches!(error, DataFusionError::IoError(error) if error.kind() == io::ErrorKind::NotFound)
}

/// The system's error behind one that may be the disk manager's own.
fn of_system(error: &io::Error) -> Option<&io::Error> {
    if error.kind() != io::ErrorKind::Other {
        return Some(error);
    }
    match error.get_ref()?.downcast_ref::<DataFusionError>()? {
        DataFusionError::IoError(inner) => of_system(inner),
        _ => None,
    }
}

/// Removes the directories whose owners are gone.
fn reclaim(directory: &Path) {
    let entries = match directory.read_dir() {
        Ok(entries) => entries,
        Err(error) => return tracing::warn!(%error, "what is left in the spill directory can't be looked for"),
    };
    for entry in entries.flatten() {
        let lock = entry.path().join(LOCK);
        // Whoever may write here may have put anything here, as what opening waits for.
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && lock.symlink_metadata().is_ok_and(|lock| lock.is_file());
        if !is_one {
            continue;
        }
        // The lock is held until all is removed, so that no other start removes it too.
        let unlocked = File::open(lock).ok().filter(|lock| lock.try_lock().is_ok());
        if unlocked.is_some() {
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::info!("what a process that was killed had spilled is removed"),
                Err(error) => tracing::warn!(%error, "what a process that was killed had spilled can't be removed"),
            }
        }
    }
}

/// Says that a directory has a living owner. The file has its name only once it is locked.
fn locked(own: &Path) -> Option<File> {
    let made = own.join(UNLOCKED);
    let locked = File::create(&made).and_then(|file| {
        file.try_lock()?;
        std::fs::rename(&made, own.join(LOCK))?;
        Ok(file)
    });
    locked
        .inspect_err(
            |error| tracing::warn!(%error, "the spill directory takes no locks; what is left in it after a kill stays"),
        )
        .ok()
}

/// A directory that only its owner reads, as the disk manager makes them.
fn private() -> DirBuilder {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "rights are those of the parent there"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// A disk that has taken so many writes and is full then.
    struct Full(Box<dyn SpillWriter>);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            // As the disk manager's own writer tells it.
            Err(DataFusionError::IoError(io::Error::from(io::ErrorKind::StorageFull)).into())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl SpillWriter for Full {
        fn finish(&mut self) -> Result<()> {
            self.0.finish()
        }
    }

    #[test]
    fn full_disk_names_the_directory_and_the_setting() {
        let directory = tempfile::tempdir().unwrap();
        let spill = Spill::open(directory.path(), 1000).unwrap();
        let file = spill.create_temp_file("a test").unwrap();
        let writer = Box::new(Full(file.open_writer().unwrap()));
        let mut writing = Writing { writer, held: Arc::clone(&spill.0) };
        let error = arrow::error::ArrowError::from(writing.write(b"row").unwrap_err());
        let error = Error::from(DataFusionError::from(error));
        assert_eq!(error.kind(), crate::ErrorKind::ResourcesExhausted);
        let message = error.report();
        for part in [directory.path().to_string_lossy().as_ref(), "spill_directory", "no storage space"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn limit_is_told_as_it_is_and_what_is_written_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let spill = Spill::open(directory.path(), 10).unwrap();
        let file = spill.create_temp_file("a test").unwrap();
        let mut writer = file.open_writer().unwrap();
        writer.write_all(b"12345678").unwrap();
        assert_eq!((spill.bytes(), file.size()), (8, Some(8)));
        let error = arrow::error::ArrowError::from(writer.write(b"90ab").unwrap_err());
        let message = Error::from(DataFusionError::from(error)).report();
        assert!(message.contains("raise spill_bytes"), "{message}");
        drop((writer, file));
        assert_eq!(spill.bytes(), 0);
    }

    #[test]
    fn directory_of_a_living_owner_and_one_that_is_not_ours_stay() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("datafusion-left");
        let foreign = directory.path().join("datafusion-foreign");
        for made in [&left, &foreign] {
            std::fs::create_dir(made).unwrap();
            std::fs::write(made.join("rows"), b"rows").unwrap();
        }
        std::fs::write(left.join(LOCK), b"").unwrap();
        let one = Spill::open(directory.path(), 10).unwrap();
        assert!(!left.exists() && foreign.exists());
        let _file = one.create_temp_file("a test").unwrap();
        let other = Spill::open(directory.path(), 10).unwrap();
        for spill in [&one, &other] {
            assert!(spill.0.files.temp_dir_paths()[0].exists());
        }
        drop((one, other));
        assert_eq!(directory.path().read_dir().unwrap().count(), 2, "a file that is still read keeps its directory");
        drop(_file);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}

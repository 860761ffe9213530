//! Where views' state is kept: a directory, or a prefix in an object store.
//!
//! Both keep named pieces of bytes. A piece is there whole or not at all, and once written it outlives the machine's power. Only one engine writes
//! to a place: a directory is locked, and a second engine is refused; in an object store, where nothing tells whether an engine lives, the
//! engine that comes last takes the place over, and the one before it can replace nothing any more.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::io::{Error as IoError, ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use headwater_source::Error as SourceError;
use object_store::path::Path as ObjectPath;
use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion, parse_url_opts,
};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Runtime;
use tracing::warn;
use url::Url;

use super::journal::PREFIX;
use crate::Result;

/// Where the definitions of views and the checkpoints of what they read are kept.
#[derive(Debug, Clone)]
pub enum StateStore {
    /// A directory of the engine's own, made where it is missing. One engine uses it at a time.
    Directory(PathBuf),
    /// Objects under a prefix of the engine's own. An engine that opens it takes it over from one that still runs, which then stores nothing
    /// any more. The store must put objects on conditions, as S3, Google Cloud Storage and Azure Blob Storage do.
    Objects {
        /// The store.
        store: Arc<dyn ObjectStore>,
        /// The prefix of every object.
        prefix: ObjectPath,
    },
}

impl StateStore {
    /// A directory's path, or the URL of an object store (`s3://bucket/prefix`, `gs://`, `az://`), whose keys come from the environment
    /// as the vendors' own tools read them.
    ///
    /// # Errors
    /// The URL is of no object store, holds credentials, or a key in the environment is wrong.
    pub fn parse(place: &str) -> Result<Self> {
        let Some(url) = Url::parse(place).ok().filter(|_| place.contains("://")) else {
            return Ok(Self::Directory(place.into()));
        };
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| wrong_url(&url, "it names no path of this machine"))?;
            return Ok(Self::Directory(path));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(wrong_url(&url, "leave credentials to the environment, as AWS_ACCESS_KEY_ID"));
        }
        let (store, prefix) =
            parse_url_opts(&url, std::env::vars()).map_err(|error| wrong_url(&url, &error.to_string()))?;
        Ok(Self::Objects { store: store.into(), prefix })
    }

    pub(super) fn open(&self) -> Result<Box<dyn Place>> {
        Ok(match self {
            Self::Directory(path) => Box::new(Directory::open(path)?),
            Self::Objects { store, prefix } => Box::new(Objects::open(Arc::clone(store), prefix.clone())?),
        })
    }
}

impl From<PathBuf> for StateStore {
    fn from(path: PathBuf) -> Self {
        Self::Directory(path)
    }
}

impl From<&Path> for StateStore {
    fn from(path: &Path) -> Self {
        Self::Directory(path.to_owned())
    }
}

fn wrong_url(url: &Url, reason: &str) -> crate::Error {
    // The host and the path name the place; what else a URL holds may be secret.
    let place = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
    SourceError::config(format!("state \"{place}\" cannot be used: {reason}")).into()
}

/// Named pieces of bytes. All of it blocks.
pub(super) trait Place: Debug + Send + Sync {
    /// The place in words, for messages.
    fn name(&self) -> String;

    /// A piece that [`Place::replace`] wrote; `None` where there is none.
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>>;

    /// Writes a piece in place of what was there.
    fn replace(&self, name: &str, bytes: &[u8]) -> std::io::Result<()>;

    /// A piece that [`Place::add`] wrote.
    fn part(&self, name: &str) -> std::io::Result<Vec<u8>>;

    /// Writes a piece whose name no other has.
    fn add(&self, name: &str, bytes: &[u8]) -> std::io::Result<()>;

    /// Adds to the end of a part; `false` where the place cannot. What was added outlives the process, and once it is [synced](Self::sync) the
    /// machine's power.
    fn append(&self, name: &str, bytes: &[u8]) -> std::io::Result<bool>;

    /// Makes what was appended outlive the machine's power.
    fn sync(&self, name: &str) -> std::io::Result<()>;

    /// Cuts off what a part has after so many bytes.
    fn cut(&self, name: &str, bytes: usize) -> std::io::Result<()>;

    /// Removes parts but these, and what was left unfinished.
    fn keep_only(&self, parts: &[String]) -> std::io::Result<()>;

    /// Lets another engine have the place.
    fn close(&self);
}

/// What the name of a part begins with: of a table's, and of a journal's.
const PARTS: [&str; 2] = ["table-", PREFIX];

fn is_part(name: &str) -> bool {
    PARTS.iter().any(|beginning| name.starts_with(beginning))
}

/// What the name of a file ends with that is being written.
const UNFINISHED: &str = ".new";

const LOCK: &str = "lock";

/// A directory. A file is written under another name, synced, renamed, and the directory synced.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Held while the engine lives; `None` once another may have the directory. Whatever is written is written while it is held.
    lock: RwLock<Option<File>>,
}

impl Directory {
    fn open(path: &Path) -> Result<Self> {
        let wrong = |error: IoError| {
            let reason = format!("state directory \"{}\" cannot be used: {error}", path.display());
            crate::Error::from(SourceError::config(reason))
        };
        fs::create_dir_all(path).map_err(wrong)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock: RwLock::new(Some(lock)) }),
            Err(TryLockError::WouldBlock) => {
                let path = path.display();
                let reason = format!("state directory \"{path}\" is in use by another engine; give each its own");
                Err(SourceError::config(reason).into())
            }
            Err(TryLockError::Error(error)) => Err(wrong(error)),
        }
    }
}

impl Directory {
    /// Does work while no other engine can have the directory.
    fn writing<T>(&self, work: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
        let lock = self.lock.read();
        if lock.is_none() {
            return Err(IoError::new(IoKind::PermissionDenied, "the engine has ended"));
        }
        work()
    }
}

impl Place for Directory {
    fn name(&self) -> String {
        format!("state directory \"{}\"", self.path.display())
    }

    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        match self.part(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == IoKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let (path, unfinished) = (self.path.join(name), self.path.join(format!("{name}{UNFINISHED}")));
        self.writing(|| {
            let mut file = File::create(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(unfinished, path)?;
            File::open(&self.path)?.sync_all()
        })
    }

    fn part(&self, name: &str) -> std::io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn add(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.replace(name, bytes)
    }

    fn append(&self, name: &str, bytes: &[u8]) -> std::io::Result<bool> {
        self.writing(|| File::options().append(true).open(self.path.join(name))?.write_all(bytes))?;
        Ok(true)
    }

    fn sync(&self, name: &str) -> std::io::Result<()> {
        File::options().append(true).open(self.path.join(name))?.sync_data()
    }

    fn cut(&self, name: &str, bytes: usize) -> std::io::Result<()> {
        self.writing(|| File::options().write(true).open(self.path.join(name))?.set_len(bytes as u64))
    }

    fn keep_only(&self, parts: &[String]) -> std::io::Result<()> {
        self.writing(|| {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(UNFINISHED) || (is_part(&name) && !parts.contains(&name)) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        })
    }

    fn close(&self) {
        let lock = self.lock.write().take();
        if let Some(Err(error)) = lock.map(|lock| lock.unlock()) {
            warn!(%error, "state directory could not be unlocked; it is once the process ends");
        }
    }
}

/// The pieces that are replaced, and so are claimed by each engine that opens the place.
pub(super) const MANIFEST: &str = "manifest";
pub(super) const DEFINITIONS: &str = "views.json";
pub(super) const JOURNALS: &str = "journals.json";

/// A prefix in an object store.
///
/// A piece that is replaced begins with a line that names the engine which wrote it. An engine claims each when it opens the place, by writing
/// it anew under its own name, and replaces it only while it is as it left it: so an engine that was taken for dead can write no more.
struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    /// The name of this engine, which no other has.
    owner: String,
    /// The versions of the pieces as this engine left them.
    versions: Mutex<HashMap<String, UpdateVersion>>,
    /// Requests have threads of their own, so that they may be waited for on any.
    runtime: Option<Runtime>,
}

/// How often a piece is claimed that another engine is writing at the same time.
const CLAIMS_MAX: usize = 32;

impl Objects {
    fn open(store: Arc<dyn ObjectStore>, prefix: ObjectPath) -> Result<Self> {
        let place = format!("state of views under \"{prefix}\" of {store}");
        let wrong =
            |error: IoError| crate::Error::from(SourceError::config(format!("{place} cannot be used: {error}")));
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).thread_name("views-state").enable_all().build().map_err(wrong)?;
        let owner = uuid::Uuid::new_v4().to_string();
        let objects = Self { store, prefix, owner, versions: Mutex::default(), runtime: Some(runtime) };
        for name in [MANIFEST, DEFINITIONS, JOURNALS] {
            objects.claim(name).map_err(wrong)?;
        }
        Ok(objects)
    }

    /// Writes a piece anew under this engine's name. The engine before it may be writing it too, until it can no more.
    fn claim(&self, name: &str) -> std::io::Result<()> {
        let mut tries = 0;
        loop {
            let (bytes, mode) = match self.get(name)? {
                Some((bytes, version)) => (body(&bytes)?.to_vec(), PutMode::Update(version)),
                None => (vec![], PutMode::Create),
            };
            tries += 1;
            match self.put(name, &bytes, mode) {
                Err(error) if error.kind() == IoKind::PermissionDenied && tries < CLAIMS_MAX => {}
                claimed => return claimed,
            }
        }
    }

    fn path(&self, name: &str) -> ObjectPath {
        self.prefix.clone().join(name)
    }

    fn get(&self, name: &str) -> std::io::Result<Option<(Vec<u8>, UpdateVersion)>> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        self.wait(async move {
            let found = match store.get(&path).await {
                Ok(found) => found,
                Err(ObjectError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok(Some((found.bytes().await?.to_vec(), version)))
        })
    }

    fn put(&self, name: &str, bytes: &[u8], mode: PutMode) -> std::io::Result<()> {
        let owned = [self.owner.as_bytes(), b"\n", bytes].concat();
        let put = self.put_as(name, owned.clone(), mode);
        let version = match put {
            Ok(result) => UpdateVersion::from(result),
            Err(error) if error.kind() == IoKind::AlreadyExists => match self.get(name)? {
                // It was written, and the answer was lost.
                Some((bytes, version)) if bytes == owned => version,
                _ => {
                    let reason = format!("another engine has taken it over (\"{name}\" is not as this one left it)");
                    return Err(IoError::new(IoKind::PermissionDenied, reason));
                }
            },
            Err(error) => return Err(error),
        };
        self.versions.lock().insert(name.to_owned(), version);
        Ok(())
    }

    fn put_as(&self, name: &str, bytes: Vec<u8>, mode: PutMode) -> std::io::Result<PutResult> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let options = PutOptions { mode, ..PutOptions::default() };
        self.wait(async move { store.put_opts(&path, bytes.into(), options).await })
    }

    /// Waits for a request, on whatever thread.
    fn wait<T: Send>(
        &self,
        request: impl Future<Output = std::result::Result<T, ObjectError>> + Send,
    ) -> std::io::Result<T> {
        let runtime = self.runtime.as_ref().ok_or_else(|| IoError::other("the place is closed"))?;
        let waited = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(request)).join());
        waited.map_err(|_| IoError::other("a request to the object store panicked"))?.map_err(|error| {
            let kind = match &error {
                ObjectError::NotFound { .. } => IoKind::NotFound,
                ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. } => IoKind::AlreadyExists,
                ObjectError::NotImplemented { .. } => IoKind::Unsupported,
                _ => IoKind::Other,
            };
            IoError::new(kind, error.to_string())
        })
    }
}

/// What comes after the line that names the owner.
fn body(bytes: &[u8]) -> std::io::Result<&[u8]> {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let line = line.ok_or_else(|| IoError::new(IoKind::InvalidData, "an object there is none of Headwater's"))?;
    Ok(&bytes[line + 1..])
}

impl Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("store", &self.store.to_string()).field("prefix", &self.prefix).finish()
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Place for Objects {
    fn name(&self) -> String {
        format!("state of views under \"{}\" of {}", self.prefix, self.store)
    }

    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        let Some((bytes, _)) = self.get(name)? else { return Ok(None) };
        // What was only claimed holds nothing yet.
        Ok(Some(body(&bytes)?.to_vec()).filter(|body| !body.is_empty()))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let known = self.versions.lock().get(name).cloned();
        self.put(name, bytes, known.map_or(PutMode::Create, PutMode::Update))
    }

    fn part(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        self.wait(async move { Ok(store.get(&path).await?.bytes().await?.to_vec()) })
    }

    fn add(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        // One that is there already is another engine's, or was left by one that died: the next checkpoint has other names.
        self.put_as(name, bytes.to_vec(), PutMode::Create).map(|_| ())
    }

    fn append(&self, _: &str, _: &[u8]) -> std::io::Result<bool> {
        Ok(false)
    }

    fn sync(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }

    fn cut(&self, name: &str, _: usize) -> std::io::Result<()> {
        // An object is there whole or not at all.
        Err(IoError::new(IoKind::InvalidData, format!("object \"{name}\" is damaged")))
    }

    fn keep_only(&self, parts: &[String]) -> std::io::Result<()> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let found = self.wait(async move { store.list(Some(&prefix)).try_collect::<Vec<_>>().await })?;
        // What lies below another prefix is another engine's.
        let is_left = |location: &ObjectPath| {
            let name = location.filename().filter(|name| is_part(name) && *location == self.path(name));
            name.is_some_and(|name| parts.iter().all(|part| part != name))
        };
        for object in found.into_iter().filter(|object| is_left(&object.location)) {
            let store = Arc::clone(&self.store);
            match self.wait(async move { store.delete(&object.location).await }) {
                Err(error) if error.kind() != IoKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn close(&self) {}
}

//! A read-only view of a store in which every file is still the version that was listed.
//!
//! Each read is conditional on the ETag of the listing, so a file that is replaced between two reads fails the second instead of
//! mixing two versions in one answer. Where a store gives no ETag, the size and time of each response are compared.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use super::error::Failure;

/// One file of a store, pinned to a version.
#[derive(Debug)]
pub(super) struct Pinned {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
    /// Why a read failed, for decoders keep only the text of a store's error.
    fault: Mutex<Option<Fault>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Replaced,
    Gone,
    Denied,
}

impl Pinned {
    /// Pins a file to the version that the listing showed.
    pub(super) fn new(store: Arc<dyn ObjectStore>, meta: ObjectMeta) -> Self {
        Self { store, meta, fault: Mutex::new(None) }
    }

    /// What a decoder's failure was before the decoder put it in its own words.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let path = self.meta.location.to_string();
        let fault = *self.fault.lock();
        match (fault, failure) {
            (Some(Fault::Replaced), _) => Failure::Replaced,
            (Some(Fault::Gone), Failure::Other(source)) => Failure::Store(Error::NotFound { path, source }),
            (Some(Fault::Denied), Failure::Other(source)) => Failure::Store(Error::PermissionDenied { path, source }),
            (_, failure) => failure,
        }
    }

    /// Fails unless the file is still the version that was listed.
    pub(super) async fn verify(&self) -> Result<()> {
        self.get_opts(&self.meta.location, GetOptions { head: true, ..GetOptions::default() }).await.map(|_| ())
    }

    fn replaced(&self) -> Error {
        Error::Precondition { path: self.meta.location.to_string(), source: "it was replaced".into() }
    }
}

#[async_trait]
impl ObjectStore for Pinned {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        options.if_match.clone_from(&self.meta.e_tag);
        let result =
            self.store.get_opts(location, options).await.and_then(|result| {
                if same_version(&self.meta, &result.meta) { Ok(result) } else { Err(self.replaced()) }
            });
        if let Err(error) = &result {
            *self.fault.lock() = fault(error);
        }
        result
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        Box::pin(futures::stream::once(async { Err(read_only()) }))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pinned", self.store)
    }
}

/// Whether two descriptions are of one version of a file.
///
/// Times are compared only where a store gives no ETag: HTTP dates are rounded to seconds, listings may not be.
pub(super) fn same_version(listed: &ObjectMeta, now: &ObjectMeta) -> bool {
    let same_tag = match (&listed.e_tag, &now.e_tag) {
        (Some(listed), Some(now)) => listed == now,
        _ => listed.last_modified.timestamp() == now.last_modified.timestamp(),
    };
    same_tag && listed.size == now.size
}

fn fault(error: &Error) -> Option<Fault> {
    match error {
        Error::Precondition { .. } => Some(Fault::Replaced),
        Error::NotFound { .. } => Some(Fault::Gone),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Some(Fault::Denied),
        _ => None,
    }
}

fn read_only() -> Error {
    Error::NotSupported { source: "services' files are only read".into() }
}

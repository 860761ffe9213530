//! Where the files are, and the object store that reads them.
//!
//! A [`Place`] is the manifest's `url`, parsed without I/O. Credentials that the manifest does not give come from the
//! environment, as the vendors' own tools read them; a URL that holds credentials is refused.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headwater_source::{Error, OpenContext, Result};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::config::{Config, Secret};
use super::error::Failure;

/// How often a request to an object store is tried again before it fails.
const RETRIES_MAX: usize = 3;

/// For how long a request to an object store is tried again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The keys of object stores.
#[derive(Debug, Clone)]
pub(super) struct StoreOptions {
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) allow_http: bool,
    pub(super) access_key_id: Option<Secret>,
    pub(super) secret_access_key: Option<Secret>,
    pub(super) session_token: Option<Secret>,
    pub(super) skip_signature: bool,
    pub(super) google_service_account: Option<PathBuf>,
    pub(super) azure_account: Option<String>,
    pub(super) azure_key: Option<Secret>,
    pub(super) connect_timeout: Duration,
}

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory of this machine, absolute.
    Local(PathBuf),
    /// A prefix in a bucket or container.
    Remote {
        /// Whose store it is.
        vendor: Vendor,
        /// The bucket or container.
        bucket: String,
        /// The storage account, where an Azure URL names one.
        account: Option<String>,
        /// The prefix; may be empty.
        prefix: Path,
    },
}

/// Whose object store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

/// An open store and the prefix under which the source's files are.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// The store.
    pub(super) store: Arc<dyn ObjectStore>,
    /// The prefix of every file.
    pub(super) prefix: Path,
}

impl Place {
    /// Parses a URL, or a path relative to the manifest.
    pub(super) fn parse(text: &str, context: OpenContext<'_>) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::config("key \"url\" in \"source\" is empty; name a directory or a URL"));
        }
        // A scheme has more than one letter, so that a Windows drive is none.
        match Url::parse(text) {
            Ok(url) if url.scheme().len() > 1 => Self::from_url(&url, context),
            _ => absolute(&context.resolve(text)),
        }
    }

    /// The place for people: absolute, without credentials.
    pub(super) fn describe(&self, endpoint: Option<&str>) -> String {
        match self {
            Self::Local(path) => format!("file://{}", path.display()),
            Self::Remote { vendor, bucket, account, prefix } => {
                let account = account.as_ref().map(|account| format!(" of account {account}")).unwrap_or_default();
                let endpoint =
                    endpoint.map(|endpoint| format!(" at {}", endpoint.trim_end_matches('/'))).unwrap_or_default();
                format!("{}://{bucket}/{prefix}{account}{endpoint}", vendor.scheme())
            }
        }
    }

    fn from_url(url: &Url, context: OpenContext<'_>) -> Result<Self> {
        let vendor = match url.scheme() {
            "file" => {
                let path =
                    url.to_file_path().map_err(|()| Error::config("key \"url\" in \"source\" is no file URL"))?;
                return absolute(&context.resolve(&path.to_string_lossy()));
            }
            "s3" | "s3a" => Vendor::S3,
            "gs" => Vendor::Google,
            "az" | "azure" | "abfs" | "abfss" => Vendor::Azure,
            other => {
                let known = "a directory, file://, s3://, gs://, az:// or abfss://";
                return Err(Error::config(format!(
                    "key \"url\" in \"source\" has the scheme {other:?}; it takes {known}"
                )));
            }
        };
        Self::remote(vendor, url)
    }

    fn remote(vendor: Vendor, url: &Url) -> Result<Self> {
        if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            let reason = "key \"url\" in \"source\" may not hold a password, a query or a fragment; give credentials by their own keys";
            return Err(Error::config(reason));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| Error::config("key \"url\" in \"source\" names no bucket"))?.to_owned();
        let prefix = Path::from_url_path(url.path())
            .map_err(|_| Error::config("key \"url\" in \"source\" has a path that object stores refuse"))?;
        let (bucket, account) = match (vendor, url.username()) {
            (_, "") => (host, None),
            // abfss://container@account.dfs.core.windows.net/prefix
            (Vendor::Azure, container) => {
                let account = host.split('.').next().unwrap_or_default().to_owned();
                (container.to_owned(), Some(account))
            }
            _ => {
                return Err(Error::config(
                    "key \"url\" in \"source\" may not hold a user; give credentials by their own keys",
                ));
            }
        };
        Ok(Self::Remote { vendor, bucket, account, prefix })
    }
}

impl Root {
    /// Opens the store. A directory that is not there fails here.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        match &config.place {
            Place::Local(path) => Self::local(path.clone()).await,
            Place::Remote { vendor, bucket, account, prefix } => {
                let store = remote(*vendor, bucket, account.as_deref(), &config.store)?;
                Ok(Self { store, prefix: prefix.clone() })
            }
        }
    }

    async fn local(path: PathBuf) -> Result<Self, Failure> {
        let opened = tokio::task::spawn_blocking(move || {
            let directory = std::fs::metadata(&path).map_err(local_error)?.is_dir();
            match directory {
                true => LocalFileSystem::new_with_prefix(&path),
                false => {
                    Err(local_error(std::io::Error::new(std::io::ErrorKind::NotADirectory, "it is not a directory")))
                }
            }
        });
        let store = opened.await.map_err(|error| Failure::Other(Box::new(error)))??;
        Ok(Self { store: Arc::new(store), prefix: Path::default() })
    }
}

impl Vendor {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

fn absolute(path: &FilePath) -> Result<Place> {
    std::path::absolute(path).map(|path| Place::Local(path.components().collect())).map_err(|error| {
        Error::config(format!("key \"url\" in \"source\" is a path that cannot be made absolute: {error}"))
    })
}

fn local_error(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "local", source: error.into() }
}

fn client(options: &StoreOptions) -> ClientOptions {
    // A whole scan may take longer than any one limit: connecting is bounded, and so is the statement.
    ClientOptions::new()
        .with_connect_timeout(options.connect_timeout)
        .with_timeout_disabled()
        .with_allow_http(options.allow_http)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

fn remote(
    vendor: Vendor,
    bucket: &str,
    account: Option<&str>,
    options: &StoreOptions,
) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    match vendor {
        Vendor::S3 => s3(bucket, options),
        Vendor::Google => google(bucket, options),
        Vendor::Azure => azure(bucket, account, options),
    }
}

fn s3(bucket: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(client(options)).with_retry(retry());
    // The builder keeps a flag of its own beside the client's.
    builder = builder.with_allow_http(options.allow_http);
    if options.skip_signature {
        builder = builder.with_skip_signature(true);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(Secret(key)) = &options.access_key_id {
        builder = builder.with_access_key_id(key);
    }
    if let Some(Secret(key)) = &options.secret_access_key {
        builder = builder.with_secret_access_key(key);
    }
    if let Some(Secret(token)) = &options.session_token {
        builder = builder.with_token(token);
    }
    Ok(Arc::new(builder.build()?))
}

fn google(bucket: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client(options))
        .with_retry(retry());
    if options.skip_signature {
        builder = builder.with_skip_signature(true);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
    }
    if let Some(path) = &options.google_service_account {
        builder = builder.with_service_account_path(path.to_string_lossy());
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(
    container: &str,
    account: Option<&str>,
    options: &StoreOptions,
) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(client(options))
        .with_retry(retry());
    builder = builder.with_allow_http(options.allow_http);
    if options.skip_signature {
        builder = builder.with_skip_signature(true);
    }
    if let Some(account) = options.azure_account.as_deref().or(account) {
        builder = builder.with_account(account);
    }
    if let Some(Secret(key)) = &options.azure_key {
        builder = builder.with_access_key(key);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    Ok(Arc::new(builder.build()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendors_store_is_built_from_its_keys_without_io() {
        let secret = |text: &str| Some(Secret(text.to_owned()));
        let options = StoreOptions {
            region: Some("eu-central-1".to_owned()),
            endpoint: None,
            allow_http: false,
            access_key_id: secret("canary"),
            secret_access_key: secret("canary"),
            session_token: secret("canary"),
            skip_signature: true,
            google_service_account: None,
            azure_account: Some("account".to_owned()),
            azure_key: secret("Y2FuYXJ5"),
            connect_timeout: Duration::from_secs(1),
        };
        assert!(!format!("{options:?}").contains("canary"));
        for vendor in [Vendor::S3, Vendor::Google, Vendor::Azure] {
            let store = remote(vendor, "bucket", None, &options);
            let printed =
                store.map(|store| format!("{store} {store:?}")).unwrap_or_else(|error| panic!("{vendor:?}: {error}"));
            assert!(printed.contains("bucket"), "{printed}");
        }
        let no_account = StoreOptions { azure_account: None, ..options };
        assert!(remote(Vendor::Azure, "bucket", Some("account"), &no_account).is_ok());
    }
}

//! URLs and options of object stores, and a store that speaks just enough of S3.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, LargeStringArray, RecordBatch};
use futures::StreamExt;
use headwater_source::{CompareOp, Error, Expr, OptionValue, ScalarValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Shop, lines, open, people, text};

fn location(url: &str, options: &[(&str, OptionValue)]) -> Result<String, Error> {
    open(Path::new("/services"), url, options).map(|source| source.location())
}

#[test]
fn location_is_absolute_and_without_secrets() {
    let secret = [
        ("secret_access_key", text("canary")),
        ("access_key_id", text("canary")),
        ("endpoint", text("http://h:9000/")),
    ];
    assert_eq!(location("s3://bucket/a/b/", &secret).unwrap(), "s3://bucket/a/b at http://h:9000");
    assert_eq!(location("gs://bucket", &[]).unwrap(), "gs://bucket/");
    assert_eq!(location("abfss://box@account.dfs.core.windows.net/p", &[]).unwrap(), "az://box/p of account account");
    assert_eq!(location("./suppliers/", &[]).unwrap(), "file:///services/suppliers");
    assert_eq!(location("file:///data/x", &[]).unwrap(), "file:///data/x");
    let source = open(Path::new("/services"), "s3://bucket/a", &secret).unwrap();
    assert!(!format!("{source:?}").contains("canary"), "{source:?}");
}

#[test]
fn wrong_urls_and_options_are_refused_without_printing_them() {
    for url in ["s3://user:canary@bucket/x", "s3://bucket/x?token=canary", "ftp://canary/x", "", "s3://"] {
        let error = location(url, &[]).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{url}");
        assert!(!error.report().contains("canary"), "{error}");
    }
    for (key, value) in [
        ("delimiter", text("ab")),
        ("quote", text("ä")),
        ("infer_rows", OptionValue::Count(0)),
        ("format", text("xml")),
        ("endpoint", text("http://u:canary@h")),
    ] {
        let error = location("x", &[(key, value)]).unwrap_err();
        assert!(error.to_string().contains(key) && !error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn store_that_is_down_is_unavailable_within_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let source = s3(&endpoint);
    let error = source.tables().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.report().contains("s3://bucket/shop") && !error.report().contains("canary"), "{}", error.report());
}

#[tokio::test]
async fn bucket_is_read_as_a_directory_is() {
    let shop = Shop::new();
    shop.parquet_in_groups("people.parquet", &people(0, 1000), 100);
    shop.write("sales/dt=2024-01-01/a b.csv", "id\n1\n");
    shop.write("sales/dt=2024-01-02/ä.csv", "id\n2\n");
    let (fake, bucket) = bucket_of(&shop).await;

    let mut names: Vec<String> = bucket.source.tables().await.unwrap().into_iter().map(|table| table.name).collect();
    names.sort();
    assert_eq!(names, ["people", "sales"]);
    assert_eq!(bucket.rows("people").await, shop.rows("people").await);
    assert_eq!(bucket.rows("sales").await, ["1|2024-01-01", "2|2024-01-02"]);
    assert_eq!(bucket.rows("sales/**/ä.csv").await, ["2|2024-01-02"]);
    let error = bucket.source.table("peple.parquet").await.unwrap_err();
    assert!(matches!(error, Error::TableNotFound { .. }), "{error:?}");

    let planned = bucket.request("people").await;
    let scan = bucket.source.prepare(planned).await.unwrap();
    fake.denied.store(true, Ordering::SeqCst);
    let denied = match scan.open(0).await {
        Ok(stream) => lines_or_error(stream).await,
        Err(error) => Some(error),
    };
    assert!(matches!(denied, Some(Error::AccessDenied { .. })), "{denied:?}");
}

#[tokio::test]
async fn filter_and_projection_fetch_only_what_parquet_statistics_leave() {
    let shop = Shop::new();
    let ids = people(0, 100_000).column(0).clone();
    let codes: LargeStringArray = (0..100_000).map(|id| Some(format!("code {id:06}"))).collect();
    let columns = [("id", ids), ("code", Arc::new(codes) as ArrayRef)];
    shop.parquet_in_groups("t.parquet", &RecordBatch::try_from_iter(columns).unwrap(), 10_000);
    let size = std::fs::metadata(shop.path("t.parquet")).unwrap().len();
    let (fake, bucket) = bucket_of(&shop).await;

    let whole = bucket.request("t").await;
    let filters = [(0, ScalarValue::from(55_555_i64)), (1, ScalarValue::from("code 055555"))];
    for (column, value) in filters {
        let mut request = whole.clone();
        request.filters = vec![Expr::compare(CompareOp::Equal, Expr::Column(column), Expr::Literal(value))];
        let before = fake.served_bytes.load(Ordering::SeqCst);
        assert_eq!(lines(&bucket.read(request).await.unwrap()), ["55555|code 055555"]);
        let served = fake.served_bytes.load(Ordering::SeqCst) - before;
        assert!(served < size / 4, "{served} bytes were fetched of {size}");
    }
}

#[tokio::test]
async fn stream_that_is_dropped_stops_the_download_within_a_second() {
    let shop = Shop::new();
    let rows: String = (0..1_000_000).map(|id| format!("{id},some text that fills the line\n")).collect();
    shop.write("t.csv", format!("id,text\n{rows}"));
    let size = std::fs::metadata(shop.path("t.csv")).unwrap().len();
    let (fake, bucket) = bucket_of(&shop).await;
    let scan = bucket.source.prepare(bucket.request("t.csv").await).await.unwrap();
    for limit in [None, Some(10)] {
        let mut request = bucket.request("t.csv").await;
        request.limit = limit;
        let scan = if limit.is_some() { bucket.source.prepare(request).await.unwrap() } else { Arc::clone(&scan) };
        // Finding the columns stops early too; its last answer may still be on its way.
        stopped(&fake).await;
        let before = fake.served_bytes.load(Ordering::SeqCst);
        let mut stream = scan.open(0).await.unwrap();
        assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
        if limit.is_some() {
            assert!(stream.next().await.is_none());
        }
        drop(stream);
        stopped(&fake).await;
        let served = fake.served_bytes.load(Ordering::SeqCst) - before;
        assert!(served < size / 2, "{served} bytes were fetched of {size}");
    }
}

async fn stopped(fake: &Fake) {
    let mut open = fake.open.subscribe();
    let waited = tokio::time::timeout(Duration::from_secs(1), open.wait_for(|open| *open == 0)).await;
    assert!(waited.is_ok(), "the download goes on");
}

/// The shop's files behind S3's protocol.
async fn bucket_of(shop: &Shop) -> (Arc<Fake>, Shop) {
    let fake = Arc::new(Fake::of(shop));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, Arc::clone(&fake)));
    (fake, Shop { directory: tempfile::tempdir().unwrap(), source: s3(&endpoint) })
}

async fn lines_or_error(stream: headwater_source::BatchStream) -> Option<Error> {
    use futures::TryStreamExt;
    stream.try_collect::<Vec<_>>().await.map(|batches| lines(&batches)).err()
}

fn s3(endpoint: &str) -> Arc<dyn headwater_source::Source> {
    let options = [
        ("endpoint", text(endpoint)),
        ("allow_http", OptionValue::Flag(true)),
        ("region", text("eu-central-1")),
        ("access_key_id", text("canary")),
        ("secret_access_key", text("canary")),
        ("connect_timeout_ms", OptionValue::Count(500)),
    ];
    open(Path::new("/"), "s3://bucket/shop", &options).unwrap()
}

/// Objects by key, served as S3 does: ListObjectsV2 with delimiter, HEAD, and GET with Range and If-Match.
#[derive(Debug, Default)]
struct Fake {
    objects: BTreeMap<String, Vec<u8>>,
    denied: AtomicBool,
    served_bytes: AtomicU64,
    /// How many answers are being written.
    open: tokio::sync::watch::Sender<usize>,
}

impl Fake {
    fn of(shop: &Shop) -> Self {
        let mut objects = BTreeMap::new();
        let mut folders = vec![shop.directory.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(shop.directory.path()).unwrap().to_string_lossy().into_owned();
                objects.insert(format!("shop/{name}"), std::fs::read(&path).unwrap());
            }
        }
        Self { objects, ..Self::default() }
    }

    fn answer(&self, request: &str) -> (String, Vec<u8>) {
        if self.denied.load(Ordering::SeqCst) {
            return ("HTTP/1.1 403 Forbidden\r\n".to_owned(), vec![]);
        }
        let target = request.split(' ').nth(1).unwrap();
        let url = url::Url::parse(&format!("http://fake{target}")).unwrap();
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        if query.contains_key("list-type") {
            return ("HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n".to_owned(), self.list(&query).into_bytes());
        }
        let path = url.path().strip_prefix("/bucket/").unwrap();
        let key = object_store::path::Path::from_url_path(path).unwrap().to_string();
        match self.objects.get(&key) {
            Some(object) => Self::object(request, object),
            None => ("HTTP/1.1 404 Not Found\r\n".to_owned(), vec![]),
        }
    }

    fn object(request: &str, object: &[u8]) -> (String, Vec<u8>) {
        let etag = format!("ETag: \"{}\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n", object.len());
        let range =
            request.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let Some(range) = range else { return (format!("HTTP/1.1 200 OK\r\n{etag}"), object.to_vec()) };
        let (from, to) = range.trim().split_once('-').unwrap();
        let size = object.len();
        let (from, to) = match (from, to) {
            ("", suffix) => (size - suffix.parse::<usize>().unwrap().min(size), size),
            (from, "") => (from.parse().unwrap(), size),
            (from, to) => (from.parse().unwrap(), (to.parse::<usize>().unwrap() + 1).min(size)),
        };
        let range = format!("Content-Range: bytes {from}-{}/{size}\r\n", to - 1);
        (format!("HTTP/1.1 206 Partial Content\r\n{etag}{range}"), object[from..to].to_vec())
    }

    fn list(&self, query: &BTreeMap<String, String>) -> String {
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let mut contents = String::new();
        let mut folders = std::collections::BTreeSet::new();
        for (key, object) in self.objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let rest = &key[prefix.len()..];
            match rest.split_once('/').filter(|_| query.contains_key("delimiter")) {
                Some((folder, _)) => {
                    folders.insert(format!("{prefix}{folder}/"));
                }
                None => contents.push_str(&format!(
                    "<Contents><Key>{key}</Key><LastModified>2015-10-21T07:28:00.000Z</LastModified><ETag>\"{0}\"</ETag><Size>{0}</Size></Contents>",
                    object.len()
                )),
            }
        }
        for folder in folders {
            contents.push_str(&format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"));
        }
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        )
    }
}

async fn serve(listener: TcpListener, fake: Arc<Fake>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&fake)));
    }
}

async fn converse(mut stream: TcpStream, fake: Arc<Fake>) {
    let mut request = vec![];
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer).await {
        request.extend_from_slice(&buffer[..read]);
        if read == 0 || request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            break;
        }
    }
    if request.is_empty() {
        return;
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let (head, body) = fake.answer(&request);
    let head = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let body = if request.starts_with("HEAD") { vec![] } else { body };
    fake.open.send_modify(|open| *open += 1);
    // A client that has gone needs no answer.
    let mut gone = stream.write_all(head.as_bytes()).await.is_err();
    for chunk in body.chunks(64 * 1024) {
        gone = gone || stream.write_all(chunk).await.is_err();
        if !gone {
            fake.served_bytes.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        }
    }
    fake.open.send_modify(|open| *open -= 1);
}

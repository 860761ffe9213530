//! An authority of the test's own, and certificates of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// An authority in a temporary directory.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Default for Certificates {
    fn default() -> Self {
        let made = Self { directory: TempDir::new().expect("a temporary directory can be made") };
        let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
        made.sign("ca", "Headwater test authority", authority, None);
        made
    }
}

impl Certificates {
    /// A new authority.
    pub fn new() -> Self {
        Self::default()
    }

    /// The authority's own certificate, PEM.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A certificate of a server on this machine.
    pub fn server(&self, file: &str) -> Identity {
        self.issue(file, "DNS:localhost,IP:127.0.0.1", "serverAuth")
    }

    /// A certificate of a client with a name.
    pub fn client(&self, file: &str, name: &str) -> Identity {
        self.issue(file, &format!("DNS:{name}"), "clientAuth")
    }

    fn issue(&self, file: &str, names: &str, usage: &str) -> Identity {
        let extensions = format!(
            "subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
        );
        self.sign(file, file, &extensions, Some("ca"));
        Identity { certificate: self.path(&format!("{file}.crt")), key: self.path(&format!("{file}.key")) }
    }

    /// Makes a key and a certificate over it, signed by a key that is there already or by itself.
    fn sign(&self, file: &str, subject: &str, extensions: &str, by: Option<&str>) {
        let [key, request, certificate, conf] =
            ["key", "csr", "crt", "ext"].map(|end| self.path(&format!("{file}.{end}")));
        std::fs::write(&conf, extensions).expect("a file can be written");
        let subject = format!("/CN={subject}");
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            text(&key),
            "-out",
            text(&request),
            "-subj",
            &subject,
        ]);
        let mut sign = vec![
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            text(&request),
            "-out",
            text(&certificate),
            "-extfile",
            text(&conf),
        ];
        let authority = by.map(|by| [self.path(&format!("{by}.crt")), self.path(&format!("{by}.key"))]);
        match &authority {
            Some([by, by_key]) => sign.extend(["-CA", text(by), "-CAkey", text(by_key), "-CAcreateserial"]),
            None => sign.extend(["-signkey", text(&key)]),
        }
        openssl(&sign);
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("openssl can't be run, which ./test installs: {error}"));
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

//! How a connection begins: the greeting, TLS, and who one is.
//!
//! A user authenticates by mysql_native_password, which is MariaDB's default, or caching_sha2_password, which is MySQL's. The latter
//! asks for the password itself where the server has not seen the user for long; it is given over TLS and Unix sockets only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::super::config::Target;
use super::{Conn, Duplex, Failure, failure};

/// utf8mb4_general_ci: of the handshake alone.
const CHARSET: u8 = 45;
/// The largest packet that the two sides speak of.
const PACKET_BYTES_MAX: u32 = 1 << 30;
/// How long a connection may be silent before TCP asks whether the peer is there: one that vanished amid a scan is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);
const ERROR: u8 = 0xff;

/// A version of a server: MariaDB's from 10.0.0 on, MySQL's below.
pub(in crate::mysql) type Version = (u16, u16, u16);

/// Connects and authenticates; encrypted where there is something to encrypt with.
pub(in crate::mysql) async fn connect(target: &Target, tls: Option<&Arc<ClientConfig>>) -> Result<Conn, Failure> {
    let (stream, is_local): (Box<dyn Duplex>, bool) = match &target.socket {
        Some(path) => (Box::new(UnixStream::connect(path).await?), true),
        None => {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            (Box::new(stream), false)
        }
    };
    let mut conn = Conn::new(stream);
    let body = conn.packet().await?;
    let greeting = conn.body(body);
    if greeting.first() == Some(&ERROR) {
        return Err(failure(greeting));
    }
    let greeting: HandshakePacket<'_> = ParseBuf(greeting).parse(()).map_err(|_| GREETING)?;
    let offered = greeting.capabilities();
    if !offered.contains(CapabilityFlags::CLIENT_PROTOCOL_41) {
        return Err(GREETING);
    }
    let begun = Begun {
        nonce: greeting.nonce(),
        plugin: greeting.auth_plugin().unwrap_or(AuthPlugin::MysqlNativePassword).into_owned(),
        keeps_secrets: is_local || tls.is_some(),
    };
    let (id, version) = (greeting.connection_id(), version(&greeting.server_version_str()));
    (conn.id, conn.version) = (id, version);
    let mut capabilities = CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_LONG_FLAG
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH;
    // The server goes by what it is told first.
    if target.database.is_some() {
        capabilities |= CapabilityFlags::CLIENT_CONNECT_WITH_DB;
    }
    if let Some(tls) = tls {
        if !offered.contains(CapabilityFlags::CLIENT_SSL) {
            return Err(Failure::NoTls);
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| Failure::NoName)?;
        capabilities |= CapabilityFlags::CLIENT_SSL;
        conn.send(&serialized(&SslRequest::new(capabilities, PACKET_BYTES_MAX, CHARSET))).await?;
        conn = encrypted(conn, name, tls).await?;
    }
    begun.authenticate(&mut conn, target, capabilities).await?;
    conn.answered();
    Ok(conn)
}

const GREETING: Failure = Failure::Malformed("a greeting of another protocol");

async fn encrypted(mut conn: Conn, name: ServerName<'static>, tls: &Arc<ClientConfig>) -> Result<Conn, Failure> {
    if !conn.input.is_empty() {
        return Err(Failure::Malformed("something before the connection was encrypted"));
    }
    let plain = std::mem::replace(&mut conn.stream, Box::new(tokio::io::empty()));
    conn.stream = Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, plain).await?);
    Ok(conn)
}

/// What the server's greeting said.
struct Begun {
    /// What passwords are scrambled with.
    nonce: Vec<u8>,
    plugin: AuthPlugin<'static>,
    /// Whether nobody else reads what is sent.
    keeps_secrets: bool,
}

impl Begun {
    async fn authenticate(
        mut self,
        conn: &mut Conn,
        target: &Target,
        capabilities: CapabilityFlags,
    ) -> Result<(), Failure> {
        // Of another default the server is told, and asks for that of the user.
        if !matches!(self.plugin, AuthPlugin::MysqlNativePassword | AuthPlugin::CachingSha2Password) {
            self.plugin = AuthPlugin::MysqlNativePassword;
        }
        let proof = self.proof(target)?;
        let response = HandshakeResponse::new(
            Some(proof),
            conn.version,
            Some(target.user.clone().unwrap_or_default().into_bytes()),
            target.database.clone().map(String::into_bytes),
            Some(self.plugin.borrow()),
            capabilities,
            None,
            PACKET_BYTES_MAX,
        );
        let response = serialized(&response);
        conn.send(&response).await?;
        let mut is_switched = false;
        loop {
            let body = conn.packet().await?;
            match conn.body(body) {
                [0, ..] => return Ok(()),
                [0xfe] => return Err(unknown("mysql_old_password")),
                packet @ [0xfe, ..] if !is_switched => {
                    is_switched = true;
                    let asked: AuthSwitchRequest<'_> =
                        ParseBuf(packet).parse(()).map_err(|_| Failure::Malformed("no way to authenticate"))?;
                    (self.nonce, self.plugin) = (asked.plugin_data().to_vec(), asked.auth_plugin().into_owned());
                    conn.send(&self.proof(target)?).await?;
                }
                // caching_sha2_password knows the user, and says so before it says yes.
                [1, 3] => {}
                [1, 4] => conn.send(&self.secret(target)?).await?,
                packet @ [ERROR, ..] => return Err(failure(packet)),
                _ => return Err(Failure::Malformed("no answer to who one is")),
            }
        }
    }

    /// That one knows the password.
    fn proof(&self, target: &Target) -> Result<Vec<u8>, Failure> {
        match &self.plugin {
            plugin @ (AuthPlugin::MysqlNativePassword | AuthPlugin::CachingSha2Password) => {
                let proof = plugin.gen_data(target.password.as_deref(), &self.nonce);
                Ok(proof.map(|proof| serialized(&proof)).unwrap_or_default())
            }
            other => Err(unknown(&String::from_utf8_lossy(other.as_bytes()))),
        }
    }

    /// The password, which ends with a zero.
    fn secret(&self, target: &Target) -> Result<Vec<u8>, Failure> {
        if !self.keeps_secrets {
            return Err(Failure::Refused(
                "the server asks for the password itself, which is not sent unencrypted; set \"sslmode\" to require, verify-ca or verify-full"
                    .to_owned(),
            ));
        }
        Ok([target.password.as_deref().unwrap_or_default().as_bytes(), &[0]].concat())
    }
}

fn unknown(plugin: &str) -> Failure {
    Failure::Refused(format!(
        "the user authenticates by {plugin}; mysql_native_password and caching_sha2_password are known here"
    ))
}

fn serialized(packet: &impl MySerialize) -> Vec<u8> {
    let mut bytes = vec![];
    packet.serialize(&mut bytes);
    bytes
}

/// MariaDB puts a version of MySQL's before its own, which old replicas understand.
fn version(text: &str) -> Version {
    let own = text.strip_prefix("5.5.5-").unwrap_or(text);
    let mut numbers = own.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    (next(), next(), next())
}

/// Whether a connection failed because it would be encrypted: the server has no TLS, or none that this side speaks.
pub(in crate::mysql) fn is_tls_refused(failure: &Failure) -> bool {
    match failure {
        Failure::NoTls | Failure::NoName => true,
        Failure::Io(error) => io::Error::get_ref(error).is_some_and(|cause| cause.is::<rustls::Error>()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    #[test]
    fn version_is_the_servers_own() {
        assert_eq!(version("5.5.5-10.11.6-MariaDB-0+deb12u1"), (10, 11, 6));
        assert_eq!(version("11.4.2-MariaDB-log"), (11, 4, 2));
        assert_eq!(version("8.0.36"), (8, 0, 36));
        assert_eq!(version("5.5.68-MariaDB"), (5, 5, 68));
        assert_eq!(version("99999.1"), (0, 1, 0));
        assert_eq!(version(""), (0, 0, 0));
    }

    const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";
    const YES: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

    /// A greeting of MySQL 8, whose users authenticate by a plugin.
    fn greeting(plugin: &str) -> Vec<u8> {
        let mut body = b"\x0a8.0.36\0\x07\0\0\0".to_vec();
        body.extend(&NONCE[..8]);
        body.extend([0, 0xff, 0xf7, 45, 2, 0, 0xff, 0x81, 21]);
        body.extend([0; 10]);
        body.extend(&NONCE[8..]);
        body.push(0);
        body.extend(plugin.bytes());
        body.push(0);
        body
    }

    /// Says one thing after another, each once an answer to the one before came; the answers.
    async fn scripted(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let (mut heard, mut number, last) = (vec![], 0, script.len() - 1);
        for (index, body) in script.into_iter().enumerate() {
            stream.write_all(&[&(body.len() as u32).to_le_bytes()[..3], &[number], &body].concat()).await.unwrap();
            // What says that the user is known is followed by the yes itself.
            if index == last || body == [1, 3] {
                number += 1;
                continue;
            }
            let mut head = [0; 4];
            if stream.read_exact(&mut head).await.is_err() {
                break;
            }
            let mut answer = vec![0; usize::from(head[0]) | usize::from(head[1]) << 8];
            stream.read_exact(&mut answer).await.unwrap();
            heard.push(answer);
            number = head[3] + 1;
        }
        heard
    }

    fn target(port: u16, socket: Option<PathBuf>) -> Target {
        let (user, password) = (Some("reader".to_owned()), Some("canary".to_owned()));
        Target { host: "127.0.0.1".to_owned(), port, socket, user, password, database: None }
    }

    async fn over_tcp(script: Vec<Vec<u8>>) -> (Result<Conn, Failure>, Vec<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap().port(), None);
        let server = tokio::spawn(async move { scripted(listener.accept().await.unwrap().0, script).await });
        let connected = connect(&target, None).await;
        (connected, server.await.unwrap())
    }

    fn has(answer: &[u8], part: &[u8]) -> bool {
        answer.windows(part.len()).any(|window| window == part)
    }

    #[tokio::test]
    async fn user_of_mysql_8_is_known_by_a_proof() {
        let proof = mysql_common::scramble::scramble_sha256(NONCE, b"canary").unwrap();
        let (conn, heard) = over_tcp(vec![greeting("caching_sha2_password"), vec![1, 3], YES.to_vec()]).await;
        assert_eq!(conn.unwrap().id(), 7);
        assert!(has(&heard[0], &proof) && !has(&heard[0], b"canary"));
        // The same where the server's default is another.
        let switch = [b"\xfecaching_sha2_password\0", &NONCE[..], &[0]].concat();
        let script = vec![greeting("mysql_native_password"), switch, vec![1, 3], YES.to_vec()];
        let (conn, heard) = over_tcp(script).await;
        assert!(conn.unwrap().is_at_rest() && heard[1] == proof);
    }

    #[tokio::test]
    async fn password_itself_is_only_sent_where_nobody_listens() {
        let script = || vec![greeting("caching_sha2_password"), vec![1, 4], YES.to_vec()];
        let (refused, heard) = over_tcp(script()).await;
        let message = refused.err().unwrap().to_string();
        assert!(message.contains("\"sslmode\"") && !message.contains("canary"), "{message}");
        assert!(heard.iter().all(|answer| !has(answer, b"canary")));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move { scripted(listener.accept().await.unwrap().0, script()).await });
        assert!(connect(&target(0, Some(path)), None).await.is_ok());
        assert_eq!(server.await.unwrap()[1], b"canary\0");
    }

    #[tokio::test]
    async fn way_that_is_not_known_is_named() {
        for plugin in ["client_ed25519", "mysql_clear_password", "dialog"] {
            let switch = [b"\xfe", plugin.as_bytes(), &[0], &NONCE[..], &[0]].concat();
            let (refused, heard) = over_tcp(vec![greeting(plugin), switch, YES.to_vec()]).await;
            let message = refused.err().unwrap().to_string();
            assert!(message.contains(plugin), "{message}");
            assert!(heard.iter().all(|answer| !has(answer, b"canary")));
        }
    }

    #[tokio::test]
    async fn greeting_of_something_else_is_no_panic() {
        for body in [&b""[..], b"\x09old", b"SSH-2.0-x", b"\xff\x10\x04Too many connections", &greeting("x")[..20]] {
            assert!(over_tcp(vec![body.to_vec()]).await.0.is_err());
        }
    }
}

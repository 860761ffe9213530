//! The gate as its doors ask it.

use std::net::IpAddr;

use super::*;
use crate::auth::password::{Hashed, PASSWORD_BYTES_MAX};

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.yaml");
        std::fs::write(&path, text).unwrap();
        Self { _directory: directory, path }
    }

    fn gate(&self) -> Gate {
        Gate::of_file(&self.path).unwrap()
    }
}

fn ada(password: &str) -> String {
    format!("users:\n  ada: {{password: \"{}\"}}\n", Hashed::new(password.as_bytes()).unwrap().text())
}

fn peer() -> Peer {
    Peer { address: IpAddr::from([127, 0, 0, 1]), door: "test", certificate: None }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}")))
}

#[tokio::test]
async fn open_gate_lets_everybody_in_as_anyone() {
    let gate = Gate::open();
    let principal = gate.header(None, &peer()).await.unwrap();
    assert_eq!(principal, Principal::anyone());
    assert!(gate.still_holds(&principal));
}

#[tokio::test]
async fn password_in_a_header_names_its_user_and_opens_a_session() {
    let file = File::new(&ada("secret: with a colon"));
    let gate = file.gate();
    let principal = gate.header(Some(&basic("ada", "secret: with a colon")), &peer()).await.unwrap();
    assert_eq!(principal.name(), Some("ada"));
    let token = gate.open_session(&principal).unwrap();
    let again = gate.header(Some(&format!("Bearer {token}")), &peer()).await.unwrap();
    assert_eq!(again, principal);
}

#[tokio::test]
async fn header_without_padding_is_read_too() {
    let file = File::new(&ada("secret"));
    let header = basic("ada", "secret");
    assert!(header.ends_with('='), "{header}");
    file.gate().header(Some(header.trim_end_matches('=')), &peer()).await.unwrap();
}

#[tokio::test]
async fn nothing_the_wrong_thing_and_a_broken_header_are_refused() {
    let file = File::new(&ada("secret"));
    let gate = file.gate();
    assert_eq!(gate.header(None, &peer()).await, Err(Denied::Missing));
    for header in ["", "Basic", "Digest x", "bearer"] {
        assert_eq!(gate.header(Some(header), &peer()).await, Err(Denied::Missing), "{header}");
    }
    for header in
        [basic("ada", "wrong"), basic("bob", "secret"), basic("", ""), "Basic !".to_owned(), "Bearer x".to_owned()]
    {
        assert_eq!(gate.header(Some(&header), &peer()).await, Err(Denied::Wrong), "{header}");
    }
    let long = basic("ada", &"x".repeat(PASSWORD_BYTES_MAX + 1));
    assert_eq!(gate.header(Some(&long), &peer()).await, Err(Denied::Wrong));
}

#[tokio::test]
async fn guessing_must_wait_and_a_known_session_need_not() {
    let file = File::new(&ada("secret"));
    let gate = file.gate();
    let principal = gate.header(Some(&basic("ada", "secret")), &peer()).await.unwrap();
    let token = gate.open_session(&principal).unwrap();
    for number in 0..5 {
        assert_eq!(gate.header(Some(&basic("ada", &number.to_string())), &peer()).await, Err(Denied::Wrong));
    }
    assert!(matches!(gate.header(Some(&basic("ada", "guess")), &peer()).await, Err(Denied::Wait(_))));
    gate.header(Some(&format!("Bearer {token}")), &peer()).await.unwrap();
    // Who has shown the password a moment ago is not held up by who guesses beside them.
    gate.header(Some(&basic("ada", "secret")), &peer()).await.unwrap();
}

#[tokio::test]
async fn changed_file_ends_what_rested_on_the_old_one() {
    let file = File::new(&ada("secret"));
    let gate = file.gate();
    let principal = gate.header(Some(&basic("ada", "secret")), &peer()).await.unwrap();
    let token = format!("Bearer {}", gate.open_session(&principal).unwrap());
    std::fs::write(&file.path, "users: {ada: {pasword: 1}}").unwrap();
    gate.reload();
    assert!(gate.still_holds(&principal), "a file with a fault changes nothing");
    std::fs::write(&file.path, ada("another")).unwrap();
    gate.reload();
    assert!(!gate.still_holds(&principal));
    assert_eq!(gate.header(Some(&token), &peer()).await, Err(Denied::Wrong));
    assert_eq!(gate.header(Some(&basic("ada", "secret")), &peer()).await, Err(Denied::Wrong));
    gate.header(Some(&basic("ada", "another")), &peer()).await.unwrap();
}

#[tokio::test]
async fn api_token_is_taken_until_it_ends() {
    let (good, old) = (token::new_api().unwrap(), token::new_api().unwrap());
    let [good_digest, old_digest] = [&good, &old].map(|token| token::shown(&token::digest(token)));
    let text = format!(
        "users:\n  ci:\n    tokens:\n      a: {{sha256: \"{good_digest}\"}}\n      b: {{sha256: \"{old_digest}\", expires: \"2020-01-01T00:00:00Z\"}}\n"
    );
    let file = File::new(&text);
    let gate = file.gate();
    let principal = gate.header(Some(&format!("bearer {good}")), &peer()).await.unwrap();
    assert_eq!(principal.name(), Some("ci"));
    assert_eq!(gate.header(Some(&format!("Bearer {old}")), &peer()).await, Err(Denied::Wrong));
    let unknown = token::new_api().unwrap();
    assert_eq!(gate.header(Some(&format!("Bearer {unknown}")), &peer()).await, Err(Denied::Wrong));
}

#[test]
fn refusal_says_how_long_to_wait_in_whole_seconds() {
    assert!(Denied::Wait(Duration::from_millis(1500)).to_string().ends_with("in 2 s"));
}

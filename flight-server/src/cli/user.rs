//! `headwater user`: what the users file holds of passwords and tokens.

use std::io::{self, IsTerminal, Read};

use super::args::UserCommand;
use super::failure::{Failure, say};
use crate::auth::password::{Hashed, PASSWORD_BYTES_MAX};
use crate::auth::scram::Verifier;
use crate::auth::token;

pub(super) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Hash => hash(),
        UserCommand::Token => new_token(),
    }
}

fn hash() -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        eprintln!("Type the password and Enter. It is shown as you type; a pipe keeps it to itself.");
    }
    let password = password(io::stdin().lock())?;
    let hashed = Hashed::new(password.as_bytes()).map_err(|error| Failure::failed(format!("can't hash: {error}")))?;
    let scram = Verifier::new(&password).map_err(|error| Failure::failed(format!("can't hash: {error}")))?;
    say(&format!("password: \"{}\"\nscram: \"{scram}\"", hashed.text()))
}

fn new_token() -> Result<(), Failure> {
    let token = token::new_api().map_err(|error| Failure::failed(format!("can't make a token: {error}")))?;
    say(&format!("token: {token}\nsha256: \"{}\"", token::shown(&token::digest(&token))))
}

/// The first line, without its end.
fn password(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    let limit = PASSWORD_BYTES_MAX as u64 + 2;
    input
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("the password can't be read: {error}")))?;
    let line = text.lines().next().unwrap_or_default();
    match line.len() {
        0 => Err(Failure::failed("there is no password on stdin")),
        length if length > PASSWORD_BYTES_MAX => {
            Err(Failure::failed(format!("the password is longer than {PASSWORD_BYTES_MAX} bytes")))
        }
        _ => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_the_first_line_whole() {
        assert_eq!(password(" with space \r\nnot this".as_bytes()).unwrap(), " with space ");
        assert!(password("\n".as_bytes()).is_err() && password("".as_bytes()).is_err());
        assert!(password(&*vec![b'x'; 5000]).is_err());
    }
}

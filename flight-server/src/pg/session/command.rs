//! Statements without rows: transactions, settings, what is let go.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Command, Done, PgError, Session, Settings, Stage, Statement, Transaction};
use crate::pg::error::INTERNAL;

impl Session {
    pub(super) async fn command(&mut self, statement: &Statement, stopped: &mut watch::Receiver<Stage>) -> Done {
        let tag = match &statement.command {
            Command::Empty => {
                self.wire.sign(b'I');
                return Ok(());
            }
            Command::Begin => {
                if self.transaction == Transaction::Open {
                    self.wire.notice(&PgError::warning("25001", "there is already a transaction in progress"));
                }
                self.transaction = Transaction::Open;
                "BEGIN"
            }
            Command::Commit => match self.end_transaction() {
                Transaction::Failed => "ROLLBACK",
                Transaction::None | Transaction::Open => "COMMIT",
            },
            Command::Rollback => {
                self.end_transaction();
                "ROLLBACK"
            }
            Command::RollbackTo => {
                if self.transaction == Transaction::Failed {
                    self.transaction = Transaction::Open;
                }
                "ROLLBACK"
            }
            Command::Savepoint(tag) | Command::Nothing(tag) => tag,
            Command::Set { name, value } => {
                self.set(name, value.as_deref()).await?;
                if value.is_some() { "SET" } else { "RESET" }
            }
            Command::ResetAll => {
                self.reset();
                "RESET"
            }
            Command::DiscardAll => {
                self.reset();
                self.statements.clear();
                self.portals.clear();
                "DISCARD ALL"
            }
            Command::Deallocate(name) => {
                self.deallocate(name.as_deref(), &statement.text).await?;
                "DEALLOCATE"
            }
            Command::Engine(tag) => {
                let (engine, text) = (self.engine.clone(), Arc::clone(&statement.text));
                let work = async { engine.sql(&text).await.map_err(|error| PgError::of(&error, &text)) };
                drop(self.interruptible(stopped, work).await?);
                tag
            }
            Command::Query | Command::Immediate | Command::Show(_) | Command::ShowAll | Command::Copy(_) => {
                return Err(PgError::new(INTERNAL, "a statement with rows was taken for one without").into());
            }
        };
        self.wire.complete(tag);
        Ok(())
    }

    fn end_transaction(&mut self) -> Transaction {
        self.portals.clear();
        let before = std::mem::replace(&mut self.transaction, Transaction::None);
        if before == Transaction::None {
            self.wire.notice(&PgError::warning("25P01", "there is no transaction in progress"));
        }
        before
    }

    fn reset(&mut self) {
        self.settings = Settings::default();
        self.engine = self.server.engine.session_as(&self.principal.caller());
    }

    async fn deallocate(&mut self, name: Option<&str>, text: &str) -> Result<(), PgError> {
        match name {
            None => self.statements.clear(),
            Some(name) if self.statements.remove(name).is_some() => {}
            // One of PREPARE is the engine's.
            Some(_) => drop(self.engine.sql(text).await.map_err(|error| PgError::of(&error, text))?),
        }
        Ok(())
    }
}

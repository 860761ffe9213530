//! The extended protocol: statements are parsed, bound, described, executed and closed by messages of their own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::portal::Portal;
use super::values::{parameter_type, values};
use super::{Command, Done, PgError, Planned, Session, Stage, Statement};
use crate::pg::types::columns;
use crate::pg::wire::{Bind, Named};
use crate::text::split;

impl Session {
    pub(super) async fn parse(
        &mut self,
        name: String,
        text: &str,
        said: Vec<u32>,
        stopped: &mut watch::Receiver<Stage>,
    ) -> Done {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(PgError::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        self.check_room(self.statements.len())?;
        let split = split(text);
        let text = match (&split.complete[..], split.rest.as_str()) {
            ([], rest) => rest,
            ([one], "") => one,
            _ => return Err(PgError::new("42601", "a prepared statement is one statement").into()),
        };
        let statement = self.planned(text, said, stopped).await?;
        self.statements.insert(name, Arc::new(statement));
        self.wire.sign(b'1');
        Ok(())
    }

    fn check_room(&self, used: usize) -> Result<(), PgError> {
        let most = self.server.limits.statements;
        match used < most {
            true => Ok(()),
            false => {
                let message =
                    format!("the connection has {most} prepared statements or portals, which is all it may have");
                Err(PgError::new("53400", message).with_hint("close those that are not needed any more"))
            }
        }
    }

    pub(super) async fn bind(&mut self, bind: Bind, stopped: &mut watch::Receiver<Stage>) -> Done {
        let statement = self.statement(&bind.statement)?;
        self.check_transaction(&statement.command)?;
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(PgError::new("42P03", format!("portal \"{}\" already exists", bind.portal)).into());
        }
        self.check_room(self.portals.len())?;
        let values = values(&statement, &bind)?;
        let portal = self.bound(&statement, values, bind.result_formats, stopped).await?;
        self.portals.insert(bind.portal, portal);
        self.wire.sign(b'2');
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Statement>, PgError> {
        let found = self.statements.get(name).map(Arc::clone);
        found.ok_or_else(|| PgError::new("26000", format!("prepared statement \"{name}\" does not exist")))
    }

    pub(super) fn describe(&mut self, named: &Named) -> Done {
        match named {
            Named::Statement(name) => {
                let statement = self.statement(name)?;
                let parameters = statement.planned.as_ref().map(Planned::parameters);
                let types: Vec<u32> = parameters
                    .iter()
                    .flat_map(|fields| fields.fields().iter().enumerate())
                    .map(|(index, field)| parameter_type(&statement, index, field))
                    .collect();
                statement.described.store(true, Ordering::Relaxed);
                self.wire.parameter_types(&types);
                match &statement.planned {
                    Some(planned) if !matches!(statement.command, Command::Copy(_)) => {
                        self.wire.columns(&columns(&planned.schema()), |_| 0);
                    }
                    _ => self.wire.sign(b'n'),
                }
            }
            Named::Portal(name) => match self.portals.get(name) {
                None => return Err(no_portal(name).into()),
                Some(Portal::Rows { statement, rows: Some(rows), formats, .. })
                    if !matches!(statement.command, Command::Copy(_)) =>
                {
                    let code = |index: usize| formats.get(index).map_or(0, |format| format.code());
                    self.wire.columns(&columns(&rows.told), code);
                }
                Some(_) => self.wire.sign(b'n'),
            },
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, name: &str, rows_max: usize, stopped: &mut watch::Receiver<Stage>) -> Done {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let statement = match &portal {
            Portal::Command(statement) | Portal::Rows { statement, .. } => Arc::clone(statement),
        };
        self.check_transaction(&statement.command)?;
        self.run(&mut portal, rows_max, stopped).await?;
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }
}

fn no_portal(name: &str) -> PgError {
    PgError::new("34000", format!("portal \"{name}\" does not exist"))
}

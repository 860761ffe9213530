//! The simple protocol: a text of statements, which are run one after the other.

use std::sync::Arc;

use tokio::sync::watch;

use super::portal::Portal;
use super::{Command, Done, PgError, Session, Stage};
use crate::pg::types::columns;
use crate::text::split;

impl Session {
    pub(super) async fn query(&mut self, text: &str, stopped: &mut watch::Receiver<Stage>) -> Done {
        let split = split(text);
        let mut statements = split.complete;
        statements.extend((!split.rest.is_empty()).then_some(split.rest));
        if statements.is_empty() {
            self.wire.sign(b'I');
        }
        for text in statements {
            let statement = self.planned(&text, vec![], stopped).await?;
            if statement.planned.as_ref().is_some_and(|planned| !planned.parameters().fields().is_empty()) {
                return Err(
                    PgError::new("42P02", "the statement has parameters, and the simple protocol has none").into()
                );
            }
            let mut portal = self.bound(&Arc::new(statement), vec![], vec![], stopped).await?;
            if let Portal::Rows { rows: Some(rows), statement, .. } = &portal
                && !matches!(statement.command, Command::Copy(_))
            {
                self.wire.columns(&columns(&rows.told), |_| 0);
            }
            self.run(&mut portal, usize::MAX, stopped).await?;
        }
        self.ready().await?;
        Ok(())
    }
}

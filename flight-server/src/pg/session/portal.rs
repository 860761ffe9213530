//! A statement with values, and how its rows go to the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use datafusion::common::ScalarValue;
use tokio::sync::watch;

use super::values::chosen;
use super::{Command, Done, PgError, Planned, Session, Stage, Statement, cancelled_error};
use crate::pg::copy::{Copy, Style};
use crate::pg::encode::Format;
use crate::pg::run::Rows;
use crate::pg::written::Form;

/// A statement with values.
pub(super) enum Portal {
    Command(Arc<Statement>),
    Rows { statement: Arc<Statement>, rows: Option<Rows>, formats: Arc<[Format]>, begun: bool },
}

impl Session {
    pub(super) async fn bound(
        &mut self,
        statement: &Arc<Statement>,
        values: Vec<ScalarValue>,
        formats: Vec<i16>,
        stopped: &mut watch::Receiver<Stage>,
    ) -> Done<Portal> {
        let Some(mut planned) = statement.planned.clone() else { return Ok(Portal::Command(Arc::clone(statement))) };
        if matches!(&planned, Planned::Catalog(catalog) if !catalog.is_current()) {
            let text = match &statement.command {
                Command::Copy(copy) => copy.query.as_str().into(),
                _ => Arc::clone(&statement.text),
            };
            planned = self.plan(&text, stopped).await?;
        }
        let (text, threads) = (Arc::clone(&statement.text), self.server.threads.clone());
        let engine = self.engine.clone();
        let work = async {
            if matches!(planned, Planned::Immediate) {
                let answer = engine.sql(&text).await.map_err(|error| PgError::of(&error, &text))?;
                return Ok(Rows::waiting(answer, &text, &threads));
            }
            planned.bind(values, &text, &threads).await
        };
        let mut rows = self.interruptible(stopped, work).await?;
        // What the client was told before values were bound holds.
        let is_told = statement.described.load(Ordering::Relaxed);
        let told = statement.planned.as_ref().filter(|_| is_told).map(Planned::schema);
        if let Some(told) = told.filter(|told| told.fields().len() == rows.told.fields().len()) {
            rows.told = told;
        }
        let formats = chosen(&formats, &rows.told)?.into();
        Ok(Portal::Rows { statement: Arc::clone(statement), rows: Some(rows), formats, begun: false })
    }

    pub(super) async fn run(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
        stopped: &mut watch::Receiver<Stage>,
    ) -> Done {
        match portal {
            Portal::Command(statement) => self.command(&Arc::clone(statement), stopped).await,
            Portal::Rows { statement, rows, formats, begun } => {
                let statement = Arc::clone(statement);
                let Some(taken) = rows.as_mut() else {
                    self.wire.complete("SELECT 0");
                    return Ok(());
                };
                if let Command::Copy(copy) = &statement.command {
                    self.copy(copy, taken, stopped).await?;
                    *rows = None;
                    return Ok(());
                }
                *begun = true;
                let (sent, is_whole) = self.send(taken, &Form::Rows(Arc::clone(formats)), rows_max, stopped).await?;
                if is_whole {
                    let verb = if matches!(statement.command, Command::Show(_) | Command::ShowAll) {
                        "SHOW".to_owned()
                    } else {
                        format!("SELECT {sent}")
                    };
                    self.wire.complete(&verb);
                    *rows = None;
                } else {
                    self.wire.sign(b's');
                }
                Ok(())
            }
        }
    }

    /// Sends rows, at most so many; how many they were, and whether they were all.
    async fn send(
        &mut self,
        rows: &mut Rows,
        form: &Form,
        rows_max: usize,
        stopped: &mut watch::Receiver<Stage>,
    ) -> Done<(usize, bool)> {
        let mut sent = 0;
        while let Some(mut written) = self.interruptible(stopped, rows.next(form)).await? {
            let left = written.rows();
            self.wire.messages(&written.take(rows_max - sent));
            sent += left - written.rows();
            self.wire.flush_much().await?;
            if written.rows() > 0 {
                rows.put_back(written);
                return Ok((sent, false));
            }
            // A client that reads as fast as rows come leaves no pause in which to notice.
            if self.is_cancelled() {
                return Err(cancelled_error().into());
            }
        }
        Ok((sent, true))
    }

    async fn copy(&mut self, copy: &Arc<Copy>, rows: &mut Rows, stopped: &mut watch::Receiver<Stage>) -> Done {
        let names: Vec<String> = rows.told.fields().iter().map(|field| field.name().clone()).collect();
        let is_binary = copy.style == Style::Binary;
        let head = copy.begin(&names).freeze();
        // A line of its own in text; in binary it goes with what follows, as in PostgreSQL, and drivers count on that.
        let (head, before) = if is_binary { (Bytes::new(), head) } else { (head, Bytes::new()) };
        let form = Form::Copy(Arc::clone(copy), before.clone());
        // The first rows are there before anything is said, so that a query that fails at once fails plainly.
        let mut next = self.interruptible(stopped, rows.next(&form)).await?;
        self.wire.copy_out(u8::from(is_binary), names.len());
        if !head.is_empty() {
            self.wire.copy_data(&head);
        }
        let mut sent = 0_usize;
        while let Some(mut written) = next {
            sent += written.rows();
            self.wire.messages(&written.take(usize::MAX));
            self.wire.flush_much().await?;
            if self.is_cancelled() {
                return Err(cancelled_error().into());
            }
            next = self.interruptible(stopped, rows.next(&form)).await?;
        }
        let before = if sent == 0 { before } else { Bytes::new() };
        let end = [&before, copy.end()].concat();
        if !end.is_empty() {
            self.wire.copy_data(&end);
        }
        self.wire.sign(b'c');
        self.wire.complete(&format!("COPY {sent}"));
        Ok(())
    }
}

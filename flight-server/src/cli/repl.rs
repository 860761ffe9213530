//! The prompt: statements over several lines, history, completion, and commands that begin with a backslash.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use parking_lot::RwLock;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};
use tokio::task::JoinHandle;

use super::args::Format;
use super::failure::Failure;
use super::interrupt::Interrupts;
use super::names::Names;
use super::run::{Display, Timing, run as run_statement};
use super::target::{Relation, Target};
use crate::text;

/// How many statements the history keeps.
const HISTORY_ENTRIES: usize = 10_000;

const HELP: &str = "  SELECT ...;      a statement, over as many lines as you like, up to its semicolon
  \\d               every table
  \\d NAME          the columns of a table: service.table, or only table
  \\dt              every table
  \\format FORMAT   table, csv, json
  \\timing          show or hide the time a statement took
  \\?               this help
  \\q               leave, as does Ctrl-D
  Ctrl-C cancels a running statement; Tab completes.";

/// Reads and runs statements until the user leaves.
pub(super) async fn run(target: Target, display: Display) -> Result<(), Failure> {
    let names: Arc<RwLock<Names>> = Arc::default();
    let mut editor = editor(Arc::clone(&names))?;
    let history = history_file();
    if let Some(file) = &history {
        // There is none before the first session.
        let _absent = editor.load_history(file);
    }
    println!("headwater {}: \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"));
    let interrupts = Interrupts::listen().map_err(|error| Failure::deaf(&error))?;
    let mut prompt = Prompt { target: Arc::new(target), display, names, interrupts, learning: None };
    prompt.learn_names();
    loop {
        match editor.readline("headwater> ") {
            Ok(line) => {
                if !line.trim().is_empty() {
                    // A history that can't take a line goes on without it.
                    let _forgotten = editor.add_history_entry(line.trim_end());
                }
                if prompt.handle(&line).await == Then::Leave {
                    break;
                }
            }
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::failed(format!("the prompt can't be read: {error}"))),
        }
    }
    if let Some(file) = &history
        && let Err(error) = editor.save_history(file)
    {
        eprintln!("warning: the history can't be kept in {}: {error}", file.display());
    }
    // Whoever still learns names has the other share.
    if let Ok(target) = Arc::try_unwrap(prompt.target) {
        target.settle(&Ok(())).await;
    }
    Ok(())
}

fn editor(names: Arc<RwLock<Names>>) -> Result<Editor<SqlHelper, DefaultHistory>, Failure> {
    let unusable = |error: ReadlineError| Failure::failed(format!("the prompt can't be opened: {error}"));
    let config = Config::builder()
        .max_history_size(HISTORY_ENTRIES)
        .map_err(unusable)?
        .history_ignore_space(true)
        .completion_type(rustyline::CompletionType::List)
        .build();
    let mut editor = Editor::with_config(config).map_err(unusable)?;
    editor.set_helper(Some(SqlHelper { names }));
    Ok(editor)
}

/// Where the history is kept: the XDG state directory.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    let dir = state.join("headwater");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}

#[derive(Debug, PartialEq, Eq)]
enum Then {
    Continue,
    Leave,
}

struct Prompt {
    target: Arc<Target>,
    display: Display,
    names: Arc<RwLock<Names>>,
    interrupts: Interrupts,
    /// The first look at the catalog, while it lasts.
    learning: Option<JoinHandle<()>>,
}

impl Prompt {
    /// Asks for the catalog while the user begins to type.
    fn learn_names(&mut self) {
        let (target, names) = (Arc::clone(&self.target), Arc::clone(&self.names));
        self.learning = Some(tokio::spawn(async move {
            // Completion without names is still completion; a query will say what is wrong.
            if let Ok(relations) = target.relations().await {
                *names.write() = Names::new(relations);
            }
        }));
    }

    async fn handle(&mut self, line: &str) -> Then {
        if let Some(command) = line.trim().strip_prefix('\\') {
            return self.command(command).await;
        }
        let text::Statements { mut complete, rest } = text::split(line);
        complete.extend((!rest.is_empty()).then_some(rest));
        for statement in complete {
            let Err(failure) = run_statement(&self.target, &statement, self.display, &self.interrupts).await else {
                continue;
            };
            failure.print();
            if self.interrupts.is_terminated() {
                return Then::Leave;
            }
            if let (Failure::Cancelled, Err(failure)) = (&failure, self.target.leave_behind()) {
                failure.print();
                return Then::Leave;
            }
            break;
        }
        Then::Continue
    }

    async fn command(&mut self, command: &str) -> Then {
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, argument.trim().trim_end_matches(';')) {
            ("q" | "quit", _) => return Then::Leave,
            ("?" | "h" | "help", _) => println!("{HELP}"),
            ("d" | "dt", "") => self.list_tables().await,
            ("d", table) => self.describe(table).await,
            ("timing", _) => {
                self.display.timing = if self.display.timing == Timing::On { Timing::Off } else { Timing::On };
                println!("timing is {}", if self.display.timing == Timing::On { "on" } else { "off" });
            }
            ("format", format) => self.set_format(format),
            (other, _) => eprintln!("error: there is no command \\{other}\nhint: \\? lists them"),
        }
        Then::Continue
    }

    fn set_format(&mut self, format: &str) {
        match Format::from_str(format, true) {
            Ok(Format::Arrow) => {
                eprintln!("error: an Arrow stream is binary\nhint: headwater sql ... --format arrow > file")
            }
            Ok(format) => self.display.format = format,
            Err(_) => eprintln!("error: there is no format \"{format}\"\nhint: table, csv or json"),
        }
    }

    /// Every table, asked for anew; `None` where that failed or was cancelled, which is said.
    async fn relations(&mut self) -> Option<Vec<Relation>> {
        let learning = self.learning.take();
        let asked = async {
            // Two looks at once would each see half.
            if let Some(learning) = learning {
                let _failed = learning.await;
            }
            self.target.relations().await
        };
        let asked = self.interrupts.cancellable(asked).await;
        match asked.unwrap_or(Err(Failure::Cancelled)) {
            Ok(relations) => {
                *self.names.write() = Names::new(relations.clone());
                Some(relations)
            }
            Err(failure) => {
                failure.print();
                None
            }
        }
    }

    async fn list_tables(&mut self) {
        let Some(relations) = self.relations().await else { return };
        let width =
            relations.iter().map(|relation| relation.service.len() + relation.name.len() + 1).max().unwrap_or(0);
        for relation in &relations {
            let name = format!("{}.{}", relation.service, relation.name);
            let columns = match &relation.schema {
                Some(schema) => format!("{} columns", schema.fields().len()),
                None => "can't be reached now".to_owned(),
            };
            println!("  {name:<width$}  {:<10}  {columns}", relation.kind.to_lowercase());
        }
    }

    async fn describe(&mut self, table: &str) {
        let Some(relations) = self.relations().await else { return };
        let plain = table.replace('"', "");
        let is_wanted =
            |relation: &&Relation| plain == relation.name || plain == format!("{}.{}", relation.service, relation.name);
        let found: Vec<&Relation> = relations.iter().filter(is_wanted).collect();
        if found.is_empty() {
            eprintln!("error: there is no table {table}\nhint: \\d lists them");
        }
        for relation in found {
            println!("{}.{}", relation.service, relation.name);
            let Some(schema) = &relation.schema else {
                println!("  the service can't be reached now");
                continue;
            };
            let width = schema.fields().iter().map(|field| field.name().len()).max().unwrap_or(0);
            for field in schema.fields() {
                let null = if field.is_nullable() { "" } else { "  NOT NULL" };
                println!("  {:<width$}  {}{null}", field.name(), field.data_type());
            }
        }
    }
}

/// What the line editor asks of us.
struct SqlHelper {
    names: Arc<RwLock<Names>>,
}

impl Helper for SqlHelper {}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Highlighter for SqlHelper {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.names.read().complete(line, cursor);
        Ok((start, found.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()))
    }
}

impl Validator for SqlHelper {
    /// Enter ends the input where a semicolon ends the statement.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input();
        let is_done =
            input.trim().is_empty() || input.trim_start().starts_with('\\') || text::split(input).rest.is_empty();
        Ok(if is_done { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

//! `headwater apply`: brings a server's materialized views to what the files in `views/` define.
//!
//! The files are read here, the views that there are from the server, and what changes is sent as statements, in an order that works. A view
//! is remembered to be of its file, so one whose statement is gone is dropped, and one that was made by SQL is left alone.

use arrow::array::{Array, AsArray, RecordBatch};
use futures::TryStreamExt;
use headwater::{KnownView, ViewAction, ViewFiles, ViewPlan};

use super::args::{ApplyArgs, TargetArgs};
use super::failure::{Failure, say};
use super::target::Target;

/// What is asked of the server.
const KNOWN: &str = "SELECT schema, name, definition, file FROM headwater.views";

pub(super) async fn run(args: ApplyArgs) -> Result<(), Failure> {
    let files = ViewFiles::read(&args.services).map_err(|faults| told(&faults))?;
    let target = TargetArgs { services: None, connect: Some(args.connect) };
    let target = Target::open(&target, &args.access, &[], None).await?;
    let known = known(&target).await?;
    let plan = files.plan(&known).map_err(|faults| told(&faults))?;
    for step in &plan.steps {
        say(&step.to_string())?;
    }
    let changes = plan.steps.iter().filter(|step| step.action != ViewAction::Unchanged).count();
    if args.dry_run || changes == 0 {
        return say(&format!("{changes} to change{}", if changes > 0 { "; nothing was done (--dry-run)" } else { "" }));
    }
    apply(&target, &plan).await?;
    say(&format!("{changes} changed"))
}

async fn apply(target: &Target, plan: &ViewPlan) -> Result<(), Failure> {
    for (view, statement) in plan.statements() {
        let done = match target.run(statement).await {
            Ok(running) => running.batches.try_collect::<Vec<_>>().await,
            Err(failure) => Err(failure),
        };
        let done = done.map_err(|failure| {
            let step = plan.step(&view).and_then(|step| Some((step.file.as_ref()?, step.line)));
            let place = step.map(|(file, line)| format!("{}:{line}: ", file.display())).unwrap_or_default();
            Failure::with_hint(
                format!("{place}{view}: {}", failure.told()),
                "what was said to be done above it is done; correct the file and apply again",
            )
        })?;
        for batch in &done {
            let outcomes = text(batch, "outcome")?;
            outcomes
                .iter()
                .try_for_each(|outcome| say(&format!("{view}: {}", outcome.as_deref().unwrap_or_default())))?;
        }
    }
    Ok(())
}

/// The views of the server.
async fn known(target: &Target) -> Result<Vec<KnownView>, Failure> {
    let batches: Vec<RecordBatch> = target.run(KNOWN).await?.batches.try_collect().await?;
    let mut views = Vec::new();
    for batch in &batches {
        let (schemas, names) = (text(batch, "schema")?, text(batch, "name")?);
        let (definitions, files) = (text(batch, "definition")?, text(batch, "file")?);
        for (((schema, name), definition), file) in schemas.into_iter().zip(names).zip(definitions).zip(files) {
            let (Some(schema), Some(name), Some(definition)) = (schema, name, definition) else { continue };
            views.push(KnownView { schema, name, definition, file });
        }
    }
    Ok(views)
}

fn text(batch: &RecordBatch, name: &str) -> Result<Vec<Option<String>>, Failure> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| Failure::failed(format!("the server's answer lacks the column {name}")))?;
    Ok((0..column.len()).map(|row| column.is_valid(row).then(|| column.value(row).to_owned())).collect())
}

fn told(faults: &[headwater::Fault]) -> Failure {
    for fault in faults {
        eprintln!("error: {fault}");
    }
    Failure::Told
}

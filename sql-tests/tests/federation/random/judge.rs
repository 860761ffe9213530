//! Asks a question and says whether the answers are right.

use std::time::Duration;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use headwater::Prepared;
use headwater_sql_tests::rows::{Floats, Rows};
use headwater_sql_tests::services::ask;

use super::kind::Kind;
use super::known;
use super::query::Query;
use super::question::{Question, Way};
use super::world::World;

/// What became of a question.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Every answer is right, and this long.
    Right(usize),
    /// Every engine refuses it, or fails.
    Refused,
    /// One that is known of DataFusion itself.
    Known(&'static str),
    Wrong(Fault, Vec<Answers>),
}

/// What is wrong. A smaller question must be wrong in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The answer with pushdown is another than that of a local copy.
    OnDiffers,
    /// The answer without pushdown is another than that of a local copy.
    OffDiffers,
    /// There is an answer, but none with pushdown.
    OnFails,
    /// There is an answer, but none without pushdown.
    OffFails,
    /// There is an answer where a local copy has none.
    PlainFails,
    /// A panic stood in the way of an answer.
    Panics,
    /// No answer in time.
    Late,
    /// No view in time.
    ViewIsLate,
    /// The whole is not the sum of its parts, with pushdown.
    PartsDiffer,
    /// The whole is not the sum of its parts, over a local copy.
    PlainPartsDiffer,
}

/// The answers to one query.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) query: String,
    pub(super) on: Result<Rows, String>,
    pub(super) off: Result<Rows, String>,
    pub(super) plain: Result<Rows, String>,
}

/// How long one engine may take for one query of a few rows, in a build without optimization on a busy machine.
const DEADLINE: Duration = Duration::from_secs(40);

const LATE: &str = "no answer in time";

/// As tasks say of each other.
const PANIC: &str = "panic";

/// Asks, and judges.
pub(super) async fn judge(world: &World, question: &Question) -> Verdict {
    match question {
        Question::One(query) => judge_query(world, query).await,
        Question::Again { query, other, way } => judge_again(world, query, other, *way).await,
        Question::Views { view, query } => judge_views(world, view, query).await,
        Question::Parts { .. } => judge_parts(world, &question.texts()).await,
    }
}

/// The second time a statement leaves a draft, from which those after it are planned.
async fn judge_again(world: &World, query: &Query, other: &Query, way: Way) -> Verdict {
    let mut first = Verdict::Refused;
    let prepared = match way {
        Way::Text => None,
        Way::Prepared => {
            let (on, text) = (world.on.clone(), query.with_parameters().0);
            Some(in_time(async move { on.prepare(&text).await.map_err(|error| error.report()) }).await)
        }
    };
    for (time, asked) in [query, query, other, query, other].into_iter().enumerate() {
        let verdict = match &prepared {
            Some(Ok(prepared)) => judge_prepared(world, prepared, asked).await,
            Some(Err(error)) => judge_answer(world, asked, Err(error.clone())).await,
            None => judge_query(world, asked).await,
        };
        match verdict {
            right @ (Verdict::Right(_) | Verdict::Refused) if time == 0 => first = right,
            Verdict::Right(_) | Verdict::Refused => {}
            wrong => return wrong,
        }
    }
    first
}

/// The view is there until another takes its place, and may answer what is asked with pushdown.
async fn judge_views(world: &World, view: &Query, query: &Query) -> Verdict {
    let create = format!("CREATE OR REPLACE MATERIALIZED VIEW random.view AS {}", view.sql());
    let on = world.on.clone();
    let made = async move {
        ask(&on, "SET headwater.max_staleness = '1 h'").await?;
        ask(&on, &create).await
    };
    match in_time(made).await {
        Ok(_) => judge_query(world, query).await,
        Err(error) if error == LATE => Verdict::Wrong(Fault::ViewIsLate, vec![]),
        Err(_) => Verdict::Refused,
    }
}

async fn judge_query(world: &World, query: &Query) -> Verdict {
    let on = world.on.clone();
    let text = query.sql();
    judge_answer(world, query, in_time(async move { ask(&on, &text).await }).await).await
}

/// The answer of a prepared statement to the constants of the query.
async fn judge_prepared(world: &World, prepared: &Prepared, query: &Query) -> Verdict {
    let constants = query.with_parameters().1;
    let parameters = prepared.parameters();
    // Constants that were two may be one among the others, and the other way round.
    if constants.len() != parameters.fields().len() {
        return judge_query(world, query).await;
    }
    let mut values = Vec::new();
    for (constant, parameter) in constants.iter().zip(parameters.fields()) {
        let value = value_of(world, constant, parameter.data_type()).await;
        values.push(value.unwrap_or_else(|error| panic!("{constant}: {error}")));
    }
    let prepared = prepared.clone();
    let answer = async move {
        let answer = prepared.execute(values).await.map_err(|error| error.report())?;
        let schema = answer.schema();
        let batches = answer.collect().await.map_err(|error| error.report())?;
        Ok(Rows::of(&schema, &batches))
    };
    judge_answer(world, query, in_time(answer).await).await
}

/// The value of a constant, of the parameter's type where that has it.
async fn value_of(world: &World, constant: &str, data_type: &DataType) -> Result<ScalarValue, String> {
    let answer = world.off.sql(&format!("SELECT {constant}")).await.map_err(|error| error.report())?;
    let batches = answer.collect().await.map_err(|error| error.report())?;
    let value = ScalarValue::try_from_array(batches[0].column(0), 0).expect("a row has a value");
    let same = |cast: &ScalarValue| cast.cast_to(&value.data_type()).is_ok_and(|back| back == value);
    Ok(value.cast_to(data_type).ok().filter(same).unwrap_or(value))
}

/// Judges an answer with pushdown beside the others.
async fn judge_answer(world: &World, query: &Query, on: Result<Rows, String>) -> Verdict {
    let text = query.sql();
    let plain_text = if cuts_among_equals(query) { query.uncut().sql() } else { text.clone() };
    let answers = Answers { on, ..others(world, &text, &plain_text).await };
    match fault(query, &answers) {
        None => answers.on.as_ref().map_or(Verdict::Refused, |rows| Verdict::Right(rows.rows.len())),
        Some(fault) => match known::reason(fault, &answers, Some(query)) {
            Some(reason) => Verdict::Known(reason),
            None => Verdict::Wrong(fault, vec![answers]),
        },
    }
}

fn fault(query: &Query, answers: &Answers) -> Option<Fault> {
    if let Some(fault) = uneven(answers) {
        return Some(fault);
    }
    let (Ok(on), Ok(off), Ok(plain)) = (&answers.on, &answers.off, &answers.plain) else { return None };
    if wrong(query, on, plain).is_some() {
        return Some(Fault::OnDiffers);
    }
    wrong(query, off, plain).is_some().then_some(Fault::OffDiffers)
}

/// Some engines answer and others do not.
fn uneven(answers: &Answers) -> Option<Fault> {
    let all = [&answers.on, &answers.off, &answers.plain];
    if all.iter().any(|answer| answer.as_ref().is_err_and(|error| error == LATE)) {
        return Some(Fault::Late);
    }
    if all.iter().any(|answer| answer.as_ref().is_err_and(|error| error.contains(PANIC))) {
        return Some(Fault::Panics);
    }
    match all.map(Result::is_ok) {
        [true, true, true] | [false, false, false] => None,
        [false, _, true] | [false, true, false] => Some(Fault::OnFails),
        [_, false, _] => Some(Fault::OffFails),
        [true, true, false] => Some(Fault::PlainFails),
    }
}

/// Whether the rows that are kept may be any of several that are equal in what orders them.
fn cuts_among_equals(query: &Query) -> bool {
    query.cuts() && query.ordered() < query.width()
}

/// What is wrong with an answer, given the right one; for a cut that may keep any of several rows, the right one before it.
pub(super) fn wrong(query: &Query, answer: &Rows, right: &Rows) -> Option<String> {
    let (floats, ordered) = (floats(&query.sql()), query.ordered());
    let cut = query.order.as_ref().filter(|_| cuts_among_equals(query));
    let of_other_rows = match cut {
        Some(cut) => answer.no_cut_of(right, cut.limit, cut.offset),
        None => answer.difference_within(right, floats),
    };
    of_other_rows.or_else(|| {
        let offset = cut.and_then(|cut| cut.offset).unwrap_or(0);
        let kept = right.rows.iter().skip(offset);
        let is_exact = |at: &usize| floats == Floats::Exact || Kind::of(&right.columns[*at].1) != Some(Kind::Double);
        let keys: Vec<usize> = (0..ordered).filter(is_exact).collect();
        let same = answer.rows.iter().zip(kept).all(|(left, right)| keys.iter().all(|at| left[*at] == right[*at]));
        (!same).then(|| "the rows may be right and their order is not".to_owned())
    })
}

/// Sums of floats depend on the order of rows in their last digits.
fn floats(text: &str) -> Floats {
    if text.contains("avg(") || text.contains("sum(") { Floats::Near } else { Floats::Exact }
}

async fn judge_parts(world: &World, texts: &[String]) -> Verdict {
    let (whole, parts) = (answers(world, &texts[0]).await, answers(world, &texts[1]).await);
    let fault = [&whole, &parts].into_iter().find_map(|answers| {
        uneven(answers).or_else(|| differs(&answers.on, &answers.plain, texts).then_some(Fault::OnDiffers))
    });
    let fault = fault
        .or_else(|| differs(&whole.plain, &parts.plain, texts).then_some(Fault::PlainPartsDiffer))
        .or_else(|| differs(&whole.on, &parts.on, texts).then_some(Fault::PartsDiffer));
    match fault {
        None => whole.on.map_or(Verdict::Refused, |rows| Verdict::Right(rows.rows.len())),
        Some(fault) => match known::reason(fault, &whole, None).or_else(|| known::reason(fault, &parts, None)) {
            Some(reason) => Verdict::Known(reason),
            None => Verdict::Wrong(fault, vec![whole, parts]),
        },
    }
}

/// Whether there are two answers, of other rows. The forms of a question may have other types: a UNION widens them.
fn differs(left: &Result<Rows, String>, right: &Result<Rows, String>, texts: &[String]) -> bool {
    let (Ok(left), Ok(right)) = (left, right) else { return false };
    let (left, mut right) = (without_scale(left), without_scale(right));
    right.columns.clone_from(&left.columns);
    left.difference_within(&right, floats(&texts[0])).is_some()
}

/// The same answer with decimals that show no zeros at their end.
fn without_scale(answer: &Rows) -> Rows {
    let mut answer = answer.clone();
    for (at, (_, data_type)) in answer.columns.iter().enumerate() {
        if Kind::of(data_type) != Some(Kind::Decimal) {
            continue;
        }
        for value in answer.rows.iter_mut().filter_map(|row| row[at].as_mut()).filter(|value| value.contains('.')) {
            *value = value.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
    }
    answer
}

async fn answers(world: &World, text: &str) -> Answers {
    let (on, asked) = (world.on.clone(), text.to_owned());
    let on = in_time(async move { ask(&on, &asked).await }).await;
    Answers { on, ..others(world, text, text).await }
}

/// The answers to a query but for that with pushdown.
async fn others(world: &World, text: &str, plain_text: &str) -> Answers {
    let (off, reference) = (world.off.clone(), world.reference.clone());
    let (off_text, plain) = (text.to_owned(), plain_text.to_owned());
    Answers {
        query: text.to_owned(),
        on: Err("not asked".to_owned()),
        off: in_time(async move { ask(&off, &off_text).await }).await,
        plain: in_time(async move { reference.ask(&plain).await }).await,
    }
}

/// The answer, or that it is late or that a panic stood in its way.
pub(super) async fn in_time<T: Send + 'static>(
    answer: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, SpawnedTask::spawn(answer).join()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => Err(format!("{PANIC}: {panic}")),
        Err(_) => Err(LATE.to_owned()),
    }
}

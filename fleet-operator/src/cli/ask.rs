//! `show` and its kin: asks the running operator, or looks at what the last one left.

use std::path::Path;

use super::{AskArgs, DataArg, DeadLettersArgs, DeadLettersCommand, Failure, KeptArgs, Which, print, table};
use crate::control::{Answer, CallError, Question, call};
use crate::folder::Folder;
use crate::run::{DataFolder, open_to_read, without_operator};
use crate::show::DeadLetterRow;

pub(super) async fn ask(question: Question, args: &AskArgs) -> Result<(), Failure> {
    let answer = match call(&args.kept.data.data, &question).await {
        Err(CallError::NobodyRuns) => left_behind(&args.kept, question.clone()).await?,
        answered => answered.map_err(|error| Failure::new(error.to_string()))?,
    };
    print(&table::text(&question, &answer, args.output)?);
    notes(&answer);
    Ok(())
}

pub(super) async fn confirm_withdrawals(data: &Path) -> Result<(), Failure> {
    let answer =
        call(data, &Question::ConfirmWithdrawals).await.map_err(|error| Failure::new(error.to_string()))?;
    notes(&answer);
    Ok(())
}

async fn left_behind(kept: &KeptArgs, question: Question) -> Result<Answer, Failure> {
    let KeptArgs { data: DataArg { data }, store, namespace } = kept;
    let folder = DataFolder::at(data);
    let store = open_to_read(&folder, *store, namespace).await.map_err(|error| Failure::because(&error))?;
    let definitions = Folder::remembered(data);
    without_operator(question, store, &definitions).await.map_err(Failure::new)
}

pub(super) async fn dead_letters(args: DeadLettersArgs) -> Result<(), Failure> {
    match args.command {
        DeadLettersCommand::List(args) => ask(Question::DeadLetters, &args).await,
        DeadLettersCommand::Show { id, ask: args } => ask(Question::DeadLetter { id }, &args).await,
        DeadLettersCommand::Resend { which, as_new, ask } => {
            each(&which, &ask, |id| Question::Resend { id, as_new }).await
        }
        DeadLettersCommand::Drop { which, ask } => {
            each(&which, &ask, |id| Question::DropDeadLetter { id }).await
        }
    }
}

/// Does something with each of them, and shows what became of each.
async fn each(which: &Which, args: &AskArgs, question: impl Fn(String) -> Question) -> Result<(), Failure> {
    let data = &args.kept.data.data;
    let ids = if which.ids.is_empty() { selected(which, data).await? } else { which.ids.clone() };
    let mut all = Answer::default();
    let mut failures = 0;
    for id in ids {
        match call(data, &question(id.clone())).await {
            Ok(answer) => all.rows.extend(answer.rows),
            Err(CallError::Refused(why)) => {
                eprintln!("error: {id}: {why}");
                failures += 1;
            }
            Err(error) => return Err(Failure::new(error.to_string())),
        }
    }
    print(&table::text(&question(String::new()), &all, args.output)?);
    match failures {
        0 => Ok(()),
        failures => Err(Failure::new(format!("{failures} could not be done; they are kept"))),
    }
}

/// The ids of those that a filter selects, each once.
async fn selected(which: &Which, data: &Path) -> Result<Vec<String>, Failure> {
    let answer = call(data, &Question::DeadLetters).await.map_err(|error| Failure::new(error.to_string()))?;
    notes(&answer);
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    let mut ids = Vec::new();
    for row in table::read::<DeadLetterRow>(&answer.rows)? {
        let wanted = is(&which.source, &row.source)
            && is(&which.trigger, &row.trigger)
            && is(&which.reason, &row.reason);
        if wanted && !ids.contains(&row.id) {
            ids.push(row.id);
        }
    }
    Ok(ids)
}

/// Notes are for people: they never mix with rows.
fn notes(answer: &Answer) {
    for note in &answer.notes {
        eprintln!("note: {note}");
    }
}

//! `show` and its kin: asks the running operator, or looks at what the last one left.

use std::path::Path;
use std::sync::Arc;

use super::progress::Bar;
use super::terminal::{error, note};
use super::{
    ApiArg, AskArgs, DataArg, DeadLettersArgs, DeadLettersCommand, Failure, KeptArgs, StoreArg, Which, print,
    table,
};
use crate::control::{Answer, CallError, Question, call};
use crate::folder::Folder;
use crate::run::{DataFolder, StoreKind, definitions_of_management, open_to_read, without_operator};
use crate::show::DeadLetterRow;

async fn ask(question: Question, args: &AskArgs) -> Result<(), Failure> {
    let answer = answer(question.clone(), &args.kept).await?;
    print(&table::text(&question, &answer, args.output)?);
    notes(&answer);
    Ok(())
}

/// The answer of the operator that runs, or from what the last one left.
pub(super) async fn answer(question: Question, kept: &KeptArgs) -> Result<Answer, Failure> {
    match call(&kept.data.data, &question).await {
        Err(CallError::NobodyRuns) => left_behind(kept, question).await,
        answered => answered.map_err(|error| Failure::new(error.to_string())),
    }
}

pub(super) async fn confirm_withdrawals(data: &Path) -> Result<(), Failure> {
    let answer =
        call(data, &Question::ConfirmWithdrawals).await.map_err(|error| Failure::new(error.to_string()))?;
    notes(&answer);
    Ok(())
}

async fn left_behind(args: &KeptArgs, question: Question) -> Result<Answer, Failure> {
    let KeptArgs {
        data: DataArg { data },
        store: StoreArg { store: kind },
        api: ApiArg { api },
        operator_namespace,
    } = args;
    let folder = DataFolder::at(data);
    let store =
        open_to_read(&folder, *kind, operator_namespace).await.map_err(|error| Failure::because(&error))?;
    let (definitions, management) = match kind {
        StoreKind::File => (Arc::new(Folder::remembered(data)), None),
        StoreKind::Kubernetes => {
            let found = definitions_of_management((*api).into(), operator_namespace).await;
            let (definitions, management) = found.map_err(|error| Failure::because(&error))?;
            (definitions, Some(management))
        }
    };
    without_operator(question, store, &definitions, management.as_ref()).await.map_err(Failure::new)
}

pub(super) async fn dead_letters(args: DeadLettersArgs) -> Result<(), Failure> {
    match args.command {
        DeadLettersCommand::List(args) => ask(Question::DeadLetters, &args).await,
        DeadLettersCommand::Show { id, ask: args } => ask(Question::DeadLetter { id }, &args).await,
        DeadLettersCommand::Resend { which, as_new, ask } => {
            each(&which, &ask, "sending again", |id| Question::Resend { id, as_new }).await
        }
        DeadLettersCommand::Drop { which, ask } => {
            each(&which, &ask, "dropping", |id| Question::DropDeadLetter { id }).await
        }
    }
}

/// Does something with each of them, and shows what became of each.
async fn each(
    which: &Which,
    args: &AskArgs,
    doing: &'static str,
    question: impl Fn(String) -> Question,
) -> Result<(), Failure> {
    let data = &args.kept.data.data;
    let ids = if which.ids.is_empty() { selected(which, data).await? } else { which.ids.clone() };
    let mut all = Answer::default();
    let mut failures = 0;
    let bar = Bar::of(ids.len(), doing);
    for id in ids {
        match call(data, &question(id.clone())).await {
            Ok(answer) => all.rows.extend(answer.rows),
            Err(CallError::Refused(why)) => {
                bar.apart(|| error(&format!("{id}: {why}")));
                failures += 1;
            }
            Err(error) => return Err(Failure::new(error.to_string())),
        }
        bar.step();
    }
    drop(bar);
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
pub(super) fn notes(answer: &Answer) {
    answer.notes.iter().for_each(|text| note(text));
}

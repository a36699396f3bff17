//! `show` and its kin: asks the running operator, or looks at what the last one left.

use std::path::Path;

use super::{AskArgs, Failure, print, table};
use crate::control::{Answer, CallError, Question, call};
use crate::folder::Folder;
use crate::run::{DataFolder, without_operator};

pub(super) async fn ask(question: Question, args: &AskArgs) -> Result<(), Failure> {
    let data = &args.data.data;
    let answer = match call(data, question).await {
        Err(CallError::NobodyRuns) => left_behind(data, question).await?,
        answered => answered.map_err(|error| Failure::new(error.to_string()))?,
    };
    print(&table::text(question, &answer, args.output)?);
    notes(&answer);
    Ok(())
}

pub(super) async fn confirm_withdrawals(data: &Path) -> Result<(), Failure> {
    let answer =
        call(data, Question::ConfirmWithdrawals).await.map_err(|error| Failure::new(error.to_string()))?;
    notes(&answer);
    Ok(())
}

async fn left_behind(data: &Path, question: Question) -> Result<Answer, Failure> {
    let folder = DataFolder::at(data);
    let store = folder.open_to_read().map_err(|error| Failure::because(&error))?;
    let definitions = Folder::remembered(data);
    without_operator(question, &store, &definitions).await.map_err(Failure::new)
}

/// Notes are for people: they never mix with rows.
fn notes(answer: &Answer) {
    for note in &answer.notes {
        eprintln!("note: {note}");
    }
}

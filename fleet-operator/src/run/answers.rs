//! What `show` is answered: by a running operator, or from what the last one left behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::catalog::{Condition, Subject};
use fleet_core::cluster::ClusterId;
use fleet_core::dead_letter::{DeadLetterBox, InStore};
use fleet_core::engine::{Handle, ResendError, Resent};
use fleet_core::policy::SyncMode;
use fleet_core::resource::Resources;
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::{AppliedState, WorkId};
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::definitions::{Definitions, Transport};
use tokio::sync::watch;

use super::definitions::{OfAgents, Recorded, Troubles};
use super::with_management;
use crate::control::{Answer, Answering, Question};
use crate::render;
use crate::show::{self, ClusterRow, ClusterState, HandledRow, SourceRow, Tally, TriggerRow};

/// Answers for an operator that runs.
pub(super) struct Running {
    pub(super) store: Arc<dyn WorkStore>,
    pub(super) definitions: watch::Receiver<Option<Arc<Definitions>>>,
    pub(super) catalog: Arc<Recorded>,
    pub(super) troubles: Troubles,
    pub(super) clusters: Arc<Clusters>,
    /// What agents do, if this is their hub.
    pub(super) agents: Option<OfAgents>,
    pub(super) engine: Handle,
    /// The management cluster, if there is one.
    pub(super) management: Option<ClusterDefinition>,
}

#[async_trait]
impl Answering for Running {
    async fn answer(&self, question: Question) -> Result<Answer, String> {
        let definitions = self.definitions.borrow().clone().unwrap_or_default();
        let live = Live {
            catalog: &self.catalog,
            clusters: &self.clusters,
            agents: self.agents.as_ref(),
            resources: self.engine.resources(),
        };
        let mut notes: Vec<String> =
            definitions.problems.iter().map(ToString::to_string).chain(self.troubles.now()).collect();
        if question == Question::ConfirmWithdrawals {
            let works = self.engine.confirm_withdrawals();
            return Ok(Answer { rows: Vec::new(), notes: vec![format!("{works} Works are withdrawn")] });
        }
        if let Some(held) = self.engine.held_withdrawals() {
            notes.push(format!(
                "{} of {} Works would be withdrawn at once, which waits for `fleet-operator withdrawals confirm`",
                held.works, held.total
            ));
        }
        match &question {
            Question::Resend { id, as_new } => resend(&self.engine, id, *as_new).await,
            Question::DropDeadLetter { id } => drop_dead_letter(&self.engine, &*self.store, id).await,
            Question::Events => Answer::new(&show::events(self.engine.recent()), notes),
            Question::Strays => {
                let rows = show::strays(&*self.store, &self.engine.strays()).await;
                Answer::new(&rows.map_err(|error| error.to_string())?, notes)
            }
            _ => {
                let boxes = self.engine.dead_letter_boxes();
                let defined = (&*definitions, self.management.as_ref());
                rows(&question, &*self.store, &boxes, defined, Some(&live), notes).await
            }
        }
    }
}

async fn resend(engine: &Handle, id: &str, as_new: bool) -> Result<Answer, String> {
    let handled = |result: &str, detail: String| {
        Answer::new(&[HandledRow { id: id.to_owned(), result: result.to_owned(), detail }], Vec::new())
    };
    if let Some(work) = WorkId::from_stored(id) {
        let clusters = engine.retry(&work).await.map_err(|error| error.to_string())?;
        if clusters > 0 {
            return handled("Retried", format!("it is tried again now, in {clusters} clusters"));
        }
    }
    match engine.resend(id, as_new).await {
        Ok(Resent::Stored(triggers)) => handled("Stored", format!("it is Work now, for {triggers} triggers")),
        Ok(Resent::Superseded) => {
            let detail =
                "something newer of its key was processed, which stays; --as-new makes it the newest";
            handled("Superseded", detail.to_owned())
        }
        Ok(Resent::Unwanted) => handled("Unwanted", "no trigger wants it any more".to_owned()),
        Ok(Resent::RefusedAgain { reason, detail }) => handled("Refused", format!("{reason}: {detail}")),
        Ok(_) => handled("Done", String::new()),
        Err(error @ ResendError::Forgotten) => handled("Kept", format!("{error} (--as-new)")),
        Err(error) => Err(error.to_string()),
    }
}

async fn drop_dead_letter(engine: &Handle, store: &dyn WorkStore, id: &str) -> Result<Answer, String> {
    let handled = |detail: &str| {
        let row = HandledRow { id: id.to_owned(), result: "Dropped".to_owned(), detail: detail.to_owned() };
        Answer::new(&[row], Vec::new())
    };
    if engine.drop_dead_letter(id).await.map_err(|error| error.to_string())? {
        return handled("the letter is gone");
    }
    let Some(work) = WorkId::from_stored(id) else {
        return Err(format!("there is no dead letter {id}"));
    };
    let applied = store.applied(&work).await.map_err(|error| error.to_string())?;
    if !applied.iter().any(|it| matches!(it.value.state, AppliedState::Stalled { .. })) {
        return Err(format!(
            "there is no dead letter and no stalled Work {id}; a Work that is not stalled ends by an event that deletes its \
             key, or with its trigger"
        ));
    }
    if engine.give_up(&work).await.map_err(|error| error.to_string())? {
        handled("the Work is given up: what it has put into clusters is taken away, as by a Delete event")
    } else {
        Err(format!("Work {id} cannot be given up: it is on its way out, or what is always on"))
    }
}

/// Answers from a database that no operator uses, and the definitions that the last one used.
///
/// # Errors
/// When the store cannot be read.
pub async fn without_operator(
    question: Question,
    store: Arc<dyn WorkStore>,
    definitions: &Definitions,
    management: Option<&ClusterDefinition>,
) -> Result<Answer, String> {
    let mut notes = vec!["no operator runs on this data folder; this is what the last one left".to_owned()];
    if matches!(question, Question::DeadLetters | Question::DeadLetter { .. }) {
        notes.push(
            "dead letters that an EventSource keeps in a stream are seen by a running operator only"
                .to_owned(),
        );
    }
    let boxes: [Arc<dyn DeadLetterBox>; 1] = [Arc::new(InStore::of(Arc::clone(&store)))];
    rows(&question, &*store, &boxes, (definitions, management), None, notes).await
}

/// What only a running operator knows.
struct Live<'a> {
    catalog: &'a Recorded,
    clusters: &'a Clusters,
    agents: Option<&'a OfAgents>,
    /// What is known of the management cluster.
    resources: Arc<Resources>,
}

impl Live<'_> {
    fn condition(&self, subject: &Subject) -> Option<Condition> {
        self.catalog.condition(subject)
    }
}

async fn rows(
    question: &Question,
    store: &dyn WorkStore,
    boxes: &[Arc<dyn DeadLetterBox>],
    (definitions, management): (&Definitions, Option<&ClusterDefinition>),
    live: Option<&Live<'_>>,
    mut notes: Vec<String>,
) -> Result<Answer, String> {
    let failed = |error: StoreError| error.to_string();
    match question {
        Question::Addons => {
            let mut rows = show::addons(store).await.map_err(failed)?;
            if let Some(OfAgents { agents, mirrored }) = live.and_then(|live| live.agents) {
                let is_silent = |id: &ClusterId| agents.health(id).is_none_or(|health| health.silent);
                match mirrored.list().await {
                    Ok(works) => show::add_mirrored(&mut rows, &works, is_silent),
                    Err(failure) => {
                        notes.push(format!("what agents have done cannot be read now: {failure}"))
                    }
                }
            }
            Answer::new(&rows, notes)
        }
        Question::DeadLetters => {
            let mut rows = show::dead_letters(boxes, &mut notes).await;
            rows.extend(show::stalled(store).await.map_err(failed)?);
            Answer::new(&rows, notes)
        }
        Question::DeadLetter { id } => match show::dead_letter(id, boxes, store).await.map_err(failed)? {
            Some(detail) => Answer::new(&[detail], notes),
            None => Err(format!("there is no dead letter and no stalled Work {id}")),
        },
        Question::Explain { object, cluster } => {
            let state = state_of(cluster, &with_management(&definitions.clusters, management), live);
            let resources = live.map_or_else(Default::default, |it| Arc::clone(&it.resources));
            let foresight = render::foresight(definitions, management, resources);
            let explained = show::explain(object, cluster, state, store, foresight).await.map_err(failed)?;
            Answer::new(&[explained], notes)
        }
        Question::Applied { work } => match WorkId::from_stored(work) {
            Some(work) => Answer::new(&show::applied_of(store, &work).await.map_err(failed)?, notes),
            None => Err(format!("{work} is not the name of a Work")),
        },
        Question::Clusters => {
            let staying = definitions.clusters.iter().map(|definition| cluster(definition, live));
            let leaving = definitions.leaving.iter().map(|definition| {
                let row = cluster(definition, live);
                let why = if row.message.is_empty() { "what is there is withdrawn" } else { &row.message };
                ClusterRow { message: format!("being taken out: {why}"), ..row }
            });
            Answer::new(&staying.chain(leaving).collect::<Vec<_>>(), notes)
        }
        Question::Sources => Answer::new(&sources(definitions, live), notes),
        Question::Triggers => {
            let tallies = show::tallies(store).await.map_err(failed)?;
            Answer::new(&triggers(definitions, tallies, live), notes)
        }
        Question::DryRun => {
            let triggers = &definitions.catalog.triggers;
            let is_dry_run =
                |name: &str| triggers.get(name).is_some_and(|it| it.policy.sync == SyncMode::DryRun);
            Answer::new(&show::dry_run(store, is_dry_run).await.map_err(failed)?, notes)
        }
        Question::Usage => Answer::new(&show::usage(store, definitions).await.map_err(failed)?, notes),
        Question::Events => {
            Err("no operator runs on this data folder, and what came lately is known to one that runs \
                                 only; `show addons` and `dead-letters list` tell what came of it"
                .to_owned())
        }
        Question::Strays
        | Question::ConfirmWithdrawals
        | Question::Resend { .. }
        | Question::DropDeadLetter { .. } => {
            Err("no operator runs on this data folder; start one for that".to_owned())
        }
    }
}

fn state_of(cluster: &ClusterId, clusters: &[ClusterDefinition], live: Option<&Live<'_>>) -> ClusterState {
    if !clusters.iter().any(|definition| definition.id == *cluster) {
        return ClusterState::Unknown;
    }
    match live.and_then(|live| live.clusters.health(cluster)) {
        Some(health) if !health.ready => ClusterState::Unready(health.message.clone()),
        _ => ClusterState::Fine,
    }
}

fn cluster(definition: &ClusterDefinition, live: Option<&Live<'_>>) -> ClusterRow {
    if matches!(definition.connection, Connection::Agent) {
        let health = live.and_then(|live| live.agents?.agents.health(&definition.id));
        return ClusterRow {
            namespace: definition.id.namespace().to_owned(),
            name: definition.id.name().to_owned(),
            ready: health.as_ref().map(|health| health.ready),
            version: health.as_ref().and_then(|health| health.version.clone()),
            connection: "agent".to_owned(),
            labels: definition.labels.clone(),
            message: health.filter(|health| !health.ready).map(|health| health.message).unwrap_or_default(),
        };
    }
    let health = live.and_then(|live| live.clusters.health(&definition.id));
    let connection = match definition.connection {
        Connection::Directory => "directory",
        Connection::InCluster => "inCluster",
        Connection::Agent => "agent",
        Connection::Management(_) => "management",
        Connection::KubeconfigSecret { .. } | Connection::KubeconfigFile(_) => "kubeconfig",
    };
    ClusterRow {
        namespace: definition.id.namespace().to_owned(),
        name: definition.id.name().to_owned(),
        ready: health.as_ref().map(|health| health.ready),
        version: health.as_ref().and_then(|health| health.version.clone()),
        connection: connection.to_owned(),
        labels: definition.labels.clone(),
        message: health
            .filter(|health| !health.ready)
            .map(|health| health.message.clone())
            .unwrap_or_default(),
    }
}

fn sources(definitions: &Definitions, live: Option<&Live<'_>>) -> Vec<SourceRow> {
    let row = |name: &Arc<str>| {
        let transport = match definitions.transports.get(name) {
            Some(Transport::Http) => "http",
            Some(Transport::Nats(nats)) if nats.jet_stream.is_some() => "jetStream",
            Some(Transport::Nats(_)) => "nats",
            Some(Transport::ClusterNats(_)) => "clusterNats",
            Some(Transport::Objects(_)) => "kubernetes",
            None => "",
        };
        let condition = live.and_then(|live| live.condition(&Subject::Source(Arc::clone(name))));
        let (ready, reason, message) = told(condition);
        SourceRow { name: name.to_string(), transport: transport.to_owned(), ready, reason, message }
    };
    definitions.catalog.sources.keys().map(row).collect()
}

fn triggers(
    definitions: &Definitions,
    mut tallies: BTreeMap<Arc<str>, Tally>,
    live: Option<&Live<'_>>,
) -> Vec<TriggerRow> {
    let row = |(name, trigger): (&Arc<str>, &Arc<fleet_core::catalog::TriggerDef>)| {
        let condition = live.and_then(|live| live.condition(&Subject::of_trigger(name)));
        let (ready, reason, message) = told(condition);
        let tally = tallies.remove(name).unwrap_or_default();
        TriggerRow {
            name: name.to_string(),
            source: trigger.source.as_deref().unwrap_or_default().to_owned(),
            ready,
            reason,
            message,
            tally,
        }
    };
    definitions.catalog.triggers.iter().map(row).collect()
}

fn told(condition: Option<Condition>) -> (Option<bool>, String, String) {
    match condition {
        Some(Condition { ready, reason, message }) => (Some(ready), reason, message),
        None => (None, String::new(), String::new()),
    }
}

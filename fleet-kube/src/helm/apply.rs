//! One release is brought about.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::apply::{ChartVersion, InventoryItem, Mode, Outcome, Placed};
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::policy::SyncMode;

use super::live::{self, Revision};
use super::operation::{Place, Task};
use super::spec::Release;
use super::{Ask, Standing, TURNS, at_work, parts};
use crate::api::HelmAction;
use crate::client::Failure;

impl Ask<'_> {
    pub(super) async fn apply(
        &self,
        manifest: &Manifest,
        known: Option<&InventoryItem>,
    ) -> Result<Outcome, Failure> {
        let release = match Release::read(manifest) {
            Ok(release) => Arc::new(release),
            Err(reason) => return Ok(Outcome::Rejected { reason }),
        };
        let id = manifest.id();
        match (release.spec.action, self.mode) {
            (HelmAction::Uninstall, _) => self.be_absent(id, release.timeout).await,
            (HelmAction::Install, Mode::Write) => self.install(id, release, known).await,
            (HelmAction::Install, Mode::Preview) => self.preview(id, &release).await,
        }
    }

    async fn install(
        &self,
        id: &ObjectRef,
        release: Arc<Release>,
        known: Option<&InventoryItem>,
    ) -> Result<Outcome, Failure> {
        let place = self.place(id);
        // What a run that ended in this call has installed.
        let mut installed = None;
        for _ in 0..TURNS {
            match self.helm.operations.ended(&place.key, self.by).await {
                Err(()) => return Ok(at_work()),
                Ok(None) => {}
                Ok(Some((_, Ok(chart)))) => installed = chart,
                // What an earlier wish came to says nothing of this one.
                Ok(Some((Some(inputs), Err(_)))) if inputs != release.inputs => {}
                Ok(Some((_, Err(outcome)))) => return Ok(outcome),
            }
            let revisions = self.revisions(&place).await?;
            let (latest, adopted) = match self.standing(id, &revisions) {
                Standing::Theirs(owner) => return Ok(Outcome::Conflict { owner }),
                Standing::Absent => (None, false),
                Standing::Ours { latest, adopted } => (Some(latest), adopted),
            };
            let mut same = None;
            let task = match latest {
                Some(latest) if latest.is_pending() => {
                    match self.recovery(&place, &revisions, release.timeout) {
                        Ok(task) => task,
                        Err(outcome) => return Ok(outcome),
                    }
                }
                Some(latest)
                    if latest.is_of(&release.inputs) && latest.mark.as_deref() == Some(self.mark) =>
                {
                    match self.current(id, &place, latest, (known, installed.as_ref())).await? {
                        Current::Placed(placed) => return Ok(Outcome::Applied(placed)),
                        Current::Drifted { chart } => {
                            same = Some(chart);
                            self.upgrade(&release, revisions.first(), adopted, same)
                        }
                    }
                }
                _ if installed.is_some() => {
                    let reason = "somebody else changes the release at the same time".to_owned();
                    return Ok(Outcome::Retry { after: Duration::from_secs(1), reason, cluster: false });
                }
                _ => self.upgrade(&release, revisions.first(), adopted, same),
            };
            self.helm.operations.begin(&self.helm.workshop, place.clone(), task);
        }
        let reason = "the release is never as it was left".to_owned();
        Ok(Outcome::Retry { after: Duration::from_secs(5), reason, cluster: false })
    }

    fn upgrade(
        &self,
        release: &Arc<Release>,
        latest: Option<&Revision>,
        adopted: bool,
        same: Option<String>,
    ) -> Task {
        Task::Upgrade {
            release: Arc::clone(release),
            mark: self.mark.to_owned(),
            revision: latest.map_or(0, |latest| latest.number).saturating_add(1),
            adopted,
            creates_namespace: !self.policy.skip_namespace_creation,
            same,
        }
    }

    /// A release that is as we left it, as far as helm knows. Whether its objects are, is looked at where drift is to be
    /// put right: what is there right after a run is what is expected from then on.
    async fn current(
        &self,
        id: &ObjectRef,
        place: &Place,
        latest: &Revision,
        (known, installed): (Option<&InventoryItem>, Option<&ChartVersion>),
    ) -> Result<Current, Failure> {
        let repairs = self.policy.sync == SyncMode::ContinuousWithDriftDetection;
        let known = known.filter(|item| item.uid.as_ref() == Some(&latest.uid));
        let chart = installed.or_else(|| known.and_then(|item| item.chart.as_ref())).cloned();
        let mut placed = Placed {
            version: Some(Arc::clone(&latest.version)),
            print: known.and_then(|item| item.print.clone()).filter(|_| installed.is_none()),
            adopted: latest.adopted,
            chart,
            ..Placed::new(Arc::clone(&latest.uid))
        };
        if !repairs && placed.chart.is_some() {
            return Ok(Current::Placed(placed));
        }
        let (client, identity) = (&self.link.client, self.identity.as_ref());
        let namespace = &place.key.namespace;
        let content = live::content(client, namespace, &latest.secret, identity, self.by).await?;
        let content = content.unwrap_or_default();
        if placed.chart.is_none() {
            let digest = format!("sha256:{}", latest.chart.as_deref().unwrap_or_default());
            placed.chart =
                Some(ChartVersion { version: content.chart_version.as_str().into(), digest: digest.into() });
        }
        if repairs {
            let there = parts::parts(&content, namespace);
            let (parts, version) = parts::look(&self.link, latest, there, identity, self.by).await?;
            let print = parts.owned(latest).print(self.policy.excluded(id));
            if placed.print.as_ref().is_some_and(|expected| *expected != print) {
                return Ok(Current::Drifted { chart: content.chart_version });
            }
            placed.print = Some(print);
            placed.version = version.map(|version| version.to_string().into()).or(placed.version);
        }
        Ok(Current::Placed(placed))
    }
}

enum Current {
    Placed(Placed),
    /// One of its objects is not as it was left.
    Drifted {
        /// The version of the chart that it was made of.
        chart: String,
    },
}

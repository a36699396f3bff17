//! One release is taken away, or given back.

use std::time::Duration;

use bytes::Bytes;
use fleet_core::apply::{Change, InventoryItem, Mode, Outcome};
use fleet_core::manifest::{MARK, ObjectRef};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::live::{ADOPTED, CHART, INPUTS, REVISION, Revision};
use super::operation::{Place, Task};
use super::{Ask, Standing, TURNS, at_work};
use crate::client::{Call, Failure};

/// How long helm may take to uninstall what nothing more is known of.
const USUAL: Duration = Duration::from_secs(300);

impl Ask<'_> {
    /// Takes a release away, if it is ours.
    pub(super) async fn remove(&self, item: &InventoryItem) -> Result<Outcome, Failure> {
        let taken = self.take_away(&item.object, item.adopted, USUAL).await?;
        // Whoever has it now may keep it.
        Ok(if matches!(taken, Outcome::Conflict { .. }) { Outcome::Gone } else { taken })
    }

    /// Sees to it that there is no such release.
    pub(super) async fn be_absent(&self, id: &ObjectRef, timeout: Duration) -> Result<Outcome, Failure> {
        self.take_away(id, false, timeout).await
    }

    async fn take_away(&self, id: &ObjectRef, adopted: bool, timeout: Duration) -> Result<Outcome, Failure> {
        let place = self.place(id);
        for _ in 0..TURNS {
            match self.helm.operations.ended(&place.key, self.by).await {
                Err(()) => return Ok(at_work()),
                // That it could not be uninstalled, or not be taken up, is of concern here.
                Ok(Some((None, Err(outcome)))) => return Ok(outcome),
                Ok(_) => {}
            }
            let revisions = self.revisions(&place).await?;
            let (latest, adopted) = match self.standing(id, &revisions) {
                Standing::Absent if self.mode == Mode::Preview => return Ok(Outcome::Would(Change::Nothing)),
                Standing::Absent => return Ok(Outcome::Gone),
                Standing::Theirs(owner) => return Ok(Outcome::Conflict { owner }),
                Standing::Ours { latest, adopted: is_adopted } => (latest, is_adopted || adopted),
            };
            if self.mode == Mode::Preview {
                return Ok(Outcome::Would(if adopted { Change::GiveBack } else { Change::Delete }));
            }
            if latest.is_pending()
                && let Err(outcome) = self.recovery(&place, &revisions, timeout)
            {
                return Ok(outcome);
            }
            if adopted {
                self.give_back(&place, latest).await?;
                return Ok(Outcome::Gone);
            }
            self.helm.operations.begin(&self.helm.workshop, place.clone(), Task::Uninstall { timeout });
        }
        let reason = "somebody else installs the release again and again".to_owned();
        Ok(Outcome::Retry { after: Duration::from_secs(5), reason, cluster: false })
    }

    /// Takes our labels off a release, and leaves it as it is.
    async fn give_back(&self, place: &Place, latest: &Revision) -> Result<(), Failure> {
        let path = format!(
            "/api/v1/namespaces/{}/secrets/{}",
            place.key.namespace,
            utf8_percent_encode(&latest.secret, NON_ALPHANUMERIC)
        );
        let labels = json!({MARK: null, INPUTS: null, REVISION: null, CHART: null, ADOPTED: null});
        let metadata = json!({"labels": labels, "uid": latest.uid, "resourceVersion": latest.version});
        let call = Call {
            method: Method::PATCH,
            content_type: Some("application/merge-patch+json"),
            body: Bytes::from(json!({"metadata": metadata}).to_string()),
            identity: self.identity.as_ref(),
            ..Call::get(path)
        };
        match self.link.client.call(call, self.by).await {
            Ok(_) | Err(Failure::NotFound { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

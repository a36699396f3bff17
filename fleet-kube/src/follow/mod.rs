//! Following the objects of one kind in a cluster: a list of them, then a watch that goes on where it left off.
//!
//! That costs one connection, and no request while nothing happens, but for a new watch every few minutes: servers and
//! networks forget old ones.

mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use futures::StreamExt;
use futures::stream::BoxStream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::wire::{Event, Page};
pub(crate) use self::wire::{parse, unreadable};
use crate::client::{Call, Failure, JSON, Lines, Refused, Resource, spread};
use crate::clusters::{Clusters, Link, Reach};

use crate::applier::object::METADATA;

const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// How many objects are listed at a time, of metadata only and whole. Less where the answer turns out to be too large.
const PAGE: usize = 500;
const PAGE_OF_WHOLE: usize = 100;
/// How long a page may take.
const LISTING: Duration = Duration::from_secs(60);
/// A watch that ended sooner than that was not ended by its own timeout.
const SHORT: Duration = Duration::from_secs(5);
/// How much longer than it should a watch may stand, before it is dropped.
const OVERDUE: Duration = Duration::from_secs(15);
/// How often a server may refuse to go on from where a watch ended, before all is listed again.
const REFUSALS: u32 = 3;
/// The pause after a failure; it doubles with each further one.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
/// How long it takes until a server is asked again that cannot be expected to answer differently: it does not know the
/// kind, or we may not list it. Also how long a cluster that is not ready is left alone.
const SELDOM: Duration = Duration::from_secs(60);

/// For how long watches stand.
#[derive(Clone, Copy, Debug)]
pub struct Watches {
    /// What is usual; each stands up to a fifth less or more, and the next goes on where it ended.
    pub usual: Duration,
    /// A server that tells now and then that nothing has happened (in bookmarks, about once a minute), and then falls
    /// silent for this long, is taken for gone.
    pub silence: Duration,
}

impl Default for Watches {
    fn default() -> Self {
        Self { usual: Duration::from_secs(450), silence: Duration::from_secs(180) }
    }
}

/// What of a kind is followed, and what is told of it.
pub(crate) trait Reader: fmt::Display + Send + Sync + 'static {
    /// What is told.
    type Told: Send + 'static;

    /// The kind.
    fn kind(&self) -> &Gvk;

    /// Whether another version of its group does as well.
    fn any_version(&self) -> bool {
        true
    }

    /// Whether objects are read with their content, and not only their metadata.
    fn whole(&self) -> bool;

    /// Which labels they have, as the API takes it; empty: any.
    fn selector(&self) -> &str;

    /// In which namespace they are; all if none is said.
    fn namespace(&self) -> Option<&str> {
        None
    }

    /// What is told of an object that is there. Nothing, if it does not matter.
    fn there(&self, object: &RawValue) -> Result<Option<Told<Self>>, Failure>;

    /// What is told of an object that went away: as it was at last.
    fn gone(&self, object: &RawValue) -> Result<Option<Told<Self>>, Failure>;

    /// A list begins: all objects follow.
    fn listing(&self, resource: &Resource) -> Self::Told;

    /// A list is complete.
    fn listed(&self, version: &Arc<str>) -> Self::Told;

    /// The cluster does not serve the kind.
    fn missing(&self) -> Vec<Self::Told>;

    /// Something does not work; it is tried again.
    fn trouble(&self, _why: &Failure) -> Option<Self::Told> {
        None
    }

    /// It works again.
    fn recovered(&self) -> Option<Self::Told> {
        None
    }
}

/// What is told of an object, and its version.
pub(crate) type Told<R> = (<R as Reader>::Told, Option<Arc<str>>);

/// Follows a kind in a cluster, for as long as that is registered.
pub(crate) fn follow<R: Reader>(
    clusters: &Arc<Clusters>,
    cluster: &ClusterId,
    reader: R,
    watches: Watches,
) -> BoxStream<'static, R::Told> {
    let Some(reach) = clusters.reach(cluster) else {
        return futures::stream::empty().boxed();
    };
    Follower::new(Arc::clone(clusters), cluster.clone(), reader, watches, reach).told()
}

pub(crate) struct Follower<R: Reader> {
    clusters: Arc<Clusters>,
    cluster: ClusterId,
    reader: R,
    watches: Watches,
    page: usize,
    reach: watch::Receiver<Reach>,
    /// The connection that the stage is of.
    link: Option<Arc<Link>>,
    stage: Stage,
    /// What was read and not taken yet: a page at most.
    told: VecDeque<R::Told>,
    /// How often in a row something did not work.
    failures: u32,
    /// While the cluster does not serve the kind: how long it is until it is asked again.
    missing: Option<Duration>,
    in_trouble: bool,
    /// Whether whoever reads was told that something does not work.
    told_trouble: bool,
}

enum Stage {
    /// Where the kind is served is to be found out.
    Begin,
    /// The cluster does not serve it.
    Missing,
    /// Some pages were read, if there is a token for the next.
    Listing(Resource, Option<String>),
    /// All is known up to a version.
    Resuming(Standing),
    Watching(Standing, Open),
    /// Something did not work, and is left alone for a while.
    Resting(Duration, Box<Stage>),
}

#[derive(Clone)]
struct Standing {
    resource: Resource,
    version: Arc<str>,
    refusals: u32,
}

struct Open {
    lines: Lines,
    since: Instant,
    until: Instant,
    /// Whether the server tells that nothing has happened.
    bookmarks: bool,
}

/// What is tried next, after a pause for that reason.
struct Pause {
    then: Stage,
    why: Failure,
}

impl<R: Reader> Follower<R> {
    pub(crate) fn new(
        clusters: Arc<Clusters>,
        cluster: ClusterId,
        reader: R,
        watches: Watches,
        reach: watch::Receiver<Reach>,
    ) -> Self {
        Self {
            clusters,
            cluster,
            watches,
            page: if reader.whole() { PAGE_OF_WHOLE } else { PAGE },
            reader,
            reach,
            link: None,
            stage: Stage::Begin,
            told: VecDeque::new(),
            failures: 0,
            missing: None,
            in_trouble: false,
            told_trouble: false,
        }
    }

    pub(crate) fn told(self) -> BoxStream<'static, R::Told> {
        futures::stream::unfold(self, |mut follower| async move {
            let told = Box::pin(follower.next()).await?;
            Some((told, follower))
        })
        .boxed()
    }

    /// `None` once the cluster is not registered any more. Cancelled, it begins anew.
    async fn next(&mut self) -> Option<R::Told> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            let link = self.link().await?;
            let mut reach = self.reach.clone();
            let mut stage = std::mem::replace(&mut self.stage, Stage::Begin);
            if !self.link.replace(Arc::clone(&link)).is_some_and(|before| Arc::ptr_eq(&before, &link)) {
                // Another connection may lead to another cluster, or with other rights: all is read again.
                (stage, self.missing) = (Stage::Begin, None);
            }
            tokio::select! {
                biased;
                () = replaced(&mut reach, &link) => {}
                stage = self.step(&link, stage) => self.stage = stage,
            }
        }
    }

    /// The connection to the cluster, once there is one.
    async fn link(&mut self) -> Option<Arc<Link>> {
        loop {
            if self.reach.has_changed().is_err() {
                // It left; another one may have come under its name.
                self.reach = self.clusters.reach(&self.cluster)?;
                self.stage = Stage::Begin;
            }
            if let Some(link) = self.reach.borrow_and_update().link.clone() {
                return Some(link);
            }
            // An error shows at the next turn.
            let _ = self.reach.changed().await;
        }
    }

    /// Does what is next. Where that did not work, it is to rest, once it was told why.
    async fn step(&mut self, link: &Arc<Link>, stage: Stage) -> Stage {
        let done = match stage {
            Stage::Begin => self.begin(link).await,
            Stage::Missing => {
                let kind = self.reader.kind();
                let wait = spread(self.missing.unwrap_or(SELDOM));
                // Whoever applies objects of the kind asks too.
                let _ = timeout(wait, link.kinds.until_served(kind)).await;
                Ok(Stage::Begin)
            }
            Stage::Listing(resource, next) => self.list(link, resource, next).await,
            Stage::Resuming(standing) => self.resume(link, standing).await,
            Stage::Watching(standing, open) => self.watch(link, standing, open).await,
            Stage::Resting(delay, then) => {
                sleep(delay).await;
                // A cluster that does not answer is asked by its probe; the watches need not ask too.
                let _ = timeout(spread(SELDOM), self.reach.wait_for(|reach| reach.ready)).await;
                Ok(*then)
            }
        };
        done.unwrap_or_else(|Pause { then, why }| Stage::Resting(self.put_off(link, &why), Box::new(then)))
    }

    async fn begin(&mut self, link: &Link) -> Result<Stage, Pause> {
        let deadline = Instant::now() + LISTING;
        let kind = self.reader.kind();
        let found = match self.reader.any_version() {
            true => link.kinds.find_in_any_version(&link.client, kind, deadline).await,
            false => link.kinds.find(&link.client, kind, deadline).await,
        };
        match found {
            Ok(Some(resource)) => {
                self.missing = None;
                Ok(Stage::Listing(resource, None))
            }
            Ok(None) => {
                if self.missing.is_none() {
                    self.told.extend(self.reader.missing());
                }
                self.missing =
                    Some(self.missing.map_or(Duration::from_secs(1), |wait| (wait * 2).min(SELDOM)));
                Ok(Stage::Missing)
            }
            Err(why) => Err(Pause { then: Stage::Begin, why }),
        }
    }

    async fn list(&mut self, link: &Link, resource: Resource, next: Option<String>) -> Result<Stage, Pause> {
        let mut path = format!("{}?{}limit={}", self.collection(&resource), self.selector(), self.page);
        if let Some(next) = &next {
            path.push_str("&continue=");
            path.extend(utf8_percent_encode(next, NON_ALPHANUMERIC));
        }
        let accept = if self.reader.whole() { JSON } else { METADATA_LIST };
        let answer = link.client.call(Call { accept, ..Call::get(path) }, Instant::now() + LISTING).await;
        let page = answer.and_then(|body| wire::page(&self.reader, &body));
        match page {
            Ok(Page { objects, next: further, version }) => {
                if next.is_none() {
                    self.told.push_back(self.reader.listing(&resource));
                }
                self.told.extend(objects);
                if further.is_some() {
                    return Ok(Stage::Listing(resource, further));
                }
                self.note_recovery();
                self.told.push_back(self.reader.listed(&version));
                Ok(Stage::Resuming(Standing { resource, version, refusals: 0 }))
            }
            Err(why) => {
                match why {
                    Failure::NoSuchPath => link.kinds.forget(self.reader.kind()),
                    // Too large, or too much work for the server.
                    Failure::NoAnswer { .. } => self.page = (self.page / 2).max(1),
                    _ => {}
                }
                // A token for the next page is good for some minutes, and for this server's life, only.
                Err(Pause { then: Stage::Begin, why })
            }
        }
    }

    async fn resume(&mut self, link: &Link, mut standing: Standing) -> Result<Stage, Pause> {
        let lasts = spread(self.watches.usual).max(Duration::from_secs(1));
        let path = format!(
            "{}?{}watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            self.collection(&standing.resource),
            self.selector(),
            standing.version,
            lasts.as_secs(),
        );
        let accept = if self.reader.whole() { JSON } else { METADATA };
        match link.client.watch(&path, accept).await {
            Ok(lines) => {
                self.note_recovery();
                if std::mem::take(&mut self.in_trouble) {
                    tracing::info!(cluster = %self.cluster, "{} are watched again", self.reader);
                }
                let since = Instant::now();
                let open = Open { lines, since, until: since + lasts + OVERDUE, bookmarks: false };
                Ok(Stage::Watching(standing, open))
            }
            Err(Refused { failure, answered }) => match failure {
                // The server has forgotten what was then: that is part of every watch's life.
                Failure::Other { code: 410, .. } => Ok(Stage::Listing(standing.resource, None)),
                Failure::NoSuchPath => {
                    link.kinds.forget(self.reader.kind());
                    Ok(Stage::Begin)
                }
                why => {
                    if answered && !matches!(why, Failure::Throttled { .. }) {
                        standing.refusals += 1;
                    }
                    Err(Pause { then: standing.again(), why })
                }
            },
        }
    }

    /// Takes one event.
    async fn watch(&mut self, link: &Link, mut standing: Standing, mut open: Open) -> Result<Stage, Pause> {
        let silent = Instant::now() + self.watches.silence;
        let until = if open.bookmarks { open.until.min(silent) } else { open.until };
        let line = tokio::time::timeout_at(until, open.lines.next()).await;
        let stood = open.since.elapsed() >= SHORT;
        if stood {
            self.failures = 0;
        }
        let line = match line {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) if stood => return Ok(Stage::Resuming(standing)),
            Ok(Ok(None)) => {
                let why = Failure::NoAnswer { reason: "the server ended the watch at once".to_owned() };
                return Err(Pause { then: standing.again(), why });
            }
            Ok(Err(why)) => return Err(Pause { then: standing.again(), why }),
            Err(_) => {
                // Whoever is silent at the other end may be gone.
                link.doubt();
                return Ok(Stage::Resuming(standing));
            }
        };
        match wire::event(&self.reader, &line) {
            Ok(Event::Told(told, version)) => {
                standing.reached(version);
                self.told.push_back(told);
            }
            Ok(Event::Bookmark(version)) => {
                standing.reached(Some(version));
                open.bookmarks = true;
            }
            Ok(Event::Other) => {}
            Ok(Event::Expired) => return Ok(Stage::Listing(standing.resource, None)),
            Err(why) => {
                standing.refusals += 1;
                return Err(Pause { then: standing.again(), why });
            }
        }
        Ok(Stage::Watching(standing, open))
    }

    fn selector(&self) -> String {
        match self.reader.selector() {
            "" => String::new(),
            selector => format!("labelSelector={}&", utf8_percent_encode(selector, NON_ALPHANUMERIC)),
        }
    }

    /// The path of what is followed. What lives in no namespace is in all of them.
    fn collection(&self, resource: &Resource) -> String {
        resource.collection(self.reader.namespace().filter(|_| resource.namespaced))
    }

    /// Tells that something works again, if it did not.
    fn note_recovery(&mut self) {
        if std::mem::take(&mut self.told_trouble) {
            self.told.extend(self.reader.recovered());
        }
    }

    /// How long something is left alone that failed; says so.
    fn put_off(&mut self, link: &Link, why: &Failure) -> Duration {
        let longest = match why {
            Failure::Forbidden { .. } | Failure::Unauthorized | Failure::Invalid { .. } => SELDOM,
            Failure::Unreachable { .. } | Failure::NoAnswer { .. } | Failure::NotTried { .. } => {
                link.doubt();
                LONGEST
            }
            _ => LONGEST,
        };
        let delay = match why {
            Failure::Throttled { retry_after, .. } => *retry_after,
            _ => SHORTEST.saturating_mul(1 << self.failures.min(16)).min(longest),
        };
        self.failures = self.failures.saturating_add(1);
        self.warn(why);
        if let Some(trouble) = self.reader.trouble(why) {
            self.told_trouble = true;
            self.told.push_back(trouble);
        }
        spread(delay)
    }

    /// Says what is wrong, once. That a cluster is out of reach is said by the registry.
    fn warn(&mut self, why: &Failure) {
        let gone = matches!(
            why,
            Failure::Unreachable { .. }
                | Failure::NoAnswer { .. }
                | Failure::NotTried { .. }
                | Failure::NoSuchPath
                | Failure::Throttled { .. }
                | Failure::Other { code: 410, .. }
        );
        if !gone && !std::mem::replace(&mut self.in_trouble, true) {
            tracing::warn!(
                cluster = %self.cluster, reason = %why,
                "{} cannot be watched: what happens to them is not noticed; grant list and watch", self.reader
            );
        }
    }
}

impl Standing {
    fn reached(&mut self, version: Option<Arc<str>>) {
        if let Some(version) = version {
            self.version = version;
        }
        self.refusals = 0;
    }

    /// From where it goes on; from the beginning, if that was refused too often.
    fn again(self) -> Stage {
        if self.refusals < REFUSALS { Stage::Resuming(self) } else { Stage::Listing(self.resource, None) }
    }
}

/// Waits until a connection is not the cluster's any more.
async fn replaced(reach: &mut watch::Receiver<Reach>, link: &Arc<Link>) {
    let other = |reach: &Reach| !reach.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link));
    // An error says that the cluster left.
    let _ = reach.wait_for(other).await;
}

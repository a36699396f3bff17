//! A whole fleet: a management cluster, managed clusters and NATS, in one folder.

use std::path::Path;
use std::thread::available_parallelism;

use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;

use crate::scratch::Owned;
use crate::{Cluster, ClusterOptions, Etcd, LabError, Nats, NatsOptions, Progress, Result, leftover};

/// The folder inside the lab's with what belongs to the servers alone.
const SERVERS: &str = "servers";

/// Says what a lab consists of.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    management: bool,
    clusters: usize,
    cluster_options: ClusterOptions,
    nats: Option<NatsOptions>,
    progress: Progress,
}

impl LabBuilder {
    /// Whether there is a management cluster beside the managed ones.
    #[must_use]
    pub fn management(mut self, wanted: bool) -> Self {
        self.management = wanted;
        self
    }

    /// The number of managed clusters, called `cluster1` and so on.
    #[must_use]
    pub fn clusters(mut self, number: usize) -> Self {
        self.clusters = number;
        self
    }

    /// What all clusters have in common.
    #[must_use]
    pub fn cluster_options(mut self, options: ClusterOptions) -> Self {
        self.cluster_options = options;
        self
    }

    /// Adds a NATS server.
    #[must_use]
    pub fn nats(mut self, options: NatsOptions) -> Self {
        self.nats = Some(options);
        self
    }

    /// Where to tell what takes long.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Starts everything in a folder, and waits until all is ready. The folder may be that of an earlier lab, of
    /// which it finds data, keys and, if they are still free, ports; what a killed lab left running is ended first.
    ///
    /// # Errors
    /// If another lab uses the folder, or one of the parts does not start; then none is left.
    pub async fn start(self, dir: impl AsRef<Path>) -> Result<Lab> {
        self.start_in(Owned::take(dir.as_ref())?).await
    }

    /// Starts everything in a temporary folder, which is removed when the lab is dropped.
    ///
    /// # Errors
    /// As [`LabBuilder::start`].
    pub async fn start_scratch(self) -> Result<Lab> {
        self.start_in(Owned::scratch()?).await
    }

    async fn start_in(mut self, dir: Owned) -> Result<Lab> {
        self.cluster_options.progress = self.progress.clone();
        let servers = dir.path().join(SERVERS);
        crate::private::create_dir(&servers).map_err(LabError::file("create", &servers))?;
        let ended =
            leftover::end_all(&servers).await.map_err(LabError::file("end what runs in", &servers))?;
        for server in ended {
            self.progress.say(format!("ended {server}, left behind by a lab that was killed"));
        }
        let nats = match self.nats.take() {
            Some(options) => Some(Nats::start(&servers, &options.progress(self.progress.clone())).await?),
            None => None,
        };
        let mut lab = Lab { nats, clusters: Vec::new(), management: None, etcd: None, dir };
        if self.management || self.clusters > 0 {
            let etcd = Etcd::start_named(&servers, "etcd", &self.progress).await?;
            lab.clusters = self.start_clusters(&etcd, &servers).await?;
            lab.management = self.management.then(|| lab.clusters.remove(0));
            lab.etcd = Some(etcd);
        }
        Ok(lab)
    }

    /// Starts the management cluster, if wanted, and then the others; as many at once as there are processors.
    async fn start_clusters(&self, etcd: &Etcd, servers: &Path) -> Result<Vec<Cluster>> {
        let management = self.management.then(|| "management".to_owned());
        let managed = (1..=self.clusters).map(|number| format!("cluster{number}"));
        stream::iter(management.into_iter().chain(managed))
            .map(async |name| {
                let cluster = Cluster::start(etcd, servers, &name, &self.cluster_options).await?;
                self.progress.say(format!("{name} is ready"));
                Ok(cluster)
            })
            .buffered(available_parallelism().map_or(1, usize::from))
            .try_collect()
            .await
    }
}

/// A whole fleet. Dropping it kills its processes.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: clients before their servers, and the folder last.
    nats: Option<Nats>,
    clusters: Vec<Cluster>,
    management: Option<Cluster>,
    etcd: Option<Etcd>,
    dir: Owned,
}

impl Lab {
    /// A lab of one managed cluster, without management cluster and without NATS, until told otherwise.
    pub fn builder() -> LabBuilder {
        LabBuilder {
            management: false,
            clusters: 1,
            cluster_options: ClusterOptions::default(),
            nats: None,
            progress: Progress::default(),
        }
    }

    /// One cluster for all tests of a test program, started when the first asks for it. It ends with the program.
    ///
    /// Tests that share it keep to namespaces of their own, and leave its servers alone.
    ///
    /// # Errors
    /// As [`LabBuilder::start`]; the next to ask tries again.
    pub async fn shared_cluster() -> Result<&'static Cluster> {
        static SHARED: OnceCell<Lab> = OnceCell::const_new();
        let lab = SHARED.get_or_try_init(|| Lab::builder().start_scratch()).await?;
        lab.clusters.first().ok_or_else(|| LabError::NotRunning { server: "the shared cluster".to_owned() })
    }

    /// The folder of the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The management cluster, if there is one.
    pub fn management(&self) -> Option<&Cluster> {
        self.management.as_ref()
    }

    /// The managed clusters, in the order of their numbers.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The NATS server, if there is one.
    pub fn nats(&self) -> Option<&Nats> {
        self.nats.as_ref()
    }

    /// The etcd that all clusters share, if there are any.
    pub fn etcd(&self) -> Option<&Etcd> {
        self.etcd.as_ref()
    }

    /// Stops all servers in order. Dropping the lab kills them, which is faster and loses nothing either.
    ///
    /// # Errors
    /// If a process does not end; the others are killed then.
    pub async fn stop(self) -> Result<()> {
        let clusters = self.clusters.iter().chain(&self.management).map(Cluster::stop);
        try_join_all(clusters).await?;
        if let Some(nats) = &self.nats {
            nats.server().stop().await?;
        }
        if let Some(etcd) = &self.etcd {
            etcd.server().stop().await?;
        }
        Ok(())
    }
}

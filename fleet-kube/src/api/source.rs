//! `EventSource`: where events come from.

use fleet_core::filter::Filter;
use fleet_core::selector::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::Status;
use super::{duration, filter};

/// The default of [`EventSourceSpec::max_event_bytes`]: 256 KiB.
const MAX_EVENT_BYTES: u32 = 256 * 1024;

/// Where events come from, which of them count, and how the cluster that an event came from is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[kube(
    group = "fleet-events.dev",
    version = "v1alpha1",
    kind = "EventSource",
    shortname = "evsrc",
    category = "fleet-events",
    status = "Status",
    derive = "PartialEq",
    doc = "Where events come from, which of them count, and how the cluster that an event came from is found.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = "1",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[x_kube(
    validation = Rule::new("[has(self.http), has(self.nats), has(self.kubernetes)].filter(set, set).size() == 1")
        .message("set exactly one of http, nats and kubernetes")
)]
#[x_kube(
    validation = Rule::new("!has(self.kubernetes) || !(has(self.origin) || has(self.dedupe))")
        .message("with kubernetes the origin of an event is the cluster that it comes from, and what is told twice changes nothing; leave out origin and dedupe")
)]
#[x_kube(
    validation = Rule::new("!has(self.origin) || !has(self.nats) || !has(self.nats.clusterSecretRef)")
        .message("with nats.clusterSecretRef the origin of an event is the cluster that it comes from; leave out origin")
)]
#[x_kube(
    validation = Rule::new("!has(self.deadLetter) || !has(self.nats) || !has(self.nats.clusterSecretRef)")
        .message("with nats.clusterSecretRef dead letters are kept in the operator's store; leave out deadLetter")
)]
#[x_kube(
    validation = Rule::new("!has(self.deadLetter) || has(self.nats)")
        .message("deadLetter is for NATS: what arrives by HTTP is answered with the reason, and kept in the operator's store")
)]
#[x_kube(
    validation = Rule::new("!has(self.deadLetter) || !has(self.nats) || !has(self.nats.jetStream) || self.nats.jetStream.stream != self.deadLetter.jetStream.stream")
        .message("deadLetter.jetStream.stream is the stream that is read; name another one")
)]
#[x_kube(
    validation = Rule::new("self.replay == 0 || (has(self.nats) && (has(self.nats.jetStream) || has(self.nats.clusterSecretRef)))")
        .message("replay is for JetStream: nothing else keeps events to deliver again")
)]
#[x_kube(
    validation = Rule::new("self.replay == 0 || !has(self.nats) || !has(self.nats.jetStream) || self.nats.jetStream.deliverFrom != 'new'")
        .message("replay with deliverFrom: new would skip what was not read yet; set deliverFrom: all")
)]
#[x_kube(validation = Rule::new("self.replay >= oldSelf.replay").message("replay may only grow"))]
pub struct EventSourceSpec {
    /// Events are sent to the operator's own HTTP endpoint, `/events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSpec>,
    /// Events come from NATS: core NATS, or JetStream where `jetStream` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSpec>,
    /// Objects of clusters are the events: in every cluster that a trigger of this EventSource selects by its
    /// `sourceClusterSelector`, which is the origin of what comes from there. An object that matches is Create, again
    /// whenever it changed; one that is gone, or matches no more, is Delete, also when that happened while nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSpec>,
    /// Which events count: all of these filters must let an event pass. The dialects are those of CloudEvents
    /// Subscriptions (exact, prefix, suffix, all, any, not), `pattern`, regular expressions in RE2's syntax that are found
    /// in attributes, `messageSubject`, one that is found in the subject of the NATS message, and `cel`, an expression over
    /// `event` (attributes, extensions, `data`) and `message` (`subject`, `tokens`): `event.data.seats > 10`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "filter::filters")]
    pub filters: Vec<Filter>,
    /// How the cluster that an event came from is found. Without it events have no origin, and a trigger's resources
    /// go to all clusters that its selector matches. With it, an event whose origin is missing is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<OriginSpec>,
    /// Larger events are refused.
    #[serde(default = "max_event_bytes")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_event_bytes: u32,
    /// Where events are kept that cannot be processed, with the reason. By default in the operator's own store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterSpec>,
    /// Which events count as repetitions of an earlier one. By default none: an id may be used again, as login and
    /// logout of one user do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<DedupeSpec>,
    /// Raise it to have the whole stream delivered and processed again. It may only grow.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub replay: u32,
}

/// Says of no source yet where its events come from.
impl Default for EventSourceSpec {
    fn default() -> Self {
        Self {
            http: None,
            nats: None,
            kubernetes: None,
            filters: Vec::new(),
            origin: None,
            max_event_bytes: MAX_EVENT_BYTES,
            dead_letter: None,
            dedupe: None,
            replay: 0,
        }
    }
}

fn max_event_bytes() -> u32 {
    MAX_EVENT_BYTES
}

/// Nothing to set: write `http: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {}

/// Which objects of clusters are events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesSpec {
    /// An object is an event if one of these matches. The user of the cluster's kubeconfig needs the verbs list and watch
    /// for the kinds.
    #[schemars(length(min = 1, max = 32))]
    pub resource_selectors: Vec<ResourceSelector>,
    /// Whether templates see whole objects (`resource.spec`), and not only `apiVersion`, `kind` and `metadata`. What they
    /// see is kept in the operator's store, and a change of it renders anew.
    #[serde(default)]
    pub collect_resources: bool,
}

/// Which objects of one kind: those for which all of this holds, and that are not being deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceSelector {
    /// The API group; absent or `""` is the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// The version in the group.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// The kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The namespace that they are in; by default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Their name; by default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Their labels; by default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>")]
    pub selector: Option<LabelSelector>,
    /// CEL expressions over the object, one of which has to give true. One that looks at a field that is not there does
    /// not. Where all look at metadata only, nothing else is read.
    #[serde(default, rename = "evaluateCEL", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub evaluate_cel: Vec<ResourceRule>,
}

/// A CEL expression over an object as `resource`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceRule {
    /// What this is called in messages.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The expression: `resource.spec.type == "LoadBalancer"`.
    #[schemars(length(min = 1, max = 2048))]
    pub rule: String,
}

/// Which NATS servers, and what of theirs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.urls) || has(self.connectionSecretRef) || has(self.clusterSecretRef)")
        .message("set urls, or connectionSecretRef to a Secret with the key url, or clusterSecretRef")
)]
#[x_kube(
    validation = Rule::new("!has(self.clusterSecretRef) || !(has(self.urls) || has(self.connectionSecretRef) || has(self.subjects) || has(self.queueGroup) || has(self.jetStream))")
        .message("with clusterSecretRef the Secret in each cluster says all that is to be said of NATS; set nothing beside it")
)]
#[x_kube(
    validation = Rule::new("has(self.jetStream) || has(self.clusterSecretRef) || (has(self.subjects) && self.subjects.size() > 0)")
        .message("subjects must name at least one subject")
)]
#[x_kube(
    validation = Rule::new("!(has(self.jetStream) && has(self.queueGroup))")
        .message("queueGroup is for core NATS; with jetStream, operators share the work of one durable consumer")
)]
#[x_kube(
    validation = Rule::new("!has(self.jetStream) || !has(self.jetStream.create) || !self.jetStream.create || (has(self.subjects) && self.subjects.size() > 0)")
        .message("to create the stream, subjects must say which subjects it is to hold")
)]
pub struct NatsSpec {
    /// The servers of one NATS system: `nats://host:4222`, or `tls://host:4222`. No credentials: those belong into a
    /// Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub urls: Vec<String>,
    /// A Secret with any of the keys `url` (or `urls`, one a line or with commas), `user` and `password`, `token`,
    /// `nkey` (the seed), `creds`, `ca.crt`, `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret_ref: Option<SecretRef>,
    /// NATS runs in the clusters, and a Secret in each says how it is reached and what is read there. It is read in every
    /// cluster that a trigger of this EventSource selects by its `sourceClusterSelector`, and that cluster is the origin of
    /// what comes from there. Write `clusterSecretRef: {}` for the Secret that Sveltos' agents read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_secret_ref: Option<ClusterSecretRef>,
    /// The subjects to listen to; `*` and `>` as NATS knows them. With `jetStream`, which of the stream's subjects to
    /// read: all, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub subjects: Vec<String>,
    /// Core NATS: subscribers of one group share the messages instead of each getting all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub queue_group: Option<String>,
    /// Read from a stream, so that no event is lost while the operator is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jet_stream: Option<JetStreamSpec>,
}

/// A key of a Secret in each source cluster. It holds JSON, in the format of Sveltos: `nats.configuration` with `url`,
/// `subjects` and `authorization`, `jetstream.configuration` with `url`, `streams` (`name`, `subjects`) and
/// `authorization`, or both. `authorization` has `user` (`user`, `password`), `token`, `clientCert` (`certPem`, `keyPem`)
/// and `rootCA`, each PEM as it stands or in base64. Beside that, each configuration may have `urls` in place of `url`,
/// `tls` (`serverName`, `first`), and in its authorization `nkey` or `creds`; each stream `durable`, `deliverFrom`,
/// `ackWait` and `maxAckPending`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSecretRef {
    /// Its namespace.
    #[serde(default = "sveltos_namespace")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[serde(default = "sveltos_nats")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data.
    #[serde(default = "sveltos_nats")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// The one that Sveltos' agents read.
impl Default for ClusterSecretRef {
    fn default() -> Self {
        Self { namespace: sveltos_namespace(), name: sveltos_nats(), key: sveltos_nats() }
    }
}

fn sveltos_namespace() -> String {
    "projectsveltos".to_owned()
}

fn sveltos_nats() -> String {
    "sveltos-nats".to_owned()
}

/// Which stream is read, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JetStreamSpec {
    /// The name of the stream. It is never changed.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub stream: String,
    /// The name of the durable pull consumer; by default made from the EventSource's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub durable: Option<String>,
    /// Where a new consumer begins.
    #[serde(default)]
    pub deliver_from: DeliverFrom,
    /// After what time without a word an event is delivered again: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = duration::PATTERN))]
    pub ack_wait: Option<String>,
    /// How many events may be under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_ack_pending: Option<u32>,
    /// Create the stream with `subjects` if there is none.
    #[serde(default)]
    pub create: bool,
}

/// Where events are kept that cannot be processed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetterSpec {
    /// A stream of the NATS system that the events come from.
    pub jet_stream: DeadLetterStreamSpec,
}

/// A stream for events that cannot be processed. Each is stored as it was, with headers that say why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetterStreamSpec {
    /// The name of the stream. It is never changed, and must not be the one that is read.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub stream: String,
    /// What the subjects begin with; the EventSource's name and an id follow, so the stream must take `<subject>.*.*`.
    #[serde(default = "dead_letter_subject")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[^\s.*>]+(\.[^\s.*>]+)*$"))]
    pub subject: String,
    /// Create the stream, for `<subject>.*.*`, if there is none.
    #[serde(default)]
    pub create: bool,
}

fn dead_letter_subject() -> String {
    "fleet.dead-letters".to_owned()
}

/// Which events count as repetitions: those that say the same by `by`, within `window`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("duration(self.window) >= duration('1s') && duration(self.window) <= duration('24h')")
        .message("window must be between 1s and 24h")
)]
pub struct DedupeSpec {
    /// What must be equal.
    pub by: DedupeBy,
    /// For how long after an event: `10m`, between `1s` and `24h`.
    #[schemars(length(max = 32), regex(pattern = duration::PATTERN))]
    pub window: String,
}

/// What repetitions have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DedupeBy {
    /// The attributes source and id.
    SourceId,
}

/// Where a new consumer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeliverFrom {
    /// With the oldest event in the stream.
    #[default]
    All,
    /// With the next event that is published.
    New,
}

/// A Secret by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the cluster that an event came from is found: exactly one way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.fixed), has(self.subjectTokens), has(self.extension)].filter(set, set).size() == 1")
        .message("set exactly one of fixed, subjectTokens and extension")
)]
pub struct OriginSpec {
    /// All events come from this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<ClusterRef>,
    /// Tokens of the message's subject name the cluster. The first token is number 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_tokens: Option<SubjectTokens>,
    /// An extension attribute of the event names the cluster, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9]+$"))]
    pub extension: Option<String>,
}

/// A Cluster by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRef {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Which tokens of a subject name a cluster, counted from 0: in `fleet.civo.cluster1`, `civo` is token 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubjectTokens {
    /// The token that is the cluster's namespace.
    #[schemars(range(min = 0, max = 255))]
    pub namespace: u32,
    /// The token that is the cluster's name.
    #[schemars(range(min = 0, max = 255))]
    pub name: u32,
}

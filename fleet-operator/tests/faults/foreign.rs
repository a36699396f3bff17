//! Objects of others with the names of ours, before, during and after: nobody but their owner ever writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::number;
use crate::process::event;
use crate::random::Random;
use crate::stage::{cluster, wait_for};
use crate::wait::until;
use crate::world::World;

const STEPS: usize = 600;
const USERS: usize = 10;
const NAMESPACE: &str = "shared";
const MARK: &str = "fleet-events.dev/work";
/// What each user gets.
const NAMES: [&str; 2] = ["settings", "limits"];

const DEFINITIONS: &str = r#"
apiVersion: fleet-events.dev/v1alpha1
kind: Cluster
metadata: {namespace: civo, name: CLUSTER, labels: {env: production}}
spec: {kubeconfigFile: KUBECONFIG}
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata: {name: users}
spec: {http: {}}
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata: {name: settings}
spec:
  eventSourceName: users
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  syncMode: ContinuousWithDriftDetection
  continueOnConflict: true
  cloudEventAction: '{% if event.type == "auth.example.com.logout" %}Delete{% else %}Create{% endif %}'
  policyRefs: [{kind: ConfigMap, namespace: default, name: settings}]
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: default, name: settings, annotations: {fleet-events.dev/template: "true"}}
data:
  it.yaml: |
    {% for name in ["settings", "limits"] %}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {namespace: shared, name: "{{ event.subject }}-{{ name }}"}
    data: {of: "{{ event.subject }}"}
    {% endfor %}
"#;

/// Somebody who has objects of their own in the cluster, and takes away ours.
struct Stranger {
    api: Api<ConfigMap>,
    random: Random,
    /// Theirs, as the server answered when they wrote them last.
    theirs: BTreeMap<String, ConfigMap>,
    copies: usize,
}

impl Stranger {
    fn new(random: Random) -> Self {
        let kubeconfig = Kubeconfig::from_yaml(&cluster(1).kubeconfig).unwrap();
        let api = wait_for(async {
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
            let client = Client::try_from(config).unwrap();
            let name = Some(NAMESPACE.to_owned());
            let namespace =
                Namespace { metadata: ObjectMeta { name, ..Default::default() }, ..Default::default() };
            Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
            Api::namespaced(client, NAMESPACE)
        });
        Self { api, random, theirs: BTreeMap::new(), copies: 0 }
    }

    fn acts(&mut self) {
        let name = object(self.random.below(USERS), NAMES[self.random.below(NAMES.len())]);
        wait_for(async {
            if self.theirs.contains_key(&name) {
                self.is_untouched(&name).await;
                if self.random.percent(50) {
                    self.edits(&name).await;
                } else {
                    self.takes_away(&name).await;
                }
            } else if self.random.percent(20) {
                self.copies(&name).await;
            } else {
                if self.random.percent(50) {
                    // Ours, or nothing; theirs takes its place.
                    let _ = self.api.delete(&name, &DeleteParams::default()).await;
                }
                self.makes(&name, BTreeMap::new()).await;
            }
        });
    }

    async fn makes(&mut self, name: &str, labels: BTreeMap<String, String>) {
        let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() };
        let data = Some([("of".to_owned(), "somebody else".to_owned())].into());
        let object = ConfigMap { metadata, data, ..Default::default() };
        match self.api.create(&PostParams::default(), &object).await {
            Ok(made) => drop(self.theirs.insert(name.to_owned(), made)),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A copy of ours, as `kubectl get -o yaml`, an edit of the name and `kubectl create` give it: the mark is on it.
    async fn copies(&mut self, name: &str) {
        if let Some(ours) = self.api.get_opt(name).await.unwrap()
            && let Some(labels) = ours.metadata.labels.filter(|labels| labels.contains_key(MARK))
        {
            self.copies += 1;
            self.makes(&format!("copy-{}-of-{name}", self.copies), labels).await;
        }
    }

    async fn edits(&mut self, name: &str) {
        let mut object = self.theirs[name].clone();
        object.data.get_or_insert_default().insert("edited".to_owned(), "again".to_owned());
        object.metadata.managed_fields = None;
        let edited = self.api.replace(name, &PostParams::default(), &object).await.unwrap();
        self.theirs.insert(name.to_owned(), edited);
    }

    async fn takes_away(&mut self, name: &str) {
        self.theirs.remove(name);
        self.api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Its version is another one after every write, whatever was written.
    async fn is_untouched(&self, name: &str) {
        let now = self.api.get_opt(name).await.unwrap();
        assert_eq!(now.as_ref(), Some(&self.theirs[name]), "somebody touched {name}");
    }

    fn finds_all_untouched(&self) {
        wait_for(async {
            for name in self.theirs.keys() {
                self.is_untouched(name).await;
            }
        });
    }

    /// Names of what is there and not theirs.
    fn others(&self) -> BTreeSet<String> {
        let all = wait_for(self.api.list_metadata(&Default::default())).unwrap();
        let names = all.items.into_iter().filter_map(|object| object.metadata.name);
        names.filter(|name| !self.theirs.contains_key(name) && name != "kube-root-ca.crt").collect()
    }
}

fn object(user: usize, name: &str) -> String {
    format!("user-{user}-{name}")
}

#[test]
fn what_others_have_under_the_names_of_ours_is_never_touched() {
    let seed = number("FLEET_FAULTS_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("repeat this with FLEET_FAULTS_SEED={seed}");
    let mut random = Random::seeded(seed);
    let world = World::new();
    let name = &cluster(1).name;
    let kubeconfig = world.dir().join(format!("{name}.kubeconfig")).display().to_string();
    world.home.write("all.yaml", &DEFINITIONS.replace("CLUSTER", name).replace("KUBECONFIG", &kubeconfig));
    let mut stranger = Stranger::new(random.split());
    let mut logged_in = [false; USERS];
    let mut operator = world.home.start();
    for _ in 0..STEPS {
        match random.below(100) {
            0..40 => {
                let user = random.below(USERS);
                logged_in[user] = !logged_in[user];
                let what = if logged_in[user] { "login" } else { "logout" };
                operator.accepts(&event(what, &format!("user-{user}")));
            }
            40..42 => {
                operator.kill();
                operator = world.home.start();
            }
            _ => stranger.acts(),
        }
    }
    stranger.finds_all_untouched();
    // So that nothing waits for its turn to try a conflict again.
    for user in (0..USERS).filter(|user| logged_in[*user]) {
        operator.accepts(&event("login", &format!("user-{user}")));
    }
    // What is ours is there beside theirs, or goes.
    until("all is as the events say", || {
        let users = logged_in.iter().enumerate().filter(|(_, is_in)| **is_in);
        let wanted = users.flat_map(|(user, _)| NAMES.map(|name| object(user, name)));
        let wanted: BTreeSet<_> = wanted.filter(|name| !stranger.theirs.contains_key(name)).collect();
        let there = stranger.others();
        if there == wanted { Ok(()) } else { Err(format!("{there:?}, not {wanted:?}\n{}", world.log())) }
    });
    for user in (0..USERS).filter(|user| logged_in[*user]) {
        operator.accepts(&event("logout", &format!("user-{user}")));
    }
    until("nothing of ours is left", || {
        let there = stranger.others();
        if there.is_empty() { Ok(()) } else { Err(format!("{there:?}\n{}", world.log())) }
    });
    assert!(!stranger.theirs.is_empty() && stranger.copies > 0, "the choices tried everything");
    stranger.finds_all_untouched();
    assert!(operator.stop().success());
}

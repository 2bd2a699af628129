//! The whole agent against the embedded API server: objects in, packets out, and everything that disturbs it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use caracal_api::v3::FelixConfiguration;
use caracal_apiserver::ApiServer;
use caracal_datastore::{Client, Object, Preconditions};
use caracal_felix::agent::{Agent, Settings};
use caracal_felix::exec::SystemRunner;
use caracal_felix::metrics::Metrics;
use k8s_openapi::api::core::v1::{Namespace, Pod as PodObject};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::machine::{Pod, Server, connects, in_node, plug, text};

/// What a check each second finds must be right within this time; the machine may be busy.
const HEALS_WITHIN: Duration = Duration::from_secs(5);
/// What the kernel notifies of is put right at once; without the notification it would take far longer than this.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct Cluster {
    // Its tasks serve the client.
    _server: ApiServer,
    pub(crate) client: Client,
    status: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let server = ApiServer::in_memory();
        let client = Client::from_service(server.service(), "default");
        let cluster = Self {
            _server: server,
            client,
            status: tempfile::tempdir().unwrap(),
        };
        let namespace = json!({"metadata": {"name": "shop"}});
        cluster.create::<Namespace>(namespace).await;
        cluster
    }

    pub(crate) async fn create<K: Object>(&self, value: serde_json::Value) -> K {
        let object: K = serde_json::from_value(value).unwrap();
        self.client.create(&object).await.unwrap()
    }

    pub(crate) async fn pod(&self, name: &str, address: &str) {
        let mut pod: PodObject = self
            .create(json!({
                "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
                "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "none"}]},
            }))
            .await;
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
        pod.status = Some(serde_json::from_value(status).unwrap());
        self.client.update_status(&pod).await.unwrap();
    }

    pub(crate) async fn agent(&self) -> Agent<SystemRunner> {
        self.agent_with([]).await
    }

    /// An agent with more parameters of its node.
    pub(crate) async fn agent_with(
        &self,
        more: impl IntoIterator<Item = (String, String)>,
    ) -> Agent<SystemRunner> {
        let prefix = self.status.path().to_str().unwrap().to_owned();
        let settings = Settings {
            node: "node-1".to_owned(),
            parameters: vec![{
                let own = [("EndpointStatusPathPrefix".to_owned(), prefix)];
                BTreeMap::from_iter(own.into_iter().chain(more))
            }],
        };
        Agent::new(SystemRunner, &self.client, settings).await.unwrap()
    }
}

/// Runs an agent beside a test, and ends it as a signal would.
pub(crate) async fn beside(agent: Agent<SystemRunner>, test: Pin<Box<dyn Future<Output = ()> + '_>>) {
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let test = async {
        test.await;
        end.send(()).unwrap();
    };
    let run = Box::pin(agent.run(async { ended.await.unwrap() }));
    let (run, ()) = tokio::join!(run, test);
    run.unwrap();
}

/// Waits until something holds while the agent works, and says how long it took.
pub(crate) async fn eventually(what: &str, limit: Duration, mut test: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !test() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

fn has_route(pod: &Pod) -> bool {
    let route = format!("{} dev {} proto 80", pod.address, pod.interface);
    text("ip route").contains(&route)
}

fn rules() -> String {
    text("iptables-save | grep -v '^#' | sed 's/\\[[0-9]*:[0-9]*\\]//'")
}

async fn quiet(metrics: &Metrics) {
    let mut last = u64::MAX;
    let limit = Instant::now() + Duration::from_secs(30);
    while last != metrics.save_calls.get() {
        assert!(Instant::now() < limit, "the agent does not come to rest");
        last = metrics.save_calls.get();
        tokio::time::sleep(Duration::from_millis(2200)).await;
    }
}

/// Asks the probe. Not by a program: the agent answers on this very thread.
async fn readiness() -> String {
    let mut stream = tokio::net::TcpStream::connect("127.0.0.1:9099").await.unwrap();
    let request = b"GET /readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn objects_become_packets_and_what_breaks_heals() {
    in_node(|| async {
        let cluster = Cluster::new().await;
        let agent = cluster.agent().await;
        let metrics = agent.metrics();
        let web = plug("shop", "web", "10.65.0.2").await;
        let client = plug("shop", "client", "10.65.0.3").await;
        let _listening = Server::start(&web, 80);
        beside(
            agent,
            Box::pin(async {
                cluster.pod("web", "10.65.0.2").await;
                cluster.pod("client", "10.65.0.3").await;
                eventually("routes of the pods", HEALS_WITHIN, || {
                    has_route(&web) && has_route(&client)
                })
                .await;
                assert!(connects(&client, &web, 80), "{}", rules());

                // The object first, the interface later: the kernel's notification is enough.
                cluster.pod("late", "10.65.0.4").await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                let late = plug("shop", "late", "10.65.0.4").await;
                eventually("the late pod's route", NOTICED_WITHIN, || has_route(&late)).await;
                let path = format!("/proc/sys/net/ipv4/conf/{}/proxy_arp", late.interface);
                assert_eq!(text(&format!("cat {path}")).trim(), "1");
                let status = cluster.status.path().join("endpoint-status/k8s shop%2Flate eth0");
                eventually("the late pod's status", NOTICED_WITHIN, || status.exists()).await;

                let policy = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]}});
                cluster.create::<NetworkPolicy>(policy).await;
                eventually("the policy", HEALS_WITHIN, || !connects(&late, &web, 80)).await;
                assert!(connects(&client, &web, 80), "{}", rules());

                quiet(&metrics).await;
                let right = rules();
                text("iptables -F cali-FORWARD; iptables -F FORWARD");
                eventually("flushed chains", HEALS_WITHIN, || rules() == right).await;
                let set = text("ipset list -n | grep cali40s").trim().to_owned();
                text(&format!("ipset flush {set}"));
                let members = format!("ipset list {set}");
                eventually("a flushed set", HEALS_WITHIN, || {
                    text(&members).contains("10.65.0.3")
                })
                .await;
                text(&format!("echo 0 > {path}"));
                eventually("a parameter", HEALS_WITHIN, || {
                    text(&format!("cat {path}")).trim() == "1"
                })
                .await;
                text("ip route del 10.65.0.2");
                eventually("a deleted route", NOTICED_WITHIN, || has_route(&web)).await;
                assert!(connects(&client, &web, 80) && !connects(&late, &web, 80));

                // A pod that ends still talks; one that is gone leaves nothing.
                let gone = cluster
                    .client
                    .delete::<PodObject>(Some("shop"), "late", Preconditions::default());
                assert!(gone.await.unwrap());
                tokio::time::sleep(Duration::from_millis(300)).await;
                assert!(has_route(&late));
                let pods: kube::Api<PodObject> = kube::Api::namespaced(cluster.client.kube().clone(), "shop");
                let at_once = kube::api::DeleteParams::default().grace_period(0);
                pods.delete("late", &at_once).await.unwrap();
                eventually("what a pod that is gone had", HEALS_WITHIN, || {
                    !has_route(&late) && !status.exists()
                })
                .await;
                assert!(readiness().await.starts_with("HTTP/1.1 200"));
            }),
        )
        .await;

        // Ended: everything stays as it is. Started again: nothing needs to be written.
        assert!(connects(&client, &web, 80));
        let right = rules();
        let agent = cluster.agent().await;
        let metrics = agent.metrics();
        beside(
            agent,
            Box::pin(async {
                eventually("the second start", HEALS_WITHIN, || {
                    metrics.initial_resync_time.get() > 0.0
                })
                .await;
                quiet(&metrics).await;
            }),
        )
        .await;
        assert_eq!(rules(), right);
        assert_eq!(
            (
                metrics.restore_calls.get(),
                metrics.route_changes.get(),
                metrics.ipset_lines.get()
            ),
            (0, 0, 0)
        );
    });
}

/// What the node has of each backend: rules of iptables, IP sets, tables of nftables.
fn ours() -> [bool; 3] {
    let rules = "(iptables-nft-save; ip6tables-nft-save; iptables-legacy-save) | grep -c cali || true";
    let tables = "nft list tables | grep -c ' calico$' || true";
    [rules, "ipset list -n | grep -c cali || true", tables].map(|script| text(script).trim() != "0")
}

#[test]
fn nftables_by_configuration_heals_at_once_and_goes_again() {
    in_node(|| async {
        let cluster = Cluster::new().await;
        let mode = |mode: &str| json!({"spec": {"nftablesMode": mode}});
        let configuration = json!({"metadata": {"name": "default"}, "spec": {"nftablesMode": "Enabled"}});
        cluster.create::<FelixConfiguration>(configuration).await;
        let agent = cluster.agent().await;
        let metrics = agent.metrics();
        let (web, client) = (
            plug("shop", "web", "10.65.0.2").await,
            plug("shop", "client", "10.65.0.3").await,
        );
        let other = plug("shop", "other", "10.65.0.4").await;
        let _listening = Server::start(&web, 80);
        let holds = || connects(&client, &web, 80) && !connects(&other, &web, 80);
        let with_addresses = [
            ("web", "10.65.0.2"),
            ("client", "10.65.0.3"),
            ("other", "10.65.0.4"),
        ];
        beside(
            agent,
            Box::pin(async {
                for (name, address) in with_addresses {
                    cluster.pod(name, address).await;
                }
                let policy = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]}});
                cluster.create::<NetworkPolicy>(policy).await;
                eventually("the policy in nftables", HEALS_WITHIN, holds).await;
                assert_eq!(ours(), [false, false, true]);
                assert_eq!((metrics.restore_calls.get(), metrics.nft_errors.get()), (0, 0));

                // What was made anew stands in another order.
                let listed = || text("nft list table ip calico | sed 's/counter packets [0-9]* bytes [0-9]*//' | sort");
                let right = listed();
                for breakage in [
                    "nft flush chain ip calico filter-cali-FORWARD",
                    "nft flush ruleset",
                    "nft flush set ip calico $(nft list sets table ip calico | grep -o 'cali40s-[^ ]*' | head -1)",
                ] {
                    text(breakage);
                    let taken = eventually(breakage, NOTICED_WITHIN, || listed() == right).await;
                    println!("{breakage}: healed after {taken:?}");
                }
                assert!(holds());

                // Away and back, while the agent runs.
                let patch = |value: serde_json::Value| {
                    let client = cluster.client.clone();
                    async move { client.patch_merge::<FelixConfiguration>(None, "default", &value).await.unwrap() }
                };
                for (value, left) in [("Disabled", [true, true, false]), ("Enabled", [false, false, true])] {
                    patch(mode(value)).await;
                    eventually(value, HEALS_WITHIN, || ours() == left).await;
                    assert!(holds(), "{value}");
                }
                // By what kube-proxy does, at any time.
                patch(mode("Auto")).await;
                eventually("iptables, without kube-proxy", HEALS_WITHIN, || ours() == [true, true, false]).await;
                text("nft add table ip kube-proxy");
                eventually("nftables, as kube-proxy", HEALS_WITHIN, || ours() == [false, false, true]).await;
                assert!(holds());
            }),
        )
        .await;
        assert!(holds());
        let table = || text("nft list table ip calico");
        let before = table();
        // The first agent's servers end with their tasks.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let agent = cluster.agent().await;
        let metrics = agent.metrics();
        beside(
            agent,
            Box::pin(async {
                eventually("the second start", HEALS_WITHIN, || {
                    metrics.initial_resync_time.get() > 0.0
                })
                .await;
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }),
        )
        .await;
        assert_eq!(table(), before);
        assert_eq!(metrics.nft_messages.get(), 0);
    });
}

#[test]
fn a_port_that_is_taken_is_refused_before_anything_is_changed() {
    in_node(|| async {
        let cluster = Cluster::new().await;
        let _taken = std::net::TcpListener::bind("127.0.0.1:9099").unwrap();
        let settings = Settings {
            node: "node-1".to_owned(),
            ..Settings::default()
        };
        let refused = Agent::new(SystemRunner, &cluster.client, settings).await;
        let message = refused.err().unwrap().to_string();
        assert!(
            message.contains("127.0.0.1:9099") && !message.contains('\n'),
            "{message}"
        );
        assert_eq!(rules(), "");
    });
}

//! A snapshot from manifests: policies as they will be applied, and the pods, namespaces and sets that they are about.
//!
//! What a cluster would add is added here: namespaces and service accounts that objects are of, names as labels, an
//! address and a node for pods that have none. Templates of Deployments and the like count as one pod each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use caracal_api::k8s_policy::{AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy};
use caracal_api::kinds;
use caracal_api::net::parse_cidr_or_address;
use caracal_felix_core::Update;
use caracal_felix_core::update::Key;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodIP, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Snapshot;
use crate::input::{Document, Origin};
use crate::judge;
use crate::store::text_at;

/// Label by which Kubernetes tells the name of a namespace.
const LABEL_NAME: &str = "kubernetes.io/metadata.name";
/// Node of pods that are on none.
const NODE: &str = "node";

/// What was read of manifests.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    updates: Vec<Update>,
    pods: BTreeMap<Key, Pod>,
    namespaces: BTreeMap<String, Namespace>,
    accounts: BTreeSet<Key>,
    /// Kinds that have no say, with how many of them there are.
    pub(crate) ignored: BTreeMap<String, usize>,
    /// Tiers that policies name.
    tiers_named: BTreeSet<String>,
    tiers: BTreeSet<String>,
    first_pool: Option<ipnet::IpNet>,
}

impl Manifests {
    /// Takes in one object; objects without a namespace are of `namespace`.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub(crate) fn take(&mut self, document: Document, namespace: &str) -> Result<(), String> {
        let Document { mut object, origin } = document;
        let kind = text_at(&object, "/kind").to_owned();
        let version = text_at(&object, "/apiVersion").to_owned();
        let group = version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        if kind.is_empty() || version.is_empty() {
            let text = "no Kubernetes object: write apiVersion and kind";
            return Err(format!("{}: {text}", origin.of_field("kind")));
        }
        if group == "projectcalico.org" {
            return self.take_own(object, &origin, namespace);
        }
        let template = match (group.as_str(), kind.as_str()) {
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => {
                Some("/spec/template")
            }
            ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
            _ => None,
        };
        if let Some(template) = template {
            object = pod_of(&object, template);
        }
        let of = |namespaced: bool| key_of(&object, namespaced, namespace, &origin);
        let read = (object.clone(), &origin);
        match (
            group.as_str(),
            if template.is_some() { "Pod" } else { kind.as_str() },
        ) {
            ("" | "apps" | "batch", "Pod") => {
                self.pods.insert(of(true)?, typed(read)?);
            }
            ("", "Namespace") => {
                self.namespaces.insert(of(false)?.name, typed(read)?);
            }
            ("", "ServiceAccount") => {
                let key = of(true)?;
                self.accounts.insert(key.clone());
                self.updates.push(Update::ServiceAccount(
                    key,
                    Some(Box::new(typed::<ServiceAccount>(read)?)),
                ));
            }
            ("", "Node") => self
                .updates
                .push(Update::Node(of(false)?, Some(Box::new(typed::<Node>(read)?)))),
            ("", "Service") => {
                self.updates.push(Update::Service(
                    of(true)?,
                    Some(Box::new(typed::<Service>(read)?)),
                ));
            }
            ("discovery.k8s.io", "EndpointSlice") => {
                let slice = Box::new(typed::<EndpointSlice>(read)?);
                self.updates.push(Update::EndpointSlice(of(true)?, Some(slice)));
            }
            ("networking.k8s.io", "NetworkPolicy") => {
                let policy = Box::new(strict::<NetworkPolicy>(read)?);
                self.updates
                    .push(Update::KubernetesNetworkPolicy(of(true)?, Some(policy)));
            }
            ("policy.networking.k8s.io", "ClusterNetworkPolicy") => {
                let policy = Box::new(typed::<ClusterNetworkPolicy>(read)?);
                self.updates
                    .push(Update::ClusterNetworkPolicy(of(false)?, Some(policy)));
            }
            ("policy.networking.k8s.io", "AdminNetworkPolicy") => {
                let policy = Box::new(typed::<AdminNetworkPolicy>(read)?);
                self.updates
                    .push(Update::AdminNetworkPolicy(of(false)?, Some(policy)));
            }
            ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy") => {
                let policy = Box::new(typed::<BaselineAdminNetworkPolicy>(read)?);
                self.updates
                    .push(Update::BaselineAdminNetworkPolicy(of(false)?, Some(policy)));
            }
            _ => *self.ignored.entry(kind).or_default() += 1,
        }
        Ok(())
    }

    /// Adds a pod that no manifest has.
    pub(crate) fn add_pod(&mut self, key: Key, pod: Pod) {
        self.pods.insert(key, pod);
    }

    /// Adds labels to a namespace, which is made if there is none.
    pub(crate) fn label_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        let namespace = self.namespaces.entry(name.to_owned()).or_default();
        namespace.metadata.labels.get_or_insert_default().extend(labels);
    }

    /// Tiers that policies name and that no manifest has.
    pub(crate) fn missing_tiers(&self) -> impl Iterator<Item = &String> {
        let known = ["default", "kube-admin", "kube-baseline"];
        let named = self.tiers_named.difference(&self.tiers);
        named.filter(move |name| !known.contains(&name.as_str()))
    }

    /// The cluster that they make.
    pub(crate) fn into_snapshot(mut self) -> Snapshot {
        let mut updates = std::mem::take(&mut self.updates);
        let mut names: BTreeSet<String> = self.pods.keys().map(|key| key.namespace.clone()).collect();
        names.extend(self.accounts.iter().map(|key| key.namespace.clone()));
        for name in names {
            self.namespaces.entry(name).or_default();
        }
        for (name, mut namespace) in std::mem::take(&mut self.namespaces) {
            namespace.metadata.name = Some(name.clone());
            let labels = namespace.metadata.labels.get_or_insert_default();
            labels.insert(LABEL_NAME.to_owned(), name.clone());
            updates.push(Update::Namespace(Key::cluster(name), Some(Box::new(namespace))));
        }
        let mut addresses = Addresses::beside(&self.pods, self.first_pool);
        for (key, mut pod) in std::mem::take(&mut self.pods) {
            pod.metadata.name = Some(key.name.clone());
            pod.metadata.namespace = Some(key.namespace.clone());
            let spec = pod.spec.get_or_insert_default();
            spec.node_name.get_or_insert_with(|| NODE.to_owned());
            let account = spec
                .service_account_name
                .get_or_insert_with(|| "default".to_owned());
            let account = Key::new(&key.namespace, account.clone());
            let status = pod.status.get_or_insert_default();
            if status.pod_ip.is_none() {
                let ip = status
                    .pod_ips
                    .as_ref()
                    .and_then(|ips| ips.first())
                    .map(|ip| ip.ip.clone());
                let ip = ip.unwrap_or_else(|| addresses.next().to_string());
                status
                    .pod_ips
                    .get_or_insert_with(|| vec![PodIP { ip: ip.clone() }]);
                status.pod_ip = Some(ip);
            }
            if self.accounts.insert(account.clone()) {
                let object = json!({"metadata": {"name": account.name, "namespace": account.namespace}});
                let object: ServiceAccount = serde_json::from_value(object).unwrap_or_default();
                updates.push(Update::ServiceAccount(account, Some(Box::new(object))));
            }
            updates.push(Update::Pod(key, Some(Box::new(pod))));
        }
        Snapshot::of(updates)
    }

    fn take_own(&mut self, mut object: Value, origin: &Origin, namespace: &str) -> Result<(), String> {
        let name = text_at(&object, "/kind").to_owned();
        let Some(kind) = kinds::of_manifest(&name) else {
            return Err(format!(
                "{}: projectcalico.org has no kind {name:?}",
                origin.of_field("kind")
            ));
        };
        judge::fill_in(kind, &mut object, true);
        if let Some(text) = judge::refusal_of(kind, &object) {
            return Err(format!("{}: {text}", origin.of_field("spec")));
        }
        let key = key_of(&object, kind.namespaced, namespace, origin)?;
        self.tiers_named
            .extend(Some(text_at(&object, "/spec/tier").to_owned()).filter(|tier| !tier.is_empty()));
        let read = (object, origin);
        let update = match kind.kind {
            "NetworkPolicy" => Update::NetworkPolicy(key, Some(Box::new(typed(read)?))),
            "GlobalNetworkPolicy" => Update::GlobalNetworkPolicy(key, Some(Box::new(typed(read)?))),
            "StagedNetworkPolicy" => Update::StagedNetworkPolicy(key, Some(Box::new(typed(read)?))),
            "StagedGlobalNetworkPolicy" => {
                Update::StagedGlobalNetworkPolicy(key, Some(Box::new(typed(read)?)))
            }
            "StagedKubernetesNetworkPolicy" => {
                Update::StagedKubernetesNetworkPolicy(key, Some(Box::new(typed(read)?)))
            }
            "Tier" => {
                self.tiers.insert(key.name.clone());
                Update::Tier(key, Some(Box::new(typed(read)?)))
            }
            "NetworkSet" => Update::NetworkSet(key, Some(Box::new(typed(read)?))),
            "GlobalNetworkSet" => Update::GlobalNetworkSet(key, Some(Box::new(typed(read)?))),
            "HostEndpoint" => Update::HostEndpoint(key, Some(Box::new(typed(read)?))),
            "FelixConfiguration" => Update::FelixConfiguration(key, Some(Box::new(typed(read)?))),
            "BGPConfiguration" => Update::BgpConfiguration(key, Some(Box::new(typed(read)?))),
            "WorkloadEndpoint" => Update::WorkloadEndpoint(key, Some(Box::new(typed(read)?))),
            "IPPool" => {
                let cidr = parse_cidr_or_address(text_at(&read.0, "/spec/cidr"));
                self.first_pool = self.first_pool.or(cidr.filter(|net| net.addr().is_ipv4()));
                Update::IpPool(key, Some(Box::new(typed(read)?)))
            }
            _ => {
                *self.ignored.entry(name).or_default() += 1;
                return Ok(());
            }
        };
        self.updates.push(update);
        Ok(())
    }
}

/// The pod that a template makes, under the name of what has the template.
fn pod_of(object: &Value, template: &str) -> Value {
    let mut pod = object.pointer(template).cloned().unwrap_or_else(|| json!({}));
    if let Some(fields) = pod.as_object_mut() {
        fields.insert("apiVersion".to_owned(), json!("v1"));
        fields.insert("kind".to_owned(), json!("Pod"));
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            for field in ["name", "namespace"] {
                let value = object.pointer(&format!("/metadata/{field}"));
                metadata.extend(value.map(|value| (field.to_owned(), value.clone())));
            }
        }
    }
    pod
}

fn key_of(object: &Value, is_namespaced: bool, default: &str, origin: &Origin) -> Result<Key, String> {
    let name = text_at(object, "/metadata/name");
    if name.is_empty() {
        return Err(format!(
            "{}: no name: set metadata.name",
            origin.of_field("metadata")
        ));
    }
    let own = text_at(object, "/metadata/namespace");
    Ok(match (is_namespaced, own.is_empty()) {
        (false, _) => Key::cluster(name),
        (true, true) => Key::new(default, name),
        (true, false) => Key::new(own, name),
    })
}

fn typed<T: DeserializeOwned>((object, origin): (Value, &Origin)) -> Result<T, String> {
    let kind = text_at(&object, "/kind").to_owned();
    serde_json::from_value(object).map_err(|error| format!("{}: no {kind}: {error}", origin.of_field("spec")))
}

/// The same for kinds without a schema here: a field that is lost in reading is none.
fn strict<T: DeserializeOwned + Serialize>((object, origin): (Value, &Origin)) -> Result<T, String> {
    let typed: T = typed((object.clone(), origin))?;
    if let Some(finding) = judge::lost_fields(&object, &typed).first() {
        let place = origin.of_field(&finding.field);
        return Err(format!(
            "{place}: {} is no field ({})",
            finding.field, finding.remedy
        ));
    }
    Ok(typed)
}

/// Addresses for pods that have none.
struct Addresses {
    taken: BTreeSet<IpAddr>,
    next: u32,
}

impl Addresses {
    fn beside(pods: &BTreeMap<Key, Pod>, pool: Option<ipnet::IpNet>) -> Self {
        let statuses = pods.values().filter_map(|pod| pod.status.as_ref());
        let texts = statuses.flat_map(|status| {
            let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
            all.chain(&status.pod_ip)
        });
        let first = match pool.map(|pool| pool.network()) {
            Some(IpAddr::V4(first)) => first,
            Some(IpAddr::V6(_)) | None => Ipv4Addr::new(10, 244, 0, 0),
        };
        Self {
            taken: texts.filter_map(|text| text.parse().ok()).collect(),
            next: u32::from(first),
        }
    }

    fn next(&mut self) -> IpAddr {
        loop {
            self.next = self.next.wrapping_add(1);
            let address = IpAddr::from(Ipv4Addr::from(self.next));
            if self.taken.insert(address) {
                return address;
            }
        }
    }
}

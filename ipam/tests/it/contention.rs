//! Hosts that contend for one small pool over an API server that fails in every way.
//!
//! A ledger has what each host was told. No address may be in it twice, and in the end the datastore must say the
//! same as the ledger. The seed of a failed run is in its message.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMHandle};
use caracal_apiserver::ApiServer;
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{AutoAssign, Block, Error, Ipam, Release};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::cluster::Cluster;
use crate::faults::Faults;

const HOSTS: usize = 4;
const STEPS: usize = 25;
/// 16 addresses in blocks of 4: hosts run out and borrow.
const POOL: &str = "10.0.0.0/28";
const ADDRESSES: usize = 16;

type Ledger = Arc<Mutex<BTreeMap<IpAddr, String>>>;

struct Host {
    name: String,
    ipam: Ipam,
    random: SmallRng,
    ledger: Ledger,
    held: Vec<(String, Vec<IpAddr>)>,
    assigned: usize,
}

impl Host {
    /// Returns how many requests were met.
    async fn run(mut self) -> usize {
        for step in 0..STEPS {
            match self.random.random_range(0..10) {
                0..5 => self.assign(format!("net.{}-{step}", self.name)).await,
                5..7 => self.release_by_handle().await,
                7..9 => self.release_addresses().await,
                _ => {
                    // As if the node was thought gone; whatever fails is left for the next time.
                    let _ = self.ipam.release_host_affinities(&self.name, true).await;
                }
            }
        }
        self.assigned
    }

    async fn assign(&mut self, handle: String) {
        let mut request = AutoAssign::workload(&self.name, &handle);
        request.v4 = self.random.random_range(1..4);
        request.attributes.insert("pod".into(), handle.clone());
        match self.ipam.auto_assign(&request).await {
            Ok(assigned) => {
                let addresses: Vec<IpAddr> = assigned.all().map(|net| net.addr()).collect();
                assert_eq!(addresses.len(), request.v4);
                let mut ledger = self.ledger.lock().unwrap();
                for address in &addresses {
                    let other = ledger.insert(*address, handle.clone());
                    assert_eq!(other, None, "{address} was given to {handle} too");
                }
                self.assigned += 1;
                self.held.push((handle, addresses));
            }
            // What a plugin does after an error.
            Err(_) => release_until_gone(&self.ipam, &handle).await,
        }
    }

    /// Some handle of the host, with its addresses or, `partly`, with one of several.
    fn pick(&mut self, partly: bool) -> Option<(String, Vec<IpAddr>)> {
        if self.held.is_empty() {
            return None;
        }
        let index = self.random.random_range(0..self.held.len());
        let (handle, mut addresses) = self.held.swap_remove(index);
        if partly && addresses.len() > 1 {
            let rest = addresses.split_off(1);
            self.held.push((handle.clone(), rest));
        }
        let mut ledger = self.ledger.lock().unwrap();
        for address in &addresses {
            assert_eq!(ledger.remove(address), Some(handle.clone()));
        }
        Some((handle, addresses))
    }

    async fn release_by_handle(&mut self) {
        if let Some((handle, _)) = self.pick(false) {
            release_until_gone(&self.ipam, &handle).await;
        }
    }

    async fn release_addresses(&mut self) {
        let Some((handle, addresses)) = self.pick(true) else {
            return;
        };
        let releases: Vec<Release> = addresses
            .into_iter()
            .map(|address| Release {
                address,
                handle: Some(handle.clone()),
                sequence_number: None,
            })
            .collect();
        for _ in 0..200 {
            match self.ipam.release_ips(&releases).await {
                // Released by an earlier attempt, and given to somebody else since.
                Ok(_) | Err(Error::BadHandle { .. }) => return,
                Err(error) => assert!(error.is_transient(), "{handle}: {error}"),
            }
        }
        panic!("addresses of {handle} could not be released");
    }
}

pub(crate) async fn release_until_gone(ipam: &Ipam, handle: &str) {
    for _ in 0..200 {
        match ipam.release_by_handle(handle).await {
            Ok(()) => return,
            Err(error) if error.is_not_found() => return,
            Err(error) => assert!(error.is_transient(), "{handle}: {error}"),
        }
    }
    panic!("{handle} could not be released");
}

/// What blocks say, and that handles count at least that.
pub(crate) async fn stored(client: &Client, seed: u64) -> BTreeMap<IpAddr, String> {
    let all = ListOptions::default();
    let blocks: Vec<IPAMBlock> = client.list(None, &all).await.unwrap();
    let handles: Vec<IPAMHandle> = client.list(None, &all).await.unwrap();
    let mut assigned = BTreeMap::new();
    for stored in blocks.into_iter().filter(|block| !block.spec.deleted) {
        let block = Block::from_spec(stored.spec).unwrap();
        for (address, attribute) in block.assignments() {
            let handle = attribute.handle_id.clone().unwrap();
            let counted = handles
                .iter()
                .find(|stored| stored.spec.handle_id == handle)
                .map_or(0, |stored| stored.spec.block[&block.cidr().to_string()]);
            let held = block.addresses_of(&handle).len();
            assert!(
                usize::try_from(counted).unwrap() >= held,
                "seed {seed}: {handle} counts {counted} of {held}"
            );
            assigned.insert(address, handle);
        }
    }
    assigned
}

async fn contend(seed: u64) {
    let server = ApiServer::in_memory();
    let names: Vec<String> = (0..HOSTS).map(|index| format!("node-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let calm = Cluster::over(&server, &names).await;
    calm.pool("p", json!({"cidr": POOL, "blockSize": 30})).await;
    let faults = Faults::new(server.service(), seed);
    faults.switch(true);
    let ledger = Ledger::default();
    let mut hosts = tokio::task::JoinSet::new();
    for (index, name) in (0..).zip(&names) {
        let host = Host {
            name: (*name).to_owned(),
            ipam: Ipam::new(Client::from_service(faults.clone(), "default")),
            random: SmallRng::seed_from_u64(seed ^ (index << 32)),
            ledger: Arc::clone(&ledger),
            held: Vec::new(),
            assigned: 0,
        };
        hosts.spawn(host.run());
    }
    let mut met = 0;
    while let Some(done) = hosts.join_next().await {
        met += done.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(met >= HOSTS * 3, "seed {seed}: only {met} requests were met");
    faults.switch(false);
    // Requests that were delayed come in.
    tokio::time::sleep(Duration::from_millis(100)).await;

    let ledger = ledger.lock().unwrap().clone();
    assert_eq!(
        stored(&calm.client, seed).await,
        ledger,
        "seed {seed}: the datastore and what hosts know"
    );
    let handles: Vec<IPAMHandle> = calm.all().await;
    for handle in handles.into_iter().filter(|handle| !handle.spec.deleted) {
        release_until_gone(&calm.ipam, &handle.spec.handle_id).await;
    }
    assert_eq!(stored(&calm.client, seed).await, BTreeMap::new(), "seed {seed}");
    let left: Vec<IPAMHandle> = calm.all().await;
    assert!(
        left.iter().all(|handle| handle.spec.deleted),
        "seed {seed}: {left:?}"
    );
    // Nothing is lost: one host gets every address, and none has another block's owner for an affinity.
    let mut all = AutoAssign::workload("node-0", "net.all");
    all.v4 = ADDRESSES;
    let assigned = calm
        .ipam
        .auto_assign(&all)
        .await
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_eq!(assigned.v4.len(), ADDRESSES, "seed {seed}");
    for name in &names {
        let released = calm.ipam.release_host_affinities(name, false).await.unwrap();
        assert!(
            released
                .kept
                .iter()
                .all(|(_, error)| matches!(error, Error::Claimed { .. })),
            "seed {seed}: {:?}",
            released.kept
        );
    }
    calm.ipam.release_by_handle("net.all").await.unwrap();
    assert!(calm.all::<BlockAffinity>().await.is_empty(), "seed {seed}");
    let left: Vec<IPAMBlock> = calm.all().await;
    assert!(
        left.iter().all(|block| block.spec.deleted),
        "seed {seed}: blocks of nobody go with their last address"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_address_is_given_twice_and_none_is_lost() {
    // More seeds for a longer run: CARACAL_IPAM_SEEDS=200.
    let count = std::env::var("CARACAL_IPAM_SEEDS").map_or(4, |text| text.parse().unwrap());
    for seed in 0..count {
        contend(seed).await;
    }
}

//! The least that the same content can take: what is in the kernel, written at once into an empty namespace.

use std::time::{Duration, Instant};

use caracal_linux::netns::NetNs;

use crate::agent::Felix;
use crate::cluster::{self, Cluster};
use crate::machine::{plug, text};
use crate::watch::Kernel;
use crate::{Backend, Plan, millis};

pub(crate) async fn measure(plan: &Plan, pods: usize, policies: usize) {
    let cluster = Cluster::start().await;
    let mut plugged = Vec::new();
    for index in 0..pods {
        plugged.push(
            plug(
                &cluster::namespace(index),
                &cluster::pod_name(index),
                &cluster::address(index),
            )
            .await,
        );
    }
    cluster.pods(pods).await;
    cluster.policies(0..policies).await;
    let felix = Felix::start(&cluster, plan.backend);
    felix.wait_in_sync().await;
    Kernel::new(plan.backend)
        .settle(Duration::from_millis(1_000))
        .await;
    let file = |name: &str| cluster.path(name).display().to_string();
    let (rules, sets) = (file("rules"), file("sets"));
    let empty = NetNs::create_anonymous().unwrap();
    let timed = |script: &str| {
        let started = Instant::now();
        empty.run(|| text(script)).unwrap();
        started.elapsed()
    };
    let (rules, sets) = match plan.backend {
        Backend::Iptables => {
            text(&format!("iptables-nft-save > {rules}; ipset save > {sets}"));
            let sets = timed(&format!("ipset restore < {sets}"));
            (timed(&format!("iptables-nft-restore < {rules}")), millis(sets))
        }
        Backend::Nftables => {
            text(&format!("nft list ruleset > {rules}"));
            (timed(&format!("nft -f {rules}")), "with the rules".to_owned())
        }
    };
    println!("| {policies} policies | {} | {sets} |", millis(rules));
}

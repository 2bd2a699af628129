//! The wires carry packets: nodes, router and outside host reach each other; nothing is left behind.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail the test")]
use std::path::Path;
use std::process::Command;

use caracal_lab::topology::{Options, Plan};
use caracal_lab::{fabric, sweep};
use caracal_linux::netns::NetNs;

/// Takes the namespaces away however the test ends.
struct Swept(String);

impl Drop for Swept {
    fn drop(&mut self) {
        sweep::sweep(&self.0).unwrap();
    }
}

fn ping(netns: &str, args: &[&str]) -> bool {
    let netns = NetNs::open_named(netns).unwrap();
    let mut command = Command::new("ping");
    command.args(["-c", "1", "-W", "1"]).args(args);
    netns.output(&mut command).unwrap().status.success()
}

#[tokio::test]
async fn machines_reach_each_other_and_further_outside_addresses() {
    let options = Options {
        nodes: 2,
        ..Options::default()
    };
    let plan = Plan::new(Path::new("/run/caracal-test-fabric"), &options).unwrap();
    sweep::sweep(&plan.id).unwrap();
    let swept = Swept(plan.id.clone());
    fabric::build(&plan).await.unwrap();

    let node = plan.machine("node-1").unwrap().netns.clone();
    let outside = plan.machine("outside").unwrap().netns.clone();
    assert!(ping(&node, &["172.30.0.12"]));
    assert!(ping(&node, &["172.30.0.254"]));
    assert!(ping(&node, &["172.31.0.10"]));
    assert!(ping(&outside, &["172.30.0.11"]));

    assert!(!ping(&node, &["203.0.113.7"]));
    for _ in 0..2 {
        fabric::add_outside_address(&plan, "203.0.113.7".parse().unwrap())
            .await
            .unwrap();
    }
    assert!(ping(&node, &["203.0.113.7"]));
    assert!(ping(&outside, &["-I", "203.0.113.7", "172.30.0.11"]));

    drop(swept);
    assert!(sweep::namespaces(&plan.id).unwrap().is_empty());
}

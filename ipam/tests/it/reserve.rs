//! Starting pods while the API server is away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use caracal_api::v3::{IPAMBlock, IPAMHandle, IPPool};
use caracal_ipam::check::{Claimant, Snapshot, leaks};
use caracal_ipam::reserve::{Reserve, Returned, Target, Wanted};
use caracal_ipam::{AutoAssign, Error, Release};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::cluster::Cluster;

const TARGET: Target = Target { v4: 2, v6: 0 };

struct Scene {
    cluster: Cluster,
    folder: tempfile::TempDir,
    attributes: BTreeMap<String, String>,
}

impl Scene {
    /// Two nodes, one pool of two blocks of four addresses, and two addresses set aside by `node-1`.
    async fn new() -> (Self, Reserve) {
        let cluster = Cluster::new(&["node-1", "node-2"]).await;
        cluster
            .pool("p", json!({"cidr": "10.0.0.0/29", "blockSize": 30}))
            .await;
        let scene = Self {
            cluster,
            folder: tempfile::tempdir().unwrap(),
            attributes: [("pod", "web"), ("namespace", "ns"), ("node", "node-1")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        let reserve = scene.open();
        let done = reserve
            .reconcile(&scene.cluster.ipam, TARGET, &BTreeSet::new())
            .await
            .unwrap();
        assert_eq!(done.added.len(), 2);
        (scene, reserve)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self) -> Reserve {
        Reserve::open(self.path(), "node-1").unwrap()
    }

    fn take(&self, reserve: &Reserve, handle: &str) -> Result<IpAddr, Error> {
        let wanted = Wanted {
            v4: 1,
            v6: 0,
            handle,
            attributes: &self.attributes,
        };
        reserve.take(&wanted).map(|addresses| addresses[0])
    }

    async fn reconcile(&self, reserve: &Reserve) -> caracal_ipam::reserve::Reconciled {
        let in_use = BTreeSet::new();
        reserve
            .reconcile(&self.cluster.ipam, TARGET, &in_use)
            .await
            .unwrap()
    }

    async fn holder(&self, address: IpAddr) -> Option<String> {
        let owner = self.cluster.ipam.assignment_of(address).await.unwrap();
        owner.and_then(|owner| owner.handle)
    }

    /// What every other node can get at most.
    async fn others_get(&self) -> Vec<IpAddr> {
        let mut got = Vec::new();
        for index in 0.. {
            let request = AutoAssign::workload("node-2", &format!("other.{index}"));
            match self.cluster.ipam.auto_assign(&request).await {
                Ok(assigned) => got.push(assigned.v4[0].addr()),
                Err(error) => {
                    assert!(error.is_exhausted(), "{error}");
                    return got;
                }
            }
        }
        unreachable!("the pool has an end")
    }

    /// Counts agree with blocks, whatever happened.
    async fn counts_agree(&self) {
        let blocks: Vec<IPAMBlock> = self.cluster.all().await;
        let handles: Vec<IPAMHandle> = self.cluster.all().await;
        let held: usize = blocks
            .iter()
            .map(|block| block.spec.allocations.iter().flatten().count())
            .sum();
        let counted: i32 = handles.iter().flat_map(|handle| handle.spec.block.values()).sum();
        assert_eq!(usize::try_from(counted).unwrap(), held);
    }
}

#[tokio::test]
async fn what_is_set_aside_is_given_while_away_and_settled_afterwards() {
    let (scene, reserve) = Scene::new().await;
    let first = scene.take(&reserve, "net.1").unwrap();
    assert_eq!(scene.take(&reserve, "net.1").unwrap(), first, "a repeated ADD");
    let second = scene.take(&reserve, "net.2").unwrap();
    assert_ne!(first, second);
    let error = scene.take(&reserve, "net.3").unwrap_err();
    assert!(
        error.to_string().contains("0 of 1 IPv4 addresses set aside"),
        "{error}"
    );
    assert_eq!(reserve.give_back("net.2").unwrap(), Returned::Back);
    assert_eq!(reserve.give_back("net.2").unwrap(), Returned::NotHere);
    assert_eq!(scene.take(&reserve, "net.3").unwrap(), second);
    assert_eq!(reserve.addresses_of("net.3").unwrap(), [second]);
    // Nobody else gets them, neither by taking over the block nor by borrowing.
    let others = scene.others_get().await;
    assert_eq!(others.len(), 6);
    assert!(!others.contains(&first) && !others.contains(&second));

    let done = scene.reconcile(&reserve).await;
    assert_eq!(done.settled.len(), 2);
    assert_eq!(done.short.len(), 1, "the pool is full");
    assert_eq!(scene.holder(first).await.as_deref(), Some("net.1"));
    let owner = scene.cluster.ipam.assignment_of(second).await.unwrap().unwrap();
    assert_eq!(owner.attributes, scene.attributes);
    scene.counts_agree().await;
    scene.cluster.ipam.release_by_handle("net.1").await.unwrap();
    scene.cluster.ipam.release_by_handle("net.3").await.unwrap();
    let done = scene.reconcile(&reserve).await;
    assert_eq!((done.added.len(), done.short.len()), (2, 0));
    scene.counts_agree().await;
}

#[tokio::test]
async fn another_process_knows_what_was_taken_and_two_take_turns() {
    let (scene, reserve) = Scene::new().await;
    let first = scene.take(&reserve, "net.1").unwrap();
    assert_eq!(scene.take(&scene.open(), "net.1").unwrap(), first);
    let second = scene.take(&scene.open(), "net.2").unwrap();
    assert_ne!(first, second);
    reserve.give_back("net.1").unwrap();
    reserve.give_back("net.2").unwrap();
    let (path, attributes) = (scene.path(), &scene.attributes);
    let got: Vec<IpAddr> = std::thread::scope(|threads| {
        let takers: Vec<_> = (0..8)
            .map(|index| {
                threads.spawn(move || {
                    let reserve = Reserve::open(path, "node-1").unwrap();
                    let handle = format!("net.t{index}");
                    let wanted = Wanted {
                        v4: 1,
                        v6: 0,
                        handle: &handle,
                        attributes,
                    };
                    reserve.take(&wanted).ok().map(|addresses| addresses[0])
                })
            })
            .collect();
        takers
            .into_iter()
            .filter_map(|taker| taker.join().unwrap())
            .collect()
    });
    assert_eq!(got.len(), 2);
    assert_ne!(got[0], got[1]);
}

#[tokio::test]
async fn nothing_is_promised_that_could_not_be_written_down() {
    let (scene, reserve) = Scene::new().await;
    let before = reserve.stock().unwrap();
    // As with a full disk: the new file cannot be made.
    let obstacle = scene.path().join("journal.next");
    std::fs::create_dir(&obstacle).unwrap();
    let error = scene.take(&reserve, "net.1").unwrap_err().to_string();
    assert!(
        error.contains("journal.json") && error.contains("disk has room"),
        "{error}"
    );
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(reserve.stock().unwrap(), before);
    assert_eq!(reserve.give_back("net.1").unwrap(), Returned::NotHere);
    scene.take(&reserve, "net.1").unwrap();
}

#[tokio::test]
async fn a_lost_journal_gives_nothing_twice_and_loses_nothing() {
    for damage in ["gone", "cut", "of another node"] {
        let (scene, reserve) = Scene::new().await;
        let running = scene.take(&reserve, "net.1").unwrap();
        let path = scene.path().join("journal.json");
        match damage {
            "gone" => std::fs::remove_file(&path).unwrap(),
            "cut" => std::fs::write(&path, "{\"version\":1,").unwrap(),
            _ => {
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(
                    &path,
                    text.replace("\"node-1\",\"fresh\"", "\"node-9\",\"fresh\""),
                )
                .unwrap();
            }
        }
        let reserve = scene.open();
        assert_eq!(reserve.stock().unwrap().v4, 0, "{damage}");
        assert!(scene.take(&reserve, "net.2").is_err(), "{damage}");
        let in_use = BTreeSet::from([running]);
        let ipam = &scene.cluster.ipam;
        let done = reserve.reconcile(ipam, TARGET, &in_use).await.unwrap();
        assert_eq!((done.added.len(), done.released.len()), (2, 1), "{damage}");
        assert!(!done.added.contains(&running));
        assert!(scene.holder(running).await.is_some(), "{damage}: a pod has it");
        // The pod is gone at last.
        let done = scene.reconcile(&reserve).await;
        assert_eq!(done.released, [running], "{damage}");
        assert_eq!(scene.holder(running).await, None, "{damage}");
        scene.counts_agree().await;
    }
}

#[tokio::test]
async fn what_a_crash_left_out_of_the_journal_is_taken_up_again() {
    let (scene, reserve) = Scene::new().await;
    let path = scene.path().join("journal.json");
    // The block was written, the journal was not.
    let mut journal: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    journal["available"] = json!([]);
    std::fs::write(&path, journal.to_string()).unwrap();
    assert_eq!(reserve.stock().unwrap().v4, 0);
    let done = scene.reconcile(&reserve).await;
    assert_eq!(done.added, Vec::<IpAddr>::new(), "nothing new is needed");
    assert_eq!(reserve.stock().unwrap().v4, 2);
    scene.counts_agree().await;
}

#[tokio::test]
async fn a_container_that_goes_while_it_is_settled_leaves_nothing() {
    for written in [false, true] {
        let (scene, reserve) = Scene::new().await;
        let address = scene.take(&reserve, "net.1").unwrap();
        let path = scene.path().join("journal.json");
        let text = std::fs::read_to_string(&path).unwrap();
        if written {
            // The block says it already, and the process died before the journal did.
            scene.reconcile(&reserve).await;
            assert_eq!(scene.holder(address).await.as_deref(), Some("net.1"));
        }
        std::fs::write(
            &path,
            text.replace("\"state\":\"taken\"", "\"state\":\"settling\""),
        )
        .unwrap();
        assert_eq!(reserve.give_back("net.1").unwrap(), Returned::Later);
        assert_eq!(reserve.addresses_of("net.1").unwrap(), Vec::<IpAddr>::new());
        let done = scene.reconcile(&reserve).await;
        assert_eq!(
            (done.released, done.settled),
            (vec![address], vec![]),
            "{written}"
        );
        assert_ne!(scene.holder(address).await.as_deref(), Some("net.1"), "{written}");
        assert_eq!(reserve.give_back("net.1").unwrap(), Returned::NotHere);
        scene.counts_agree().await;
    }
}

#[tokio::test]
async fn an_address_released_by_hand_is_found() {
    let (scene, reserve) = Scene::new().await;
    let taken = scene.take(&reserve, "net.1").unwrap();
    let handle = scene.holder(taken).await.unwrap();
    let by_address = Release {
        address: taken,
        handle: None,
        sequence_number: None,
    };
    let ipam = &scene.cluster.ipam;
    let error = ipam
        .release_ips(std::slice::from_ref(&by_address))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::SetAside { .. }), "{error}");
    // By its handle it can be; one nobody has since, the other somebody has.
    ipam.release_by_handle(&handle).await.unwrap();
    let done = scene.reconcile(&reserve).await;
    assert_eq!(done.settled, [(taken, "net.1".to_owned())]);
    assert_eq!(scene.holder(taken).await.as_deref(), Some("net.1"));

    let taken = scene.take(&reserve, "net.2").unwrap();
    let handle = scene.holder(taken).await.unwrap();
    ipam.release_by_handle(&handle).await.unwrap();
    assert_eq!(scene.others_get().await.len(), 7);
    let done = scene.reconcile(&reserve).await;
    assert_eq!(
        (done.lost[0].address, done.lost[0].handle.as_str()),
        (taken, "net.2")
    );
    assert_eq!(reserve.stock().unwrap(), caracal_ipam::reserve::Stock::default());
}

#[tokio::test]
async fn a_pool_that_is_disabled_gets_its_addresses_back() {
    let (scene, reserve) = Scene::new().await;
    let mut pool: IPPool = scene.cluster.client.get(None, "p").await.unwrap().unwrap();
    pool.spec.disabled = true;
    scene.cluster.client.update(&pool).await.unwrap();
    let done = scene.reconcile(&reserve).await;
    assert_eq!((done.released.len(), done.added.len()), (2, 0));
    assert_eq!(done.short.len(), 1);
    assert_eq!(reserve.stock().unwrap().v4, 0);
    scene.counts_agree().await;
}

#[tokio::test]
async fn check_leaves_a_reserve_alone_until_its_node_is_deleted() {
    let (scene, reserve) = Scene::new().await;
    scene.cluster.assert_clean("with a reserve").await;
    let load = || async { Snapshot::load(&scene.cluster.client).await.unwrap() };
    assert_eq!(leaks(&load().await), []);
    let delete = Default::default();
    scene
        .cluster
        .client
        .delete::<Node>(None, "node-1", delete)
        .await
        .unwrap();
    let found = leaks(&load().await);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].claimant, found[0].ips.len()), (&Claimant::Reserve, 2));
    assert!(found[0].node_gone && found[0].whole);
    assert_eq!(scene.cluster.fix_all().await, []);
    scene.cluster.assert_clean("after the node").await;
    assert!(scene.cluster.all::<IPAMBlock>().await.is_empty());
    drop(reserve);
}

#[tokio::test]
async fn a_drained_reserve_is_empty_and_what_runs_stays() {
    let (scene, reserve) = Scene::new().await;
    let running = scene.take(&reserve, "net.1").unwrap();
    let done = reserve.drain(&scene.cluster.ipam).await.unwrap();
    assert_eq!((done.settled.len(), done.released.len()), (1, 1));
    assert_eq!(scene.holder(running).await.as_deref(), Some("net.1"));
    assert_eq!(reserve.stock().unwrap(), caracal_ipam::reserve::Stock::default());
    scene.counts_agree().await;
}

#[test]
fn a_full_disk_gives_nothing_and_costs_nothing() {
    // In a mount namespace of its own, which goes with the thread.
    let thread = std::thread::spawn(|| {
        let folder = tempfile::tempdir().unwrap();
        if let Err(errno) = small_disk(folder.path()) {
            eprintln!("SKIPPED: a small disk cannot be mounted ({errno}): run this as root");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(no_space_left(folder.path()));
    });
    thread.join().unwrap();
}

fn small_disk(folder: &Path) -> nix::Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(
        Some("small"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=64k"),
    )
}

async fn no_space_left(folder: &Path) {
    let (mut scene, _) = Scene::new().await;
    let reserve = Reserve::open(folder, "node-1").unwrap();
    let none = BTreeSet::new();
    let done = reserve
        .reconcile(&scene.cluster.ipam, TARGET, &none)
        .await
        .unwrap();
    assert_eq!(done.added.len(), 2);
    scene.attributes.insert("note".to_owned(), "x".repeat(100));
    let filler = folder.join("filler");
    let full = std::fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    let refused = scene.take(&reserve, "net.a").unwrap_err();
    let text = with_causes(&refused);
    assert!(text.contains(&folder.display().to_string()), "{text}");
    assert_eq!(reserve.addresses_of("net.a").unwrap(), Vec::<IpAddr>::new());
    // Neither does a program that starts now think that it was given.
    let fresh = Reserve::open(folder, "node-1").unwrap();
    assert_eq!(fresh.stock().unwrap().taken, 0);

    std::fs::remove_file(&filler).unwrap();
    let given = scene.take(&reserve, "net.a").unwrap();
    assert_eq!(reserve.addresses_of("net.a").unwrap(), [given]);
    assert_eq!(reserve.stock().unwrap().taken, 1);
}

/// An error with its causes, as people read it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

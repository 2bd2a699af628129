//! How each daemon of a lab is started: program, arguments, place and log.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::enter::Place;
use crate::error::{Error, Result};
use crate::node_files;
use crate::peers::bird as bird_conf;
use crate::process::{Daemon, Spec};
use crate::programs;
use crate::state::{Layout, MARK, write_file};
use crate::topology::{API_FABRIC_PORT, Component, Machine, Plan, api_address};
use crate::{kube, listen, ready};

/// The router's configuration and control socket, as it sees them.
const BIRD_CONF: &str = "/run/bird/bird.conf";
const BIRD_SOCKET: &str = "/run/bird/bird.ctl";

/// The API server, on the host's loopback and in the fabric.
pub(super) fn api_server(layout: &Layout, plan: &Plan, tor: &Place) -> Result<Daemon> {
    let loopback = socket(Ipv4Addr::LOCALHOST, plan.api_port)?;
    let fabric = tor.run_in_network(|| socket(api_address(), API_FABRIC_PORT))??;
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let args = [
        listen::VERB.to_owned(),
        "--".to_owned(),
        path(program(plan, "caracal-apiserver")?),
        "--data".to_owned(),
        path(layout.api_data()),
        "--kubeconfig-out".to_owned(),
        path(layout.kubeconfig()),
        "--advertise".to_owned(),
        format!("127.0.0.1:{}", plan.api_port),
        "--tls-san".to_owned(),
        api_address().to_string(),
        "--tls-san".to_owned(),
        "127.0.0.1".to_owned(),
        "--tls-san".to_owned(),
        "localhost".to_owned(),
    ];
    Daemon::start(Spec {
        name: "apiserver".to_owned(),
        program: std::env::current_exe().map_err(|e| Error::io("find the running program", e))?,
        args: args.into(),
        env: environment(plan),
        place: None,
        log: layout.log("apiserver"),
        sockets: Some((Arc::new(loopback), Arc::new(fabric))),
    })
}

/// etcd and kube-apiserver, in the router's network.
pub(super) fn real_api(layout: &Layout, plan: &Plan, router: u32) -> Result<[Daemon; 2]> {
    let files = kube::Files::write(layout, plan)?;
    let start = |name: &str, args: Vec<String>| {
        Daemon::start(Spec {
            name: name.to_owned(),
            program: program(plan, "nsenter")?,
            args: kube::in_network_of(router, &program(plan, name)?, args),
            env: environment(plan),
            place: None,
            log: layout.log(name),
            sockets: None,
        })
    };
    Ok([
        start("etcd", files.etcd())?,
        start("kube-apiserver", files.api_server())?,
    ])
}

/// BIRD in the router.
pub(super) fn bird(layout: &Layout, plan: &Plan, tor: &Machine, place: &Arc<Place>) -> Result<Daemon> {
    let conf = layout.bird_conf(tor);
    if let Some(folder) = conf.parent() {
        fs::create_dir_all(folder).map_err(|e| Error::io(format!("create {}", folder.display()), e))?;
    }
    write_file(&conf, bird_conf::config(plan).as_bytes(), 0o644)?;
    Daemon::start(Spec {
        name: "tor/bird".to_owned(),
        program: program(plan, "bird")?,
        args: ["-f", "-c", BIRD_CONF, "-s", BIRD_SOCKET]
            .map(str::to_owned)
            .into(),
        env: environment(plan),
        place: Some(Arc::clone(place)),
        log: layout.log("tor/bird"),
        sockets: None,
    })
}

/// A daemon of a node.
pub(super) fn of_node(
    layout: &Layout,
    plan: &Plan,
    node: &Machine,
    place: &Arc<Place>,
    component: Component,
) -> Result<Daemon> {
    let mut env = environment(plan);
    if component == Component::Felix {
        env.push(("FELIX_HEALTHENABLED".to_owned(), "true".to_owned()));
        env.push((
            "FELIX_HEALTHPORT".to_owned(),
            ready::FELIX_HEALTH_PORT.to_string(),
        ));
    }
    let args = ["--kubeconfig", node_files::KUBECONFIG, "--node-name", &node.name];
    let name = format!("{}/{component}", node.name);
    Daemon::start(Spec {
        program: program(plan, &format!("caracal-{component}"))?,
        args: args.map(str::to_owned).into(),
        env,
        place: Some(Arc::clone(place)),
        log: layout.log(&name),
        name,
        sockets: None,
    })
}

/// The supervisor's own environment, without what the user's shell would change, marked.
fn environment(plan: &Plan) -> Vec<(String, String)> {
    vec![
        (MARK.to_owned(), plan.id.clone()),
        ("PATH".to_owned(), programs::search_path()),
    ]
}

fn program(plan: &Plan, name: &str) -> Result<PathBuf> {
    plan.programs
        .get(name)
        .cloned()
        .ok_or_else(|| Error::refused(format!("the lab's plan names no program {name}")))
}

fn socket(address: Ipv4Addr, port: u16) -> Result<OwnedFd> {
    TcpListener::bind((address, port))
        .map(OwnedFd::from)
        .map_err(|e| Error::io(format!("listen on {address}:{port}"), e))
}

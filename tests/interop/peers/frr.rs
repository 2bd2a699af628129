//! FRR: zebra, bgpd, and bfdd where BFD is wanted.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::super::foreign::{Foreign, Route, Seen, Setup};
use super::super::lab::{DUT_AS, Lab, Process, address, eventually, node_address};
use super::{as_path, is_v6};

pub(crate) struct Frr<'a> {
    lab: &'a Lab,
    setup: Setup,
    zebra: Option<Process>,
    bfdd: Option<Process>,
    bgpd: Option<Process>,
}

impl<'a> Frr<'a> {
    pub(crate) fn start(lab: &'a Lab, setup: Setup) -> Self {
        let mut this = Self {
            lab,
            setup,
            zebra: None,
            bfdd: None,
            bgpd: None,
        };
        let folder = this.folder();
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        this.write_config();
        this.zebra = Some(this.daemon("zebra", None));
        let (lab, folder) = (this.lab, this.folder());
        eventually("zebra answers", 10, || {
            folder.join("zserv.api").exists() && folder.join("zebra.vty").exists()
        });
        if this.setup.bfd {
            let control = folder.join("bfdd.sock");
            this.bfdd = Some(this.daemon("bfdd", Some(("--bfdctl", control))));
            eventually("bfdd answers", 10, || folder.join("bfdd.vty").exists());
        }
        let config = lab.path(&format!("frr{}.conf", this.setup.index));
        this.bgpd = Some(this.daemon("bgpd", Some(("-f", config))));
        this.wait_for_bgpd();
        this
    }

    fn folder(&self) -> PathBuf {
        self.lab.path(&format!("frr{}", self.setup.index))
    }

    fn daemon(&self, name: &str, more: Option<(&str, PathBuf)>) -> Process {
        let folder = self.folder();
        let mut command = Command::new(format!("/usr/lib/frr/{name}"));
        command.args(["-u", "frr", "-g", "frr", "-P", "0"]);
        command.arg("-z").arg(folder.join("zserv.api"));
        command.arg("-i").arg(folder.join(format!("{name}.pid")));
        command.arg("--vty_socket").arg(&folder);
        if let Some((flag, value)) = more {
            command.arg(flag).arg(value);
        }
        let log = format!("frr{}.log", self.setup.index);
        command.stdout(self.lab.log(&log)).stderr(self.lab.log(&log));
        Process::start(&self.lab.machines[self.setup.index], &mut command)
    }

    fn wait_for_bgpd(&self) {
        eventually("FRR's bgpd answers", 15, || {
            self.try_vtysh(&["show bgp summary"])
                .contains("BGP router identifier")
                || self.try_vtysh(&["show bgp summary"]).contains("Neighbor")
        });
    }

    fn dut(&self) -> String {
        node_address(self.setup.index, self.setup.v6)
    }

    fn family(&self) -> &'static str {
        if self.setup.v6 { "ipv6" } else { "ipv4" }
    }

    fn write_config(&self) {
        let setup = &self.setup;
        let dut = self.dut();
        let on = |on: bool, line: String| if on { line } else { String::new() };
        let neighbor = |line: &str| format!(" neighbor {dut} {line}\n");
        let session = [
            neighbor(&format!("remote-as {DUT_AS}")),
            neighbor(&format!("update-source {}", address(setup.index, setup.v6))),
            neighbor("timers connect 1"),
            neighbor("advertisement-interval 0"),
            setup
                .password
                .map(|key| neighbor(&format!("password {key}")))
                .unwrap_or_default(),
            on(setup.ttl_security, neighbor("ttl-security hops 1")),
            on(setup.passive, neighbor("passive")),
            on(setup.bfd, neighbor("bfd 3 100 100")),
        ]
        .concat();
        let channel = [
            neighbor("activate"),
            on(setup.reflects, neighbor("route-reflector-client")),
            on(setup.add_paths, neighbor("addpath-tx-all-paths")),
            setup
                .limit
                .map(|limit| neighbor(&format!("maximum-prefix {limit}")))
                .unwrap_or_default(),
        ]
        .concat();
        let (maps, networks) = routes_config(&setup.routes, self.family());
        let text = format!(
            "log file {log}\n{maps}router bgp {own_as}\n bgp router-id 10.99.{index}.2\n no bgp \
             ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n timers bgp 3 9\n bgp \
             graceful-restart\n bgp graceful-restart preserve-fw-state\n{long_lived}{session} address-family {family} \
             unicast\n{networks}{channel} exit-address-family\nexit\n",
            log = self.folder().join("bgpd.log").display(),
            own_as = setup.own_as,
            long_lived = setup
                .long_lived
                .map(|seconds| format!(
                    " bgp graceful-restart restart-time {seconds}\n bgp long-lived-graceful-restart stale-time 60\n"
                ))
                .unwrap_or_default(),
            index = setup.index,
            family = self.family(),
        );
        std::fs::write(self.lab.path(&format!("frr{}.conf", setup.index)), text).unwrap();
    }

    fn try_vtysh(&self, commands: &[&str]) -> String {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(self.folder());
        for line in commands {
            command.args(["-c", line]);
        }
        let output = self.lab.machines[self.setup.index].output(&mut command).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.try_vtysh(&[command])).unwrap_or_default()
    }
}

/// Route maps and networks for routes.
fn routes_config(routes: &[Route], family: &str) -> (String, String) {
    let mut maps = String::new();
    let mut networks = String::new();
    for (number, route) in routes.iter().enumerate() {
        assert_eq!(is_v6(route), family == "ipv6");
        maps.push_str(&format!("route-map R{number} permit 10\n"));
        if !route.as_path.is_empty() {
            let path: Vec<String> = route.as_path.iter().map(u32::to_string).collect();
            maps.push_str(&format!(" set as-path prepend {}\n", path.join(" ")));
        }
        if let Some(med) = route.med {
            maps.push_str(&format!(" set metric {med}\n"));
        }
        let sets = [
            ("community", &route.community),
            ("large-community", &route.large_community),
            ("extcommunity rt", &route.target),
        ];
        for (name, value) in sets {
            if let Some(value) = value {
                maps.push_str(&format!(" set {name} {value}\n"));
            }
        }
        maps.push_str("exit\n");
        networks.push_str(&format!("  network {} route-map R{number}\n", route.prefix));
    }
    (maps, networks)
}

impl Foreign for Frr<'_> {
    fn is_up(&self) -> bool {
        let summary = self.json(&format!("show bgp {} unicast summary json", self.family()));
        summary["peers"][self.dut()]["state"] == "Established"
    }

    fn routes(&self, prefixes: &[&str]) -> BTreeMap<String, Seen> {
        let dut = self.dut();
        let mut found = BTreeMap::new();
        for prefix in prefixes {
            let detail = self.json(&format!("show bgp {} unicast {prefix} json", self.family()));
            let paths = detail["paths"].as_array().cloned().unwrap_or_default();
            let from_dut = |path: &&Value| path["peer"]["peerId"] == dut.as_str();
            if let Some(path) = paths.iter().find(from_dut) {
                found.insert((*prefix).to_owned(), seen(path));
            }
        }
        found
    }

    fn announce(&mut self, routes: &[Route]) {
        let family = self.family();
        let router = format!("router bgp {}", self.setup.own_as);
        let af = format!("address-family {family} unicast");
        let mut lines = vec!["configure terminal".to_owned()];
        let (maps, networks) = routes_config(routes, family);
        lines.extend(maps.lines().map(|line| line.trim().to_owned()));
        lines.extend([router, af]);
        let gone = |old: &&Route| !routes.iter().any(|route| route.prefix == old.prefix);
        let gone = self.setup.routes.iter().filter(gone);
        lines.extend(gone.map(|old| format!("no network {}", old.prefix)));
        lines.extend(networks.lines().map(|line| line.trim().to_owned()));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.try_vtysh(&lines);
        self.setup.routes = routes.to_vec();
    }

    fn refresh(&self) {
        let (family, dut) = (self.family(), self.dut());
        self.try_vtysh(&[&format!("clear bgp {family} unicast {dut} soft in")]);
    }

    fn shut_down(&self, text: &str) {
        let router = format!("router bgp {}", self.setup.own_as);
        let line = format!("neighbor {} shutdown message {text}", self.dut());
        self.try_vtysh(&["configure terminal", &router, &line]);
    }

    fn kill(&mut self) {
        self.bgpd = None;
    }

    fn start_again(&mut self, routes: &[Route]) {
        self.setup.routes = routes.to_vec();
        self.write_config();
        let config = self.lab.path(&format!("frr{}.conf", self.setup.index));
        self.bgpd = Some(self.daemon("bgpd", Some(("-f", config))));
        self.wait_for_bgpd();
    }

    fn freeze(&self, on: bool) {
        let signal = if on { "STOP" } else { "CONT" };
        for process in [&self.bfdd, &self.bgpd].into_iter().flatten() {
            process.signal(signal);
        }
    }

    fn log(&self) -> String {
        let index = self.setup.index;
        let files = [format!("frr{index}.log"), format!("frr{index}/bgpd.log")];
        files.iter().map(|file| self.lab.text(file)).collect::<String>()
            + &self.try_vtysh(&[&format!("show bgp neighbors {}", self.dut())])
    }
}

/// Reads one path of `show bgp … json`.
fn seen(path: &Value) -> Seen {
    let list = |value: &Value| -> Vec<String> {
        let list = value["list"].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let texts = |value: &Value| list(value).into_iter().collect();
    let targets = path["extendedCommunity"]["string"].as_str().unwrap_or_default();
    Seen {
        as_path: as_path(path["aspath"]["string"].as_str().unwrap_or_default()),
        next_hop: path["nexthops"][0]["ip"].as_str().unwrap_or_default().to_owned(),
        med: path["metric"].as_u64().and_then(|med| u32::try_from(med).ok()),
        communities: texts(&path["community"]),
        large_communities: texts(&path["largeCommunity"]),
        targets: targets
            .split_whitespace()
            .filter_map(|target| target.strip_prefix("RT:").map(str::to_owned))
            .collect(),
        originator: path["originatorId"].as_str().map(str::to_owned),
        cluster_list: list(&path["clusterList"]),
    }
}

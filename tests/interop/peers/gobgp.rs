//! GoBGP.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::super::foreign::{Foreign, Route, Seen, Setup};
use super::super::lab::{DUT_AS, Lab, Process, address, eventually, node_address, run};
use super::is_v6;

pub(crate) struct GoBgp<'a> {
    lab: &'a Lab,
    setup: Setup,
    process: Option<Process>,
}

impl<'a> GoBgp<'a> {
    pub(crate) fn start(lab: &'a Lab, setup: Setup) -> Self {
        let mut this = Self {
            lab,
            setup,
            process: None,
        };
        this.write_config();
        this.run(&[]);
        this
    }

    fn file(&self, extension: &str) -> String {
        format!("gobgp{}.{extension}", self.setup.index)
    }

    fn run(&mut self, more: &[&str]) {
        let mut command = Command::new("/usr/bin/gobgpd");
        command.arg("-f").arg(self.lab.path(&self.file("toml")));
        command.args(["--api-hosts", "127.0.0.1:50051"]).args(more);
        let log = self.file("log");
        command.stdout(self.lab.log(&log)).stderr(self.lab.log(&log));
        self.process = Some(Process::start(&self.lab.machines[self.setup.index], &mut command));
        eventually("GoBGP answers", 15, || self.json(&["global"])["asn"].is_u64());
        for route in self.setup.routes.clone() {
            self.add(&route);
        }
    }

    fn dut(&self) -> String {
        node_address(self.setup.index, self.setup.v6)
    }

    fn write_config(&self) {
        let setup = &self.setup;
        let family = if setup.v6 { "ipv6" } else { "ipv4" };
        let on = |on: bool, text: &str| if on { text.to_owned() } else { String::new() };
        let text = format!(
            "[global.config]\n  as = {own_as}\n  router-id = \"10.99.{index}.2\"\n  local-address-list = \
             [\"{own}\"]\n[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{dut}\"\n    peer-as = \
             {DUT_AS}\n{password}  [neighbors.timers.config]\n    connect-retry = 1\n    hold-time = 9\n    \
             keepalive-interval = 3\n    idle-hold-time-after-reset = 1\n  [neighbors.transport.config]\n    \
             local-address = \"{own}\"\n{passive}{ttl}{reflect}  [neighbors.graceful-restart.config]\n    enabled = \
             true\n    restart-time = 60\n  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      \
             afi-safi-name = \"{family}-unicast\"\n    [neighbors.afi-safis.mp-graceful-restart.config]\n      \
             enabled = true\n{limit}{add_paths}",
            own_as = setup.own_as,
            index = setup.index,
            own = address(setup.index, setup.v6),
            dut = self.dut(),
            password = setup
                .password
                .map(|key| format!("    auth-password = \"{key}\"\n"))
                .unwrap_or_default(),
            passive = on(setup.passive, "    passive-mode = true\n"),
            ttl = on(
                setup.ttl_security,
                "  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n"
            ),
            reflect = on(
                setup.reflects,
                "  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    \
                 route-reflector-cluster-id = \"10.99.9.9\"\n"
            ),
            limit = setup
                .limit
                .map(|limit| format!(
                    "    [neighbors.afi-safis.prefix-limit.config]\n      max-prefixes = {limit}\n"
                ))
                .unwrap_or_default(),
            add_paths = on(
                setup.add_paths,
                "    [neighbors.afi-safis.add-paths.config]\n      send-max = 8\n"
            ),
        );
        std::fs::write(self.lab.path(&self.file("toml")), text).unwrap();
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new("/usr/bin/gobgp");
        command.args(arguments).arg("-j");
        let output = self.lab.machines[self.setup.index].output(&mut command).unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn add(&self, route: &Route) {
        let next_hop = address(self.setup.index, self.setup.v6);
        let mut words: Vec<String> = [
            "global",
            "rib",
            "add",
            &route.prefix,
            "nexthop",
            &next_hop,
            "origin",
            "igp",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut word = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if !route.as_path.is_empty() {
            let path: Vec<String> = route.as_path.iter().map(u32::to_string).collect();
            word("aspath", path.join(" "));
        }
        if let Some(med) = route.med {
            word("med", med.to_string());
        }
        let lists = [
            ("community", &route.community),
            ("large-community", &route.large_community),
            ("rt", &route.target),
        ];
        for (name, value) in lists {
            if let Some(value) = value {
                word(name, value.clone());
            }
        }
        if route.path_id > 0 {
            word("identifier", route.path_id.to_string());
        }
        word("-a", family(route));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(&self.lab.machines[self.setup.index], "/usr/bin/gobgp", &words);
    }
}

fn family(route: &Route) -> String {
    (if is_v6(route) { "ipv6" } else { "ipv4" }).to_owned()
}

impl Foreign for GoBgp<'_> {
    fn is_up(&self) -> bool {
        // 6 is Established.
        self.json(&["neighbor", &self.dut()])["state"]["session_state"] == 6
    }

    fn routes(&self, prefixes: &[&str]) -> BTreeMap<String, Seen> {
        let family = if self.setup.v6 { "ipv6" } else { "ipv4" };
        let table = self.json(&["neighbor", &self.dut(), "adj-in", "-a", family]);
        let mut found = BTreeMap::new();
        for (prefix, paths) in table.as_object().into_iter().flatten() {
            if prefixes.contains(&prefix.as_str()) {
                found.insert(prefix.clone(), seen(&paths[0]["attrs"]));
            }
        }
        found
    }

    fn announce(&mut self, routes: &[Route]) {
        for old in self.setup.routes.clone() {
            if !routes.contains(&old) {
                let (id, family) = (old.path_id.to_string(), family(&old));
                let mut words = vec!["global", "rib", "del", &old.prefix, "-a", &family];
                if old.path_id > 0 {
                    words.extend(["identifier", &id]);
                }
                run(&self.lab.machines[self.setup.index], "/usr/bin/gobgp", &words);
            }
        }
        for route in routes {
            if !self.setup.routes.contains(route) {
                self.add(route);
            }
        }
        self.setup.routes = routes.to_vec();
    }

    fn refresh(&self) {
        // Its own `softresetin` only looks again at what it has.
        panic!("GoBGP 3 cannot be told to send a ROUTE-REFRESH");
    }

    fn shut_down(&self, text: &str) {
        let words = ["neighbor", &self.dut(), "disable", "--reason", text];
        run(&self.lab.machines[self.setup.index], "/usr/bin/gobgp", &words);
    }

    fn kill(&mut self) {
        self.process = None;
    }

    fn start_again(&mut self, routes: &[Route]) {
        self.setup.routes = routes.to_vec();
        self.run(&["-r"]);
    }

    fn freeze(&self, on: bool) {
        if let Some(process) = &self.process {
            process.signal(if on { "STOP" } else { "CONT" });
        }
    }

    fn log(&self) -> String {
        self.lab.text(&self.file("log"))
    }
}

/// Reads the attributes of a path, each with its type code.
fn seen(attributes: &Value) -> Seen {
    let mut seen = Seen::default();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for attribute in list(attributes) {
        let value = &attribute["value"];
        match attribute["type"].as_u64().unwrap_or(0) {
            2 => {
                let segments = list(&attribute["as_paths"]);
                let numbers = segments.iter().flat_map(|segment| list(&segment["asns"]));
                seen.as_path = numbers.filter_map(|asn| number(&asn)).collect();
            }
            3 => seen.next_hop = attribute["nexthop"].as_str().unwrap_or_default().to_owned(),
            14 => seen.next_hop = attribute["nexthop"].as_str().unwrap_or_default().to_owned(),
            4 => seen.med = number(&attribute["metric"]),
            8 => {
                let communities = list(&attribute["communities"]);
                let text = |raw: u32| format!("{}:{}", raw >> 16, raw & 0xffff);
                seen.communities = communities.iter().filter_map(number).map(text).collect();
            }
            9 => seen.originator = value.as_str().map(str::to_owned),
            10 => {
                let clusters = list(value);
                seen.cluster_list = clusters
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect();
            }
            16 => {
                let targets = list(value);
                let text = |found: &Value| found["value"].as_str().map(str::to_owned);
                seen.targets = targets
                    .iter()
                    .filter(|found| found["subtype"] == 2)
                    .filter_map(text)
                    .collect();
            }
            32 => {
                let text = |found: &Value| {
                    format!("{}:{}:{}", found["ASN"], found["LocalData1"], found["LocalData2"])
                };
                seen.large_communities = list(value).iter().map(text).collect();
            }
            _ => {}
        }
    }
    seen
}

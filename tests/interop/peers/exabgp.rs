//! ExaBGP: scripted, keeps no table; what came is read from its events.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use super::super::foreign::{Foreign, Route, Seen, Setup};
use super::super::lab::{DUT_AS, Lab, Process, address, node_address};

pub(crate) struct ExaBgp<'a> {
    lab: &'a Lab,
    setup: Setup,
    process: Option<Process>,
}

impl<'a> ExaBgp<'a> {
    pub(crate) fn start(lab: &'a Lab, setup: Setup) -> Self {
        let mut this = Self {
            lab,
            setup,
            process: None,
        };
        this.write_files();
        this.run();
        this
    }

    fn file(&self, extension: &str) -> String {
        format!("exabgp{}.{extension}", self.setup.index)
    }

    fn write_files(&self) {
        let setup = &self.setup;
        let path = |extension: &str| self.lab.path(&self.file(extension));
        // Commands go in as they are appended to a file, events go to another one.
        let script = format!(
            "#!/bin/sh\ntail --pid=$$ -n +1 -f {} &\nexec cat >> {}\n",
            path("commands").display(),
            path("seen").display()
        );
        std::fs::write(path("sh"), script).unwrap();
        std::fs::set_permissions(path("sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(path("commands"), "").unwrap();
        std::fs::write(path("seen"), "").unwrap();
        let on = |on: bool, text: &str| if on { text.to_owned() } else { String::new() };
        let text = format!(
            "process watch {{ run {script}; encoder json; }}\nneighbor {dut} {{\n  router-id 10.99.{index}.2;\n  \
             local-address {own};\n  local-as {own_as};\n  peer-as {DUT_AS};\n  hold-time 9;\n{password}{ttl}{passive}  \
             family {{ {family} unicast; }}\n  capability {{ graceful-restart 60; route-refresh enable; {add_path} }}\n  \
             api {{ processes [ watch ]; neighbor-changes; receive {{ parsed; update; notification; }} }}\n}}\n",
            script = path("sh").display(),
            dut = node_address(setup.index, setup.v6),
            index = setup.index,
            own = address(setup.index, setup.v6),
            own_as = setup.own_as,
            family = if setup.v6 { "ipv6" } else { "ipv4" },
            password = setup
                .password
                .map(|key| format!("  md5-password \"{key}\";\n"))
                .unwrap_or_default(),
            ttl = on(setup.ttl_security, "  outgoing-ttl 255;\n  incoming-ttl 255;\n"),
            passive = on(setup.passive, "  passive true;\n"),
            add_path = on(setup.add_paths, "add-path send;"),
        );
        std::fs::write(path("conf"), text).unwrap();
        for route in &setup.routes {
            self.command(&format!("announce {}", self.describe(route)));
        }
    }

    fn run(&mut self) {
        let mut command = Command::new("/usr/sbin/exabgp");
        command.arg(self.lab.path(&self.file("conf")));
        command.envs([
            ("exabgp.daemon.user", "root"),
            ("exabgp.daemon.daemonize", "false"),
            ("exabgp.api.cli", "false"),
            ("exabgp.log.destination", "stderr"),
            ("exabgp.log.level", "INFO"),
        ]);
        let log = self.file("log");
        command.stdout(self.lab.log(&log)).stderr(self.lab.log(&log));
        self.process = Some(Process::start(&self.lab.machines[self.setup.index], &mut command));
    }

    fn command(&self, line: &str) {
        let path = self.lab.path(&self.file("commands"));
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    /// A route in ExaBGP's words.
    fn describe(&self, route: &Route) -> String {
        let mut text = format!("route {} next-hop self", route.prefix);
        if route.path_id > 0 {
            text.push_str(&format!(" path-information 0.0.0.{}", route.path_id));
        }
        let own = (!self.setup.is_internal()).then_some(self.setup.own_as);
        let path: Vec<String> = own.iter().chain(&route.as_path).map(u32::to_string).collect();
        text.push_str(&format!(" as-path [ {} ]", path.join(" ")));
        if let Some(med) = route.med {
            text.push_str(&format!(" med {med}"));
        }
        let lists = [
            ("community", &route.community),
            ("large-community", &route.large_community),
        ];
        for (name, value) in lists {
            if let Some(value) = value {
                text.push_str(&format!(" {name} [ {value} ]"));
            }
        }
        if let Some(target) = &route.target {
            text.push_str(&format!(" extended-community [ target:{target} ]"));
        }
        text
    }

    fn events(&self) -> Vec<Value> {
        let text = self.lab.text(&self.file("seen"));
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

impl Foreign for ExaBgp<'_> {
    fn is_up(&self) -> bool {
        let events = self.events();
        let mut states = events
            .iter()
            .filter_map(|event| event["neighbor"]["state"].as_str());
        states.next_back() == Some("up")
    }

    fn routes(&self, prefixes: &[&str]) -> BTreeMap<String, Seen> {
        let mut found = BTreeMap::new();
        for event in self.events() {
            if event["neighbor"]["state"] == "down" {
                found.clear();
            }
            let update = &event["neighbor"]["message"]["update"];
            for family in ["ipv4 unicast", "ipv6 unicast"] {
                for (next_hop, list) in update["announce"][family].as_object().into_iter().flatten() {
                    let seen = seen(&update["attribute"], next_hop);
                    found.extend(prefixes_of(list).map(|prefix| (prefix, seen.clone())));
                }
                for prefix in prefixes_of(&update["withdraw"][family]) {
                    found.remove(&prefix);
                }
            }
        }
        found.retain(|prefix, _| prefixes.contains(&prefix.as_str()));
        found
    }

    fn announce(&mut self, routes: &[Route]) {
        for old in self.setup.routes.iter().filter(|old| !routes.contains(old)) {
            self.command(&format!("withdraw {}", self.describe(old)));
        }
        for route in routes.iter().filter(|route| !self.setup.routes.contains(route)) {
            self.command(&format!("announce {}", self.describe(route)));
        }
        self.setup.routes = routes.to_vec();
    }

    fn refresh(&self) {
        let family = if self.setup.v6 { "ipv6" } else { "ipv4" };
        self.command(&format!("announce route-refresh {family} unicast"));
    }

    fn shut_down(&self, _text: &str) {
        self.command("shutdown");
    }

    fn kill(&mut self) {
        self.process = None;
    }

    fn start_again(&mut self, routes: &[Route]) {
        self.setup.routes = routes.to_vec();
        self.write_files();
        self.run();
    }

    fn freeze(&self, on: bool) {
        if let Some(process) = &self.process {
            process.signal(if on { "STOP" } else { "CONT" });
        }
    }

    fn log(&self) -> String {
        self.lab.text(&self.file("log")) + &self.lab.text(&self.file("seen"))
    }
}

fn prefixes_of(list: &Value) -> impl Iterator<Item = String> + '_ {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|route| route["nlri"].as_str().map(str::to_owned))
}

fn seen(attributes: &Value, next_hop: &str) -> Seen {
    let list = |name: &str| attributes[name].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let joined = |parts: &Value| {
        let parts: Vec<String> = parts
            .as_array()
            .into_iter()
            .flatten()
            .map(Value::to_string)
            .collect();
        parts.join(":")
    };
    let target = |found: &Value| {
        let text = found["string"].as_str()?;
        text.strip_prefix("target:").map(str::to_owned)
    };
    Seen {
        as_path: list("as-path").iter().filter_map(number).collect(),
        next_hop: next_hop.to_owned(),
        med: number(&attributes["med"]),
        communities: list("community").iter().map(joined).collect(),
        large_communities: list("large-community").iter().map(joined).collect(),
        targets: list("extended-community").iter().filter_map(target).collect(),
        originator: attributes["originator-id"].as_str().map(str::to_owned),
        cluster_list: list("cluster-list")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    }
}

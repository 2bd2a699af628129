//! BIRD 2.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use super::super::foreign::{Foreign, Route, Seen, Setup};
use super::super::lab::{DUT_AS, Lab, Process, address, eventually, node_address};
use super::{as_path, is_v6, parts};

pub(crate) struct Bird<'a> {
    lab: &'a Lab,
    setup: Setup,
    process: Option<Process>,
}

impl<'a> Bird<'a> {
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
        format!("bird{}.{extension}", self.setup.index)
    }

    fn run(&mut self, more: &[&str]) {
        let _ = std::fs::remove_file(self.lab.path(&self.file("ctl")));
        let mut command = Command::new("/usr/sbin/bird");
        command.arg("-f").args(more);
        for (flag, extension) in [("-c", "conf"), ("-s", "ctl"), ("-P", "pid")] {
            command.arg(flag).arg(self.lab.path(&self.file(extension)));
        }
        command
            .stdout(Stdio::null())
            .stderr(self.lab.log(&self.file("log")));
        let machine = &self.lab.machines[self.setup.index];
        self.process = Some(Process::start(machine, &mut command));
        let control = self.lab.path(&self.file("ctl"));
        eventually("BIRD answers", 10, || control.exists());
    }

    fn write_config(&self) {
        let setup = &self.setup;
        let (own, dut) = (
            address(setup.index, setup.v6),
            node_address(setup.index, setup.v6),
        );
        let family = if setup.v6 { "ipv6" } else { "ipv4" };
        let on = |on: bool, line: &str| if on { line.to_owned() } else { String::new() };
        let options = [
            setup
                .password
                .map(|key| format!("password \"{key}\";"))
                .unwrap_or_default(),
            on(setup.ttl_security, "ttl security on;"),
            on(setup.passive, "passive;"),
            on(setup.reflects, "rr client;"),
            // Without it a restart of the other side, which BFD notices too, costs the routes.
            on(setup.bfd, "bfd graceful;"),
            on(setup.multihop, "multihop;"),
            setup
                .long_lived
                .map(|seconds| format!("graceful restart time {seconds}; long lived stale time 60;"))
                .unwrap_or_default(),
        ]
        .join(" ");
        let channel = [
            on(setup.add_paths, "add paths tx;"),
            setup
                .limit
                .map(|limit| format!("receive limit {limit} action disable;"))
                .unwrap_or_default(),
        ]
        .join(" ");
        let text = format!(
            "log stderr all;\nrouter id 10.99.{index}.2;\nprotocol device {{ scan time 10; }}\nprotocol direct {{ ipv4; \
             ipv6; }}\nprotocol static reach {{ ipv4; route 10.99.0.0/16 via {gateway}; }}\n{bfd}{statics}protocol bgp dut \
             {{\n  local {own} as {own_as};\n  neighbor {dut} as {DUT_AS};\n  hold time 9;\n  connect delay time 1;\n  \
             connect retry time 1;\n  error wait time 1, 2;\n  graceful restart on;\n  long lived graceful restart on;\n  \
             {options}\n  {family} {{ import all; export filter {{ if proto !~ \"announced*\" then reject; \
             if defined(bgp_med) then bgp_med = bgp_med; accept; }}; {channel} }};\n}}\n",
            index = setup.index,
            gateway = node_address(setup.index, false),
            own_as = setup.own_as,
            bfd = on(
                setup.bfd,
                "protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; multihop { interval 100 ms; multiplier 3; }; }\n"
            ),
            statics = self.statics(),
        );
        std::fs::write(self.lab.path(&self.file("conf")), text).unwrap();
    }

    /// One protocol for each route: a table has one path of each protocol for a prefix.
    fn statics(&self) -> String {
        let protocol = |(number, route): (usize, &Route)| {
            let family = if is_v6(route) { "ipv6" } else { "ipv4" };
            let mut set = String::new();
            // The last that is prepended stands first.
            for number in route.as_path.iter().rev() {
                set.push_str(&format!("bgp_path.prepend({number}); "));
            }
            if let Some(med) = route.med {
                set.push_str(&format!("bgp_med = {med}; "));
            }
            if let Some(community) = &route.community {
                set.push_str(&format!("bgp_community.add(({})); ", parts(community).join(",")));
            }
            if let Some(community) = &route.large_community {
                set.push_str(&format!(
                    "bgp_large_community.add(({})); ",
                    parts(community).join(",")
                ));
            }
            if let Some(target) = &route.target {
                set.push_str(&format!(
                    "bgp_ext_community.add((rt,{})); ",
                    parts(target).join(",")
                ));
            }
            format!(
                "protocol static announced{number} {{ {family}; route {} blackhole {{ {set}}}; }}\n",
                route.prefix
            )
        };
        self.setup.routes.iter().enumerate().map(protocol).collect()
    }

    fn command(&self, text: &str) -> String {
        let control = self.lab.path(&self.file("ctl"));
        let machine = &self.lab.machines[self.setup.index];
        let mut command = Command::new("/usr/sbin/birdc");
        command.arg("-s").arg(control).args(text.split(' '));
        let output = machine.output(&mut command).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Foreign for Bird<'_> {
    fn is_up(&self) -> bool {
        self.command("show protocols dut").contains("Established")
    }

    fn routes(&self, prefixes: &[&str]) -> BTreeMap<String, Seen> {
        let mut found = parse(&self.command("show route all protocol dut"));
        found.retain(|prefix, _| prefixes.contains(&prefix.as_str()));
        found
    }

    fn announce(&mut self, routes: &[Route]) {
        self.setup.routes = routes.to_vec();
        self.write_config();
        let answer = self.command("configure");
        assert!(answer.contains("Reconfigur"), "{answer}");
    }

    fn refresh(&self) {
        assert!(self.command("reload in dut").contains("reloading"));
    }

    fn shut_down(&self, text: &str) {
        // The text is one argument, in quotes of BIRD's.
        let control = self.lab.path(&self.file("ctl"));
        let mut command = Command::new("/usr/sbin/birdc");
        command
            .arg("-s")
            .arg(control)
            .arg(format!("disable dut \"{text}\""));
        let machine = &self.lab.machines[self.setup.index];
        assert!(machine.output(&mut command).unwrap().status.success());
    }

    fn kill(&mut self) {
        self.process = None;
    }

    fn start_again(&mut self, routes: &[Route]) {
        self.setup.routes = routes.to_vec();
        self.write_config();
        self.run(&["-R"]);
    }

    fn freeze(&self, on: bool) {
        if let Some(process) = &self.process {
            process.signal(if on { "STOP" } else { "CONT" });
        }
    }

    fn log(&self) -> String {
        self.lab.text(&self.file("log")) + &self.command("show protocols all dut")
    }
}

/// Reads `show route all`.
fn parse(text: &str) -> BTreeMap<String, Seen> {
    let mut found = BTreeMap::new();
    let mut prefix = String::new();
    for line in text.lines() {
        if !line.starts_with(char::is_whitespace) {
            let first = line.split_whitespace().next().unwrap_or_default();
            if first.contains('/') {
                prefix = first.to_owned();
                found.insert(prefix.clone(), Seen::default());
            }
            continue;
        }
        let Some(seen) = found.get_mut(&prefix) else {
            continue;
        };
        let Some((name, value)) = line.trim().split_once(": ") else {
            continue;
        };
        let tuples = || {
            let inner = value.trim_matches(['(', ')']);
            inner
                .split(") (")
                .map(|tuple| tuple.split(',').map(str::trim).collect::<Vec<_>>().join(":"))
        };
        match name {
            "BGP.as_path" => seen.as_path = as_path(value),
            // The global address comes before the link-local one.
            "BGP.next_hop" => seen.next_hop = value.split(' ').next().unwrap_or_default().to_owned(),
            "BGP.med" => seen.med = value.parse().ok(),
            "BGP.community" => seen.communities = tuples().collect(),
            "BGP.large_community" => seen.large_communities = tuples().collect(),
            "BGP.ext_community" => {
                let targets = tuples().filter_map(|tuple| tuple.strip_prefix("rt:").map(str::to_owned));
                seen.targets = targets.collect();
            }
            "BGP.originator_id" => seen.originator = Some(value.to_owned()),
            "BGP.cluster_list" => seen.cluster_list = value.split(' ').map(str::to_owned).collect(),
            _ => {}
        }
    }
    found
}

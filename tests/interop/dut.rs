//! Our speaker, run as users run it without Kubernetes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::lab::{DUT_AS, Lab, Process, address};

/// The speaker on the lab's node.
pub(crate) struct Dut<'a> {
    lab: &'a Lab,
    pub(crate) process: Process,
}

/// The session with a machine, with further YAML in flow style (`, key: value`).
pub(crate) fn peer(index: usize, v6: bool, remote_as: u32, more: &str) -> String {
    let family = if v6 { "ipv6" } else { "ipv4" };
    format!(
        "- {{name: p{index}, address: \"{}\", remoteAs: {remote_as}, families: [{family}], timers: {{holdSeconds: 9, \
         connectRetrySeconds: 1, errorWaitMinSeconds: 1, errorWaitMaxSeconds: 2}}{more}}}\n",
        address(index, v6)
    )
}

/// What the speaker announces in most tests: a plain route and one with attributes, of each family.
pub(crate) const ROUTES: &str = "\
- {prefix: 10.65.0.0/26, blackhole: true}
- {prefix: 10.65.1.0/26, med: 5, communities: [\"65000:100\", \"65000:1:2\"]}
- {prefix: \"fd00:65::/122\", blackhole: true}
- {prefix: \"fd00:65:1::/122\", med: 5, communities: [\"65000:100\", \"65000:1:2\"]}
";

impl<'a> Dut<'a> {
    /// Starts it with these peers and routes, and further lines.
    pub(crate) fn start(lab: &'a Lab, peers: &str, routes: &str, whole: &str) -> Self {
        Self::configure(lab, peers, routes, whole);
        Self::start_again(lab)
    }

    /// Writes its configuration.
    pub(crate) fn configure(lab: &Lab, peers: &str, routes: &str, whole: &str) {
        let routes = match routes {
            "" => String::new(),
            routes => format!("routes:\n{routes}"),
        };
        let text = format!(
            "localAs: {DUT_AS}\nrouterId: 10.99.255.1\nlisten: [{{address: 0.0.0.0}}, {{address: \"::\"}}]\n\
             trackNextHops: true\npeers:\n{peers}{routes}{whole}"
        );
        std::fs::write(lab.path("bgpd.yaml"), text).unwrap();
    }

    /// Starts it with the configuration that it had.
    pub(crate) fn start_again(lab: &'a Lab) -> Self {
        Self::start_with(lab, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(lab: &'a Lab, more: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caracal-bgpd"));
        command.arg("--config").arg(lab.path("bgpd.yaml"));
        command.arg("--control").arg(lab.path("bgpd.sock"));
        command.args(["--metrics", "none", "--health", "none"]).args(more);
        command.stdout(Stdio::null()).stderr(lab.log("bgpd.log"));
        Self {
            lab,
            process: Process::start(&lab.node, &mut command),
        }
    }

    pub(crate) fn ask(&self, request: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.lab.path("bgpd.sock")).ok()?;
        writeln!(stream, "{request}").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Status of the session with a machine.
    pub(crate) fn peer(&self, index: usize) -> Value {
        let name = format!("p{index}");
        let status = self.ask(r#"{"request":"status"}"#).unwrap_or_default();
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        peers
            .into_iter()
            .find(|peer| peer["name"] == name.as_str())
            .unwrap_or_default()
    }

    pub(crate) fn is_up(&self, index: usize) -> bool {
        self.peer(index)["state"] == "Established"
    }

    pub(crate) fn established_count(&self, index: usize) -> u64 {
        self.peer(index)["establishedCount"].as_u64().unwrap_or(0)
    }

    pub(crate) fn last_error(&self, index: usize) -> String {
        self.peer(index)["lastError"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn counter(&self, index: usize, name: &str) -> u64 {
        self.peer(index)["counters"][name].as_u64().unwrap_or(0)
    }

    /// What a machine has sent, all paths.
    pub(crate) fn received(&self, index: usize) -> Vec<Value> {
        let query = format!(r#"{{"request":"routes","query":{{"table":"adjRibIn","peer":"p{index}"}}}}"#);
        let answer = self.ask(&query).unwrap_or_default();
        answer.as_array().cloned().unwrap_or_default()
    }

    /// A route that a machine has sent.
    pub(crate) fn route(&self, index: usize, prefix: &str) -> Option<Value> {
        let mut routes = self.received(index).into_iter();
        routes.find(|route| route["prefix"] == prefix)
    }

    pub(crate) fn log(&self) -> String {
        self.lab.text("bgpd.log")
    }
}

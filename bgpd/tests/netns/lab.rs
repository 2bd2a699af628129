//! Two machines with a wire between them, a BIRD on one and our speaker on the other. Everything goes when a test
//! ends, however it ends: namespaces have no name and die with their last descriptor, processes die with their guard.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caracal_linux::netns::NetNs;
use serde_json::Value;

/// Address of our speaker's machine.
pub(crate) const NODE: &str = "10.99.0.1";
/// Address of BIRD's machine.
pub(crate) const TOR: &str = "10.99.0.2";

/// Two machines on one wire.
pub(crate) struct Lab {
    pub(crate) node: NetNs,
    pub(crate) tor: NetNs,
    pub(crate) folder: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self {
            node: NetNs::create_anonymous().unwrap(),
            tor: NetNs::create_anonymous().unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        let tor_path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(&lab.tor)
        );
        ip(
            &lab.node,
            &format!("link add eth0 type veth peer name eth0 netns {tor_path}"),
        );
        for (ns, address) in [(&lab.node, NODE), (&lab.tor, TOR)] {
            ip(ns, "link set lo up");
            ip(ns, &format!("address add {address}/24 dev eth0"));
            ip(ns, "link set eth0 up");
        }
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The main table of our machine, as `ip route` shows it.
    pub(crate) fn routes(&self) -> String {
        ip(&self.node, "route show")
    }
}

/// Runs `ip` in a namespace.
pub(crate) fn ip(ns: &NetNs, arguments: &str) -> String {
    run(ns, "ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

fn run(ns: &NetNs, program: &str, arguments: &[&str]) -> String {
    let output = ns.output(Command::new(program).args(arguments)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{error}");
    text
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A process that is killed with its guard.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let end = Instant::now() + Duration::from_secs(5);
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "still there 5 s after SIGTERM");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// BIRD on the other machine.
pub(crate) struct Bird<'a> {
    lab: &'a Lab,
    _process: Process,
}

impl<'a> Bird<'a> {
    /// Starts it with routes to announce and further lines for the session.
    pub(crate) fn start(lab: &'a Lab, routes: &[&str], session: &str) -> Self {
        write_config(lab, routes, session);
        let bird = ["/usr/sbin/bird", "/usr/bin/bird"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let mut command = Command::new(bird.expect("BIRD 2 is installed (scripts/deps.sh)"));
        command.arg("-f").arg("-c").arg(lab.path("bird.conf"));
        command
            .arg("-s")
            .arg(lab.path("bird.ctl"))
            .arg("-P")
            .arg(lab.path("bird.pid"));
        command
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(lab.path("bird.log")).unwrap());
        let this = Self {
            lab,
            _process: Process(lab.tor.spawn(&mut command).unwrap()),
        };
        eventually("BIRD answers", 10, || lab.path("bird.ctl").exists());
        this
    }

    pub(crate) fn command(&self, text: &str) -> String {
        let control = self.lab.path("bird.ctl");
        let arguments: Vec<&str> = ["-s", control.to_str().unwrap()]
            .into_iter()
            .chain(text.split(' '))
            .collect();
        // BIRD gives up a listing that a new configuration comes into.
        loop {
            let output = self
                .lab
                .tor
                .output(Command::new("birdc").args(&arguments))
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !text.contains("Stopped due to reconfiguration") {
                assert!(output.status.success(), "birdc {arguments:?}: {text}");
                return text;
            }
        }
    }

    pub(crate) fn announce(&self, routes: &[&str], session: &str) {
        write_config(self.lab, routes, session);
        let answer = self.command("configure");
        assert!(answer.contains("Reconfigur"), "{answer}");
    }

    pub(crate) fn is_up(&self) -> bool {
        self.command("show protocols dut").contains("Established")
    }

    pub(crate) fn has(&self, prefix: &str) -> bool {
        // Asked for one that it has not got, BIRD answers with an error; so it shows all.
        let table = self.command("show route protocol dut");
        table.lines().any(|line| line.starts_with(&format!("{prefix} ")))
    }
}

fn write_config(lab: &Lab, routes: &[&str], session: &str) {
    let routes: String = routes
        .iter()
        .map(|prefix| format!("  route {prefix} blackhole;\n"))
        .collect();
    let text = format!(
        "log stderr all;\nrouter id {TOR};\nprotocol device {{ scan time 10; }}\nprotocol direct {{ ipv4; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol static announced {{\n  ipv4;\n{routes}}}\n\
         protocol bgp dut {{\n  local {TOR} as 65001;\n  neighbor {NODE} as 65000;\n  connect delay time 1;\n  \
         connect retry time 1;\n  error wait time 1, 2;\n  graceful restart on;\n  {session}\n  ipv4 {{ import all; \
         export where proto = \"announced\"; add paths off; }};\n}}\n"
    );
    std::fs::write(lab.path("bird.conf"), text).unwrap();
}

/// Our speaker on one of the machines.
pub(crate) struct Speaker<'a> {
    lab: &'a Lab,
    /// Stem of its files.
    name: String,
    pub(crate) process: Process,
}

impl<'a> Speaker<'a> {
    /// Starts it with further YAML for the peer `tor`, and for the whole.
    pub(crate) fn start(lab: &'a Lab, peer: &str, whole: &str) -> Self {
        let text = format!(
            "localAs: 65000\nrouterId: {NODE}\nlisten: [{{address: 0.0.0.0}}]\ntrackNextHops: true\npeers:\n\
             - name: tor\n  address: {TOR}\n  remoteAs: 65001\n  timers: {{connectRetrySeconds: 1, \
             errorWaitMinSeconds: 1, errorWaitMaxSeconds: 2}}\n{peer}routes:\n- {{prefix: 10.65.0.0/26, blackhole: \
             true}}\n{whole}"
        );
        std::fs::write(lab.path("bgpd.yaml"), text).unwrap();
        Self::start_again(lab)
    }

    /// Starts it with the configuration that it had.
    pub(crate) fn start_again(lab: &'a Lab) -> Self {
        Self::start_on(lab, &lab.node, "bgpd")
    }

    /// Starts one with the configuration in a file of the lab's folder, on either machine.
    pub(crate) fn start_on(lab: &'a Lab, machine: &NetNs, name: &str) -> Self {
        let file = |extension: &str| lab.path(&format!("{name}.{extension}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_caracal-bgpd"));
        command
            .arg("--config")
            .arg(file("yaml"))
            .arg("--control")
            .arg(file("sock"));
        command.args(["--metrics", "none", "--health", "none"]);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file("log"))
            .unwrap();
        command.stdout(Stdio::null()).stderr(log);
        Self {
            lab,
            name: name.to_owned(),
            process: Process(machine.spawn(&mut command).unwrap()),
        }
    }

    pub(crate) fn ask(&self, request: &str) -> Option<Value> {
        ask(&self.lab.path(&format!("{}.sock", self.name)), request)
    }

    pub(crate) fn peer(&self, name: &str) -> Option<Value> {
        let status = self.ask(r#"{"request":"status"}"#)?;
        status["peers"]
            .as_array()?
            .iter()
            .find(|peer| peer["name"] == name)
            .cloned()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.peer("tor")
            .is_some_and(|peer| peer["state"] == "Established")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.lab.path(&format!("{}.log", self.name))).unwrap()
    }
}

/// Asks at a control socket.
pub(crate) fn ask(socket: &Path, request: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    writeln!(stream, "{request}").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

//! The program itself, with shell scripts in the daemons' places: what is killed comes back, what ends is waited for,
//! and a signal ends everything in order.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Generous: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until it is asked to end.
const OBEDIENT: &str = "#!/bin/sh\n\
    echo \"$0 starts on $NODENAME as $$\"\n\
    trap 'echo ends; exit 0' TERM\n\
    while :; do sleep 0.05; done\n";
/// Does not end when asked.
const STUBBORN: &str = "#!/bin/sh\ntrap '' TERM\necho starts as $$\nwhile :; do sleep 0.05; done\n";
/// Leaves a process behind that ends a little later.
const CARELESS: &str = "#!/bin/sh\n\
    (sh -c 'echo orphan $$; sleep 0.3' &)\n\
    echo starts as $$\n\
    trap 'exit 0' TERM\n\
    while :; do sleep 0.05; done\n";

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

struct Node {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts the program; `wrapper` is put before it.
    fn start(felix: &str, bgpd: &str, wrapper: &[&str], felix_health: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in [("caracal-felix", felix), ("caracal-bgpd", bgpd)] {
            let path = folder.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let own = env!("CARGO_BIN_EXE_caracal-node");
        let mut words = wrapper.iter().copied().chain([own]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg("--bin-dir")
            .arg(folder.path())
            .arg("--nodename-file")
            .arg(folder.path().join("nodename"))
            .args(["--health", "none", "--kubeconfig", "/nonexistent/kubeconfig"])
            .args([
                "--bgpd-health",
                "127.0.0.1:1",
                "--cni-net-dir",
                "/nonexistent/net.d",
            ])
            .env("NODENAME", "n1")
            .env("FELIX_HEALTHPORT", felix_health.to_string())
            .env_remove("CARACAL_LOG")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Self {
            child: command.spawn().unwrap(),
            folder,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The process ids that a process told in its log, the last one last.
    fn pids(&self, process: &str, word: &str) -> Vec<i32> {
        let start = format!("[{process}] ");
        self.log()
            .lines()
            .filter(|line| line.starts_with(&start) && line.contains(word))
            .filter_map(|line| line.split_whitespace().last()?.parse().ok())
            .collect()
    }

    fn first_pid(&self, process: &str) -> i32 {
        wait_for(&format!("{process} starts"), || {
            self.pids(process, "starts").first().copied()
        })
    }

    fn own_pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        signal(self.own_pid(), nix::sys::signal::Signal::SIGTERM);
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the program ends", || child.try_wait().unwrap())
    }
}

fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

fn kill(pid: i32) {
    signal(pid, nix::sys::signal::Signal::SIGKILL);
}

/// State and parent of a process, if there is one.
fn process(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[test]
fn what_is_killed_comes_back_and_the_other_stays() {
    let mut node = Node::start(OBEDIENT, OBEDIENT, &[], 1);
    let (felix, bgpd) = (node.first_pid("felix"), node.first_pid("bgpd"));
    assert!(
        node.log().contains("starts on n1"),
        "children know the node's name"
    );
    let mut last = felix;
    for _ in 0..3 {
        kill(last);
        let killed = last;
        last = wait_for("felix starts again", || {
            let pid = *node.pids("felix", "starts").last()?;
            (pid != killed).then_some(pid)
        });
        wait_for("the killed one is waited for", || {
            process(killed).is_none().then_some(())
        });
    }
    assert_eq!(node.pids("bgpd", "starts"), [bgpd], "bgpd was left alone");
    assert!(node.log().contains("was ended by SIGKILL"), "{}", node.log());
    assert!(node.end().success());
    assert!(node.log().contains("[felix] ends") && node.log().contains("[bgpd] ends"));
    assert!(process(last).is_none() && process(bgpd).is_none());
}

#[test]
fn orphans_are_adopted_and_waited_for() {
    let mut node = Node::start(CARELESS, OBEDIENT, &[], 1);
    let felix = node.first_pid("felix");
    let orphan = wait_for("an orphan", || node.pids("felix", "orphan").first().copied());
    kill(felix);
    wait_for("the orphan is waited for", || {
        process(orphan).is_none().then_some(())
    });
    let own = node.own_pid();
    let zombies = || {
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| process(*pid) == Some(('Z', own)))
            .count()
    };
    wait_for("nothing is left unwaited for", || (zombies() == 0).then_some(()));
    assert!(node.end().success());
}

#[test]
fn who_does_not_end_is_killed_when_asked_again() {
    let mut node = Node::start(STUBBORN, OBEDIENT, &[], 1);
    let felix = node.first_pid("felix");
    signal(node.own_pid(), nix::sys::signal::Signal::SIGTERM);
    wait_for("bgpd ends", || node.log().contains("[bgpd] ends").then_some(()));
    assert!(process(felix).is_some(), "it is given time");
    assert!(node.end().success());
    assert!(process(felix).is_none());
}

#[test]
fn a_program_that_is_missing_is_named_and_tried_again() {
    let mut node = Node::start(OBEDIENT, OBEDIENT, &[], 1);
    node.first_pid("felix");
    let path: PathBuf = node.folder.path().join("caracal-felix");
    fs::remove_file(&path).unwrap();
    kill(node.first_pid("felix"));
    wait_for("the missing program is named", || {
        node.log().contains("caracal-felix: No such file").then_some(())
    });
    fs::write(&path, OBEDIENT).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    wait_for("it is started once it is there", || {
        (node.pids("felix", "starts").len() > 1).then_some(())
    });
    assert!(node.end().success());
}

#[test]
fn as_the_first_process_of_a_container_it_ends_by_a_signal() {
    let mut node = Node::start(
        CARELESS,
        OBEDIENT,
        &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
        1,
    );
    let started = wait_for("the program starts, or may not", || {
        let log = node.log();
        if log.contains("unshare:") {
            return Some(false);
        }
        (!node.pids("felix", "starts").is_empty()).then_some(true)
    });
    if !started {
        println!(
            "SKIPPED: a process namespace may not be made here: {}",
            node.log()
        );
        return;
    }
    let outer = node.child.id().to_string();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let first: i32 = children.trim().parse().unwrap();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let ids = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    assert!(ids.ends_with("\t1"), "it is the first process: {ids}");
    signal(first, nix::sys::signal::Signal::SIGTERM);
    assert!(node.wait().success());
}

#[test]
fn probes_say_which_daemon_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        // Each call of the command asks both probes of felix.
        for stream in listener.incoming().take(4) {
            let mut stream = stream.unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap();
            let is_live = String::from_utf8_lossy(&request[..count]).contains("/liveness");
            let answer = if is_live {
                "HTTP/1.1 200 OK\r\n\r\n"
            } else {
                "HTTP/1.1 503 No\r\n\r\nDataplane 90s reporting live not ready 3 tables to write\n"
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let ask = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_caracal-node"))
            .args(arguments)
            .env("NODENAME", "n1")
            .env("FELIX_HEALTHPORT", port.to_string())
            .env("CALICO_NETWORKING_BACKEND", "vxlan")
            .output()
            .unwrap()
    };
    let live = ask(&["-felix-live", "-bird-live"]);
    assert!(live.status.success(), "{live:?}");
    let ready = ask(&["health", "--felix-ready"]);
    assert_eq!(ready.status.code(), Some(1));
    let text = String::from_utf8_lossy(&ready.stderr).into_owned();
    assert!(
        text.contains("felix is not ready") && text.contains("3 tables to write"),
        "{text}"
    );
    serving.join().unwrap();
}

#[test]
fn a_bad_environment_is_refused_with_all_its_faults() {
    let output = Command::new(env!("CARGO_BIN_EXE_caracal-node"))
        .arg("startup")
        .env("NODENAME", "n1")
        .env("IP", "10.0.0.300")
        .env("CALICO_IPV4POOL_BLOCK_SIZE", "7")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("IP=\"10.0.0.300\"") && text.contains("CALICO_IPV4POOL_BLOCK_SIZE"),
        "{text}"
    );
}

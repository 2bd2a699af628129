//! A lab driven by its program, for tests: up, asked, down however the test ends.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "helpers of tests, which fail the test; not every test uses all of them"
)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use caracal_lab::programs;
use serde_json::Value;

/// One lab in a directory of its own; taken away however the test ends.
pub struct Lab {
    pub dir: PathBuf,
    pub program: PathBuf,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        let program = programs::own_folder().unwrap().join("caracal-lab");
        assert!(
            program.exists(),
            "{} is not built: run `make build` first, or name the folder of the programs in CARACAL_BIN_DIR",
            program.display()
        );
        let dir = PathBuf::from(format!("/run/caracal-test-{name}"));
        let lab = Self { dir, program };
        lab.run(&["down"]);
        lab
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .arg("--dir")
            .arg(&self.dir)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a verb that must succeed and gives its output.
    pub fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", error(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", error(&output)))
    }

    pub fn pid(&self, component: &str) -> i32 {
        let status = self.status();
        let components = status["components"].as_array().unwrap();
        let found = components.iter().find(|one| one["name"] == component).unwrap();
        i32::try_from(found["pid"].as_i64().unwrap_or_default()).unwrap()
    }

    /// Applies a manifest from a file of the test's own.
    pub fn apply(&self, manifest: &str) -> String {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), manifest).unwrap();
        self.must(&["apply", "-f", file.path().to_str().unwrap()])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

pub fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

pub fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !check() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

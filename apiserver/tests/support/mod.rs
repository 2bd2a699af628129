//! The program as a child process that never outlives its test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server with its kubeconfig.
pub(crate) struct Program {
    child: Child,
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
}

impl Program {
    /// Starts a server on a free port and waits until it has written its kubeconfig.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_with(directory, arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_with(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let kubeconfig = directory.join("kubeconfig");
        let _ = std::fs::remove_file(&kubeconfig);
        let child = Command::new(env!("CARGO_BIN_EXE_caracal-apiserver"))
            .args(["--listen", "127.0.0.1:0", "--kubeconfig-out"])
            .arg(&kubeconfig)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("CARACAL_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self::ready(child, kubeconfig)
    }

    /// Starts a server whose data directory is on a file system of limited size; nothing when that needs more rights.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn start_on_disk(directory: &Path, disk: &Path, size: &str) -> Option<Self> {
        let kubeconfig = directory.join("kubeconfig");
        let script = "mount -t tmpfs -o size=$1 tmpfs $2 || exit 77; shift 2; exec \"$@\"";
        let unshared = Command::new("unshare").args(["-m", "true"]).status();
        if !unshared.is_ok_and(|status| status.success()) {
            return None;
        }
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh", size])
            .arg(disk)
            .arg(env!("CARGO_BIN_EXE_caracal-apiserver"))
            .args(["--listen", "127.0.0.1:0", "--kubeconfig-out"])
            .arg(&kubeconfig)
            .arg("--data")
            .arg(disk.join("data"))
            .env("CARACAL_LOG", "off")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self::ready(child, kubeconfig))
    }

    fn ready(mut child: Child, kubeconfig: PathBuf) -> Self {
        let begin = Instant::now();
        while !kubeconfig.exists() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "the server does not start"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, kubeconfig }
    }

    /// Its process.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it, does something with its files, and ends it with SIGKILL.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn kill_but_keep<T>(mut self, work: impl FnOnce() -> T) -> T {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-STOP", &id]).status().unwrap();
        let result = work();
        self.kill();
        result
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and returns whether it did so well.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn terminate(mut self) -> bool {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

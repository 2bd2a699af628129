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
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let kubeconfig = directory.join("kubeconfig");
        let _ = std::fs::remove_file(&kubeconfig);
        let mut child = Command::new(env!("CARGO_BIN_EXE_caracal-apiserver"))
            .args(["--listen", "127.0.0.1:0", "--kubeconfig-out"])
            .arg(&kubeconfig)
            .args(arguments)
            .env("CARACAL_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while !kubeconfig.exists() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "the server does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, kubeconfig }
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

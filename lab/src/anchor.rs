//! Anchors: one sleeping process per machine that keeps its namespaces.
//!
//! The machine's mount namespace has private folders (its `/run`, its CNI configuration and state); they and the pod
//! namespaces bound below `/run/netns` go with the anchor, so that ending marked processes cleans everything.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};

use crate::enter::{on_own_thread, own_file_system_and_name};
use crate::error::{Error, Result};
use crate::state::{Layout, MARK, private_folders};
use crate::topology::{Machine, Plan};

/// Hidden verb of the program that becomes an anchor.
pub const VERB: &str = "anchor";

/// Makes a machine's namespaces around its named network namespace and starts the process that keeps them.
///
/// # Errors
/// A namespace, mount or process cannot be made.
pub fn start(plan: &Plan, layout: &Layout, machine: &Machine, program: &Path) -> Result<Child> {
    let net = caracal_linux::netns::NetNs::open_named(&machine.netns)
        .map_err(|e| Error::kernel(format!("open the network of {}", machine.name), e))?;
    let net_path = net.path().map(Path::to_owned).unwrap_or_default();
    on_own_thread(|| {
        let file = fs::File::open(&net_path).map_err(|e| Error::io("open the network namespace", e))?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
            .map_err(|e| Error::errno("leave the shared file system state", e))?;
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::errno("enter the network namespace", e))?;
        own_file_system_and_name(&machine.name)?;
        // The program is found before /run changes: it may lie there.
        let program = fs::File::open(program).map_err(|e| Error::io(program.display().to_string(), e))?;
        mount_private_folders(layout, machine)?;
        use std::os::fd::AsRawFd as _;
        Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0("caracal-lab")
            .args([VERB, &machine.name])
            .env(MARK, &plan.id)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| Error::io(format!("start the anchor of {}", machine.name), e))
    })?
}

use std::os::unix::process::CommandExt as _;

fn mount_private_folders(layout: &Layout, machine: &Machine) -> Result<()> {
    let own = layout.machine(machine);
    // All are opened before the first mount: the lab's directory may itself lie below /run.
    let mut sources = Vec::new();
    for (target, name) in private_folders(machine.role) {
        let source = own.join(name);
        for dir in [source.as_path(), Path::new(target)] {
            fs::create_dir_all(dir).map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        }
        let file = fs::File::open(&source).map_err(|e| Error::io(source.display().to_string(), e))?;
        sources.push((file, *target));
    }
    for (source, target) in &sources {
        use std::os::fd::AsRawFd as _;
        let path = format!("/proc/self/fd/{}", source.as_raw_fd());
        // A target below an already replaced folder (/var/run is often /run) must exist there too.
        let _ = fs::create_dir_all(target);
        mount(
            Some(path.as_str()),
            *target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| Error::errno(format!("give {} its own {target}", machine.name), e))?;
    }
    Ok(())
}

/// Sleeps until it is ended.
pub fn sleep() -> ! {
    loop {
        std::thread::park();
    }
}

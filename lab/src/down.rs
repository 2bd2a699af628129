//! Taking a lab away: processes, namespaces, and what it keeps in its directory.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Result};
use crate::pod_runner;
use crate::state::Layout;
use crate::sweep;
use crate::topology::short_id;

/// Takes a lab down, whatever of it is left. True when there was something.
///
/// # Errors
/// A process, namespace or file that stays.
pub fn down(layout: &Layout) -> Result<bool> {
    let id = short_id(layout.dir());
    let was_there = layout.plan_file().exists()
        || !sweep::namespaces(&id)?.is_empty()
        || !sweep::processes(&id)?.is_empty();
    end_all(layout, &id)?;
    clear(layout)?;
    Ok(was_there)
}

/// Ends every process of a lab and removes its namespaces.
///
/// A pod's process may have dropped the lab's mark; its network still tells it. The networks are held open meanwhile,
/// so that nobody else's namespace can come to the same inode.
pub(crate) fn end_all(layout: &Layout, id: &str) -> Result<()> {
    let pods = match layout.load_plan() {
        Ok(plan) => pod_runner::all(layout, &plan).unwrap_or_default(),
        // Without a plan there are no records of pods either.
        Err(_) => Vec::new(),
    };
    let networks: Vec<_> = pods
        .iter()
        .filter_map(|pod| Some((pod.place().ok()?, pod.netns_inode)))
        .collect();
    sweep::sweep(id)?;
    networks
        .iter()
        .try_for_each(|(_, inode)| sweep::end(|| sweep::in_network(*inode)))
}

/// Removes what a crashed lab left in its directory; the lock is the caller's.
pub(crate) fn clear_except_lock(layout: &Layout) -> Result<()> {
    let lock = layout.lock_file();
    let entries = Layout::ENTRIES.iter().map(|name| layout.dir().join(name));
    entries
        .filter(|path| *path != lock)
        .try_for_each(|path| remove(&path))
}

/// Removes what a lab keeps in its directory, and the directory when nothing else is there.
fn clear(layout: &Layout) -> Result<()> {
    for name in Layout::ENTRIES {
        remove(&layout.dir().join(name))?;
    }
    match fs::remove_dir(layout.dir()) {
        Err(e)
            if !matches!(
                e.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy
            ) =>
        {
            Err(Error::io(format!("remove {}", layout.dir().display()), e))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(format!("remove {}", path.display()), e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_labs_own_entries_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        fs::create_dir_all(layout.logs()).unwrap();
        fs::write(layout.plan_file(), "{}").unwrap();
        fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        assert!(down(&layout).unwrap());
        assert!(!layout.plan_file().exists() && !layout.logs().exists());
        assert!(dir.path().join("letter.txt").exists());
        assert!(!down(&layout).unwrap(), "nothing is left");
        fs::remove_file(dir.path().join("letter.txt")).unwrap();
        down(&layout).unwrap();
        assert!(!dir.path().exists());
        down(&layout).unwrap();
    }
}

//! Files that others read while they are written: they see the old or the new content, never half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write {path}: {source}; is its folder mounted, and writable?")]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// Writes a file as a whole. False when it had this content already and was left alone.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<bool, Error> {
    let failed = |source| Error {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    through(path, mode, |file| file.write_all(content)).map_err(failed)?;
    Ok(true)
}

/// Copies a file as a whole. False when the target was the same already.
///
/// # Errors
/// When the source cannot be read or the target not be written.
pub fn copy(source: &Path, target: &Path, mode: u32) -> Result<bool, Error> {
    let failed = |source| Error {
        path: target.to_owned(),
        source,
    };
    if same(source, target).unwrap_or(false) {
        return Ok(false);
    }
    let mut from = File::open(source).map_err(|error| Error {
        path: source.to_owned(),
        source: error,
    })?;
    through(target, mode, |file| io::copy(&mut from, file).map(drop)).map_err(failed)?;
    Ok(true)
}

/// Writes beside the file and takes its place in one step, so that a program in use is not touched either.
fn through(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let half = path.with_file_name(name);
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&half)
        .and_then(|mut file| {
            write(&mut file)?;
            // A machine that loses power must not come back with an empty plugin.
            file.sync_all()
        })
        .and_then(|()| fs::rename(&half, path));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written
}

fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = one.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        let read = right.get_mut(..count).unwrap_or_default();
        other.read_exact(read)?;
        if left.get(..count) != Some(read) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_program_in_use_is_replaced_by_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("new"), folder.path().join("calico"));
        fs::write(&target, "old").unwrap();
        let before = fs::metadata(&target).unwrap().ino();
        fs::write(&source, "new content").unwrap();
        assert!(copy(&source, &target, 0o755).unwrap());
        let meta = fs::metadata(&target).unwrap();
        assert_ne!(meta.ino(), before, "the old file stays with who has it open");
        assert_eq!(meta.permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_to_string(&target).unwrap(), "new content");
        assert!(
            !copy(&source, &target, 0o755).unwrap(),
            "nothing to do a second time"
        );
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "nothing is left behind"
        );
    }

    #[test]
    fn leftovers_of_a_crash_are_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/nodename");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_file_name("nodename.tmp"), "half").unwrap();
        assert!(replace(&path, b"n1", 0o644).unwrap());
        assert!(!replace(&path, b"n1", 0o644).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "n1");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = replace(Path::new("/proc/self/nothing/here"), b"", 0o600).unwrap_err();
        assert!(error.to_string().contains("/proc/self/nothing/here"), "{error}");
    }
}

//! Collecting files and the output of programs in a directory, and packing it. Programs are named, never a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Failure;

/// A directory that is filled and packed.
pub(crate) struct Bundle {
    root: PathBuf,
}

impl Bundle {
    /// A new directory in the system's place for such.
    pub(crate) fn new(prefix: &str) -> Result<Self, Failure> {
        let base = std::env::temp_dir();
        let failed = |error: std::io::Error| {
            Failure::new(format!(
                "cannot make a directory in {}: {error}; set TMPDIR to one with space",
                base.display()
            ))
        };
        for attempt in 0..1000_u32 {
            let root = base.join(format!("{prefix}{}-{attempt}", std::process::id()));
            match fs::create_dir(&root) {
                Ok(()) => return Ok(Self { root }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(std::io::Error::other("all names are taken")))
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file in the directory; the directories that it is in are made.
    pub(crate) fn place(&self, name: &str) -> std::io::Result<PathBuf> {
        let path = self.root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(path)
    }

    /// The output of a program in a file, with what it said on stderr. A program that fails or is absent is a file
    /// that says so.
    pub(crate) fn output(&self, name: &str, program: &str, arguments: &[&str]) -> std::io::Result<bool> {
        let path = self.place(name)?;
        let result = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let (text, done) = match result {
            Ok(output) => {
                let mut text = output.stdout;
                text.extend(&output.stderr);
                (text, output.status.success())
            }
            Err(error) => (format!("{program} cannot be run: {error}\n").into_bytes(), false),
        };
        fs::write(path, text)?;
        Ok(done)
    }

    /// Packs what is below `folder` of the directory into a compressed archive.
    pub(crate) fn pack(&self, folder: &str, archive: &Path) -> Result<(), Failure> {
        let output = Command::new("tar")
            .arg("-czf")
            .arg(archive)
            .arg("-C")
            .arg(&self.root)
            .arg(folder)
            .stdin(Stdio::null())
            .output();
        let problem = match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("tar cannot be run: {error}"),
        };
        Err(Failure::new(format!(
            "cannot pack {}: {problem}; what was collected is in {}",
            archive.display(),
            self.root.display()
        )))
    }

    /// Removes the directory.
    pub(crate) fn remove(self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Copies a directory, as far as it can be read.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let target = to.join(entry.file_name());
        // Links are left out: they lead to places that were not asked for.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy(&entry.path(), &target)?,
            Ok(kind) if kind.is_file() => drop(fs::copy(entry.path(), target)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_and_copies_are_packed() {
        let bundle = Bundle::new("bundle-test-").unwrap();
        assert!(bundle.output("d/hello", "echo", &["hi"]).unwrap());
        assert!(!bundle.output("d/none", "no-such-program-anywhere", &[]).unwrap());
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("sub")).unwrap();
        fs::write(source.path().join("sub/log"), "line").unwrap();
        copy(source.path(), &bundle.root().join("d/logs")).unwrap();
        let archive = source.path().join("a.tar.gz");
        bundle.pack("d", &archive).unwrap();
        let list = Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        for name in ["d/hello", "d/none", "d/logs/sub/log"] {
            assert!(list.contains(name), "{list}");
        }
        let said = fs::read_to_string(bundle.root().join("d/none")).unwrap();
        assert!(said.contains("no-such-program-anywhere cannot be run"), "{said}");
        let root = bundle.root().to_owned();
        bundle.remove();
        assert!(!root.exists());
    }
}

//! A file that is read and never written: what would be written stays in memory. A store is looked at through it
//! first, so that one that turns out to be damaged, or of a newer program, is left as it is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: u64 = 4096;

/// What was written, in pages that begin at multiples of their size.
#[derive(Debug, Default)]
struct Written {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    /// How much of the file is still seen; it shrinks when the length is set to less.
    visible: Mutex<u64>,
    written: Mutex<Written>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Overlay {
    pub(super) fn over(file: File) -> std::io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            file,
            visible: Mutex::new(length),
            written: Mutex::new(Written {
                length,
                pages: BTreeMap::new(),
            }),
        })
    }

    /// The page at a multiple of the page size, as the file has it; zeroes where it has nothing.
    fn page_of_file(&self, start: u64) -> std::io::Result<Vec<u8>> {
        let mut page = vec![0; usize::try_from(PAGE).unwrap_or(4096)];
        let available = lock(&self.visible).saturating_sub(start).min(PAGE);
        let wanted = usize::try_from(available).unwrap_or(0);
        if let Some(part) = page.get_mut(..wanted) {
            self.file.read_exact_at(part, start)?;
        }
        Ok(page)
    }
}

/// The parts of a range that lie in one page each: the start of the page, where in it, and how many bytes.
fn parts(offset: u64, length: usize) -> Vec<(u64, usize, usize)> {
    let mut parts = Vec::new();
    let (mut at, mut left) = (offset, size(length));
    while left > 0 {
        let within = at % PAGE;
        let count = left.min(PAGE - within);
        let small = |number: u64| usize::try_from(number).unwrap_or(0);
        parts.push((at - within, small(within), small(count)));
        at += count;
        left -= count;
    }
    parts
}

impl redb::StorageBackend for Overlay {
    fn len(&self) -> Result<u64, Error> {
        Ok(lock(&self.written).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let written = lock(&self.written);
        if offset.saturating_add(size(out.len())) > written.length {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the file ends before that"));
        }
        let mut done = 0;
        for (start, within, count) in parts(offset, out.len()) {
            let fresh;
            let page = match written.pages.get(&start) {
                Some(page) => page,
                None => {
                    fresh = self.page_of_file(start)?;
                    &fresh
                }
            };
            if let (Some(to), Some(from)) =
                (out.get_mut(done..done + count), page.get(within..within + count))
            {
                to.copy_from_slice(from);
            }
            done += count;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        let mut written = lock(&self.written);
        let mut visible = lock(&self.visible);
        *visible = length.min(*visible);
        written.length = length;
        let behind = written.pages.split_off(&length.next_multiple_of(PAGE));
        drop(behind);
        // What lies behind the end reads as zeroes when the file grows again.
        let within = usize::try_from(length % PAGE).unwrap_or(0);
        if let Some(page) = written.pages.get_mut(&(length - length % PAGE)) {
            page.iter_mut().skip(within).for_each(|byte| *byte = 0);
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut written = lock(&self.written);
        let mut done = 0;
        for (start, within, count) in parts(offset, data.len()) {
            let page = match written.pages.entry(start) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(place) => place.insert(self.page_of_file(start)?),
            };
            if let (Some(to), Some(from)) =
                (page.get_mut(within..within + count), data.get(done..done + count))
            {
                to.copy_from_slice(from);
            }
            done += count;
        }
        written.length = written.length.max(offset.saturating_add(size(data.len())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::StorageBackend as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let before: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::write(&path, &before).unwrap();
        let overlay = Overlay::over(File::open(&path).unwrap()).unwrap();
        let mut model = before.clone();
        overlay.write(4000, &[7; 5000]).unwrap();
        model[4000..9000].fill(7);
        overlay.set_len(12_000).unwrap();
        model.resize(12_000, 0);
        overlay.write(11_990, &[9; 10]).unwrap();
        model[11_990..].fill(9);
        let mut all = vec![1; 12_000];
        overlay.read(0, &mut all).unwrap();
        assert!(all == model);
        assert!(overlay.read(11_999, &mut [0; 2]).is_err());
        overlay.write(50, &[5; 100]).unwrap();
        overlay.set_len(100).unwrap();
        overlay.set_len(200).unwrap();
        let mut tail = [1; 100];
        overlay.read(100, &mut tail).unwrap();
        assert_eq!(tail, [0; 100]);
        assert!(std::fs::read(&path).unwrap() == before);
    }
}

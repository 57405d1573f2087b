//! Reads what is there. A file that is written to meanwhile is read again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::entry::{Entry, State, What};
use crate::folder::{Kind, Seen, Spot, spot};
use crate::selection::{Found, Scope};
use crate::{Error, envfile};

const ATTEMPTS: u32 = 8;

/// What stands at a path now. Folders in the way that are links are an error.
pub(crate) fn state(root: &Path, path: &str) -> Result<State, Error> {
    let Some(spot) = spot(root, path)? else { return Ok(State::Absent) };
    Ok(entry(&spot, &mut || Ok(io::sink()))?.map_or(State::Absent, |(entry, _)| State::There(entry)))
}

/// What stands at `spot`, and the writer that took its content. Every attempt to read it begins with
/// a new writer.
pub(crate) fn entry<W: Write>(
    spot: &Spot,
    sink: &mut dyn FnMut() -> Result<W, Error>,
) -> Result<Option<(Entry, Option<W>)>, Error> {
    let path = &spot.path;
    for attempt in 0..ATTEMPTS {
        // Somebody writes to it: wait a little longer each time.
        std::thread::sleep(Duration::from_millis(20) * attempt);
        let Some(seen) = spot.folder.see(&spot.name, path)? else { return Ok(None) };
        match seen.kind {
            Kind::File => {}
            Kind::Link => {
                let target = spot.folder.link_target(&spot.name, path)?;
                return Ok(Some((noted(path, seen, What::Link { target }), None)));
            }
            Kind::Folder => return Ok(Some((noted(path, seen, What::Folder), None))),
            Kind::Other(kind) => {
                return Err(Error::InTheWay { path: path.clone(), kind, wanted: "file" });
            }
        }
        let mut file = spot.folder.file(&spot.name, path)?;
        let before = look(&file, path)?;
        let mut passed = Passing::new(sink()?, envfile::is_env_file(path));
        copy(&mut file, &mut passed, path)?;
        let after = look(&file, path)?;
        if before.kind == Kind::File && before.unchanged(&after) && passed.bytes == after.bytes {
            let keys = passed.kept.as_deref().and_then(envfile::keys);
            let what = What::File { bytes: passed.bytes, digest: hex::encode(passed.digest.finalize()), keys };
            return Ok(Some((noted(path, after, what), Some(passed.sink))));
        }
    }
    Err(Error::Changing { path: path.clone() })
}

fn noted(path: &str, seen: Seen, what: What) -> Entry {
    Entry {
        path: path.to_owned(),
        what,
        mode: seen.mode,
        owner: seen.owner,
        group: seen.group,
        modified: seen.modified,
    }
}

fn look(file: &File, path: &str) -> Result<Seen, Error> {
    rustix::fs::fstat(file).map(|stat| Seen::of(&stat)).map_err(|errno| Error::io("look at", path)(errno.into()))
}

fn copy(from: &mut File, into: &mut impl Write, path: &str) -> Result<(), Error> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).map_err(Error::io("read", path))?;
        if length == 0 {
            return Ok(());
        }
        into.write_all(&buffer[..length]).map_err(Error::io("keep a copy of", path))?;
    }
}

/// Counts and digests what passes, and keeps a small env file to know its names.
struct Passing<W> {
    sink: W,
    digest: Sha256,
    bytes: u64,
    kept: Option<Vec<u8>>,
}

impl<W> Passing<W> {
    fn new(sink: W, keep: bool) -> Self {
        Self { sink, digest: Sha256::new(), bytes: 0, kept: keep.then(Vec::new) }
    }
}

impl<W: Write> Write for Passing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.sink.write_all(buffer)?;
        self.digest.update(buffer);
        self.bytes += buffer.len() as u64;
        if self.bytes > envfile::BYTES_MAX {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(buffer);
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Everything that belongs to the release, as it is now.
pub(crate) fn all(scope: &Scope<'_>, found: &Found) -> Result<Vec<Entry>, Error> {
    let mut budget = Budget::new(scope.selection().bytes_max);
    let mut entries = Vec::new();
    for path in found.paths.keys() {
        if let State::There(entry) = state(&scope.root, path)? {
            budget.spend(&entry)?;
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// The limit on what is recorded.
pub(crate) struct Budget {
    most: u64,
    spent: u64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, spent: 0 }
    }

    pub(crate) fn spend(&mut self, entry: &Entry) -> Result<(), Error> {
        self.spent = self.spent.saturating_add(entry.bytes());
        if self.spent > self.most {
            return Err(Error::TooLarge { most: self.most, path: entry.path.clone() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Changes the file while it is read, the first time.
    struct Meddling<'a> {
        file: &'a Path,
        attempt: u32,
        read: Vec<u8>,
    }

    impl Write for Meddling<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            if self.attempt == 1 {
                fs::write(self.file, "another, longer text")?;
            }
            self.read.extend_from_slice(buffer);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "a text").unwrap();
        let mut attempt = 0;
        let spot = spot(folder.path(), "a").unwrap().unwrap();
        let mut sink = || {
            attempt += 1;
            Ok(Meddling { file: &file, attempt, read: Vec::new() })
        };
        let (entry, read) = entry(&spot, &mut sink).unwrap().unwrap();
        assert_eq!(read.unwrap().read, b"another, longer text");
        assert_eq!(entry.bytes(), 20);
        assert_eq!(attempt, 2);
    }
}

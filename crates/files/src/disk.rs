//! Every change this crate makes to a file system, step by step. A test lets the machine die before
//! any of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, fsync, futimens, mkdirat, openat, renameat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::Error;
use crate::entry::Entry;
use crate::folder::{Folder, Spot};

/// The steps of one phase. It ends when the future that asked for it is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    abandoned: Arc<AtomicBool>,
    /// How many steps are left, where they are counted.
    left: Option<Arc<AtomicI64>>,
}

impl Disk {
    pub(crate) fn new(abandoned: Arc<AtomicBool>) -> Self {
        Self { abandoned, left: None }
    }

    /// Dies before the step after `steps`.
    #[cfg(test)]
    pub(crate) fn dying_after(steps: i64) -> Self {
        Self { abandoned: Arc::default(), left: Some(Arc::new(AtomicI64::new(steps))) }
    }

    /// Whether it died.
    #[cfg(test)]
    pub(crate) fn is_dead(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.load(Ordering::SeqCst) < 0)
    }

    fn step(&self) -> Result<(), Error> {
        if self.abandoned.load(Ordering::SeqCst) {
            return Err(Error::Ended);
        }
        match &self.left {
            Some(left) if left.fetch_sub(1, Ordering::SeqCst) <= 0 => {
                left.store(-1, Ordering::SeqCst);
                Err(Error::Ended)
            }
            _ => Ok(()),
        }
    }

    /// Makes a folder of the state and all above it, for us alone.
    pub(crate) fn make_private_folder(&self, path: &Path) -> Result<(), Error> {
        self.step()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at("make the folder", path))
    }

    /// Writes a file of the state: it is there whole, or not at all.
    pub(crate) fn write_private(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let beside = path.with_extension("part");
        self.fill_private(&beside, &mut &*content)?;
        self.step()?;
        fs::rename(&beside, path).map_err(at("put in place", path))?;
        self.sync_parent(path)
    }

    /// Fills a file of the state, over whatever a dead run left there.
    pub(crate) fn fill_private(&self, path: &Path, content: &mut dyn Read) -> Result<(), Error> {
        self.step()?;
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(at("write", path))?;
        self.pour(content, &mut file).map_err(|error| error.on("write", path.display().to_string()))?;
        self.step()?;
        file.sync_all().map_err(at("store", path))
    }

    /// The middle of a file is a step of its own: the machine may die there.
    fn pour(&self, content: &mut dyn Read, into: &mut File) -> Result<(), Poured> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = content.read(&mut buffer).map_err(Poured::Io)?;
            if length == 0 {
                return Ok(());
            }
            let (first, second) = buffer[..length].split_at(length / 2);
            into.write_all(first).map_err(Poured::Io)?;
            self.step().map_err(Poured::Ended)?;
            into.write_all(second).map_err(Poured::Io)?;
        }
    }

    pub(crate) fn remove_private(&self, path: &Path) -> Result<(), Error> {
        self.step()?;
        absent_is_fine(fs::remove_file(path)).map_err(at("remove", path))?;
        self.sync_parent(path)
    }

    /// Removes a folder of the state with the files in it.
    pub(crate) fn remove_private_folder(&self, path: &Path) -> Result<(), Error> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at("list", path)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(at("list", path))?;
            if entry.file_type().map_err(at("look at", path))?.is_dir() {
                self.remove_private_folder(&entry.path())?;
            } else {
                self.step()?;
                absent_is_fine(fs::remove_file(entry.path())).map_err(at("remove", path))?;
            }
        }
        self.step()?;
        absent_is_fine(fs::remove_dir(path)).map_err(at("remove", path))
    }

    fn sync_parent(&self, path: &Path) -> Result<(), Error> {
        self.step()?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(at("store", parent))
    }

    /// Makes one folder of the project.
    pub(crate) fn make_folder(&self, above: &Folder, name: &str, mode: u32, path: &str) -> Result<(), Error> {
        self.step()?;
        match mkdirat(&above.descriptor, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(failed("make the folder of", path)(errno)),
        }
    }

    /// Removes a folder of the project where it is empty.
    pub(crate) fn remove_empty_folder(&self, spot: &Spot) -> Result<(), Error> {
        self.step()?;
        match unlinkat(&spot.folder.descriptor, spot.name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(failed("remove", &spot.path)(errno)),
        }
    }

    /// Writes a file under the name `beside`, with all it should have, and then puts it in its place.
    pub(crate) fn put_file(&self, spot: &Spot, beside: &str, entry: &Entry, content: &mut File) -> Result<(), Error> {
        self.remove_name(spot, beside)?;
        self.step()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = openat(&spot.folder.descriptor, beside, flags, Mode::from_raw_mode(0o600))
            .map_err(failed("write beside", &spot.path))?
            .into();
        self.pour(content, &mut file).map_err(|error| error.on("write beside", spot.path.clone()))?;
        self.step()?;
        dress(&file, entry).map_err(failed("give its owner and rights to", &spot.path))?;
        self.step()?;
        fsync(&file).map_err(failed("store", &spot.path))?;
        self.rename(spot, beside)
    }

    pub(crate) fn put_link(&self, spot: &Spot, beside: &str, target: &str) -> Result<(), Error> {
        self.remove_name(spot, beside)?;
        self.step()?;
        symlinkat(target, &spot.folder.descriptor, beside).map_err(failed("make the link", &spot.path))?;
        self.rename(spot, beside)
    }

    pub(crate) fn take_away(&self, spot: &Spot) -> Result<(), Error> {
        self.remove_name(spot, &spot.name)?;
        self.sync_folder(spot)
    }

    pub(crate) fn remove_name(&self, spot: &Spot, name: &str) -> Result<(), Error> {
        self.step()?;
        match unlinkat(&spot.folder.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &spot.path)(errno)),
        }
    }

    fn rename(&self, spot: &Spot, beside: &str) -> Result<(), Error> {
        self.step()?;
        let folder = &spot.folder.descriptor;
        renameat(folder, beside, folder, spot.name.as_str()).map_err(failed("put in place", &spot.path))?;
        self.sync_folder(spot)
    }

    fn sync_folder(&self, spot: &Spot) -> Result<(), Error> {
        self.step()?;
        fsync(&spot.folder.descriptor).map_err(failed("store the folder of", &spot.path))
    }
}

enum Poured {
    Io(io::Error),
    Ended(Error),
}

impl Poured {
    fn on(self, action: &'static str, path: String) -> Error {
        match self {
            Self::Io(source) => Error::Io { action, path, source },
            Self::Ended(error) => error,
        }
    }
}

/// Owner, then rights, because a change of owner takes set-user-id away; then the time.
fn dress(file: &File, entry: &Entry) -> Result<(), Errno> {
    match fchown(file, Some(Uid::from_raw(entry.owner)), Some(Gid::from_raw(entry.group))) {
        // Without the right to give files away it stays ours; the plan has said so.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    fchmod(file, Mode::from_raw_mode(entry.mode))?;
    let modified = Timespec { tv_sec: entry.modified.seconds, tv_nsec: i64::from(entry.modified.nanoseconds) };
    futimens(file, &Timestamps { last_access: modified, last_modification: modified })
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io(action, path.display().to_string())
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Io { action, path, source: errno.into() }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

//! Folders held open, so that no path is ever followed through a symbolic link: a folder that was
//! exchanged for a link between two looks leads nowhere.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, open, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::Error;
use crate::entry::Modified;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Where recorded paths begin, and nothing above it.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) descriptor: OwnedFd,
}

/// A name within an open folder.
#[derive(Debug)]
pub(crate) struct Spot {
    pub folder: Folder,
    pub name: String,
    /// As it was asked for, for messages.
    pub path: String,
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Link,
    Folder,
    Other(&'static str),
}

/// A kind and what the file system says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub kind: Kind,
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    pub bytes: u64,
    pub modified: Modified,
    identity: (u64, i64, i64),
}

impl Seen {
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            FileType::Directory => Kind::Folder,
            FileType::Fifo => Kind::Other("pipe"),
            FileType::Socket => Kind::Other("socket"),
            FileType::CharacterDevice | FileType::BlockDevice => Kind::Other("device"),
            FileType::Unknown => Kind::Other("thing of unknown kind"),
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            owner: stat.st_uid,
            group: stat.st_gid,
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Modified { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
            identity: (stat.st_ino, stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }

    /// Whether nothing wrote to it between the two.
    pub(crate) fn unchanged(&self, later: &Self) -> bool {
        self.identity == later.identity && self.bytes == later.bytes && self.modified == later.modified
    }
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let descriptor = open(path, FOLDER, Mode::empty())
            .map_err(|errno| Error::io("open", path.display().to_string())(errno.into()))?;
        Ok(Self { descriptor })
    }

    /// The folder `name` in this one. Nothing where there is none.
    pub(crate) fn inner(&self, name: &str, path: &str) -> Result<Option<Self>, Error> {
        match openat(&self.descriptor, name, FOLDER.union(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(descriptor) => Ok(Some(Self { descriptor })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Error::Escapes { path: path.to_owned(), through: name.to_owned() }),
            Err(errno) => Err(Error::io("open the folder of", path)(errno.into())),
        }
    }

    /// What stands at `name`, itself and not what it may lead to. Nothing where there is nothing.
    pub(crate) fn see(&self, name: &str, path: &str) -> Result<Option<Seen>, Error> {
        match statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Seen::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io("look at", path)(errno.into())),
        }
    }

    pub(crate) fn link_target(&self, name: &str, path: &str) -> Result<String, Error> {
        let target = readlinkat(&self.descriptor, name, Vec::new())
            .map_err(|errno| Error::io("read the link", path)(errno.into()))?;
        target.into_string().map_err(|_| Error::Path { path: path.to_owned() })
    }

    /// Opens a file for reading. A pipe does not block it, and a link is not followed.
    pub(crate) fn file(&self, name: &str, path: &str) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(&self.descriptor, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| Error::io("read", path)(errno.into()))
    }

    /// The names in it, sorted.
    pub(crate) fn names(&self, path: &str) -> Result<Vec<String>, Error> {
        let failed = |errno: Errno| Error::io("list", path)(errno.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.descriptor).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            let text = name.to_str().map_err(|_| Error::Name {
                folder: path.to_owned(),
                name: OsStr::from_bytes(name.to_bytes()).display().to_string(),
            })?;
            names.push(text.to_owned());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The pieces of a recorded path, none of which leads anywhere but down.
pub(crate) fn pieces(path: &str) -> Result<Vec<&str>, Error> {
    let pieces: Vec<_> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let plain = |piece: &&str| !piece.is_empty() && *piece != "." && *piece != ".." && !piece.contains('\0');
    if pieces.iter().all(plain) { Ok(pieces) } else { Err(Error::Path { path: path.to_owned() }) }
}

/// The folder that recorded paths of this form begin in.
pub(crate) fn base(root: &Path, path: &str) -> Result<Folder, Error> {
    Folder::open(if path.starts_with('/') { Path::new("/") } else { root })
}

/// The place of a recorded path. Nothing where its folder does not exist.
pub(crate) fn spot(root: &Path, path: &str) -> Result<Option<Spot>, Error> {
    let pieces = pieces(path)?;
    let Some((name, above)) = pieces.split_last() else { return Err(Error::Path { path: path.to_owned() }) };
    let mut folder = base(root, path)?;
    for piece in above {
        match folder.inner(piece, path)? {
            Some(inner) => folder = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(Spot { folder, name: (*name).to_owned(), path: path.to_owned() }))
}

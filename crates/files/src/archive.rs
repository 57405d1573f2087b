//! The one stream that holds all files: an ordinary tar archive, which a person can unpack. What lies
//! under the project's folder is under `root/` in it, everything else under `outside/`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use tar::{Archive, Builder, EntryType, Header};
use tempfile::SpooledTempFile;

use crate::Error;
use crate::entry::{Entry, What};
use crate::folder::{Spot, spot};
use crate::observe::{self, Budget};

/// Files up to this size are held in memory between reading and writing.
const SPOOL_BYTES: usize = 4 << 20;

/// Writes what stands at the given paths, and returns what it was. What is gone meanwhile is left out.
/// `spool` is a folder nobody else may read.
pub(crate) fn write<'p>(
    root: &Path,
    paths: impl Iterator<Item = &'p String>,
    budget: &mut Budget,
    spool: &Path,
    into: impl Write,
) -> Result<Vec<Entry>, Error> {
    let mut archive = Builder::new(into);
    let mut entries = Vec::new();
    for path in paths {
        let Some(spot) = spot(root, path)? else { continue };
        if let Some(entry) = append(&mut archive, &spot, budget, spool)? {
            entries.push(entry);
        }
    }
    end(archive)?;
    Ok(entries)
}

pub(crate) fn end(archive: Builder<impl Write>) -> Result<(), Error> {
    archive.into_inner().and_then(|mut into| into.flush()).map_err(Error::io("write", "the archive"))
}

fn append(
    archive: &mut Builder<impl Write>,
    spot: &Spot,
    budget: &mut Budget,
    spool: &Path,
) -> Result<Option<Entry>, Error> {
    let mut sink = || Ok(tempfile::spooled_tempfile_in(SPOOL_BYTES, spool));
    let Some((entry, content)) = observe::entry::<SpooledTempFile>(spot, &mut sink)? else { return Ok(None) };
    budget.spend(&entry)?;
    append_read(archive, &entry, content)?;
    Ok(Some(entry))
}

/// Appends an entry whose content was read already.
pub(crate) fn append_read(
    archive: &mut Builder<impl Write>,
    entry: &Entry,
    content: Option<impl Read + std::io::Seek>,
) -> Result<(), Error> {
    let path = &entry.path;
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(u64::from(entry.owner));
    header.set_gid(u64::from(entry.group));
    header.set_mtime(u64::try_from(entry.modified.seconds).unwrap_or(0));
    let name = name_of(path);
    let failed = || Error::io("write to the archive", path.clone());
    match &entry.what {
        What::File { bytes, .. } => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(*bytes);
            let mut content = content.ok_or_else(|| Error::Changing { path: path.clone() })?;
            content.rewind().map_err(failed())?;
            archive.append_data(&mut header, name, content.take(*bytes)).map_err(failed())
        }
        What::Link { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, name, target).map_err(failed())
        }
        What::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, format!("{name}/"), std::io::empty()).map_err(failed())
        }
    }
}

/// Hands the content of every recorded file to `take`.
pub(crate) fn read(
    entries: &[Entry],
    from: impl Read,
    mut take: impl FnMut(&Entry, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut missing: BTreeMap<String, usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| matches!(entry.what, What::File { .. }))
        .map(|(index, entry)| (name_of(&entry.path), index))
        .collect();
    let mut archive = Archive::new(from);
    for member in archive.entries().map_err(Error::io("read", "the archive"))? {
        let mut member = member.map_err(Error::io("read", "the archive"))?;
        if member.header().entry_type() != EntryType::Regular {
            continue;
        }
        let name = member.path_bytes().into_owned();
        let name = String::from_utf8_lossy(&name).into_owned();
        let Some(index) = missing.remove(&name) else {
            return Err(Error::Damaged { path: name, what: "it was not expected" });
        };
        if member.size() != entries[index].bytes() {
            return Err(Error::Damaged { path: name, what: "its length is another" });
        }
        take(&entries[index], &mut member)?;
    }
    match missing.into_keys().next() {
        Some(path) => Err(Error::Damaged { path, what: "it is missing" }),
        None => Ok(()),
    }
}

fn name_of(path: &str) -> String {
    match path.strip_prefix('/') {
        Some(rest) => format!("outside/{rest}"),
        None => format!("root/{path}"),
    }
}

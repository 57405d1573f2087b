//! Builds what is to be live in the state folder, where nobody else looks.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::disk::Disk;
use crate::entry::{Facts, State, What};
use crate::layout::{Item, Layout, Staged};
use crate::selection::Scope;
use crate::{Error, archive};

/// Stages what a snapshot recorded. Staging again what is staged does nothing.
pub(crate) fn stage(
    layout: &Layout,
    disk: &Disk,
    facts: &Facts,
    scope: &Scope<'_>,
    content: impl Read,
) -> Result<Staged, Error> {
    if let Some(staged) = layout.staged()? {
        return Ok(staged);
    }
    disk.make_private_folder(&layout.folder.join("staged"))?;
    let wanted: Vec<_> =
        facts.entries.iter().filter(|entry| !entry.is_folder() && facts.is_replaced(&entry.path)).collect();
    let place = |path: &str| wanted.iter().position(|entry| entry.path == path);
    archive::read(&facts.entries, content, |entry, content| match place(&entry.path) {
        Some(index) => disk.fill_private(&layout.staged_content(index), content),
        None => Ok(()),
    })?;
    let recorded = wanted.iter().map(|entry| Item { path: entry.path.clone(), wanted: State::There((*entry).clone()) });
    let added = added_since(facts, scope)?;
    let items = recorded.chain(added.into_iter().map(|path| Item { path, wanted: State::Absent })).collect();
    let folders = facts.entries.iter().filter(|entry| entry.is_folder()).cloned().collect();
    let staged = Staged { root: scope.root.clone(), kept_by: None, items, folders };
    layout.write_staged(disk, &staged)?;
    Ok(staged)
}

/// Files that the patterns of then and of now mean, and that were not there then. What only today's
/// patterns mean was perhaps there, and stays.
pub(crate) fn added_since(facts: &Facts, scope: &Scope<'_>) -> Result<Vec<String>, Error> {
    let mut then = scope.selection().clone();
    then.include.clone_from(&facts.include);
    then.exclude.clone_from(&facts.exclude);
    let then = Scope::new(&then, &scope.root.join(".backstay"))?;
    let recorded: BTreeSet<_> = facts.entries.iter().map(|entry| entry.path.as_str()).collect();
    let found = scope.find()?;
    let files = found.paths.iter().filter(|(_, kind)| **kind != crate::folder::Kind::Folder);
    let added = files
        .map(|(path, _)| path)
        .filter(|path| !recorded.contains(path.as_str()) && then.matches(path) && scope.matches(path))
        .filter(|path| !scope.only_recorded.contains(path));
    Ok(added.cloned().collect())
}

/// Stages what an earlier run replaced.
pub(crate) fn stage_kept(layout: &Layout, disk: &Disk, earlier: &Layout) -> Result<Staged, Error> {
    if let Some(staged) = layout.staged()? {
        return Ok(staged);
    }
    let nothing = || Error::NothingKept { run: earlier.run.to_string() };
    if earlier.is_settled() {
        return Err(nothing());
    }
    let (Some(before), Some(kept)) = (earlier.staged()?, earlier.kept()?) else { return Err(nothing()) };
    disk.make_private_folder(&layout.folder.join("staged"))?;
    let mut items = Vec::new();
    for (index, (item, state)) in before.items.iter().zip(&kept.states).enumerate() {
        if state.identical(&item.wanted) {
            continue;
        }
        if let State::There(entry) = state
            && matches!(entry.what, What::File { .. })
        {
            let path = earlier.kept_content(index);
            let mut content = File::open(&path).map_err(Error::io("read", path.display().to_string()))?;
            disk.fill_private(&layout.staged_content(items.len()), &mut content)?;
        }
        items.push(Item { path: item.path.clone(), wanted: state.clone() });
    }
    let staged = Staged { root: before.root, kept_by: Some(earlier.run.clone()), items, folders: before.folders };
    layout.write_staged(disk, &staged)?;
    Ok(staged)
}

/// What is staged and is not as it should be, and how much was compared.
pub(crate) fn prove(layout: &Layout, facts: &Facts) -> Result<(Vec<String>, String), Error> {
    let staged = layout.staged()?.ok_or_else(|| Error::NotStaged { run: layout.run.to_string() })?;
    let mut findings = Vec::new();
    let (mut files, mut bytes) = (0u64, 0u64);
    for (index, item) in staged.items.iter().enumerate() {
        let State::There(entry) = &item.wanted else { continue };
        files += 1;
        let What::File { digest, bytes: length, .. } = &entry.what else { continue };
        bytes += length;
        match digest_of(&layout.staged_content(index)) {
            Ok(found) if found == (digest.clone(), *length) => {}
            Ok(_) => findings.push(format!("{}: the content is not what was recorded", entry.path)),
            Err(error) => findings.push(format!("{}: {error}", entry.path)),
        }
    }
    let recorded = if staged.kept_by.is_some() { &[] } else { facts.entries.as_slice() };
    for entry in recorded {
        let replaced = facts.is_replaced(&entry.path);
        let is_staged = || staged.items.iter().any(|item| item.wanted == State::There(entry.clone()));
        if !entry.is_folder() && replaced && !is_staged() {
            findings.push(format!("{}: it is not staged as it was recorded", entry.path));
        }
    }
    Ok((findings, format!("{files} files, {bytes} bytes")))
}

pub(crate) fn digest_of(path: &Path) -> Result<(String, u64), Error> {
    let failed = || Error::io("read", path.display().to_string());
    let mut file = File::open(path).map_err(failed())?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut buffer).map_err(failed())?;
        if length == 0 {
            return Ok((hex::encode(digest.finalize()), bytes));
        }
        bytes += length as u64;
        digest.update(&buffer[..length]);
    }
}

//! Puts the staged files in place of the live ones, and back again.

use std::fs::File;
use std::path::Path;

use backstay_part::Standing;

use crate::Error;
use crate::disk::Disk;
use crate::entry::{Entry, State, What};
use crate::folder::{Spot, base, pieces, spot};
use crate::layout::{Kept, Layout, Staged};
use crate::observe;

/// Makes what is staged live. It may be repeated from wherever it ended.
pub(crate) fn activate(layout: &Layout, disk: &Disk) -> Result<(), Error> {
    if layout.is_switched() || layout.is_settled() {
        return Ok(());
    }
    let staged = layout.staged()?.ok_or_else(|| Error::NotStaged { run: layout.run.to_string() })?;
    if layout.kept()?.is_none() {
        keep(layout, disk, &staged)?;
    }
    for (index, item) in staged.items.iter().enumerate() {
        let content = layout.staged_content(index);
        put(layout, disk, &staged, index, &item.wanted, &content)?;
    }
    layout.mark_switched(disk)
}

/// Copies what is live into the state folder, before any of it is touched.
fn keep(layout: &Layout, disk: &Disk, staged: &Staged) -> Result<(), Error> {
    disk.make_private_folder(&layout.folder.join("kept"))?;
    let mut states = Vec::new();
    for (index, item) in staged.items.iter().enumerate() {
        states.push(copy_live(disk, &staged.root, &item.path, &layout.kept_content(index))?);
    }
    let mut made = Vec::new();
    for folder in &staged.folders {
        if observe::state(&staged.root, &folder.path)? == State::Absent {
            made.push(folder.path.clone());
        }
    }
    layout.write_kept(disk, &Kept { states, made })
}

/// Copies what is live at `path`, and says what it was.
fn copy_live(disk: &Disk, root: &Path, path: &str, into: &Path) -> Result<State, Error> {
    let Some(spot) = spot(root, path)? else { return Ok(State::Absent) };
    let mut sink = || Ok(tempfile::SpooledTempFile::new_in(4 << 20, into.parent().unwrap_or(root)));
    let Some((entry, content)) = observe::entry(&spot, &mut sink)? else { return Ok(State::Absent) };
    if entry.is_folder() {
        return Err(Error::InTheWay { path: path.to_owned(), kind: "folder", wanted: "file" });
    }
    if let Some(mut content) = content {
        std::io::Seek::rewind(&mut content).map_err(Error::io("read", path))?;
        disk.fill_private(into, &mut content)?;
    }
    Ok(State::There(entry))
}

/// Makes one path what it should be.
fn put(
    layout: &Layout,
    disk: &Disk,
    staged: &Staged,
    index: usize,
    wanted: &State,
    content: &Path,
) -> Result<(), Error> {
    let path = &staged.items[index].path;
    let beside = layout.beside(index);
    let live = observe::state(&staged.root, path)?;
    if live.identical(wanted) {
        return clear(disk, &staged.root, path, &beside);
    }
    if let State::There(live) = &live
        && live.is_folder()
    {
        return Err(Error::InTheWay { path: path.clone(), kind: "folder", wanted: "file" });
    }
    match wanted {
        State::Absent => match spot(&staged.root, path)? {
            Some(spot) => disk.take_away(&spot),
            None => Ok(()),
        },
        State::There(entry) => {
            let spot = made_spot(disk, &staged.root, path, &staged.folders)?;
            match &entry.what {
                What::Link { target } => disk.put_link(&spot, &beside, target),
                _ => {
                    let mut content = File::open(content).map_err(Error::io("read", content.display().to_string()))?;
                    disk.put_file(&spot, &beside, entry, &mut content)
                }
            }
        }
    }
}

/// Removes what a dead run may have left beside a path.
fn clear(disk: &Disk, root: &Path, path: &str, beside: &str) -> Result<(), Error> {
    match spot(root, path)? {
        Some(spot) if spot.folder.see(beside, path)?.is_some() => disk.remove_name(&spot, beside),
        _ => Ok(()),
    }
}

/// The place of a path, whose folders are made where they are missing.
fn made_spot(disk: &Disk, root: &Path, path: &str, folders: &[Entry]) -> Result<Spot, Error> {
    let pieces = pieces(path)?;
    let mut folder = base(root, path)?;
    let (name, above) = pieces.split_last().ok_or_else(|| Error::Path { path: path.to_owned() })?;
    for (depth, piece) in above.iter().enumerate() {
        let inner = match folder.inner(piece, path)? {
            Some(inner) => Some(inner),
            None => {
                let full = above[..=depth].join("/");
                let recorded = folders.iter().find(|folder| folder.path == full);
                disk.make_folder(&folder, piece, recorded.map_or(0o755, |recorded| recorded.mode), path)?;
                folder.inner(piece, path)?
            }
        };
        folder = inner.ok_or_else(|| Error::Escapes { path: path.to_owned(), through: (*piece).to_owned() })?;
    }
    Ok(Spot { folder, name: (*name).to_owned(), path: path.to_owned() })
}

/// Makes live again what the switch replaced. Returns what it found that neither side had put there,
/// and kept.
pub(crate) fn revert(layout: &Layout, disk: &Disk) -> Result<Vec<String>, Error> {
    let Some(staged) = layout.staged()? else { return Ok(Vec::new()) };
    let Some(kept) = layout.kept()? else { return Ok(Vec::new()) };
    if layout.is_settled() {
        return Err(Error::NothingKept { run: layout.run.to_string() });
    }
    layout.unmark_switched(disk)?;
    let mut strays = Vec::new();
    for (index, (item, state)) in staged.items.iter().zip(&kept.states).enumerate().rev() {
        let live = observe::state(&staged.root, &item.path)?;
        if !live.same(&item.wanted) && !live.same(state) && live != State::Absent {
            disk.make_private_folder(&layout.folder.join("strays"))?;
            let into = layout.stray_content(index);
            copy_live(disk, &staged.root, &item.path, &into)?;
            strays.push(format!("{} (now {})", item.path, into.display()));
        }
        put(layout, disk, &staged, index, state, &layout.kept_content(index))?;
    }
    for path in kept.made.iter().rev() {
        if let Some(spot) = spot(&staged.root, path)? {
            disk.remove_empty_folder(&spot)?;
        }
    }
    layout.forget_kept(disk)?;
    Ok(strays)
}

/// Where a switch stands, by what is really there.
pub(crate) fn standing(layout: &Layout) -> Result<Standing, Error> {
    if layout.is_settled() {
        return Ok(Standing::Settled);
    }
    let (Some(staged), Some(kept)) = (layout.staged()?, layout.kept()?) else { return Ok(Standing::NotSwitched) };
    if layout.is_switched() {
        return Ok(Standing::Switched);
    }
    let (mut old, mut new, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for (item, state) in staged.items.iter().zip(&kept.states) {
        if state.identical(&item.wanted) {
            continue;
        }
        let live = observe::state(&staged.root, &item.path)?;
        let (is_old, is_new) = (live.identical(state), live.identical(&item.wanted));
        // Where owners cannot be given, content and rights decide.
        match (is_old || live.same(state), is_new || live.same(&item.wanted)) {
            _ if is_old => old.push(item.path.clone()),
            _ if is_new => new.push(item.path.clone()),
            (true, false) => old.push(item.path.clone()),
            (false, true) => new.push(item.path.clone()),
            _ => other.push(item.path.clone()),
        }
    }
    Ok(if !other.is_empty() {
        Standing::Unclear(format!("{} is neither as before nor as restored", other.join(", ")))
    } else if new.is_empty() {
        Standing::NotSwitched
    } else {
        // Even where all are new: the switch was not finished, and either way ends it.
        Standing::Half(format!("{} of {} files are restored", new.len(), new.len() + old.len()))
    })
}

/// Whether the switch replaced anything that is still kept.
pub(crate) fn keeps_anything(layout: &Layout) -> Result<bool, Error> {
    if layout.is_settled() {
        return Ok(false);
    }
    let (Some(staged), Some(kept)) = (layout.staged()?, layout.kept()?) else { return Ok(false) };
    let differs = staged.items.iter().zip(&kept.states).any(|(item, state)| !state.identical(&item.wanted));
    Ok(differs)
}

/// Lets go of what the switch replaced. A run of another host keeps nothing here, and nothing of it is
/// touched there.
pub(crate) fn settle(layout: &Layout, disk: &Disk) -> Result<(), Error> {
    if !layout.folder.exists() {
        return Ok(());
    }
    if !layout.is_settled() {
        if !layout.is_switched() {
            return Err(Error::NothingKept { run: layout.run.to_string() });
        }
        layout.mark_settled(disk)?;
    }
    layout.forget_kept(disk)?;
    layout.forget_staged(disk)?;
    layout.unmark_switched(disk)
}

/// Removes what was staged and not activated.
pub(crate) fn abandon(layout: &Layout, disk: &Disk) -> Result<(), Error> {
    match standing(layout)? {
        Standing::Switched | Standing::Settled => return Ok(()),
        Standing::Half(_) | Standing::Unclear(_) => {
            let staged = layout.staged()?.map(|staged| staged.items).unwrap_or_default();
            let paths = staged.into_iter().map(|item| item.path).collect();
            return Err(Error::Half { run: layout.run.to_string(), paths });
        }
        Standing::NotSwitched => {}
    }
    if let Some(staged) = layout.staged()? {
        for (index, item) in staged.items.iter().enumerate() {
            clear(disk, &staged.root, &item.path, &layout.beside(index))?;
        }
    }
    layout.forget_kept(disk)?;
    layout.forget_staged(disk)?;
    // What nobody else holds is not removed.
    if layout.folder.join("strays").exists() { Ok(()) } else { disk.remove_private_folder(&layout.folder) }
}

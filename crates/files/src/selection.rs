//! Which files belong to the release: patterns under the project's folder, and files that are named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::Error;
use crate::folder::{Folder, Kind, pieces};

/// Looking at more names than this means that a pattern is too wide.
const SEEN_MAX: u32 = 1_000_000;

/// Never captured, wherever it lies: Backstay's own folder, and a checkout's history.
const OWN_FOLDERS: [&str; 2] = [".backstay", ".git"];

/// The beginning of the names that a switch writes beside the files it replaces.
pub(crate) const BESIDE: &str = ".backstay-";

/// Which files belong to a release.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The project's folder. Recorded paths begin here.
    pub root: PathBuf,
    /// Patterns from the root: `*` stays within a folder, `**` does not.
    pub include: Vec<String>,
    /// Patterns of what to leave out again.
    pub exclude: Vec<String>,
    /// Files that belong to it wherever they lie: what a Compose project is made of. Where one of
    /// them is a link, what it leads to belongs to it too.
    pub named: Vec<PathBuf>,
    /// Recorded and never replaced: backstay.toml.
    pub only_recorded: Vec<PathBuf>,
    /// Never captured and never replaced: keys, the state folder, a repository.
    pub never: Vec<PathBuf>,
    pub files_max: u32,
    pub bytes_max: u64,
}

/// What was found, by path; folders only where something was found in them.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub paths: BTreeMap<String, Kind>,
    pub remarks: Vec<String>,
}

/// A selection whose patterns are compiled and whose paths are real ones.
pub(crate) struct Scope<'a> {
    selection: &'a Selection,
    pub(crate) root: PathBuf,
    include: GlobSet,
    exclude: GlobSet,
    never: Vec<PathBuf>,
    pub(crate) only_recorded: Vec<String>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(selection: &'a Selection, state: &Path) -> Result<Self, Error> {
        let root = real(&selection.root)?;
        let never = selection.never.iter().map(PathBuf::as_path).chain([state]);
        // What does not exist cannot be reached either.
        let never = never.filter_map(|path| root.join(path).canonicalize().ok()).collect();
        let mut scope = Self {
            include: set(&selection.include)?,
            exclude: set(&selection.exclude)?,
            selection,
            root,
            never,
            only_recorded: Vec::new(),
        };
        for path in &selection.only_recorded {
            scope.only_recorded.extend(scope.recorded(path)?);
        }
        Ok(scope)
    }

    pub(crate) fn selection(&self) -> &Selection {
        self.selection
    }

    /// Everything that belongs to the release now.
    pub(crate) fn find(&self) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut seen = 0;
        for start in starts(&self.selection.include) {
            self.walk_from(&start, &mut seen, &mut found)?;
        }
        for pattern in self.selection.include.iter().filter(|pattern| !has_wildcard(pattern)) {
            if !found.paths.keys().any(|path| is_within(path, plain(pattern))) {
                found.remarks.push(format!("`{}` is not there", plain(pattern)));
            }
        }
        for path in self.selection.named.iter().chain(&self.selection.only_recorded) {
            self.name(path, &mut found)?;
        }
        found.remarks.sort();
        found.remarks.dedup();
        Ok(found)
    }

    /// Whether the patterns mean this path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }

    pub(crate) fn is_never(&self, path: &str) -> bool {
        let own = |piece: &str| OWN_FOLDERS.contains(&piece) || piece.starts_with(BESIDE);
        let full = self.root.join(path);
        path.split('/').any(own) || self.never.iter().any(|never| full.starts_with(never))
    }

    fn walk_from(&self, start: &str, seen: &mut u32, found: &mut Found) -> Result<(), Error> {
        let mut folder = Folder::open(&self.root)?;
        if start.is_empty() {
            return self.walk(&folder, "", seen, found);
        }
        let pieces = pieces(start)?;
        for (depth, piece) in pieces.iter().enumerate() {
            let path = pieces[..=depth].join("/");
            if depth + 1 == pieces.len() {
                return self.look(&folder, piece, &path, seen, found);
            }
            match folder.inner(piece, start)? {
                Some(inner) => folder = inner,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn walk(&self, folder: &Folder, above: &str, seen: &mut u32, found: &mut Found) -> Result<(), Error> {
        for name in folder.names(if above.is_empty() { "." } else { above })? {
            let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
            self.look(folder, &name, &path, seen, found)?;
        }
        Ok(())
    }

    fn look(&self, folder: &Folder, name: &str, path: &str, seen: &mut u32, found: &mut Found) -> Result<(), Error> {
        *seen += 1;
        if *seen > SEEN_MAX {
            return Err(Error::TooMany { most: SEEN_MAX, path: path.to_owned() });
        }
        if self.is_never(path) {
            return Ok(());
        }
        // Gone since its folder was listed: it is not there.
        let Some(entry) = folder.see(name, path)? else { return Ok(()) };
        match entry.kind {
            Kind::Folder if !self.exclude.is_match(path) => match folder.inner(name, path) {
                Ok(Some(inner)) => self.walk(&inner, path, seen, found),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            Kind::Folder => Ok(()),
            _ if !self.matches(path) => Ok(()),
            Kind::Other(kind) => {
                found.remarks.push(format!("`{path}` is a {kind} and not recorded"));
                Ok(())
            }
            kind => self.add(path, kind, found),
        }
    }

    fn add(&self, path: &str, kind: Kind, found: &mut Found) -> Result<(), Error> {
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            // The folders of files elsewhere are not ours.
            if !path.starts_with('/') {
                found.paths.insert(parent.to_owned(), Kind::Folder);
            }
            above = parent;
        }
        found.paths.insert(path.to_owned(), kind);
        let most = self.selection.files_max;
        let files = found.paths.values().filter(|kind| **kind != Kind::Folder).count();
        if files > most as usize {
            return Err(Error::TooMany { most, path: path.to_owned() });
        }
        Ok(())
    }

    /// A file that is named belongs to it, and if it is a link, so does what it leads to.
    fn name(&self, path: &Path, found: &mut Found) -> Result<(), Error> {
        let mut path = path.to_owned();
        // As many links as the system itself would follow.
        for _ in 0..40 {
            let Some(recorded) = self.recorded(&path)? else {
                found.remarks.push(format!("`{}` is not there", path.display()));
                return Ok(());
            };
            if self.is_never(&recorded) {
                found.remarks.push(format!("`{recorded}` is never recorded"));
                return Ok(());
            }
            let Some(spot) = crate::folder::spot(&self.root, &recorded)? else { return Ok(()) };
            match spot.folder.see(&spot.name, &recorded)?.map(|seen| seen.kind) {
                None => {
                    found.remarks.push(format!("`{recorded}` is not there"));
                    return Ok(());
                }
                Some(Kind::Link) => {
                    self.add(&recorded, Kind::Link, found)?;
                    let target = spot.folder.link_target(&spot.name, &recorded)?;
                    path = self.root.join(&recorded).parent().unwrap_or(Path::new("/")).join(target);
                }
                Some(Kind::File) => return self.add(&recorded, Kind::File, found),
                Some(Kind::Folder) => {
                    found.remarks.push(format!("`{recorded}` is a folder and not recorded"));
                    return Ok(());
                }
                Some(Kind::Other(kind)) => {
                    found.remarks.push(format!("`{recorded}` is a {kind} and not recorded"));
                    return Ok(());
                }
            }
        }
        Err(Error::Path { path: path.display().to_string() })
    }

    /// How a path is recorded: from the root where it lies beneath, otherwise whole; the folder
    /// always as it really is. Nothing where the folder does not exist.
    fn recorded(&self, path: &Path) -> Result<Option<String>, Error> {
        let full = self.root.join(path);
        let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else {
            return Err(Error::Path { path: path.display().to_string() });
        };
        let Ok(parent) = parent.canonicalize() else { return Ok(None) };
        let full = parent.join(name);
        let recorded = full.strip_prefix(&self.root).unwrap_or(&full);
        let text = recorded.to_str().ok_or_else(|| Error::Path { path: full.display().to_string() })?;
        pieces(text)?;
        Ok(Some(text.to_owned()))
    }
}

fn real(root: &Path) -> Result<PathBuf, Error> {
    root.canonicalize().map_err(Error::io("open", root.display().to_string()))
}

fn set(patterns: &[String]) -> Result<GlobSet, Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let plain = plain(pattern);
        let outside = plain.starts_with('/') || plain.split('/').any(|piece| piece == "..") || plain.is_empty();
        if outside {
            return Err(Error::Pattern { pattern: pattern.clone(), source: None });
        }
        // A pattern that means a folder means all that is in it.
        for form in [plain.to_owned(), format!("{plain}/**")] {
            let glob = GlobBuilder::new(&form).literal_separator(true).build();
            set.add(glob.map_err(|source| Error::Pattern { pattern: pattern.clone(), source: Some(source) })?);
        }
    }
    set.build().map_err(|source| Error::Pattern { pattern: patterns.join(" "), source: Some(source) })
}

fn plain(pattern: &str) -> &str {
    pattern.trim_start_matches("./").trim_end_matches('/')
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{', '\\'])
}

fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where to begin to look, so that `config/**` does not read the whole project.
fn starts(patterns: &[String]) -> Vec<String> {
    let mut starts: Vec<String> = patterns
        .iter()
        .map(|pattern| {
            let pieces = plain(pattern).split('/').take_while(|piece| !has_wildcard(piece));
            pieces.collect::<Vec<_>>().join("/")
        })
        .collect();
    starts.sort();
    let mut kept: Vec<String> = Vec::new();
    for start in starts {
        if !kept.iter().any(|above| above.is_empty() || is_within(&start, above)) {
            kept.push(start);
        }
    }
    kept
}

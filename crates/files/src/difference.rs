//! What putting files back would change: names, sizes and rights, never contents.

use std::path::Path;

use backstay_model::Difference;
use sha2::{Digest, Sha256};

use crate::entry::{Entry, Facts, State, What};
use crate::selection::Scope;
use crate::{Error, envfile, observe, staging};

/// What a plan says.
#[derive(Debug, Default)]
pub(crate) struct Outlook {
    pub steps: Vec<String>,
    pub differences: Vec<Difference>,
    pub warnings: Vec<String>,
    pub refusals: Vec<String>,
    /// A digest over everything that must not change until the plan is executed.
    pub basis: String,
    pub bytes: u64,
}

impl Outlook {
    pub(crate) fn of(facts: &Facts, scope: &Scope<'_>) -> Result<Self, Error> {
        let mut outlook = Self { bytes: facts.entries.iter().map(Entry::bytes).sum(), ..Self::default() };
        let mut basis = Sha256::new();
        for entry in facts.entries.iter().filter(|entry| !entry.is_folder()) {
            let live = match observe::state(&scope.root, &entry.path) {
                Ok(live) => live,
                Err(error @ (Error::Escapes { .. } | Error::InTheWay { .. })) => {
                    outlook.refusals.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            outlook.note_basis(&mut basis, &entry.path, &live);
            outlook.compare(entry, &live, facts.is_replaced(&entry.path), scope);
        }
        for path in staging::added_since(facts, scope)? {
            let live = observe::state(&scope.root, &path)?;
            outlook.note_basis(&mut basis, &path, &live);
            let State::There(entry) = live else { continue };
            outlook.steps.push(format!("remove {path}, which was added since"));
            outlook.differences.push(Difference {
                subject: path,
                recorded: "not there".to_owned(),
                live: entry.described(),
            });
        }
        outlook.basis = hex::encode(basis.finalize());
        Ok(outlook)
    }

    fn note_basis(&self, basis: &mut Sha256, path: &str, live: &State) {
        // The time of the last change stands in it, so that nobody can try contents on the digest.
        let text = serde_json::to_string(live).unwrap_or_default();
        basis.update(format!("{}\n{path}\n{text}\n", self.steps.len()));
    }

    fn compare(&mut self, entry: &Entry, live: &State, is_replaced: bool, scope: &Scope<'_>) {
        let path = &entry.path;
        let difference = |recorded: String, live: String| Difference { subject: path.clone(), recorded, live };
        let step = match live {
            State::There(live) if live.identical(entry) => return,
            State::There(live) if live.is_folder() => {
                let error = Error::InTheWay { path: path.clone(), kind: "folder", wanted: "file" };
                return self.refusals.push(error.to_string());
            }
            State::There(live) => {
                self.differences.push(difference(entry.described(), described(entry, live)));
                "put back"
            }
            State::Absent => {
                self.differences.push(difference(entry.described(), "not there".to_owned()));
                "put back the missing"
            }
        };
        if !is_replaced {
            self.warnings.push(format!("{path} differs; it is recorded and never replaced"));
            return;
        }
        if scope.is_never(path) {
            let what = format!("{path} lies where Backstay keeps its own files, and will not be written");
            return self.refusals.push(what);
        }
        self.steps.push(format!("{step} {path}"));
        self.rights(entry, scope);
    }

    fn rights(&mut self, entry: &Entry, scope: &Scope<'_>) {
        let path = &entry.path;
        let us = rustix::process::geteuid();
        if !us.is_root() && us.as_raw() != entry.owner && matches!(entry.what, What::File { .. }) {
            self.warnings.push(format!("{path} belonged to user {}; it will be of the user who restores", entry.owner));
        }
        let mut folder = scope.root.join(path);
        while folder.pop() {
            if folder.is_dir() {
                if !is_writable(&folder) {
                    self.refusals.push(format!("no right to write into {}", folder.display()));
                }
                return;
            }
        }
    }
}

fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

/// What is live, and of an env file the names of what differs.
fn described(recorded: &Entry, live: &Entry) -> String {
    let mut text = live.described();
    if let (What::File { keys: Some(then), digest: a, .. }, What::File { keys: Some(now), digest: b, .. }) =
        (&recorded.what, &live.what)
        && a != b
    {
        let names = envfile::differing(then, now);
        let names = if names.is_empty() { "none, only the rest of the file".to_owned() } else { names.join(", ") };
        text.push_str("; keys that differ: ");
        text.push_str(&names);
    }
    text
}

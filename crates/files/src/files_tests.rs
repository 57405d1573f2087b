//! The files themselves, without a repository: what is selected, recorded, staged and switched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use backstay_model::RunId;
use backstay_part::Standing;

use crate::difference::Outlook;
use crate::disk::Disk;
use crate::entry::{Entry, Facts, What};
use crate::layout::Layout;
use crate::part::record;
use crate::selection::{Scope, Selection};
use crate::{Error, staging, switch};

/// A project in a folder, the state of its host in another, and something elsewhere.
pub(crate) struct Project {
    pub place: tempfile::TempDir,
    pub selection: Selection,
}

pub(crate) type Tree = BTreeMap<String, String>;

impl Project {
    pub(crate) fn new() -> Self {
        // In memory where that can be had: nearly every step of a switch waits for the disk.
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let root = place.path().join("shop");
        for folder in ["shop/config/nested", "shop/.backstay", "elsewhere", "state"] {
            fs::create_dir_all(place.path().join(folder)).unwrap();
        }
        fs::write(root.join("backstay.toml"), "project = 'shop'").unwrap();
        fs::write(root.join("compose.yml"), "services: {}").unwrap();
        fs::write(root.join(".env"), "URL=postgres://u:hunter2@h/d\nMODE=old\n").unwrap();
        fs::set_permissions(root.join(".env"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(root.join("config/app.conf"), "old").unwrap();
        fs::write(root.join("config/nested/deep.conf"), vec![b'x'; 70_000]).unwrap();
        fs::write(root.join("config/skipped.bak"), "bak").unwrap();
        fs::write(root.join("config/key"), "hunter2").unwrap();
        fs::write(root.join(".backstay/own"), "own").unwrap();
        fs::write(root.join("unrelated"), "unrelated").unwrap();
        symlink("app.conf", root.join("config/current.conf")).unwrap();
        fs::write(place.path().join("elsewhere/extra.yml"), "extra: old").unwrap();
        let selection = Selection {
            include: [".env", "config", "**/*.backup"].map(str::to_owned).to_vec(),
            exclude: vec!["config/**/*.bak".to_owned()],
            named: vec![PathBuf::from("compose.yml"), place.path().join("elsewhere/extra.yml")],
            only_recorded: vec![PathBuf::from("backstay.toml")],
            never: vec![PathBuf::from("config/key")],
            root,
            files_max: 100,
            bytes_max: 1 << 20,
        };
        Self { place, selection }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.selection.root.clone()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.place.path().join("state")
    }

    pub(crate) fn record(&self) -> Result<(Facts, Vec<String>, Vec<u8>), Error> {
        let scope = Scope::new(&self.selection, &self.state())?;
        let mut bytes = Vec::new();
        let (facts, remarks) = record(&scope, &self.state(), &mut bytes)?;
        Ok((facts, remarks, bytes))
    }

    pub(crate) fn layout(&self, salt: u16) -> Layout {
        Layout::new(&self.state(), &run(salt))
    }

    pub(crate) fn stage(&self, disk: &Disk, salt: u16, facts: &Facts, bytes: &[u8]) -> Result<(), Error> {
        let scope = Scope::new(&self.selection, &self.state())?;
        staging::stage(&self.layout(salt), disk, facts, &scope, bytes).map(drop)
    }

    pub(crate) fn outlook(&self, facts: &Facts) -> Outlook {
        Outlook::of(facts, &Scope::new(&self.selection, &self.state()).unwrap()).unwrap()
    }

    /// A bad release: something changed, something gone, something new, a link bent, rights widened.
    pub(crate) fn spoil(&self) {
        let root = self.root();
        fs::write(root.join(".env"), "URL=postgres://u:other@h/d\nMODE=old\nNEW=1\n").unwrap();
        fs::set_permissions(root.join("compose.yml"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::remove_dir_all(root.join("config/nested")).unwrap();
        fs::write(root.join("config/added.conf"), "added").unwrap();
        fs::remove_file(root.join("config/current.conf")).unwrap();
        symlink("added.conf", root.join("config/current.conf")).unwrap();
        fs::write(self.place.path().join("elsewhere/extra.yml"), "extra: new").unwrap();
        fs::write(root.join("backstay.toml"), "project = 'shop' # newer").unwrap();
    }

    /// Everything there is beside the state: kinds, rights, times of files, contents.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for folder in ["shop", "elsewhere"] {
            grow(&self.place.path().join(folder), &mut tree);
        }
        tree
    }
}

pub(crate) fn run(salt: u16) -> RunId {
    format!("20251022_153000_{salt:04x}").parse().unwrap()
}

fn grow(folder: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, seen) = (entry.path(), entry.metadata().unwrap());
        let said = if seen.is_dir() {
            grow(&path, tree);
            "folder".to_owned()
        } else if seen.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else {
            format!("{:o} {}:{} {:?}", seen.mode(), seen.mtime(), seen.mtime_nsec(), fs::read(&path).unwrap())
        };
        tree.insert(path.display().to_string(), said);
    }
}

#[test]
fn a_release_is_recorded_with_everything_that_belongs_to_it_and_nothing_else() {
    let project = Project::new();
    let (facts, remarks, _) = project.record().unwrap();
    let extra = project.place.path().canonicalize().unwrap().join("elsewhere/extra.yml");
    let paths: Vec<_> = facts.entries.iter().map(|entry| entry.path.as_str()).collect();
    let inside = [
        "backstay.toml",
        "compose.yml",
        "config",
        "config/app.conf",
        "config/current.conf",
        "config/nested",
        "config/nested/deep.conf",
    ];
    assert_eq!(paths, [&[".env", extra.to_str().unwrap()], inside.as_slice()].concat());
    assert!(remarks.is_empty(), "{remarks:?}");
    assert!(!serde_json::to_string(&facts).unwrap().contains("hunter2"));
}

#[test]
fn a_bad_release_goes_back_to_what_was_and_forth_again() {
    let project = Project::new();
    let good = project.tree();
    let (facts, _, bytes) = project.record().unwrap();
    project.spoil();
    let bad = project.tree();
    let disk = Disk::default();

    project.stage(&disk, 1, &facts, &bytes).unwrap();
    assert_eq!(project.tree(), bad, "staging touches nothing live");
    assert_eq!(staging::prove(&project.layout(1), &facts).unwrap().0, Vec::<String>::new());
    switch::activate(&project.layout(1), &disk).unwrap();
    assert_eq!(switch::standing(&project.layout(1)).unwrap(), Standing::Switched);
    let own = project.root().join("backstay.toml").display().to_string();
    let mut wanted = good.clone();
    wanted.insert(own.clone(), bad[&own].clone());
    assert_eq!(project.tree(), wanted, "all as recorded, save Backstay's own configuration");

    staging::stage_kept(&project.layout(2), &disk, &project.layout(1)).unwrap();
    assert_eq!(staging::prove(&project.layout(2), &facts).unwrap().0, Vec::<String>::new());
    switch::activate(&project.layout(2), &disk).unwrap();
    let mut undone = project.tree();
    // A folder that the good release needed stays, empty.
    undone.remove(&project.root().join("config/nested").display().to_string());
    assert_eq!(undone, bad);

    staging::stage_kept(&project.layout(3), &disk, &project.layout(2)).unwrap();
    switch::activate(&project.layout(3), &disk).unwrap();
    assert_eq!(project.tree(), wanted, "undo of undo");

    switch::settle(&project.layout(1), &disk).unwrap();
    switch::settle(&project.layout(1), &disk).unwrap();
    assert_eq!(switch::standing(&project.layout(1)).unwrap(), Standing::Settled);
    let error = staging::stage_kept(&project.layout(4), &disk, &project.layout(1)).unwrap_err();
    assert!(matches!(error, Error::NothingKept { .. }));
    // A run of another host has no folder here: letting go of it is done, and making it live is not possible.
    switch::settle(&project.layout(9), &disk).unwrap();
    assert!(matches!(
        staging::stage_kept(&project.layout(4), &disk, &project.layout(9)),
        Err(Error::NothingKept { .. })
    ));
}

#[test]
fn a_plan_names_what_differs_and_never_a_value() {
    let project = Project::new();
    let (facts, _, _) = project.record().unwrap();
    assert!(project.outlook(&facts).steps.is_empty());
    project.spoil();
    let outlook = project.outlook(&facts);
    let extra = project.place.path().canonicalize().unwrap().join("elsewhere/extra.yml");
    assert_eq!(
        outlook.steps,
        [
            "put back .env".to_owned(),
            format!("put back {}", extra.display()),
            "put back compose.yml".to_owned(),
            "put back config/current.conf".to_owned(),
            "put back the missing config/nested/deep.conf".to_owned(),
            "remove config/added.conf, which was added since".to_owned(),
        ]
    );
    let env = outlook.differences.iter().find(|difference| difference.subject == ".env").unwrap();
    assert!(env.live.ends_with("keys that differ: NEW (new), URL"), "{}", env.live);
    assert_eq!(outlook.warnings, ["backstay.toml differs; it is recorded and never replaced"]);
    assert!(!format!("{outlook:?}").contains("hunter2") && !format!("{outlook:?}").contains("other@"));
    assert_eq!(project.outlook(&facts).basis, outlook.basis);
    fs::write(project.root().join(".env"), "URL=x").unwrap();
    assert_ne!(project.outlook(&facts).basis, outlook.basis);
}

#[test]
fn what_todays_patterns_newly_mean_is_not_taken_away() {
    let mut project = Project::new();
    let (facts, _, bytes) = project.record().unwrap();
    project.selection.include.push("unrelated".to_owned());
    let disk = Disk::default();
    project.stage(&disk, 1, &facts, &bytes).unwrap();
    switch::activate(&project.layout(1), &disk).unwrap();
    assert!(project.root().join("unrelated").exists());
}

#[test]
fn no_path_leads_out_through_a_folder_that_became_a_link() {
    let project = Project::new();
    let (facts, _, bytes) = project.record().unwrap();
    let outside = project.place.path().join("outside");
    fs::create_dir_all(outside.join("nested")).unwrap();
    fs::write(outside.join("app.conf"), "theirs").unwrap();
    fs::remove_dir_all(project.root().join("config")).unwrap();
    symlink(&outside, project.root().join("config")).unwrap();
    assert!(!project.outlook(&facts).refusals.is_empty());
    let disk = Disk::default();
    project.stage(&disk, 1, &facts, &bytes).unwrap();
    let before = project.tree();
    let error = switch::activate(&project.layout(1), &disk).unwrap_err();
    assert!(matches!(error, Error::Escapes { .. }), "{error}");
    assert_eq!(project.tree(), before);
    assert_eq!(fs::read(outside.join("app.conf")).unwrap(), b"theirs");
}

#[test]
fn paths_of_a_forged_snapshot_lead_nowhere() {
    let project = Project::new();
    let (facts, _, bytes) = project.record().unwrap();
    for path in ["../out", "config/../../out", "config//out", "", "./out", "config/.", "/../out"] {
        let mut forged = facts.clone();
        let link = What::Link { target: "/etc/passwd".to_owned() };
        forged.entries.push(Entry { path: path.to_owned(), what: link, ..facts.entries[0].clone() });
        let disk = Disk::default();
        let before = project.tree();
        let staged = project.stage(&disk, 1, &forged, &bytes);
        assert!(staged.is_err() || switch::activate(&project.layout(1), &disk).is_err(), "{path}");
        assert_eq!(project.tree(), before);
        assert!(!project.place.path().join("out").is_symlink());
        fs::remove_dir_all(project.state()).unwrap();
        fs::create_dir(project.state()).unwrap();
    }
}

#[test]
fn a_damaged_copy_does_not_prove() {
    let project = Project::new();
    let (facts, _, bytes) = project.record().unwrap();
    project.stage(&Disk::default(), 1, &facts, &bytes).unwrap();
    fs::write(project.layout(1).staged_content(0), "something else").unwrap();
    let (findings, _) = staging::prove(&project.layout(1), &facts).unwrap();
    assert_eq!(findings, [".env: the content is not what was recorded"]);
    let mut other = facts.clone();
    other.entries.retain(|entry| entry.path != ".env");
    assert!(matches!(project.stage(&Disk::default(), 2, &other, &bytes), Err(Error::Damaged { .. })));
}

#[test]
fn limits_pipes_and_missing_files_are_said_by_name() {
    let mut project = Project::new();
    let pipe = project.root().join("config/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    project.selection.include.push("absent.conf".to_owned());
    symlink("/nowhere", project.root().join("config/dangling")).unwrap();
    let (_, remarks, _) = project.record().unwrap();
    assert_eq!(
        remarks,
        [
            "`absent.conf` is not there",
            "`config/pipe` is a pipe and not recorded",
            "`config/dangling` is a link, and what it leads to is not recorded",
        ]
    );
    project.selection.files_max = 3;
    assert!(matches!(project.record(), Err(Error::TooMany { most: 3, .. })));
    project.selection.files_max = 100;
    project.selection.bytes_max = 1000;
    assert!(matches!(project.record(), Err(Error::TooLarge { path, .. }) if path == "config/nested/deep.conf"));
    for pattern in ["../x", "/etc/*", "a{", ""] {
        project.selection.include = vec![pattern.to_owned()];
        assert!(matches!(project.record(), Err(Error::Pattern { .. })), "{pattern}");
    }
}

#[test]
fn a_named_link_brings_what_it_leads_to() {
    let mut project = Project::new();
    symlink("../elsewhere/extra.yml", project.root().join("linked.yml")).unwrap();
    project.selection.named = vec![PathBuf::from("linked.yml")];
    let (facts, _, _) = project.record().unwrap();
    let paths: Vec<_> = facts.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert!(paths.contains(&"linked.yml") && paths[1].ends_with("elsewhere/extra.yml"), "{paths:?}");
}

#[test]
fn what_was_edited_after_the_switch_is_not_lost_by_going_back() {
    let project = Project::new();
    let (facts, _, bytes) = project.record().unwrap();
    project.spoil();
    let bad = project.tree();
    let disk = Disk::default();
    project.stage(&disk, 1, &facts, &bytes).unwrap();
    switch::activate(&project.layout(1), &disk).unwrap();
    fs::write(project.root().join(".env"), "EDITED=1").unwrap();
    let strays = switch::revert(&project.layout(1), &disk).unwrap();
    assert_eq!(project.tree(), bad);
    assert_eq!(strays.len(), 1);
    assert_eq!(fs::read(project.layout(1).stray_content(0)).unwrap(), b"EDITED=1");
    switch::abandon(&project.layout(1), &disk).unwrap();
    assert!(project.layout(1).stray_content(0).exists());
}

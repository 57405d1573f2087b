//! The machine dies before every step that changes a disk, and is started again.

use std::fs;

use backstay_part::Standing;

use crate::disk::Disk;
use crate::files_tests::{Project, Tree};
use crate::{Error, staging, switch};

/// A staged restore of a good release over a bad one, and both trees.
struct Scene {
    project: Project,
    bad: Tree,
    good: Tree,
}

impl Scene {
    fn staged() -> Self {
        let project = Project::new();
        let mut good = project.tree();
        let (facts, _, bytes) = project.record().unwrap();
        project.spoil();
        let bad = project.tree();
        let own = project.root().join("backstay.toml").display().to_string();
        good.insert(own.clone(), bad[&own].clone());
        project.stage(&Disk::default(), 1, &facts, &bytes).unwrap();
        Self { project, bad, good }
    }

    fn switched() -> Self {
        let scene = Self::staged();
        switch::activate(&scene.project.layout(1), &Disk::default()).unwrap();
        scene
    }
}

/// Calls `case` with a disk that dies after 0, 1, 2, … steps until one outlives it.
fn at_every_step(mut case: impl FnMut(&Disk) -> bool) {
    let mut deaths = 0;
    for steps in 0.. {
        let disk = Disk::dying_after(steps);
        let died = case(&disk);
        assert_eq!(died, disk.is_dead(), "an error that is none of ours after {steps} steps");
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 3, "only {deaths} steps were tried");
}

fn died(result: Result<(), Error>) -> bool {
    match result {
        Ok(()) => false,
        Err(Error::Ended) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_activation_that_died_anywhere_can_be_repeated() {
    at_every_step(|disk| {
        let Scene { project, good, .. } = Scene::staged();
        let died = died(switch::activate(&project.layout(1), disk));
        switch::activate(&project.layout(1), &Disk::default()).unwrap();
        assert_eq!(project.tree(), good);
        assert_eq!(switch::standing(&project.layout(1)).unwrap(), Standing::Switched);
        died
    });
}

#[test]
fn an_activation_that_died_anywhere_can_be_taken_back() {
    at_every_step(|disk| {
        let Scene { project, bad, good } = Scene::staged();
        let died = died(switch::activate(&project.layout(1), disk));
        match switch::standing(&project.layout(1)).unwrap() {
            Standing::NotSwitched => {}
            Standing::Half(_) => assert!(died),
            Standing::Switched => assert_eq!(project.tree(), good),
            other => panic!("{other:?}"),
        }
        assert!(switch::revert(&project.layout(1), &Disk::default()).unwrap().is_empty());
        assert_eq!(project.tree(), bad);
        assert_eq!(switch::standing(&project.layout(1)).unwrap(), Standing::NotSwitched);
        switch::activate(&project.layout(1), &Disk::default()).unwrap();
        assert_eq!(project.tree(), good, "what was staged is staged still");
        died
    });
}

#[test]
fn a_revert_that_died_anywhere_can_be_ended_either_way() {
    for forward in [false, true] {
        at_every_step(|disk| {
            let Scene { project, bad, good } = Scene::switched();
            let died = died(switch::revert(&project.layout(1), disk).map(drop));
            if forward {
                switch::activate(&project.layout(1), &Disk::default()).unwrap();
                assert_eq!(project.tree(), good);
            } else {
                switch::revert(&project.layout(1), &Disk::default()).unwrap();
                assert_eq!(project.tree(), bad);
                switch::abandon(&project.layout(1), &Disk::default()).unwrap();
                assert_eq!(fs::read_dir(project.state().join("files")).unwrap().count(), 0);
            }
            died
        });
    }
}

#[test]
fn staging_that_died_anywhere_touched_nothing_and_can_be_repeated_or_abandoned() {
    for again in [false, true] {
        at_every_step(|disk| {
            let project = Project::new();
            let (facts, _, bytes) = project.record().unwrap();
            project.spoil();
            let bad = project.tree();
            let died = died(project.stage(disk, 1, &facts, &bytes));
            assert_eq!(project.tree(), bad);
            assert_eq!(switch::standing(&project.layout(1)).unwrap(), Standing::NotSwitched);
            if again {
                project.stage(&Disk::default(), 1, &facts, &bytes).unwrap();
                assert!(staging::prove(&project.layout(1), &facts).unwrap().0.is_empty());
            } else {
                switch::abandon(&project.layout(1), &Disk::default()).unwrap();
                assert!(!project.layout(1).folder.exists());
            }
            died
        });
    }
}

#[test]
fn an_undo_that_died_anywhere_loses_nothing_that_was_kept() {
    at_every_step(|disk| {
        let Scene { project, good, .. } = Scene::switched();
        let (first, second) = (project.layout(1), project.layout(2));
        let undo = |disk: &Disk| {
            staging::stage_kept(&second, disk, &first)?;
            switch::activate(&second, disk)
        };
        let died = died(undo(disk));
        undo(&Disk::default()).unwrap();
        switch::revert(&second, &Disk::default()).unwrap();
        assert_eq!(project.tree(), good);
        died
    });
}

#[test]
fn settling_that_died_anywhere_can_be_repeated_and_leaves_the_new_files() {
    at_every_step(|disk| {
        let Scene { project, good, .. } = Scene::switched();
        let died = died(switch::settle(&project.layout(1), disk));
        let standing = switch::standing(&project.layout(1)).unwrap();
        assert!(matches!(standing, Standing::Switched | Standing::Settled), "{standing:?}");
        switch::settle(&project.layout(1), &Disk::default()).unwrap();
        assert_eq!(switch::standing(&project.layout(1)).unwrap(), Standing::Settled);
        assert_eq!(project.tree(), good);
        let left = fs::read_dir(&project.layout(1).folder).unwrap().count();
        assert_eq!(left, 1, "only the word that it was settled");
        died
    });
}

#[test]
fn abandoning_that_died_anywhere_can_be_repeated() {
    at_every_step(|disk| {
        let Scene { project, bad, .. } = Scene::staged();
        let died = died(switch::abandon(&project.layout(1), disk));
        switch::abandon(&project.layout(1), &Disk::default()).unwrap();
        assert!(!project.layout(1).folder.exists());
        assert_eq!(project.tree(), bad);
        died
    });
}

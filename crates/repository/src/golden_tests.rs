use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::trial::{HeldClock, key, noise, options, read, snapshot};
use crate::{FolderStore, Repository, Secret, Store};

/// The digest of a large stream is over its bytes in the first, and made from the names of its chunks in the second.
fn folders() -> [PathBuf; 2] {
    ["1", "1-named-by-chunks"]
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/formats").join(name))
}

fn streams() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("empty", Vec::new()),
        ("rows", b"1\tone\n2\ttwo\n".to_vec()),
        ("text", b"a line that is said again\n".repeat(6000)),
        ("large", [noise(3, 70_000), vec![0; 9 << 20]].concat()),
    ]
}

async fn write_once(folder: &Path) {
    if folder.exists() || std::env::var_os("BACKSTAY_WRITE_GOLDEN").is_none() {
        return;
    }
    std::fs::create_dir_all(folder).unwrap();
    let (Secret::KeyFile(content), clock) = (key(), HeldClock::default()) else { unreachable!() };
    std::fs::write(folder.join("key"), &*content).unwrap();
    let store = Arc::new(FolderStore::new(&folder.join("repository")));
    let repository = Repository::create(store, &key(), options(&clock)).await.unwrap();
    snapshot(&repository, &clock, &streams()).await.unwrap();
    let _ = std::fs::remove_dir_all(folder.join("repository/.staging"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_repositories_open_check_and_read_as_they_did() {
    for folder in folders() {
        write_once(&folder).await;
        let scratch = tempfile::tempdir().unwrap();
        copy(&folder.join("repository"), scratch.path());
        let secret = Secret::KeyFile(zeroize::Zeroizing::new(std::fs::read(folder.join("key")).unwrap()));
        let store: Arc<dyn Store> = Arc::new(FolderStore::new(scratch.path()));
        let repository = Repository::open(store, &secret, options(&HeldClock::default())).await.unwrap();
        assert!(repository.check(None, None, 100).await.unwrap().is_good());
        let entries = repository.list(None).await.unwrap();
        let found = read(&repository, &entries[0].manifest).await.unwrap();
        for (name, bytes) in streams() {
            assert!(found[name] == bytes, "{name}");
        }
    }
}

#[test]
fn a_stranger_reads_the_golden_repositories_with_python_alone() {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reader.py");
    let probe = "import ctypes, ctypes.util; ctypes.CDLL(ctypes.util.find_library('zstd') or 'libzstd.so.1')";
    if !Command::new("python3").args(["-c", probe]).output().is_ok_and(|output| output.status.success()) {
        backstay_testkit::left_out("reading without Backstay", "there is no python3 with libzstd");
        return;
    }
    for folder in folders() {
        let repository = folder.join("repository");
        let snapshot = std::fs::read_dir(repository.join("manifests/production")).unwrap().next().unwrap().unwrap();
        for (name, bytes) in streams() {
            let output = Command::new("python3")
                .arg(&reader)
                .args([&repository, &folder.join("key")])
                .arg("production")
                .arg(snapshot.file_name())
                .args(["database", name])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == bytes, "{name}");
        }
    }
}

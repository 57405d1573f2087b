use std::sync::Arc;

use bytes::Bytes;

use crate::{Allowances, FolderStore, MemoryStore, Put, Store, StoreError, conformance};

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance(Arc::new(FolderStore::new(&folder.path().join("new"))), Allowances::default()).await;
}

#[tokio::test]
async fn the_memory_conforms() {
    conformance(Arc::new(MemoryStore::default()), Allowances::default()).await;
}

#[tokio::test]
async fn a_name_appears_in_a_folder_only_with_the_barrier() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, other) = (FolderStore::new(folder.path()), FolderStore::new(folder.path()));
    writer.put("objects/aa/b", Bytes::from_static(b"bytes"), Put::Replace).await.unwrap();
    assert!(matches!(other.get("objects/aa/b").await, Err(StoreError::NotThere { .. })));
    assert_eq!(writer.get("objects/aa/b").await.unwrap(), "bytes");
    writer.barrier().await.unwrap();
    assert_eq!(other.get("objects/aa/b").await.unwrap(), "bytes");
    assert_eq!(other.list("objects").await.unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_else_can_read_what_lies_in_a_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::new(&folder.path().join("r"));
    store.put("keys/a", Bytes::from_static(b"x"), Put::Create).await.unwrap();
    store.put("objects/aa/b", Bytes::from_static(b"x"), Put::Replace).await.unwrap();
    store.barrier().await.unwrap();
    for (path, mode) in [("r", 0o700), ("r/keys", 0o700), ("r/keys/a", 0o600), ("r/objects/aa/b", 0o600)] {
        let found = std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}");
    }
}

#[tokio::test]
async fn a_key_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::new(&folder.path().join("inside"));
    for key in ["../outside", "a/../../outside", "/etc/x", "", ".staging/x", "a//b"] {
        assert!(store.put(key, Bytes::from_static(b"x"), Put::Replace).await.is_err(), "{key}");
        assert!(store.get(key).await.is_err(), "{key}");
    }
    assert!(!folder.path().join("outside").exists());
}

#[tokio::test]
async fn a_repository_that_is_gone_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (there, away) = (folder.path().join("there"), folder.path().join("away"));
    let store = FolderStore::new(&there);
    store.put("backstay.json", Bytes::from_static(b"{}"), Put::Create).await.unwrap();
    store.get("backstay.json").await.unwrap();
    // Once it is wholly gone, once there is the empty folder that something was mounted on.
    for mount_point in [false, true] {
        std::fs::rename(&there, &away).unwrap();
        if mount_point {
            std::fs::create_dir(&there).unwrap();
        }
        let written = store.put("runs/a", Bytes::from_static(b"x"), Put::Create).await;
        assert!(matches!(written, Err(StoreError::Failed { .. })), "{written:?}");
        let read = store.get("runs/b").await;
        assert!(matches!(read, Err(StoreError::Failed { .. })), "{read:?}");
        let staged = async { store.put("objects/aa/b", Bytes::from_static(b"x"), Put::Replace).await };
        assert!(staged.await.is_err());
        let _ = std::fs::remove_dir(&there);
        std::fs::rename(&away, &there).unwrap();
    }
    store.put("runs/a", Bytes::from_static(b"x"), Put::Create).await.unwrap();
    assert_eq!(store.get("runs/a").await.unwrap(), "x");
}

#[tokio::test]
async fn what_did_not_reach_the_disk_once_is_never_called_durable() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::new(folder.path());
    store.put("objects/aa/b", Bytes::from_static(b"x"), Put::Replace).await.unwrap();
    for staged in std::fs::read_dir(folder.path().join(".staging")).unwrap() {
        std::fs::remove_file(staged.unwrap().path()).unwrap();
    }
    for _ in 0..2 {
        assert!(store.barrier().await.is_err());
    }
    store.put("objects/aa/b", Bytes::from_static(b"x"), Put::Replace).await.unwrap();
    store.barrier().await.unwrap();
    assert_eq!(store.get("objects/aa/b").await.unwrap(), "x");
}

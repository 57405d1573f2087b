//! Recorded images leave as files, and an engine that lost them gets them back from those files alone.

use std::process::Command;

use backstay_part::Exported;

use crate::fixture::Stack;
use crate::{ImagesFacts, Keep};

const SHOP: &str = "
services:
  api:
    image: NAME/app:live
    stop_signal: SIGKILL
  worker:
    image: NAME/app:live
    stop_signal: SIGKILL
  cache:
    image: NAME/cache:live
    stop_signal: SIGKILL
";

#[tokio::test(flavor = "multi_thread")]
async fn images_that_an_engine_lost_come_back_with_docker_load_alone() {
    let Some(mut stack) = Stack::new().await else { return };
    let app = stack.image("app:live", "app");
    let cache = stack.image("cache:live", "cache");
    stack.write("compose.yml", SHOP);
    stack.compose(&["up", "-d"]);
    let part = stack.part(Keep::Archive).await;
    let (_, recorded) = stack.snapshot(&part).await;
    let kept_for = recorded.facts::<ImagesFacts>().unwrap().kept_for;

    // The release is gone from the engine, and others have its names.
    part.release(&kept_for).await.unwrap();
    stack.image("app:live", "other app");
    stack.image("cache:live", "other cache");
    stack.compose(&["up", "-d"]);
    stack.prune_all_images();
    assert!(stack.engine.image(&app).await.unwrap().is_none());

    let exported = crate::export(&recorded).unwrap();
    assert_eq!(exported.not_covered, Vec::<String>::new());
    let folder = unpack(&stack, &recorded.repository, &exported).await;
    for word in ["check", "restore"] {
        let mut command = Command::new("sh");
        command.args(["restore.sh", word]).current_dir(&folder).env("DOCKER_HOST", stack.host());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{word}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let (compose, pins) = (stack.path("compose.yml"), folder.join("compose.override.yml"));
    let files = ["-p", &stack.name, "-f", compose.to_str().unwrap(), "-f", pins.to_str().unwrap()];
    stack.docker(&[&["compose"], &files[..], &["up", "-d"]].concat());
    assert_eq!(stack.images_of("api").await, std::slice::from_ref(&app));
    assert_eq!(stack.images_of("worker").await, [app]);
    assert_eq!(stack.images_of("cache").await, std::slice::from_ref(&cache));

    // What runs keeps its name; what does not run goes with the last one.
    part.release(&kept_for).await.unwrap();
    assert!(stack.engine.image(&cache).await.unwrap().is_some());
    stack.docker(&[&["compose"], &files[..], &["down"]].concat());
    part.release(&kept_for).await.unwrap();
    assert!(stack.engine.image(&cache).await.unwrap().is_none());
}

/// The part's folder of an archive, unpacked with `tar`.
async fn unpack(
    stack: &Stack,
    repository: &backstay_repository::Repository,
    exported: &Exported,
) -> std::path::PathBuf {
    let file = std::fs::File::create(stack.path("images.tar.gz")).unwrap();
    let mut archive = repository.export("images", 0, file);
    for entry in &exported.entries {
        archive.append(entry, &|_| {}).await.unwrap();
    }
    archive.finish().await.unwrap();
    let status = Command::new("tar").args(["-xzf", "images.tar.gz"]).current_dir(stack.folder.path()).status();
    assert!(status.unwrap().success());
    stack.path("images")
}

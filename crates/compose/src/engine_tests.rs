use std::collections::BTreeSet;

use backstay_model::{Event, Severity};
use backstay_part::{Condition, Part, Standing, Workload};

use crate::fixture::Stack;
use crate::{Container, Exec, ImagesFacts, Keep};

const SHOP: &str = "
services:
  db:
    image: NAME/db:1
    stop_signal: SIGKILL
  migrate:
    image: NAME/app:live
    command: [once]
    depends_on: {db: {condition: service_started}}
  api:
    image: NAME/app:live
    env_file: api.env
    stop_signal: SIGKILL
    scale: REPLICAS
    depends_on: {migrate: {condition: service_completed_successfully}}
  worker:
    image: NAME/app:live
    container_name: NAME-the-worker
    stop_signal: SIGKILL
    profiles: [jobs]
    volumes: [/scratch]
";

/// A shop with so many `api`, a `worker` of another profile, a job that is done, and a database.
async fn shop(replicas: usize) -> Option<(Stack, String)> {
    let stack = Stack::new().await?;
    stack.image("db:1", "db");
    let first = stack.image("app:live", "first");
    stack.write("compose.yml", &SHOP.replace("REPLICAS", &replicas.to_string()));
    stack.write("api.env", "MODE=first\nAPI_KEY=very-secret-value\n");
    stack.compose(&["--profile", "jobs", "up", "-d"]);
    Some((stack, first))
}

fn lives(containers: impl IntoIterator<Item = Container>, service: &str) -> BTreeSet<(String, String)> {
    let of_service = containers.into_iter().filter(|one| one.service == service);
    of_service.map(|one| (one.id, one.started_at)).collect()
}

async fn job(stack: &Stack) -> BTreeSet<(String, String)> {
    lives(stack.project().await.containers().await.unwrap(), "migrate")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_brought_back_from_the_repository_and_stays_and_can_be_undone() {
    let Some((mut stack, first)) = shop(3).await else { return };
    let Some(other) = Stack::new().await else { return };
    other.image("app:live", "another project's");
    other.write("compose.yml", "services:\n  api:\n    image: NAME/app:live\n");
    other.compose(&["up", "-d"]);
    let others = other.up().await.into_values().collect::<Vec<_>>();
    let part = stack.part(Keep::Auto).await;
    let (captured, recorded) = stack.snapshot(&part).await;
    let facts: ImagesFacts = recorded.facts().unwrap();
    assert_eq!(facts.services.iter().find(|one| one.service == "api").unwrap().running, 3);
    assert!(facts.images[&first].registry.is_empty() && facts.images[&first].archive.is_some());
    assert!(captured.not_covered.iter().any(|text| text.contains("anonymous volume of worker")), "{captured:?}");
    assert!(!captured.facts.to_string().contains("very-secret-value"));

    // A release later, with everything cleaned away that nobody holds.
    let second = stack.image("app:live", "second");
    stack.compose(&["--profile", "jobs", "up", "-d"]);
    assert_eq!(stack.images_of("api").await, vec![second.clone(); 3]);
    stack.prune_all_images();
    let from = |found: Vec<crate::Availability>| found.into_iter().find(|one| one.service == "api").unwrap().from;
    assert_eq!(from(part.available(&recorded).await.unwrap()), ["this machine (anchored)", "the repository"]);
    assert!(part.release(&facts.kept_for).await.unwrap() > 0);
    stack.prune_all_images();
    assert_eq!(from(part.available(&recorded).await.unwrap()), ["the repository"]);
    assert!(stack.engine.image(&first).await.unwrap().is_none());

    let context = stack.context();
    let plan = part.plan(&context, &recorded).await.unwrap();
    assert!(!plan.unchanged && plan.refusals.is_empty() && plan.bytes_needed.is_some());
    assert!(plan.steps.iter().any(|step| step.starts_with("run api with") && step.ends_with("the repository")));
    assert!(stack.engine.image(&first).await.unwrap().is_none(), "a plan changes nothing");

    let staged = part.stage(&context, &recorded).await.unwrap();
    let proof = part.prove(&context, &recorded, &staged).await.unwrap();
    assert!(proof.holds(), "{proof:?}");
    assert_eq!(part.standing(&context, &staged).await.unwrap(), Standing::NotSwitched);

    let workload = stack.workload().await;
    let (job_before, db_before) = (job(&stack).await, lives(stack.up().await.into_values(), "db"));
    let observed = workload.observe(&context).await.unwrap();
    workload.stop(&context, &observed).await.unwrap();
    workload.stop(&context, &observed).await.unwrap();
    assert!(workload.running(&context).await.unwrap().is_empty());
    let activated = part.activate(&context, &staged).await.unwrap();
    part.activate(&context, &staged).await.unwrap();
    assert_eq!(part.standing(&context, &staged).await.unwrap(), Standing::Switched);
    workload.start(&context, &observed).await.unwrap();
    assert_eq!(stack.images_of("api").await, vec![first.clone(); 3]);
    let up = stack.up().await;
    assert_eq!(up[&format!("{}-the-worker", stack.name)].image, first);
    assert_eq!(workload.probe(&context).await.unwrap(), Condition::Healthy);
    assert_eq!(job(&stack).await, job_before, "a job that is done is not run again");
    assert_eq!(lives(up.into_values(), "db"), db_before, "the database is left alone");

    // An operator who knows nothing of it keeps the release that was brought back.
    stack.compose(&["up", "-d", "--no-deps", "api"]);
    assert_eq!(stack.images_of("api").await, vec![first.clone(); 3]);

    undo(&stack, &part, &activated, &second).await;
    let untouched = other.up().await.into_values().collect::<Vec<_>>();
    assert_eq!(lives(others, "api"), lives(untouched, "api"));
}

async fn undo(stack: &Stack, part: &crate::ImagesPart, activated: &backstay_part::Token, second: &String) {
    let context = stack.context();
    let workload = stack.workload().await;
    let staged = part.stage_kept(&context, activated).await.unwrap();
    let observed = workload.observe(&context).await.unwrap();
    workload.stop(&context, &observed).await.unwrap();
    let undone = part.activate(&context, &staged).await.unwrap();
    workload.start(&context, &observed).await.unwrap();
    assert_eq!(stack.images_of("api").await, vec![second.clone(); 3]);
    assert_eq!(stack.engine.image_id(&format!("{}/app:live", stack.name)).await.unwrap().as_ref(), Some(second));
    part.settle(&context, &undone).await.unwrap();
    assert_eq!(part.standing(&context, &staged).await.unwrap(), Standing::Settled);
    part.settle(&context, activated).await.unwrap();
    assert!(part.stage_kept(&context, activated).await.is_err(), "what was let go cannot be brought back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_started_as_it_was_whatever_the_files_say_since() {
    let Some((stack, first)) = shop(1).await else { return };
    let (context, workload) = (stack.context(), stack.workload().await);
    stack.write("api.env", "MODE=edited\nAPI_KEY=another-secret-value\n");
    stack.image("app:live", "moved since");
    let findings = stack.part(Keep::Auto).await.preflight(&context).await.unwrap();
    let drift: Vec<_> = findings.iter().filter(|one| one.subject == "drift").map(|one| one.text.as_str()).collect();
    assert!(drift.contains(&"service api runs with another value of MODE than the files say"), "{drift:?}");
    assert!(drift.iter().any(|text| text.starts_with("service api runs another image than")), "{drift:?}");
    assert!(!format!("{findings:?}").contains("secret-value"));
    assert!(findings.iter().all(|one| one.severity != Severity::NotReady));

    let before: BTreeSet<String> = stack.up().await.into_values().map(|one| one.id).collect();
    assert_eq!(workload.running(&context).await.unwrap(), ["api", "worker"]);
    let observed = workload.observe(&context).await.unwrap();
    workload.stop(&context, &observed).await.unwrap();
    let left: Vec<String> = stack.up().await.into_values().map(|one| one.service).collect();
    assert_eq!(left, ["db"]);
    workload.start(&context, &observed).await.unwrap();
    let after: BTreeSet<String> = stack.up().await.into_values().map(|one| one.id).collect();
    assert_eq!(after, before);

    // Files that were put back meanwhile count: then containers are made anew, with the same image.
    let observed = workload.observe(&context).await.unwrap();
    workload.stop(&context, &observed).await.unwrap();
    stack.write("api.env", "MODE=restored\nAPI_KEY=very-secret-value\n");
    workload.start(&context, &observed).await.unwrap();
    assert_eq!(stack.images_of("api").await, [first]);
    let environment = stack.project().await.environment("api").await.unwrap();
    assert_eq!(environment["MODE"], "restored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_back_brings_everything_to_where_it_was() {
    let Some((mut stack, first)) = shop(1).await else { return };
    let part = stack.part(Keep::Anchor).await;
    let (_, recorded) = stack.snapshot(&part).await;
    let second = stack.image("app:live", "second");
    stack.compose(&["--profile", "jobs", "up", "-d"]);
    let third = stack.image("app:live", "built and never deployed");

    let (context, workload) = (stack.context(), stack.workload().await);
    let staged = part.stage(&context, &recorded).await.unwrap();
    let observed = workload.observe(&context).await.unwrap();
    workload.stop(&context, &observed).await.unwrap();
    part.activate(&context, &staged).await.unwrap();
    workload.start(&context, &observed).await.unwrap();
    assert_eq!(stack.images_of("api").await, [first]);

    workload.stop(&context, &observed).await.unwrap();
    part.revert(&context, &staged).await.unwrap();
    part.revert(&context, &staged).await.unwrap();
    assert_eq!(part.standing(&context, &staged).await.unwrap(), Standing::NotSwitched);
    workload.start(&context, &observed).await.unwrap();
    assert_eq!(stack.images_of("api").await, [second]);
    let name = format!("{}/app:live", stack.name);
    assert_eq!(stack.engine.image_id(&name).await.unwrap(), Some(third));
    part.abandon(&context, &context.run, Some(&staged)).await.unwrap();
    let kept = part.kept().await.unwrap();
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), [recorded.facts::<ImagesFacts>().unwrap().kept_for]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_again_and_again_is_reported_with_what_it_said_and_no_secret() {
    let Some(stack) = Stack::new().await else { return };
    stack.image("app:live", "fails");
    let service = "command: [fail]\n    restart: always\n    environment: {API_KEY: very-secret-value}";
    stack.write("compose.yml", &format!("services:\n  api:\n    image: NAME/app:live\n    {service}\n"));
    stack.compose(&["up", "-d"]);
    let Condition::Unhealthy { failures } = stack.workload().await.probe(&stack.context()).await.unwrap() else {
        panic!("it ends again and again");
    };
    assert_eq!(failures.len(), 1);
    assert!(failures[0].contains("with exit code 3") && failures[0].contains("cannot log in with ***"), "{failures:?}");
    assert!(!failures[0].contains("very-secret-value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_project_uses_is_not_moved() {
    let Some((mut stack, first)) = shop(1).await else { return };
    let part = stack.part(Keep::Anchor).await;
    let (_, recorded) = stack.snapshot(&part).await;
    let second = stack.image("app:live", "second");
    stack.compose(&["--profile", "jobs", "up", "-d"]);
    let foreign = format!("{}-foreign", stack.name);
    let name = format!("{}/app:live", stack.name);
    stack.docker(&["create", "--name", &foreign, "--label", &format!("test={}", stack.name), &name]);

    let context = stack.context();
    let staged = part.stage(&context, &recorded).await.unwrap();
    part.activate(&context, &staged).await.unwrap();
    let meant = stack.engine.image_id(&name).await.unwrap();
    stack.docker(&["rm", &foreign]);
    assert_eq!(meant, Some(second));
    assert_ne!(meant, Some(first));
    let warned = |event: &Event| matches!(event, Event::Warning { text } if text.contains("is left as it is"));
    assert!(stack.heard.events().iter().any(warned));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_proves_to_hold_is_pulled_back_by_its_digest() {
    let Some(mut stack) = Stack::new().await else { return };
    let Some(registry) = backstay_testkit::server_from("BACKSTAY_REGISTRY", "images at a registry") else { return };
    let id = stack.image("app:live", "pushed");
    let name = format!("{registry}/{}/app:live", stack.name);
    stack.docker(&["tag", &id, &name]);
    stack.docker(&["push", "-q", &name]);
    stack.write("compose.yml", &format!("services:\n  api:\n    image: {name}\n    stop_signal: SIGKILL\n"));
    stack.compose(&["up", "-d"]);
    let part = stack.part(Keep::Auto).await;
    let (captured, recorded) = stack.snapshot(&part).await;
    assert!(captured.contents.is_empty(), "what the registry holds is not archived");
    let kept_for = recorded.facts::<ImagesFacts>().unwrap().kept_for;

    stack.compose(&["down"]);
    part.release(&kept_for).await.unwrap();
    stack.docker(&["rmi", "-f", &id]);
    assert!(stack.engine.image(&id).await.unwrap().is_none());
    let staged = part.stage(&stack.context(), &recorded).await.unwrap();
    assert!(part.prove(&stack.context(), &recorded, &staged).await.unwrap().holds());
    assert!(stack.engine.image(&id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_container_passes_bytes_as_they_are_and_says_how_it_ended() {
    let Some(stack) = Stack::new().await else { return };
    stack.image("app:live", "one");
    stack.write("compose.yml", "services:\n  db:\n    image: NAME/app:live\n    stop_signal: SIGKILL\n");
    stack.compose(&["up", "-d"]);
    let exec = Exec { command: vec!["/stay".to_owned(), "shout".to_owned()], ..Exec::default() };
    let mut execution = stack.project().await.exec("db", &exec).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = execution.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    let wanted: Vec<u8> = (0..=255u8).flat_map(|byte| [byte, b'\r', b'\n']).collect();
    assert_eq!(bytes, wanted);
    assert_eq!(execution.said(), "beside\n");
    assert_eq!(execution.exit_code().await.unwrap(), 7);
    assert!(execution.finish().await.is_err());
    assert!(stack.project().await.address("db").await.unwrap().contains('.'));
}

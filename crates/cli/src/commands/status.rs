use backstay_model::Loss;
use backstay_repository::Entry;
use backstay_restore::{Source, Status, Wish, plan, status};
use serde_json::json;

use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    let status = status(&release.site()).await?;
    let unfinished: Vec<_> =
        status.unfinished.iter().map(|run| json!({"run": run.run, "who": run.who, "alive": run.alive})).collect();
    let last_good = status.last_good.as_ref().map(|entry| &entry.manifest.id);
    let loss = match &status.last_good {
        Some(entry) => loss(&release, entry).await,
        None => None,
    };
    let next = next(&status);
    Ok(Report::seen(text(&release, &status, loss.as_ref(), &next))
        .field("running", &status.running)
        .field("unfinished", unfinished)
        .field("last_good", last_good)
        .field("loss", &loss)
        .field("kept", &status.kept)
        .field("next", next))
}

/// What going back to the last good snapshot would lose, where that can be told beforehand.
async fn loss(release: &Release, last_good: &Entry) -> Option<Loss> {
    let source = Source::open(&release.repository, last_good).await.ok()?;
    plan(&release.site(), &source, &Wish::default()).await.ok()?.loss
}

fn text(release: &Release, status: &Status, loss: Option<&Loss>, next: &str) -> String {
    let now = release.context.clock.now();
    let settings = &release.project.settings;
    let mut lines = vec![format!(
        "{} ({}{})",
        settings.project,
        settings.environment,
        if settings.production { ", production" } else { "" }
    )];
    let mut say = |subject: &str, text: String| lines.push(format!("  {subject:<11} {text}"));
    let running = &status.running;
    say("runs", if running.services.is_empty() { release.workload.describe() } else { running.services.join(", ") });
    if let Some((run, at)) = &running.since {
        say("since", format!("run {run}, {}", amounts::ago(*at, now)));
    }
    match &status.last_good {
        Some(entry) => {
            let manifest = &entry.manifest;
            say(
                "last good",
                format!(
                    "{}, {}, {}",
                    manifest.id,
                    amounts::local(manifest.taken_at),
                    amounts::ago(manifest.taken_at, now)
                ),
            );
        }
        None => say("last good", "none: no snapshot is proven".to_owned()),
    }
    if status.last_good.is_some() {
        let words = match loss.map(Loss::rows) {
            Some(0) => "no row, by the server's write counters".to_owned(),
            Some(rows) => format!("about {}, and keep them beside", amounts::counted(rows, "row", "rows")),
            None => "not known beforehand; counted and kept at the switch".to_owned(),
        };
        say("would lose", words);
    }
    for run in &status.unfinished {
        let alive = match run.alive {
            Some(true) => "at work now",
            Some(false) => "died",
            None => "not known to be alive",
        };
        say("UNFINISHED", format!("{}, {alive}", run.who));
    }
    for kept in &status.kept {
        let parts = kept.parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let only = if kept.only_copy { ", which nothing else holds" } else { "" };
        say("kept", format!("{parts} from before {} {}{only}", kept.command, kept.run));
    }
    say("next", next.to_owned());
    lines.join("\n")
}

/// The one command that most people would want now.
fn next(status: &Status) -> String {
    if status.unfinished.iter().any(|run| run.alive == Some(false)) {
        "backstay recover".to_owned()
    } else if let Some(run) = status.unfinished.first() {
        format!("wait for {}, or `backstay recover` once it is dead", run.who)
    } else if status.last_good.is_none() {
        "backstay snapshot --prove".to_owned()
    } else if !status.kept.is_empty() {
        "backstay undo, or backstay settle once you are content".to_owned()
    } else {
        "backstay guard -- COMMAND to deploy; backstay restore latest --plan to see a way back".to_owned()
    }
}

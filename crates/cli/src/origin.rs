//! Where a snapshot comes from, as far as this machine says.

use std::process::Stdio;

use backstay_model::Origin;
use tokio::process::Command;

use crate::surroundings::Surroundings;
use crate::wiring::Project;

/// Variables in which pipelines say which job runs.
const JOBS: [&str; 4] = ["GITHUB_RUN_ID", "CI_JOB_URL", "BUILD_URL", "BUILDKITE_BUILD_URL"];

pub async fn read(project: &Project) -> Origin {
    Origin {
        host: project.surroundings.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: commit(project).await,
        job: JOBS.iter().find_map(|name| Surroundings::variable(name)),
    }
}

/// The checkout's commit. Without git, or outside a checkout, there is none, which is no failure.
async fn commit(project: &Project) -> Option<String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--verify", "HEAD"])
        .current_dir(&project.settings.folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = git.output().await.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

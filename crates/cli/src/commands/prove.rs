use backstay_config::Span;
use backstay_model::{Examination, Judgement, RunId};
use backstay_repository::Entry;
use backstay_run::Context;
use backstay_snapshot::{Proven, prove};

use crate::arguments::Prove;
use crate::chosen;
use crate::exit::Exit;
use crate::report::{Failure, Report, State};
use crate::surroundings::Surroundings;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings, arguments: Prove) -> Result<Report, Failure> {
    let release = Release::open_to_prove(surroundings).await?;
    let entries = match &arguments.stale {
        Some(age) => stale(&release, age).await?,
        None => {
            let id = arguments.id.as_deref().unwrap_or("latest");
            vec![chosen::entry(&release.project, &release.repository, id).await?]
        }
    };
    if entries.is_empty() {
        return Ok(Report::seen("Every snapshot was proven recently enough.").field("proven", Vec::<String>::new()));
    }
    let mut lines = Vec::new();
    let mut proven_ids = Vec::new();
    let mut bad = None;
    for entry in &entries {
        let id = &entry.manifest.id;
        // Each proof is a run of its own.
        let context =
            Context { run: RunId::new(release.context.clock.now(), rand::random()), ..release.context.clone() };
        let proven = prove(&release.site().within(&context), entry).await;
        let proven = proven.map_err(|error| Failure::from(error).of_run(&context.run))?;
        if proven.verdict.judgement.is_good() {
            lines.push(format!(
                "Snapshot {id} restores: it was built from the repository and equals what was captured."
            ));
            proven_ids.push(id.clone());
        } else {
            lines.push(format!("Snapshot {id} does NOT prove."));
            bad.get_or_insert(proven.clone());
        }
        for (part, proof) in &proven.proofs {
            lines.push(format!("  {part}: compared {}", proof.compared));
            lines.extend(proof.findings.iter().map(|finding| format!("    {finding}")));
        }
    }
    let report = Report::changed(lines.join("\n")).of_run(&release.context.run).field("proven", proven_ids);
    let report = if let [only] = entries.as_slice() { report.of_snapshot(&only.manifest.id) } else { report };
    Ok(match bad {
        Some(proven) => unproven(report, &proven),
        None => report,
    })
}

/// Turns a result into the failure that it is when what was captured does not come back.
pub fn unproven(report: Report, proven: &Proven) -> Report {
    let findings = match &proven.verdict.judgement {
        Judgement::Good => Vec::new(),
        Judgement::Damaged { findings, .. } | Judgement::DoesNotProve { findings } => findings.clone(),
    };
    let mut failure = Failure::new(
        Exit::Damaged,
        format!("snapshot {} does not give back what was captured", proven.verdict.snapshot),
    );
    failure.what.extend(findings);
    failure.state = State::Changed("the snapshot is kept and marked; what runs was not touched".to_owned());
    let failure = failure.hint("`backstay list` shows the last good one; take another: `backstay snapshot --prove`");
    report.failing(failure)
}

async fn stale(release: &Release, age: &str) -> Result<Vec<Entry>, Failure> {
    let age: Span = age.parse().map_err(|what| Failure::usage(format!("`--stale {age}` {what}")))?;
    let now = release.context.clock.now();
    let mut entries = release.repository.list(Some(&release.context.environment)).await?;
    entries.retain(|entry| {
        let proof = entry.verdict.as_ref().filter(|verdict| verdict.examination == Examination::Prove);
        proof.is_none_or(|verdict| (now - verdict.at).to_std().is_ok_and(|since| since > age.duration()))
    });
    Ok(entries)
}

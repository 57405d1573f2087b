use std::path::PathBuf;

use backstay_model::{Judgement, Manifest};
use backstay_repository::{Entry, LeasePurpose, Repository};
use backstay_run::Context;
use backstay_snapshot::{ExportedPart, export_name};

use crate::archive_file::ArchiveFile;
use crate::arguments::Export;
use crate::chosen;
use crate::exit::Exit;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::{Project, exported};

pub async fn run(surroundings: &Surroundings, arguments: Export) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let repository = project.repository().await?;
    let entry = chosen::entry(&project, &repository, &arguments.id).await?;
    let manifest = &entry.manifest;
    let name = arguments.output.unwrap_or_else(|| PathBuf::from(format!("{}.tar.gz", export_name(manifest))));
    let file = ArchiveFile::begin(surroundings, &name)?;
    let context = project.context();
    warn_of_verdict(&context, &entry);
    let wait = project.settings.repository.lease_wait.duration();
    let lease = repository.lease(LeasePurpose::Read, &context.run, wait, context.listener.as_ref()).await?;
    let written = tokio::select! {
        written = write(&context, &repository, manifest, file) => written,
        () = context.interrupt.requested() => {
            Err(Failure::new(Exit::Interrupted, "the export was interrupted").hint("run it again: it begins anew"))
        }
    };
    lease.release().await;
    let (parts, kept) = written?;
    Ok(report(surroundings, manifest, &parts, kept.as_ref()))
}

fn warn_of_verdict(context: &Context, entry: &Entry) {
    if entry.verdict.as_ref().is_some_and(|verdict| verdict.judgement != Judgement::Good) {
        let id = &entry.manifest.id;
        context.warn(format!("the last examination did not find {id} good: `backstay show ID` says why"));
    }
}

type Written = (Vec<ExportedPart>, Option<(PathBuf, u64)>);

async fn write(
    context: &Context,
    repository: &Repository,
    manifest: &Manifest,
    file: ArchiveFile,
) -> Result<Written, Failure> {
    let parts = exported(repository, manifest).await?;
    let writer = backstay_snapshot::export(context, repository, manifest, &parts, file.writer()?).await?;
    Ok((parts, file.keep(writer)?))
}

fn report(
    surroundings: &Surroundings,
    manifest: &Manifest,
    parts: &[ExportedPart],
    kept: Option<&(PathBuf, u64)>,
) -> Report {
    let (secrets, not_covered) = said(manifest, parts);
    let folder = export_name(manifest);
    let place = kept.map_or("-".to_owned(), |(path, _)| path.display().to_string());
    let mut lines = vec![match kept {
        Some((path, bytes)) => {
            format!("Wrote snapshot {} into {} ({}).", manifest.id, path.display(), amounts::bytes(*bytes))
        }
        None => format!("Wrote snapshot {} to standard output.", manifest.id),
    }];
    lines.push("It is not sealed; whoever can read it has:".to_owned());
    lines.extend(secrets.iter().map(|what| format!("  {what}")));
    if !not_covered.is_empty() {
        lines.push("Not in it:".to_owned());
        lines.extend(not_covered.iter().map(|what| format!("  {what}")));
    }
    lines.push(format!("Without Backstay: tar -xzf {place}, then sh {folder}/restore.sh --help"));
    let text = lines.join("\n");
    let report = match kept {
        Some(_) => Report::changed(text),
        None => {
            surroundings.printer.note(&text);
            Report::changed("")
        }
    };
    report
        .of_snapshot(&manifest.id)
        .field("file", kept.map(|(path, _)| path))
        .field("bytes", kept.map(|(_, bytes)| bytes))
        .field("folder", folder)
        .field("secrets", secrets)
        .field("not_covered", not_covered)
}

/// What is secret in the archive, and what is not in it.
fn said<'a>(manifest: &'a Manifest, parts: &'a [ExportedPart]) -> (Vec<&'a String>, Vec<&'a String>) {
    let secrets = parts.iter().flat_map(|part| &part.exported.secrets).collect();
    let not_covered = parts.iter().flat_map(|part| &part.exported.not_covered).chain(&manifest.not_covered);
    (secrets, not_covered.collect())
}

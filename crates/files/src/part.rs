use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use backstay_model::{Finding, PartKind, PartName, PartPlan, RunId, Severity};
use backstay_part::{Captured, Comparison, Contents, ErrorKind, Part, Proof, Recorded, Standing, Token};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc};

use crate::difference::Outlook;
use crate::disk::Disk;
use crate::entry::{Entry, Facts, State, What};
use crate::layout::Layout;
use crate::observe::{self, Budget};
use crate::selection::{Found, Scope, Selection};
use crate::stream::{Inlet, Outlet};
use crate::{Error, archive, staging, switch};

/// The stream that holds the files.
pub(crate) const CONTENT: &str = "files.tar";

/// The configuration files of a release.
#[derive(Debug)]
pub struct FilesPart {
    name: PartName,
    selection: Arc<Selection>,
    /// Work on files goes on in a thread when its future is dropped, until it notices. What comes
    /// next waits for its end.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FilesToken {
    run: RunId,
    files: usize,
}

/// Tells the thread that nobody waits for it any more.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl FilesPart {
    pub fn new(name: PartName, selection: Selection) -> Self {
        Self { name, selection: Arc::new(selection), turn: Arc::default() }
    }

    /// Does `work` on a thread of its own.
    async fn work<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Disk, &Selection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, backstay_part::Error> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let abandoned = AbandonOnDrop(Arc::default());
        let disk = Disk::new(Arc::clone(&abandoned.0));
        let selection = Arc::clone(&self.selection);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&disk, &selection)
        });
        done.await.unwrap_or(Err(Error::Ended)).map_err(|error| self.failed(action, error))
    }

    fn failed(&self, action: &'static str, error: Error) -> backstay_part::Error {
        let kind = error.kind();
        self.error(action, kind, error)
    }

    fn error(
        &self,
        action: &'static str,
        kind: ErrorKind,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> backstay_part::Error {
        backstay_part::Error { part: self.name.clone(), action, kind, source: Box::new(source) }
    }

    fn read_token(&self, action: &'static str, token: &Token) -> Result<FilesToken, backstay_part::Error> {
        token.read().map_err(|source| self.failed(action, Error::Json { what: "a token of the files", source }))
    }

    fn facts(&self, action: &'static str, recorded: &Recorded) -> Result<Facts, backstay_part::Error> {
        recorded.facts().map_err(|source| self.error(action, ErrorKind::Damaged, source))
    }

    fn token(&self, action: &'static str, run: &RunId, files: usize) -> Result<Token, backstay_part::Error> {
        Token::new(&FilesToken { run: run.clone(), files })
            .map_err(|source| self.failed(action, Error::Json { what: "a token of the files", source }))
    }

    /// Runs `write` on a thread and stores what it writes.
    async fn store<T: Send + 'static>(
        &self,
        writer: &SnapshotWriter,
        write: impl FnOnce(&Disk, &Selection, Outlet) -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Contents), backstay_part::Error> {
        let (sender, mut receiver) = mpsc::channel(8);
        let work = self.work("capture", move |disk, selection| write(disk, selection, Outlet::new(sender)));
        let feed = async move {
            let mut stream = writer.stream();
            while let Some(piece) = receiver.recv().await {
                stream.push(piece).await?;
            }
            Ok(stream)
        };
        let (work, feed) = tokio::join!(work, feed);
        let stored = |source| self.failed("capture", Error::Repository { action: "store", source });
        // The stream's own error first: the other one is only its echo.
        let stream = feed.map_err(stored)?;
        let captured = work?;
        let root = stream.finish().await.map_err(stored)?;
        Ok((captured, Contents::from([(CONTENT.to_owned(), root)])))
    }

    fn captured(&self, contents: Contents, facts: &Facts) -> Result<Captured, backstay_part::Error> {
        Captured::new(contents, facts, summary(&facts.entries))
            .map_err(|source| self.failed("capture", Error::Json { what: "the facts of the files", source }))
    }
}

#[async_trait]
impl Part for FilesPart {
    fn name(&self) -> &PartName {
        &self.name
    }

    fn kind(&self) -> PartKind {
        PartKind::Files
    }

    async fn preflight(&self, context: &Context) -> Result<Vec<Finding>, backstay_part::Error> {
        let state = context.state.clone();
        let subject = self.name.to_string();
        self.work("look at", move |_, selection| {
            let scope = match Scope::new(selection, &state) {
                Ok(scope) => scope,
                Err(error) => return Ok(vec![not_ready(&subject, &error)]),
            };
            let looked = scope.find().and_then(|found| Ok((observe::all(&scope, &found)?, found)));
            Ok(match looked {
                Err(error) => vec![not_ready(&subject, &error)],
                Ok((entries, found)) => {
                    let remarks = found.remarks.iter().map(|text| Finding::new(Severity::Warning, &subject, text));
                    let good = Finding::new(Severity::Good, &subject, summary(&entries));
                    std::iter::once(good).chain(remarks).collect()
                }
            })
        })
        .await
    }

    async fn look(&self, context: &Context) -> Result<Option<serde_json::Value>, backstay_part::Error> {
        let state = context.state.clone();
        let digest = self.work("look at", move |_, selection| {
            let scope = Scope::new(selection, &state)?;
            let mut digest = Sha256::new();
            for entry in observe::all(&scope, &scope.find()?)? {
                let seen = serde_json::to_vec(&(&entry.path, &entry.what, entry.mode));
                digest.update(seen.map_err(|source| Error::Json { what: "a file's facts", source })?);
            }
            Ok(hex::encode(digest.finalize()))
        });
        Ok(Some(digest.await?.into()))
    }

    async fn capture(&self, context: &Context, writer: &SnapshotWriter) -> Result<Captured, backstay_part::Error> {
        let state = context.state.clone();
        let written = self.store(writer, move |disk, selection, outlet| {
            let scope = Scope::new(selection, &state)?;
            disk.make_private_folder(&state)?;
            record(&scope, &state, outlet)
        });
        let ((facts, remarks), contents) = written.await?;
        let mut captured = self.captured(contents, &facts)?;
        captured.not_covered = remarks;
        Ok(captured)
    }

    async fn plan(&self, context: &Context, recorded: &Recorded) -> Result<PartPlan, backstay_part::Error> {
        let facts = self.facts("plan", recorded)?;
        let state = context.state.clone();
        let outlook =
            self.work("plan", move |_, selection| Outlook::of(&facts, &Scope::new(selection, &state)?)).await?;
        let mut plan = PartPlan::new(self.name.clone(), PartKind::Files, outlook.basis.into());
        plan.unchanged = outlook.steps.is_empty() && outlook.refusals.is_empty();
        plan.steps = outlook.steps;
        plan.differences = outlook.differences;
        plan.warnings = outlook.warnings;
        plan.refusals = outlook.refusals;
        plan.bytes_needed = Some(outlook.bytes);
        Ok(plan)
    }

    async fn stage(&self, context: &Context, recorded: &Recorded) -> Result<Token, backstay_part::Error> {
        let facts = self.facts("stage", recorded)?;
        let root = recorded.contents.get(CONTENT).cloned().ok_or_else(|| {
            self.failed("stage", Error::Damaged { path: CONTENT.to_owned(), what: "the stream is missing" })
        })?;
        let (sender, receiver) = mpsc::channel(8);
        let (state, layout) = (context.state.clone(), Layout::new(&context.state, &context.run));
        let work = self.work("stage", move |disk, selection| {
            let scope = Scope::new(selection, &state)?;
            staging::stage(&layout, disk, &facts, &scope, Inlet::new(receiver))
        });
        let interrupt = context.interrupt.clone();
        let feed = async move {
            let mut stream = recorded.repository.read(&root);
            while let Some(piece) =
                stream.next().await.map_err(|source| Error::Repository { action: "read", source })?
            {
                if interrupt.is_requested() {
                    return Err(Error::Interrupted);
                }
                // Nobody listens any more where everything is staged already, or staging failed.
                if sender.send(Some(piece)).await.is_err() {
                    return Ok(());
                }
            }
            let _ = sender.send(None).await;
            Ok(())
        };
        let (work, feed) = tokio::join!(work, feed);
        feed.map_err(|error| self.failed("stage", error))?;
        self.token("stage", &context.run, work?.items.len())
    }

    async fn stage_kept(&self, context: &Context, activated: &Token) -> Result<Token, backstay_part::Error> {
        let earlier = Layout::new(&context.state, &self.read_token("stage", activated)?.run);
        let layout = Layout::new(&context.state, &context.run);
        let staged = self.work("stage", move |disk, _| staging::stage_kept(&layout, disk, &earlier)).await?;
        self.token("stage", &context.run, staged.items.len())
    }

    async fn prove(
        &self,
        context: &Context,
        recorded: &Recorded,
        staged: &Token,
    ) -> Result<Proof, backstay_part::Error> {
        let facts = self.facts("prove", recorded)?;
        let layout = Layout::new(&context.state, &self.read_token("prove", staged)?.run);
        let proven = self.work("prove", move |_, _| staging::prove(&layout, &facts)).await;
        proven.map(|(findings, compared)| Proof { findings, compared })
    }

    async fn activate(&self, context: &Context, staged: &Token) -> Result<Token, backstay_part::Error> {
        let token = self.read_token("activate", staged)?;
        let layout = Layout::new(&context.state, &token.run);
        self.work("activate", move |disk, _| switch::activate(&layout, disk)).await?;
        self.token("activate", &token.run, token.files)
    }

    async fn revert(&self, context: &Context, staged: &Token) -> Result<(), backstay_part::Error> {
        let layout = Layout::new(&context.state, &self.read_token("revert", staged)?.run);
        for stray in self.work("revert", move |disk, _| switch::revert(&layout, disk)).await? {
            context.warn(format!("{stray} was changed after the switch; a copy is kept"));
        }
        Ok(())
    }

    async fn standing(&self, context: &Context, staged: &Token) -> Result<Standing, backstay_part::Error> {
        let layout = Layout::new(&context.state, &self.read_token("look at", staged)?.run);
        self.work("look at", move |_, _| switch::standing(&layout)).await
    }

    async fn compare<'a>(
        &'a self,
        _context: &'a Context,
        _activated: &Token,
    ) -> Result<Option<Comparison<'a>>, backstay_part::Error> {
        Ok(None)
    }

    async fn capture_kept(
        &self,
        context: &Context,
        activated: &Token,
        writer: &SnapshotWriter,
    ) -> Result<Option<Captured>, backstay_part::Error> {
        let layout = Layout::new(&context.state, &self.read_token("capture", activated)?.run);
        let looked = layout.clone();
        if !self.work("capture", move |_, _| switch::keeps_anything(&looked)).await? {
            return Ok(None);
        }
        let written = self.store(writer, move |_, selection, outlet| record_kept(&layout, selection, outlet));
        let (facts, contents) = written.await?;
        self.captured(contents, &facts).map(Some)
    }

    async fn settle(&self, context: &Context, activated: &Token) -> Result<(), backstay_part::Error> {
        let layout = Layout::new(&context.state, &self.read_token("settle", activated)?.run);
        self.work("settle", move |disk, _| switch::settle(&layout, disk)).await
    }

    async fn abandon(
        &self,
        context: &Context,
        run: &RunId,
        _staged: Option<&Token>,
    ) -> Result<(), backstay_part::Error> {
        let layout = Layout::new(&context.state, run);
        self.work("abandon", move |disk, _| switch::abandon(&layout, disk)).await
    }
}

/// Writes everything that belongs to the release, and returns what it was and what is left out.
pub(crate) fn record(scope: &Scope<'_>, spool: &Path, into: impl Write) -> Result<(Facts, Vec<String>), Error> {
    let Found { paths, mut remarks } = scope.find()?;
    let mut budget = Budget::new(scope.selection().bytes_max);
    let entries = archive::write(&scope.root, paths.keys(), &mut budget, spool, into)?;
    for entry in entries.iter().filter(|entry| matches!(entry.what, What::Link { .. })) {
        let target = scope.root.join(&entry.path).canonicalize().unwrap_or_default();
        let recorded = target.strip_prefix(&scope.root).unwrap_or(&target);
        if !entries.iter().any(|entry| Path::new(&entry.path) == recorded) {
            remarks.push(format!("`{}` is a link, and what it leads to is not recorded", entry.path));
        }
    }
    Ok((facts(scope, entries), remarks))
}

fn facts(scope: &Scope<'_>, entries: Vec<Entry>) -> Facts {
    let selection = scope.selection();
    Facts {
        root: scope.root.display().to_string(),
        include: selection.include.clone(),
        exclude: selection.exclude.clone(),
        only_recorded: scope.only_recorded.clone(),
        entries,
    }
}

/// Writes what an activation kept, as if it had been captured before.
fn record_kept(layout: &Layout, selection: &Selection, outlet: Outlet) -> Result<Facts, Error> {
    let nothing = || Error::NothingKept { run: layout.run.to_string() };
    let staged = layout.staged()?.ok_or_else(nothing)?;
    let kept = layout.kept()?.ok_or_else(nothing)?;
    let mut archive = tar::Builder::new(outlet);
    let mut entries = Vec::new();
    for folder in staged.folders {
        archive::append_read(&mut archive, &folder, None::<File>)?;
        entries.push(folder);
    }
    for (index, state) in kept.states.into_iter().enumerate() {
        let State::There(entry) = state else { continue };
        let content = match entry.what {
            What::File { .. } => {
                let path = layout.kept_content(index);
                Some(File::open(&path).map_err(Error::io("read", path.display().to_string()))?)
            }
            _ => None,
        };
        archive::append_read(&mut archive, &entry, content)?;
        entries.push(entry);
    }
    archive::end(archive)?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let scope = Scope::new(selection, &layout.folder)?;
    Ok(facts(&scope, entries))
}

fn not_ready(subject: &str, error: &Error) -> Finding {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    Finding::new(Severity::NotReady, subject, text)
}

fn summary(entries: &[Entry]) -> String {
    let files = entries.iter().filter(|entry| !entry.is_folder()).count();
    let bytes: u64 = entries.iter().map(Entry::bytes).sum();
    format!("{files} files, {bytes} bytes")
}

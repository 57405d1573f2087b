use backstay_config::{MigrationSource, Migrations};
use backstay_migrate::{DownReport, DownTo, Folder, RunOptions, RunReport, Target, down, plan, run as apply, status};
use backstay_model::SnapshotId;

use crate::arguments::{Confirmation, DryRun, Migrate, MigrateDown, MigrateRun};
use crate::exit::Exit;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::{Project, Release, database_settings};

mod gate;
mod recorded;
mod rehearse;
mod text;

pub use gate::settle_pins;

pub fn name(which: &Migrate) -> &'static str {
    match which {
        Migrate::Status => "migrate status",
        Migrate::Plan => "migrate plan",
        Migrate::Run(_) => "migrate run",
        Migrate::Down(_) => "migrate down",
    }
}

pub async fn run(surroundings: &Surroundings, which: Migrate) -> Result<Report, Failure> {
    match which {
        Migrate::Status => {
            let site = Site::open(surroundings, None).await?;
            let status = status(&site.target, site.folder.as_ref()).await?;
            Ok(Report::seen(text::status(&status)).field("status", &status))
        }
        Migrate::Plan => {
            let site = Site::open(surroundings, None).await?;
            let plan = plan(&site.target, site.folder()?, &RunOptions::default()).await?;
            let report = Report::seen(plan.to_string()).field("plan", &plan);
            if plan.faults.is_empty() {
                return Ok(report);
            }
            Ok(report.failing(backstay_migrate::Error::Faults { faults: plan.faults.clone() }.into()))
        }
        Migrate::Run(arguments) => up(surroundings, arguments).await,
        Migrate::Down(arguments) => back(surroundings, arguments).await,
    }
}

/// The database that is migrated, and the folder of files where Backstay runs them itself.
struct Site {
    project: Project,
    migrations: Migrations,
    target: Target,
    folder: Option<Folder>,
    /// The database's name in the settings.
    database: String,
}

impl Site {
    async fn open(surroundings: &Surroundings, database: Option<&str>) -> Result<Self, Failure> {
        let project = Project::find(surroundings)?;
        let missing = || {
            Failure::new(Exit::Environment, "no migrations are configured")
                .hint("name their folder in backstay.toml: [migrations] folder = \"migrations\"")
        };
        let migrations = project.settings.migrations.clone().ok_or_else(missing)?;
        let configured = migrations.database.as_ref().map(ToString::to_string);
        let database = database
            .map(str::to_owned)
            .or(configured)
            .ok_or_else(|| Failure::usage("say which database: `--database NAME`"))?;
        let mut settings = database_settings(&project).await?;
        let names: Vec<String> = settings.keys().cloned().collect();
        let settings = settings.remove(&database).ok_or_else(|| {
            Failure::usage(format!("there is no database `{database}`; there are {}", names.join(", ")))
        })?;
        let folder = match &migrations.source {
            MigrationSource::Folder(path) => Some(Folder::read(path)?),
            MigrationSource::Command { .. } => None,
        };
        Ok(Self { project, migrations, target: Target::new(settings), folder, database })
    }

    async fn nothing_pending(&self) -> Result<bool, Failure> {
        let status = status(&self.target, self.folder.as_ref()).await?;
        Ok(status.pending.is_empty() && status.half_done.is_empty() && status.faults.is_empty())
    }

    fn folder(&self) -> Result<&Folder, Failure> {
        self.folder.as_ref().ok_or_else(|| {
            Failure::refused("the migrations are another tool's, which only it can plan")
                .hint("`backstay migrate run --dry-run` rehearses it on a copy")
        })
    }
}

async fn up(surroundings: &Surroundings, arguments: MigrateRun) -> Result<Report, Failure> {
    let site = Site::open(surroundings, arguments.database.as_deref()).await?;
    let options = RunOptions {
        per_file: arguments.per_file,
        lock_timeout: site.migrations.lock_timeout.duration(),
        ..RunOptions::default()
    };
    match arguments.dry_run {
        Some(DryRun::InPlace) => return rehearse::in_place(&site, &options).await,
        Some(DryRun::Copy) => {
            return rehearse::on_copy(surroundings, &site, &options, arguments.snapshot.as_ref()).await;
        }
        None => {}
    }
    let release = Release::open(surroundings).await?;
    if site.folder.is_some() && site.nothing_pending().await? {
        return ran(&release, &site, &options).await.map(|report| applied(&report, None));
    }
    let claim = recorded::claim(&release).await?;
    let ended = up_under(&release, &site, &options, arguments.snapshot.as_ref()).await;
    claim.release().await;
    match ended? {
        Ended::Well(report) => Ok(*report),
        Ended::Badly(failure, behind) => gate::after_failure(&release, &site, *failure, &behind).await,
    }
}

enum Ended {
    Well(Box<Report>),
    /// After it was begun: the way back may have to be gone.
    Badly(Box<Failure>, gate::Behind),
}

/// Under the lease for changing.
async fn up_under(
    release: &Release,
    site: &Site,
    options: &RunOptions,
    named: Option<&SnapshotId>,
) -> Result<Ended, Failure> {
    // Who held the lease before may have done it.
    if site.folder.is_some() && site.nothing_pending().await? {
        let report = ran(release, site, options).await?;
        return Ok(Ended::Well(Box::new(applied(&report, None))));
    }
    let behind = gate::pass(release, site, named).await?;
    let snapshot = behind.snapshot.as_ref();
    let run = recorded::begin(release, site, "migrate run", snapshot).await?;
    let ended = if site.folder.is_some() {
        let options = RunOptions { snapshot: behind.snapshot.clone(), ..options.clone() };
        let ended = ran(release, site, &options).await;
        let ended = recorded::end(run, ended, |report| recorded::files("applied", &report.applied)).await;
        ended.map(|report| applied(&report, snapshot))
    } else {
        let ended = rehearse::foreign(release, site, &behind).await;
        recorded::end(run, ended, |_| "the command ended well".to_owned()).await
    };
    Ok(match ended {
        Ok(report) => Ended::Well(Box::new(report.of_run(&release.context.run))),
        Err(failure) => Ended::Badly(Box::new(failure), behind),
    })
}

async fn ran(release: &Release, site: &Site, options: &RunOptions) -> Result<RunReport, Failure> {
    Ok(apply(&release.context, &site.target, site.folder()?, options).await?)
}

fn applied(report: &RunReport, snapshot: Option<&SnapshotId>) -> Report {
    if report.applied.is_empty() {
        return Report::seen("Nothing was pending.").field("migrated", report);
    }
    let mut lines = vec![format!(
        "Applied {} in {}, {} ms, and read back from the history.",
        amounts::counted(report.applied.len() as u64, "migration", "migrations"),
        amounts::counted(report.transactions as u64, "transaction", "transactions"),
        report.milliseconds
    )];
    lines.extend(report.applied.iter().map(|file| format!("  {file}")));
    lines.extend(text::aftermath(&report.aftermath));
    if let Some(snapshot) = snapshot {
        lines.push(format!("  taken back by: backstay restore {snapshot} (pinned until `backstay settle`)"));
    }
    let done = Report::changed(lines.join("\n")).field("migrated", report);
    match snapshot {
        Some(snapshot) => done.of_snapshot(snapshot),
        None => done,
    }
}

async fn back(surroundings: &Surroundings, arguments: MigrateDown) -> Result<Report, Failure> {
    let site = Site::open(surroundings, arguments.database.as_deref()).await?;
    let release = Release::open(surroundings).await?;
    let Confirmation { yes } = arguments.confirmation;
    let to = arguments.to.map_or(DownTo::Steps(1), DownTo::Version);
    crate::confirm::plainly(
        &release,
        &Confirmation { yes },
        "Run down files: they may drop columns and tables with what is in them.",
    )?;
    let options = RunOptions { lock_timeout: site.migrations.lock_timeout.duration(), ..RunOptions::default() };
    let folder = site.folder()?;
    let claim = recorded::claim(&release).await?;
    let ended = async {
        let run = recorded::begin(&release, &site, "migrate down", None).await?;
        let ended = down(&release.context, &site.target, folder, to, &options).await.map_err(Failure::from);
        recorded::end(run, ended, |report| recorded::files("went down from", &report.reverted)).await
    }
    .await;
    claim.release().await;
    Ok(reverted(&ended?).of_run(&release.context.run))
}

fn reverted(report: &DownReport) -> Report {
    if report.reverted.is_empty() {
        return Report::seen("Nothing was applied that could go down.").field("migrated", report);
    }
    let mut lines = vec!["Went down, and read back from the history:".to_owned()];
    lines.extend(report.reverted.iter().map(|file| format!("  {file}")));
    lines.extend(text::aftermath(&report.aftermath));
    Report::changed(lines.join("\n")).field("migrated", report)
}

mod examples;

use std::path::PathBuf;

use backstay_model::{PartKind, SnapshotId};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Take a release back: images, configuration and database together.
#[derive(Debug, Parser)]
#[command(name = "backstay", version, max_term_width = 100, after_help = examples::ALL)]
pub struct Arguments {
    #[command(flatten)]
    pub everywhere: Everywhere,

    #[command(subcommand)]
    pub command: Option<Command>,
}

const EVERYWHERE: &str = "Everywhere";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Everywhere {
    /// The environment, where backstay.toml names several
    #[arg(long = "env", global = true, help_heading = EVERYWHERE, env = "BACKSTAY_ENV", value_name = "NAME")]
    pub environment: Option<String>,

    /// The configuration; without it, the nearest backstay.toml upwards
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print one JSON object as the result
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,

    /// Print what happens as one JSON object a line, on standard error
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub events: bool,

    /// Print the result and errors only
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print every step
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub verbose: bool,

    /// No colours
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_color: bool,

    /// Never ask
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub non_interactive: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository, a key and a backstay.toml
    #[command(after_help = examples::INIT)]
    Init(Init),
    /// Look whether a snapshot and a restore would work, and what has become stale
    #[command(after_help = examples::DOCTOR)]
    Doctor,
    /// Record the release: databases, images and files
    #[command(after_help = examples::SNAPSHOT)]
    Snapshot(Snapshot),
    /// The snapshots, newest first
    #[command(after_help = examples::LIST)]
    List(List),
    /// What a snapshot holds
    Show(Show),
    /// What changed between two snapshots, or since one
    #[command(after_help = examples::DIFF)]
    Diff(Diff),
    /// Read stored bytes and compare their digests
    #[command(after_help = examples::CHECK)]
    Check(Check),
    /// Restore a snapshot into scratch and compare it with what was captured
    #[command(after_help = examples::PROVE)]
    Prove(Prove),
    /// Run, rehearse and look at database migrations
    #[command(subcommand, after_help = examples::MIGRATE)]
    Migrate(Migrate),
    /// Take the release back to a snapshot
    #[command(alias = "rollback", after_help = examples::RESTORE)]
    Restore(Restore),
    /// Take the last restore back
    #[command(after_help = examples::UNDO)]
    Undo(Confirmation),
    /// End a run that died, in old or in new
    #[command(after_help = examples::RECOVER)]
    Recover(Recover),
    /// Let go of what a restore kept
    #[command(after_help = examples::SETTLE)]
    Settle(Settle),
    /// Write the rows that only the kept database has
    #[command(after_help = examples::RESCUE)]
    Rescue(Rescue),
    /// Remove snapshots by the retention policy
    #[command(after_help = examples::PRUNE)]
    Prune(Prune),
    /// Keep a snapshot whatever the policy says
    #[command(after_help = examples::PIN)]
    Pin(Pin),
    /// Let the policy decide again
    Unpin(Unpin),
    /// Look whether the release is healthy
    #[command(after_help = examples::HEALTH)]
    Health(Health),
    /// Run a deploy with a way back
    #[command(after_help = examples::GUARD)]
    Guard(Guard),
    /// Write a snapshot as a .tar.gz that restores without Backstay
    #[command(after_help = examples::EXPORT)]
    Export(Export),
    /// The runs, newest first
    History(History),
    /// The keys that open the repository
    #[command(subcommand, after_help = examples::KEY)]
    Key(Key),
    /// Print completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a folder
    Man { folder: PathBuf },
}

#[derive(Debug, Args)]
pub struct Init {
    /// Where snapshots go: a folder or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    pub repository: Option<String>,
    /// Store everything in clear
    #[arg(long)]
    pub unsealed: bool,
    /// Write a recovery phrase into this new file
    #[arg(long, value_name = "FILE")]
    pub recovery_file: Option<PathBuf>,
    /// The project's name; without it, the folder's
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

#[derive(Debug, Args)]
pub struct Snapshot {
    /// Restore it into scratch at once and compare
    #[arg(long, overrides_with = "no_prove")]
    pub prove: bool,
    /// Do not, though the environment would
    #[arg(long)]
    pub no_prove: bool,
    /// Keep the proven copy of the database beside the live one, so that a restore has nothing to load
    #[arg(long, conflicts_with = "no_prove")]
    pub keep_warm: bool,
    /// A label, may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Keep it whatever the retention policy says
    #[arg(long)]
    pub pin: bool,
    /// Do nothing where the newest snapshot holds the same
    #[arg(long)]
    pub skip_if_unchanged: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// Of all environments
    #[arg(long)]
    pub all: bool,
    /// Only those with this label
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct Show {
    #[arg(value_name = "ID|latest|before-deploy")]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Diff {
    #[arg(value_name = "ID")]
    pub id: String,
    /// Another snapshot, or what is live now
    #[arg(value_name = "ID|live", default_value = "live")]
    pub other: String,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Without one: everything
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Read only this share of the objects
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub sample: Option<u8>,
    /// Compare stored digests alone, on a host that has no key
    #[arg(long, conflicts_with_all = ["id", "sample"])]
    pub without_key: bool,
}

#[derive(Debug, Args)]
pub struct Prove {
    /// Without one: the newest
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Those whose last proof is older than this
    #[arg(long, value_name = "AGE", conflicts_with = "id")]
    pub stale: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// What is applied and what is pending
    Status,
    /// What `run` would do; changes nothing
    Plan,
    /// Apply what is pending, in one transaction
    Run(MigrateRun),
    /// Run down files
    Down(MigrateDown),
}

#[derive(Debug, Args)]
pub struct MigrateRun {
    /// Rehearse: on a copy of the newest proven snapshot, or in a transaction that is rolled back
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "copy")]
    pub dry_run: Option<DryRun>,
    /// A transaction for each file
    #[arg(long)]
    pub per_file: bool,
    /// The proven snapshot to rely on
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<SnapshotId>,
    /// Which database, where there are several
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    Copy,
    InPlace,
}

#[derive(Debug, Args)]
pub struct MigrateDown {
    /// Down to, and without, this version; otherwise the last one
    #[arg(long, value_name = "VERSION")]
    pub to: Option<i64>,
    /// Which database, where there are several
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    #[command(flatten)]
    pub confirmation: Confirmation,
}

#[derive(Debug, Clone, Args)]
pub struct Confirmation {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// Which snapshot; a terminal without one gets a list to choose from
    #[arg(value_name = "ID|latest|before-deploy")]
    pub id: Option<String>,
    /// Another name for ID
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    pub backup_timestamp: Option<String>,
    /// Only these parts
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = part_kind)]
    pub only: Vec<PartKind>,
    /// Print the plan and change nothing
    #[arg(long)]
    pub plan: bool,
    #[command(flatten)]
    pub confirmation: Confirmation,
    /// Refuse where more rows than this would be lost
    #[arg(long, value_name = "ROWS")]
    pub max_loss: Option<u64>,
    /// Put images and files on a schema that they were not captured with
    #[arg(long)]
    pub force_schema: bool,
}

#[derive(Debug, Args)]
pub struct Recover {
    /// Which run; without it, the one that died
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
}

#[derive(Debug, Args)]
pub struct Settle {
    /// Drop what is kept without capturing it
    #[arg(long)]
    pub discard: bool,
    #[command(flatten)]
    pub confirmation: Confirmation,
}

#[derive(Debug, Args)]
pub struct Rescue {
    /// A folder to write into, made anew
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Print what would be removed, and why the rest is kept
    #[arg(long)]
    pub dry_run: bool,
    /// Of all environments
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Pin {
    #[arg(value_name = "ID")]
    pub id: String,
    /// Why, for the next reader
    #[arg(long, value_name = "TEXT", default_value = "pinned by hand")]
    pub why: String,
}

#[derive(Debug, Args)]
pub struct Unpin {
    #[arg(value_name = "ID")]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Health {
    /// Only the probes of this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Wait until it is healthy
    #[arg(long)]
    pub wait: bool,
    /// How long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    /// Write JUnit XML into this file as well
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Guard {
    /// Stop writers before the snapshot, so that nothing can be lost
    #[arg(long)]
    pub fence: bool,
    /// Keep the proven copy of the database, so that taking back has nothing to load
    #[arg(long)]
    pub keep_warm: bool,
    /// The deploy
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub struct Export {
    #[arg(value_name = "ID|latest|before-deploy")]
    pub id: String,
    /// A new file, or `-` for standard output; without it PROJECT-ENVIRONMENT-ID.tar.gz, here
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct History {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// The keys, by id and kind
    List,
    /// One more way to open the repository
    Add {
        /// A passphrase, asked for at the terminal, or read from this file
        #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
        passphrase: Option<Option<PathBuf>>,
        /// A key file, made anew, readable by you alone
        #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
        file: Option<PathBuf>,
        /// A recovery phrase, written into this new file
        #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase", "file"])]
        recovery_file: Option<PathBuf>,
    },
    /// Shut one out again
    Remove { id: String },
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

fn percent(text: &str) -> Result<u8, String> {
    match text.trim_end_matches('%').parse() {
        Ok(share @ 1..=100) => Ok(share),
        _ => Err("a share is 1 to 100".to_owned()),
    }
}

fn part_kind(text: &str) -> Result<PartKind, String> {
    [PartKind::Database, PartKind::Images, PartKind::Files]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| "the parts are database, images and files".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_hold_together_and_every_command_says_what_it_does() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let name = sub.get_name();
            assert!(sub.get_about().is_some(), "{name} has no help");
            for argument in sub.get_arguments().filter(|argument| !argument.is_positional()) {
                let known = argument.get_help().is_some()
                    || matches!(argument.get_id().as_str(), "database" | "help" | "version");
                assert!(known, "{name}: --{} has no help", argument.get_id());
            }
        }
    }

    #[test]
    fn rollback_and_backup_timestamp_are_other_names_for_what_they_are() {
        let parsed = Arguments::parse_from([
            "backstay",
            "rollback",
            "--backup-timestamp",
            "20251022_153000",
            "--only",
            "images,files",
        ]);
        let Some(Command::Restore(restore)) = parsed.command else { panic!("rollback is restore") };
        assert_eq!(restore.backup_timestamp.as_deref(), Some("20251022_153000"));
        assert_eq!(restore.only, [PartKind::Images, PartKind::Files]);
    }

    #[test]
    fn what_is_not_a_part_a_label_or_a_share_is_refused() {
        for words in [
            &["restore", "--only", "volumes"][..],
            &["snapshot", "--label", "x"],
            &["check", "--sample", "0"],
            &["check", "--sample", "101"],
            &["guard"],
        ] {
            let words = ["backstay"].iter().chain(words);
            assert!(Arguments::try_parse_from(words.clone()).is_err(), "{:?}", words.collect::<Vec<_>>());
        }
    }
}

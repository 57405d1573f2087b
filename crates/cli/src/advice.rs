//! What an error means for the one who sees it: the exit code and what to do next.
//!
//! Libraries say what failed, on what, and why. This is the only place that gives advice.

mod containers;
mod database;
mod migrate;
mod repository;
mod restore;
mod settings;

use std::error::Error;

use crate::exit::Exit;
use crate::report::{Failure, State};

/// What one link of a chain of causes adds. The deepest exit code wins, every hint is said.
#[derive(Debug, Default)]
struct Advice {
    exit: Option<Exit>,
    hint: Option<String>,
}

impl Advice {
    fn exit(exit: Exit) -> Self {
        Self { exit: Some(exit), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A failure of something that changed nothing, with all its causes and all that is known to help.
pub fn advise(error: &(dyn Error + 'static)) -> Failure {
    let mut failure =
        Failure { exit: Exit::Failed, what: Vec::new(), state: State::NothingChanged, hints: Vec::new(), run: None };
    let mut link = Some(error);
    while let Some(cause) = link {
        let text = cause.to_string();
        // Some libraries repeat their cause; said once is enough.
        if !failure.what.last().is_some_and(|last| last.contains(&text)) {
            failure.what.push(text);
        }
        let advice = known(cause);
        if let Some(exit) = advice.exit {
            failure.exit = exit;
        }
        if let Some(hint) = advice.hint
            && !failure.hints.contains(&hint)
        {
            failure.hints.push(hint);
        }
        link = cause.source();
    }
    if let Some(words) = left_unfinished(error) {
        (failure.exit, failure.state) = (Exit::Stuck, State::Changed(words.to_owned()));
    }
    if let Some(backstay_snapshot::Error::Unproven { snapshot, source }) = error.downcast_ref() {
        let why = advise(source.as_ref());
        failure.exit = if why.exit == Exit::Interrupted { why.exit } else { Exit::Damaged };
        failure.hints.extend(why.hints);
        failure.state = State::Changed(format!("snapshot {snapshot} is there, and counts as not proven"));
    }
    if let Some(words) = error.downcast_ref::<backstay_migrate::Error>().and_then(backstay_migrate::Error::stands) {
        failure.state = State::Changed(words);
    }
    failure
}

/// Where the run itself could not be ended, whatever was the cause of that.
fn left_unfinished(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let words = "what is live was not touched; what was staged is still there";
    let in_restore = matches!(error.downcast_ref(), Some(backstay_restore::Error::Abandon { .. }));
    let in_snapshot = matches!(error.downcast_ref(), Some(backstay_snapshot::Error::Abandon { .. }));
    (in_restore || in_snapshot).then_some(words)
}

fn known(cause: &(dyn Error + 'static)) -> Advice {
    None.or_else(|| cause.downcast_ref().map(settings::advice))
        .or_else(|| cause.downcast_ref().map(repository::advice))
        .or_else(|| cause.downcast_ref().map(repository::store_advice))
        .or_else(|| cause.downcast_ref().map(database::advice))
        .or_else(|| cause.downcast_ref().map(restore::advice))
        .or_else(|| cause.downcast_ref().map(restore::snapshot_advice))
        // Why a snapshot could not be proven.
        .or_else(|| cause.downcast_ref::<Box<backstay_snapshot::Error>>().map(|why| restore::snapshot_advice(why)))
        .or_else(|| cause.downcast_ref().map(migrate::advice))
        .or_else(|| cause.downcast_ref().map(containers::advice))
        .or_else(|| cause.downcast_ref().map(deploy))
        .or_else(|| cause.downcast_ref().map(bucket))
        .or_else(|| cause.downcast_ref().map(part))
        .or_else(|| cause.downcast_ref().map(run))
        .unwrap_or_default()
}

fn part(error: &backstay_part::Error) -> Advice {
    use backstay_part::ErrorKind;
    Advice::exit(match error.kind {
        ErrorKind::Environment => Exit::Environment,
        ErrorKind::Refused => Exit::Refused,
        ErrorKind::Failed => Exit::Failed,
        ErrorKind::Damaged => Exit::Damaged,
        ErrorKind::Interrupted => Exit::Interrupted,
    })
}

fn bucket(_: &backstay_s3::S3Error) -> Advice {
    Advice::exit(Exit::Environment).hint("docs/guides/s3.md says which rights and settings a bucket needs")
}

fn deploy(error: &backstay_deploy::Error) -> Advice {
    match error {
        backstay_deploy::Error::NotProven { .. } => {
            Advice::exit(Exit::Damaged).hint("the deploy was not begun; `backstay prove` says what differs")
        }
        _ => Advice::default(),
    }
}

fn run(error: &backstay_run::Error) -> Advice {
    use backstay_run::Error;
    match error {
        Error::Journal { .. } | Error::List { .. } => {
            Advice::exit(Exit::Environment).hint("the journal's folder must be writable; BACKSTAY_STATE moves it")
        }
        Error::Damaged { .. } => Advice::exit(Exit::Stuck),
        Error::Alive { run } => {
            Advice::exit(Exit::Held).hint(format!("run {run} is still at work on this host; wait for it"))
        }
        Error::Lease { .. } | Error::Record { .. } | Error::Encode { .. } => Advice::default(),
    }
}

macro_rules! advised {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                advise(&error)
            }
        })+
    };
}

advised!(
    backstay_compose::Error,
    backstay_config::Error,
    backstay_deploy::Error,
    backstay_migrate::Error,
    backstay_part::Error,
    backstay_part::RecordedError,
    backstay_postgres::Error,
    backstay_repository::Error,
    backstay_restore::Error,
    backstay_run::Error,
    backstay_snapshot::Error,
);

use backstay_migrate::{Consequence, Error};

use super::Advice;
use crate::exit::Exit;

pub fn advice(error: &Error) -> Advice {
    let exit = Advice::exit(match error.consequence() {
        Consequence::Environment => Exit::Environment,
        Consequence::Refused => Exit::Refused,
        Consequence::Unchanged => Exit::Failed,
        Consequence::Changed => Exit::Stuck,
        Consequence::Busy => Exit::Held,
        Consequence::Interrupted => Exit::Interrupted,
    });
    match error {
        Error::ReadFolder { .. } | Error::ReadFile { .. } => {
            exit.hint("mend `folder` under [migrations] in backstay.toml")
        }
        Error::Faults { .. } => exit.hint("nothing is skipped: mend the files, or the history they contradict"),
        Error::Locked { .. } => exit.hint("end that session, or run this when it has ended"),
        Error::Busy { .. } => exit.hint("wait for it to end"),
        Error::Unknown { .. } => exit.hint("`backstay migrate status` reads the history once the server answers"),
        Error::Unfinished { .. } => {
            exit.hint("look whether it took effect; docs/guides/migrations.md says how to go on")
        }
        Error::Pooled { .. } => exit.hint("give the address of the server behind the pooler"),
        Error::Statement { source, .. } if source.code().as_deref() == Some("2D000") => {
            exit.hint("what commits by itself goes into a file whose first line is `-- no-transaction`")
        }
        Error::Statement { source, .. } if source.code().as_deref() == Some("55P04") => {
            exit.hint("use the new value in the next file: a COMMIT goes between the two")
        }
        Error::Statement { half: true, .. } | Error::InvalidIndex { .. } => {
            exit.hint("take away what stands in its way and run it again: it goes on with that statement")
        }
        Error::Statement { .. } | Error::Commit { .. } => {
            exit.hint("mend the file and run it again; `--dry-run` rehearses it on a copy")
        }
        _ => exit,
    }
}

use backstay_restore::Error;

use super::Advice;
use crate::exit::Exit;

pub fn advice(error: &Error) -> Advice {
    let refused = Advice::exit(Exit::Refused);
    match error {
        Error::Refused { .. } => refused.hint("`backstay restore ID --plan` shows the whole plan"),
        Error::Moved { .. } => refused.hint("look at the plan again: something was deployed or edited in between"),
        Error::TooMuchLoss { .. } | Error::LossUnknown { .. } => {
            refused.hint("raise `--max-loss`, or fence writers first; what is written since is kept beside in any case")
        }
        Error::NotProven { .. } => Advice::exit(Exit::Damaged).hint("`backstay list` shows the last good one"),
        Error::PartNotHere { .. } => refused.hint("configure it in backstay.toml, or leave it out with `--only`"),
        Error::InTheWay(other) if other.alive == Some(true) => Advice::exit(Exit::Held).hint("wait for it to end"),
        Error::InTheWay(_) => Advice::exit(Exit::Held).hint("`backstay recover` ends a run that died"),
        Error::Interrupted => Advice::exit(Exit::Interrupted),
        Error::NothingToUndo | Error::NotUndoable { .. } => {
            refused.hint("`backstay history` shows the runs, `backstay restore ID` takes back to any snapshot")
        }
        Error::NoSuchRun { .. } => refused.hint("`backstay` names unfinished runs"),
        Error::OnlyCopy { .. } => {
            refused.hint("`backstay rescue FOLDER` writes its rows, `backstay settle --discard` drops it")
        }
        Error::LeaseLost => Advice::exit(Exit::Failed).hint("run it again"),
        Error::Journal { .. } => Advice::exit(Exit::Stuck),
        Error::Abandon { .. } => Advice::exit(Exit::Stuck).hint("`backstay recover` removes what was staged"),
        Error::Part(_) | Error::Recorded(_) | Error::Run(_) | Error::Repository { .. } => Advice::default(),
    }
}

pub fn snapshot_advice(error: &backstay_snapshot::Error) -> Advice {
    use backstay_snapshot::Error;
    match error {
        Error::NotReady { findings } => {
            let hints: Vec<&str> = findings.iter().filter_map(|finding| finding.hint.as_deref()).collect();
            let advice = Advice::exit(Exit::Environment);
            if hints.is_empty() {
                advice.hint("`backstay doctor` looks at everything")
            } else {
                advice.hint(hints.join("; "))
            }
        }
        Error::PartNotHere { .. } => Advice::exit(Exit::Refused).hint("configure it in backstay.toml"),
        Error::Interrupted => Advice::exit(Exit::Interrupted),
        Error::Changing { .. } => Advice::exit(Exit::Failed).hint("run it again when nobody deploys or edits"),
        Error::Abandon { .. } => Advice::exit(Exit::Stuck).hint("`backstay recover` removes what was staged"),
        Error::Unproven { snapshot, .. } => {
            Advice::exit(Exit::Damaged).hint(format!("`backstay prove {snapshot}` tries again"))
        }
        Error::Part(_) | Error::Recorded(_) | Error::Run(_) | Error::Repository { .. } | Error::Export { .. } => {
            Advice::default()
        }
    }
}

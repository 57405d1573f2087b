use backstay_config::Error;

use super::Advice;
use crate::exit::Exit;

pub fn advice(error: &Error) -> Advice {
    let environment = Advice::exit(Exit::Environment);
    match error {
        Error::NotFound { .. } => environment.hint("`backstay init` makes one; `--config FILE` names one elsewhere"),
        Error::EnvironmentNeeded { .. } => {
            Advice::exit(Exit::Usage).hint("choose one with `--env NAME` or BACKSTAY_ENV")
        }
        Error::EnvironmentUnknown { suggestion, .. } => match suggestion {
            Some(name) => Advice::exit(Exit::Usage).hint(format!("did you mean `--env {name}`?")),
            None => Advice::exit(Exit::Usage)
                .hint("environments stand in backstay.toml as [environment.NAME]; without any, leave `--env` out"),
        },
        Error::VariableUnset { name, .. } => {
            environment.hint(format!("set {name}, or write another reference in backstay.toml"))
        }
        Error::SecretUnreadable { .. } => {
            environment.hint("the file must exist and be readable by the user who runs this")
        }
        Error::SecretMissing { name, path, .. } => {
            environment.hint(format!("write {name} into {}, or mend the reference in backstay.toml", path.display()))
        }
        Error::SecretTooLarge { .. }
        | Error::SecretMalformed { .. }
        | Error::SecretEmpty { .. }
        | Error::SecretNotText { .. } => environment.hint("mend that file, or the reference in backstay.toml"),
        Error::Syntax { .. } | Error::Invalid { .. } => {
            environment.hint("every key is described in docs/reference/configuration.md")
        }
        Error::NoStateFolder => environment.hint("set HOME, or BACKSTAY_STATE to a folder"),
        _ => environment,
    }
}

use backstay_repository::{Error, StoreError};

use super::Advice;
use crate::exit::Exit;

pub fn advice(error: &Error) -> Advice {
    let environment = Advice::exit(Exit::Environment);
    match error {
        Error::NotARepository { .. } => environment.hint("`backstay init` makes one; otherwise mend `repository.url` in backstay.toml"),
        Error::AlreadyARepository { .. } => environment.hint("nothing needs to be done: it is used as it is"),
        Error::NewerFormat { .. } => environment.hint("install a newer Backstay; this one would not understand what it reads"),
        Error::WrongKey { .. } => {
            environment.hint("`repository.key` names another repository's key; `backstay key add` adds one from a host that has a right one")
        }
        Error::KeyMissing { .. } => environment.hint("name the key in backstay.toml: `key = \"file:…\"`"),
        Error::NotSealed { .. } => environment.hint("write `key = \"none\"` in backstay.toml"),
        Error::WeakKey | Error::RecoveryPhrase { .. } => environment,
        Error::Output { .. } => Advice::exit(Exit::Failed).hint("nothing of it is left; is there room where it goes?"),
        Error::LastKey { .. } => Advice::exit(Exit::Refused).hint("add another key first: `backstay key add`"),
        Error::NoSuchKey { .. } => Advice::exit(Exit::Refused).hint("`backstay key list` shows the keys"),
        Error::NoSuchSnapshot { .. } => Advice::exit(Exit::Refused).hint("`backstay list` shows the snapshots"),
        Error::Damaged(damage) if damage.key.starts_with("manifests/") => Advice::exit(Exit::Damaged).hint(format!(
            "that snapshot is lost and the others are not; prune works again once `{}` is removed from the store by hand",
            damage.key
        )),
        Error::Damaged(damage) if damage.key == "backstay.json" => Advice::exit(Exit::Damaged)
            .hint("it never changes: copy `backstay.json.copy`, which lies beside it, over it, or take it from any copy of the repository"),
        Error::Damaged(_) => Advice::exit(Exit::Damaged)
            .hint("`backstay check` names all that is damaged; the next snapshot stores it again from what is live"),
        Error::Held { .. } => Advice::exit(Exit::Held).hint("wait for it; `lease_wait` in backstay.toml says how long a command waits by itself"),
        Error::WouldRemoveEverything { .. } => Advice::exit(Exit::Refused).hint("mend [retention] in backstay.toml: `keep_last = 1` keeps the newest; a proven snapshot stays in any case: `backstay prove`"),
        Error::LeaseLost | Error::RunTooOld { .. } => Advice::exit(Exit::Failed).hint("run it again"),
        _ => Advice::default(),
    }
}

pub fn store_advice(error: &StoreError) -> Advice {
    match error {
        StoreError::Full { .. } => {
            Advice::exit(Exit::Failed).hint("make room: `backstay prune` removes what the policy does not keep")
        }
        StoreError::Denied { .. } => {
            Advice::exit(Exit::Environment).hint("the user who runs this, or the key of the bucket, needs that right")
        }
        StoreError::NoAnswer { .. } => Advice::exit(Exit::Failed)
            .hint("look at the network, the mount or the server the repository lies on, then run it again"),
        StoreError::Failed { .. } => Advice::exit(Exit::Environment),
        _ => Advice::default(),
    }
}

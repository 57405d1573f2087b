use backstay_compose::Error;

use super::Advice;
use crate::exit::Exit;

pub fn advice(error: &Error) -> Advice {
    let environment = Advice::exit(Exit::Environment);
    match error {
        Error::Unreachable { .. } => environment.hint("is the engine up, and may this user speak to it? DOCKER_HOST and DOCKER_CONTEXT are heeded"),
        Error::NoCompose => environment.hint("install the Compose plugin: apt-get install docker-compose-plugin, or docker-compose of version 2 or newer"),
        Error::ComposeTooOld { .. } => environment.hint("version 1 has ended; install the Compose plugin"),
        Error::NoFiles { .. } => environment.hint("mend `files` under [compose] in backstay.toml"),
        Error::Address { .. } | Error::Settings { .. } | Error::NoContext(_) => environment.hint("mend DOCKER_HOST or DOCKER_CONTEXT"),
        Error::NoContainer(_) => environment.hint("start it with `docker compose up -d`, or name the database by its url in backstay.toml"),
        Error::NoWayIn { .. } => environment.hint("publish the port on 127.0.0.1 in the Compose file, and name the database by its url in backstay.toml"),
        Error::Interrupted => Advice::exit(Exit::Interrupted),
        _ => Advice::default(),
    }
}

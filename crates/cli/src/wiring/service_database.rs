use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use backstay_compose::{Error as ComposeError, Project as Compose};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Containers;
use crate::exit::Exit;
use crate::report::Failure;

const PORT: u16 = 5432;
/// A container's address that is this machine's to reach answers at once, if only with a refusal.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// What the settings say of a database in a service; the service's own environment says the rest.
pub struct Given {
    pub dbname: Option<String>,
    pub user: Option<String>,
    pub password: Option<Zeroizing<String>>,
}

/// How the services are reached: found out once for each, so that databases of one server stay together.
#[derive(Default)]
pub struct Ways(BTreeMap<String, String>);

impl Ways {
    /// Keywords for a database in a service, whether or not a port of it is published.
    pub async fn keywords(
        &mut self,
        containers: &Containers,
        service: &str,
        given: Given,
    ) -> Result<Zeroizing<String>, Failure> {
        let compose = match containers {
            Containers::Reached(compose) => compose,
            Containers::OutOfReach(failure) => return Err(failure.clone()),
            Containers::NotConfigured => {
                return Err(Failure::new(
                    Exit::Environment,
                    format!("the database is the service `{service}`, and no [compose] is configured"),
                ));
            }
        };
        let host = match self.0.get(service) {
            Some(known) => known.clone(),
            None => {
                let found = host(compose, service).await?;
                self.0.entry(service.to_owned()).or_insert(found).clone()
            }
        };
        let environment = compose.environment(service).await?;
        let said = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let user = given.user.or_else(|| said("POSTGRES_USER")).unwrap_or_else(|| "postgres".to_owned());
        let dbname = given.dbname.or_else(|| said("POSTGRES_DB")).unwrap_or_else(|| user.clone());
        let password = given.password.or_else(|| said("POSTGRES_PASSWORD").map(Zeroizing::new));
        let (user, dbname, host) = (quoted(&user), quoted(&dbname), quoted(&host));
        let mut text = Zeroizing::new(format!("host={host} port={PORT} user={user} dbname={dbname}"));
        if let Some(password) = password {
            text.push_str(" password=");
            text.push_str(&Zeroizing::new(quoted(&password)));
        }
        Ok(text)
    }
}

/// The container's own address; where it has none that this machine reaches (a desktop's virtual machine, an
/// engine elsewhere), the folder of a socket that leads there through the engine.
async fn host(compose: &Compose, service: &str) -> Result<String, Failure> {
    // On another machine's networks an address may be somebody else's here.
    let local = compose.engine().settings().host.starts_with("unix://");
    match compose.address(service).await {
        Ok(address) if local && answers(&address).await => return Ok(address),
        Ok(_) | Err(ComposeError::NoContainer(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let made = TempDir::with_prefix("backstay-")
        .map_err(|error| Failure::new(Exit::Environment, format!("cannot make a folder for a socket: {error}")))?;
    compose.relay(service, PORT, &made.path().join(format!(".s.PGSQL.{PORT}"))).await?;
    let folder = made.path().display().to_string();
    // The folder goes with the runtime, which ends every task.
    tokio::spawn(async move {
        let _made = made;
        std::future::pending::<()>().await;
    });
    Ok(folder)
}

async fn answers(address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    match timeout(ANSWERS_WITHIN, TcpStream::connect((address, PORT))).await {
        Ok(Ok(_)) => true,
        // The container is there, and its server is not yet, or not any more.
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

/// A value as libpq's list of keywords wants it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

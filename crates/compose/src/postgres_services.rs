use crate::{Container, Error, Model, Project};

const PORT: &str = "5432/tcp";

/// A service that looks like a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresService {
    pub service: String,
    /// The variables `POSTGRES_USER` and `POSTGRES_DB`, where they are set: never a password.
    pub user: Option<String>,
    pub database: Option<String>,
    /// An address that this machine reaches without a published port, where it runs.
    pub address: Option<String>,
}

impl Project {
    /// The services that look like PostgreSQL servers: by their image, their variables and ports.
    pub async fn postgres_services(&self) -> Result<Vec<PostgresService>, Error> {
        let containers = self.containers().await?;
        let origin = self.origin(&containers)?;
        let model = self.model_from(&origin).await?;
        let found = model.services().filter(|service| is_postgres(&model, service, &containers));
        let found = found.map(|service| {
            let environment = model.environment(service);
            PostgresService {
                service: service.to_owned(),
                user: environment.get("POSTGRES_USER").cloned(),
                database: environment.get("POSTGRES_DB").cloned(),
                address: address_of(&containers, service),
            }
        });
        Ok(found.collect())
    }

    /// The address of a running service in a network of the project.
    pub async fn address(&self, service: &str) -> Result<String, Error> {
        address_of(&self.containers().await?, service).ok_or_else(|| Error::NoContainer(service.to_owned()))
    }

    /// The variables a running service was given. The values may be secret.
    pub async fn environment(&self, service: &str) -> Result<std::collections::BTreeMap<String, String>, Error> {
        let containers = self.containers().await?;
        let found = containers.into_iter().find(|container| container.service == service && container.state.is_up());
        found.map(|container| container.environment).ok_or_else(|| Error::NoContainer(service.to_owned()))
    }
}

fn address_of(containers: &[Container], service: &str) -> Option<String> {
    let running = containers.iter().find(|container| container.service == service && container.state.is_up())?;
    running.addresses.iter().min().cloned()
}

fn is_postgres(model: &Model, service: &str, containers: &[Container]) -> bool {
    let image = model.image_name(service).unwrap_or_default();
    let name = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    let by_name = ["postgres", "postgresql", "postgis", "pgvector", "timescaledb", "timescaledb-ha"].contains(&name);
    let environment = model.environment(service);
    let by_variables = ["POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE", "POSTGRES_HOST_AUTH_METHOD", "PGDATA"];
    let by_variables = by_variables.iter().any(|variable| environment.contains_key(*variable));
    let listens = containers.iter().any(|one| one.service == service && one.ports.iter().any(|port| port == PORT));
    // Applications are told of the server's password too: their variables count with its port alone.
    by_name || (by_variables && (listens || containers.iter().all(|one| one.service != service)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_from_their_clients() {
        let json = br#"{"name":"shop","services":{
            "db":{"image":"docker.io/library/postgres:15@sha256:00"},
            "geo":{"image":"postgis/postgis:16-3.4"},
            "own":{"image":"shop/data","environment":{"POSTGRES_PASSWORD":"x"}},
            "exporter":{"image":"prom/postgres-exporter"},
            "api":{"image":"shop/api","environment":{"DATABASE_URL":"postgres://x"}}}}"#;
        let model = Model::parse(json).unwrap();
        let found: Vec<_> = model.services().filter(|service| is_postgres(&model, service, &[])).collect();
        assert_eq!(found, ["db", "geo", "own"]);
    }
}

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum, RestartPolicyNameEnum};

use crate::Health;

pub(crate) const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const HOOK: &str = "com.docker.compose.hook";
const CONFIG_HASH: &str = "com.docker.compose.config-hash";
const NUMBER: &str = "com.docker.compose.container-number";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    Paused,
    Restarting,
    Created,
    Exited,
    Dead,
}

impl State {
    /// Whether something in it can write, now or in a moment.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// A container of a service, as the engine sees it.
#[derive(Clone)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub service: String,
    pub number: u32,
    pub state: State,
    pub exit_code: i64,
    pub health: Option<Health>,
    pub restarts: i64,
    pub started_at: String,
    /// The immutable id of the image it was made from.
    pub image: String,
    /// The name that was typed; it may mean something else by now.
    pub image_name: String,
    /// Whether the engine starts it again when it ends.
    pub restarted_by_engine: bool,
    /// The seconds it is given to end, where it says so itself.
    pub grace: Option<i64>,
    pub depends_on: Vec<Dependency>,
    pub ports: Vec<String>,
    /// Its addresses in the networks it is in.
    pub addresses: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Names and values; the values may be secret.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) environment_files: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub service: String,
    /// Whether it waits until that service has done its work and ended.
    pub until_completed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs`.
    pub kind: String,
    pub name: Option<String>,
    pub destination: String,
}

impl Mount {
    /// A volume whose name is only a digest: it ends with the container that made it.
    pub fn is_anonymous(&self) -> bool {
        let name = self.name.as_deref().unwrap_or_default();
        self.kind == "volume" && name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl Container {
    /// Nothing where the container is no service's own: `compose run`, hooks, foreign ones.
    pub(crate) fn of_service(inspected: ContainerInspectResponse) -> Option<Self> {
        let config = inspected.config?;
        let labels = config.labels.unwrap_or_default();
        let label = |key: &str| labels.get(key).cloned();
        let own = labels.contains_key(CONFIG_HASH)
            && !labels.contains_key(HOOK)
            && labels.get(ONE_OFF).is_none_or(|one_off| !one_off.eq_ignore_ascii_case("true"));
        if !own {
            return None;
        }
        let state = inspected.state.unwrap_or_default();
        let host = inspected.host_config.unwrap_or_default();
        let policy = host.restart_policy.and_then(|policy| policy.name);
        let networks = inspected.network_settings.unwrap_or_default().networks.unwrap_or_default();
        Some(Self {
            id: inspected.id?,
            name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            service: label(SERVICE)?,
            number: label(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(1),
            state: state_of(state.status),
            exit_code: state.exit_code.unwrap_or_default(),
            health: state.health.and_then(|health| health_of(health.status)),
            restarts: inspected.restart_count.unwrap_or_default(),
            started_at: state.started_at.unwrap_or_default(),
            image: inspected.image.unwrap_or_default(),
            image_name: config.image.unwrap_or_default(),
            restarted_by_engine: !matches!(
                policy,
                None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO)
            ),
            grace: config.stop_timeout,
            depends_on: dependencies(&label(DEPENDS_ON).unwrap_or_default()),
            ports: config.exposed_ports.unwrap_or_default(),
            addresses: networks
                .into_values()
                .filter_map(|endpoint| endpoint.ip_address)
                .filter(|address| !address.is_empty())
                .collect(),
            mounts: inspected.mounts.unwrap_or_default().into_iter().map(mount_of).collect(),
            environment: variables(config.env.unwrap_or_default()),
            files: paths(label(CONFIG_FILES)),
            directory: label(WORKING_DIR).map(PathBuf::from),
            environment_files: paths(label(ENVIRONMENT_FILE)),
        })
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("service", &self.service)
            .field("state", &self.state)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

fn state_of(status: Option<ContainerStateStatusEnum>) -> State {
    match status {
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => State::Running,
        Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => State::Restarting,
        Some(ContainerStateStatusEnum::CREATED) => State::Created,
        Some(ContainerStateStatusEnum::DEAD | ContainerStateStatusEnum::REMOVING) => State::Dead,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::EMPTY) | None => State::Exited,
    }
}

fn health_of(status: Option<HealthStatusEnum>) -> Option<Health> {
    match status {
        Some(HealthStatusEnum::STARTING) => Some(Health::Starting),
        Some(HealthStatusEnum::HEALTHY) => Some(Health::Healthy),
        Some(HealthStatusEnum::UNHEALTHY) => Some(Health::Unhealthy),
        Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) | None => None,
    }
}

fn mount_of(mount: bollard::models::MountPoint) -> Mount {
    Mount {
        kind: mount.typ.unwrap_or_default(),
        name: mount.name.filter(|name| !name.is_empty()),
        destination: mount.destination.unwrap_or_default(),
    }
}

/// `db:service_healthy:false,migrate:service_completed_successfully:true`
fn dependencies(label: &str) -> Vec<Dependency> {
    let one = |text: &str| {
        let mut words = text.split(':');
        let service = words.next().filter(|service| !service.is_empty())?.to_owned();
        Some(Dependency { service, until_completed: words.next() == Some("service_completed_successfully") })
    };
    label.split(',').filter_map(one).collect()
}

fn paths(label: Option<String>) -> Vec<PathBuf> {
    label.unwrap_or_default().split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

fn variables(environment: Vec<String>) -> BTreeMap<String, String> {
    let pair = |line: String| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    environment.into_iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_their_label() {
        let read = dependencies("db:service_healthy:false,migrate:service_completed_successfully:true");
        let wanted = [("db", false), ("migrate", true)];
        let read: Vec<_> = read.iter().map(|one| (one.service.as_str(), one.until_completed)).collect();
        assert_eq!(read, wanted);
        assert!(dependencies("").is_empty());
    }

    #[test]
    fn a_volume_named_by_a_digest_is_anonymous() {
        let mount = |name: &str| Mount { kind: "volume".into(), name: Some(name.into()), destination: "/d".into() };
        assert!(mount(&"ab".repeat(32)).is_anonymous());
        assert!(!mount("shop_data").is_anonymous());
    }
}

use std::path::{Path, PathBuf};

use backstay_model::{Environment, Project};

use crate::Error;

/// What this process knows of where it may keep things. Whoever calls reads the environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Home<'a> {
    pub is_root: bool,
    /// `XDG_STATE_HOME`
    pub xdg_state: Option<&'a Path>,
    pub home: Option<&'a Path>,
}

/// The folder of everything that this host keeps for a project: `/var/lib/backstay/<project>`, or
/// beneath the user's state folder.
pub fn project_folder(project: &Project, home: Home<'_>) -> Result<PathBuf, Error> {
    let absolute = |path: Option<&Path>| path.filter(|path| path.is_absolute()).map(Path::to_owned);
    let base = if home.is_root {
        PathBuf::from("/var/lib")
    } else {
        let beneath_home = || absolute(home.home).map(|home| home.join(".local/state"));
        absolute(home.xdg_state).or_else(beneath_home).ok_or(Error::NoStateFolder)?
    };
    Ok(base.join("backstay").join(project.as_str()))
}

/// The folder of journals, replaced files and generated overrides of one environment. It stands
/// beside `repository`, which `init` makes in the same place unless it is told otherwise.
pub fn state_folder(project: &Project, environment: &Environment, home: Home<'_>) -> Result<PathBuf, Error> {
    Ok(project_folder(project, home)?.join("state").join(environment.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_host_lies_where_its_user_may_write() {
        let project: Project = "shop".parse().unwrap();
        let folder = |home| state_folder(&project, &Environment::unnamed(), home);
        let user = Home { is_root: false, xdg_state: None, home: Some(Path::new("/home/ada")) };
        let xdg = Home { xdg_state: Some(Path::new("/state")), ..user };
        let relative = Home { xdg_state: Some(Path::new("state")), ..user };
        let root = Home { is_root: true, ..xdg };
        assert_eq!(folder(user).unwrap(), Path::new("/home/ada/.local/state/backstay/shop/state/default"));
        assert_eq!(folder(xdg).unwrap(), Path::new("/state/backstay/shop/state/default"));
        assert_eq!(folder(relative).unwrap(), folder(user).unwrap(), "a relative XDG_STATE_HOME does not count");
        assert_eq!(folder(root).unwrap(), Path::new("/var/lib/backstay/shop/state/default"));
        assert!(matches!(folder(Home::default()), Err(Error::NoStateFolder)));
    }
}

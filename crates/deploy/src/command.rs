use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use backstay_run::Interrupt;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::decide::Ended;

/// How long a command that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the deploy; what it prints goes to `output`. When its time is up, or guard is asked to stop, it ends with all its
/// children.
pub async fn run(
    words: &[OsString],
    folder: &Path,
    variables: &[(String, String)],
    output: Stdio,
    limit: Duration,
    interrupt: &Interrupt,
) -> Ended {
    let Some((program, arguments)) = words.split_first() else {
        return Ended::NotStarted("the command is empty".to_owned());
    };
    // A group of its own, so that what the command started can be ended with it.
    let spawned = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(output)
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Ended::NotStarted(format!("`{}`: {error}", program.to_string_lossy())),
    };
    tokio::select! {
        ended = child.wait() => ended.map_or_else(|error| Ended::NotStarted(error.to_string()), how),
        () = tokio::time::sleep(limit) => {
            end(&mut child).await;
            Ended::OutOfTime
        }
        () = interrupt.requested() => {
            end(&mut child).await;
            Ended::Interrupted
        }
    }
}

fn how(status: std::process::ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well,
        (Some(code), _) => Ended::Badly(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or_default()),
    }
}

async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return };
    // The group may be gone already, which is what was wanted.
    let _ = kill_process_group(group, Signal::TERM);
    let _ = tokio::time::timeout(GRACE, child.wait()).await;
    // Once more for children that outlived it.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        ["sh", "-c", line].into_iter().map(OsString::from).collect()
    }

    async fn ran(line: &str, limit: Duration) -> Ended {
        let variables = [("BACKSTAY_RUN".to_owned(), "r1".to_owned())];
        run(&words(line), Path::new("/"), &variables, Stdio::null(), limit, &Interrupt::default()).await
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_command_ends_as_it_ends() {
        assert_eq!(ran("test \"$BACKSTAY_RUN\" = r1", LONG).await, Ended::Well);
        assert_eq!(ran("exit 7", LONG).await, Ended::Badly(7));
        assert_eq!(ran("kill -9 $$", LONG).await, Ended::Signalled(9));
        let none =
            run(&[OsString::from("/no/such")], Path::new("/"), &[], Stdio::null(), LONG, &Interrupt::default()).await;
        assert!(matches!(none, Ended::NotStarted(_)), "{none:?}");
    }

    #[tokio::test]
    async fn when_its_time_is_up_it_is_ended() {
        assert_eq!(ran("sleep 600", Duration::from_millis(50)).await, Ended::OutOfTime);
    }

    #[tokio::test]
    async fn a_request_to_stop_ends_the_command_and_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let half = folder.path().join("half");
        // The inner shell becomes the sleep, so that the pid it wrote is the sleep's.
        let line = format!("sh -c 'echo $$ > {0}; mv {0} {1}; exec sleep 600' & wait", half.display(), pid.display());
        let interrupt = Interrupt::default();
        let asked = interrupt.clone();
        let running =
            tokio::spawn(async move { run(&words(&line), Path::new("/"), &[], Stdio::null(), LONG, &asked).await });
        while !pid.exists() {
            tokio::task::yield_now().await;
        }
        let child = std::fs::read_to_string(&pid).unwrap();
        interrupt.request();
        assert_eq!(running.await.unwrap(), Ended::Interrupted);
        backstay_testkit::wait_until("the child has ended", || {
            // One that nobody has reaped yet has ended as well.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    }
}

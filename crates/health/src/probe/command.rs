use std::path::Path;
use std::process::Stdio;

use backstay_model::with_causes;
use tokio::process::Command;

use super::Seen;

const LINE_BYTES_MAX: usize = 200;

pub async fn look(words: &[String], folder: &Path) -> Seen {
    let Some((program, arguments)) = words.split_first() else {
        return Seen::Unknown("the command is empty".to_owned());
    };
    // A probe that ran out of time is dropped, and its process with it.
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .process_group(0)
        .output()
        .await;
    match output {
        Err(error) => Seen::Unknown(format!("`{program}`: {}", with_causes(&error))),
        Ok(output) if output.status.success() => Seen::Good("exit 0".to_owned()),
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            let last: String = error.lines().last().unwrap_or_default().chars().take(LINE_BYTES_MAX).collect();
            let ended = output.status.code().map_or("ended by a signal".to_owned(), |code| format!("exit {code}"));
            Seen::Bad(if last.is_empty() { ended } else { format!("{ended}: {last}") })
        }
    }
}

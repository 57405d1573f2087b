use std::sync::Arc;

use backstay_config::{Span, Workload as Settings};
use backstay_part::{CommandWorkload, TimedCommand, Workload};

use super::Project;
use super::databases::part_name;
use crate::report::Failure;

/// What is reached by three commands of the user's.
pub fn workload(project: &Project, settings: &Settings) -> Result<Arc<dyn Workload>, Failure> {
    let timed = |words: &[String], limit: Span| TimedCommand { words: words.to_vec(), limit: limit.duration() };
    Ok(Arc::new(CommandWorkload {
        name: part_name("workload")?,
        folder: project.settings.folder.clone(),
        stop: timed(&settings.stop, settings.stop_timeout),
        start: timed(&settings.start, settings.start_timeout),
        ready: timed(&settings.ready, settings.ready_timeout),
    }))
}

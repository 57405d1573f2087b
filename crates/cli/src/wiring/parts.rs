use std::sync::Arc;

use backstay_part::{NoWorkload, Part, Workload};

use super::{Project, databases};
use crate::report::Failure;

/// The release as it is reached from here.
pub struct Assembled {
    /// In the order of activation.
    pub parts: Vec<Arc<dyn Part>>,
    pub workload: Arc<dyn Workload>,
    pub not_covered: Vec<String>,
}

/// Every part that the settings name, and what runs on top of them.
pub async fn assemble(project: &Project) -> Result<Assembled, Failure> {
    let mut parts: Vec<Arc<dyn Part>> = Vec::new();
    for part in databases::parts(project).await? {
        parts.push(Arc::new(part));
    }
    Ok(Assembled { parts, workload: Arc::new(NoWorkload), not_covered: Vec::new() })
}

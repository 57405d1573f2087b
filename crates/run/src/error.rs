use backstay_model::RunId;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot {action} the journal of run {run}")]
    Journal {
        action: &'static str,
        run: RunId,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot list the journals in `{folder}`")]
    List {
        folder: String,
        #[source]
        source: std::io::Error,
    },
    #[error("line {line} of the journal of run {run} is damaged, and it is not the last one")]
    Damaged { run: RunId, line: usize },
    #[error("the journal of run {run} is held by a process that is alive")]
    Alive { run: RunId },
    #[error("cannot take the lease for run {run}")]
    Lease {
        run: RunId,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("cannot {action} the record of run {run}")]
    Record {
        action: &'static str,
        run: RunId,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("cannot write what run {run} did as JSON")]
    Encode {
        run: RunId,
        #[source]
        source: serde_json::Error,
    },
}

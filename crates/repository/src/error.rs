use thiserror::Error;

use crate::StoreError;

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read or write {subject} in the repository")]
    Store {
        subject: String,
        #[source]
        source: StoreError,
    },
}

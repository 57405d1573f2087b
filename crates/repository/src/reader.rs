use bytes::Bytes;

use crate::Error;

/// Reads one stream; every chunk is verified before any byte of it is handed out.
pub struct StreamReader {}

impl StreamReader {
    /// The next piece, or nothing at the end, which is reached only when the whole stream was as
    /// its root says.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        todo!()
    }
}

use backstay_model::Finding;
use backstay_run::Context;

use crate::{Error, ServerPart};

pub(crate) async fn preflight(_part: &ServerPart, _context: &Context) -> Result<Vec<Finding>, Error> {
    todo!()
}

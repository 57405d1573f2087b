use backstay_model::RunId;
use backstay_restore::recover;

use crate::arguments::Recover;
use crate::report::{Failure, Report};
use crate::restored;
use crate::surroundings::Surroundings;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings, arguments: Recover) -> Result<Report, Failure> {
    let run = arguments
        .run
        .map(|text| text.parse::<RunId>())
        .transpose()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let release = Release::open(surroundings).await?;
    match recover(&release.site(), run.as_ref()).await? {
        Some(recovered) => Ok(restored::recovered(&release, &recovered)),
        None => Ok(Report::seen("Nothing is unfinished.")),
    }
}

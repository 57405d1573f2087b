use backstay_model::RunId;
use backstay_restore::{Ending, recover};

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
    let Some(mut recovered) = recover(&release.site(), run.as_ref()).await? else {
        return Ok(Report::seen("Nothing is unfinished."));
    };
    // A run within another ends before that one does.
    while run.is_none()
        && recovered.ending != Ending::Undecided
        && let Some(next) = recover(&release.site(), None).await?
    {
        release.project.surroundings.printer.note(&restored::recovered_in_words(&recovered));
        recovered = next;
    }
    Ok(restored::recovered(&release, &recovered))
}

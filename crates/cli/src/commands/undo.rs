use backstay_restore::{loss_of_undo, plan_undo, undo};

use crate::arguments::Confirmation;
use crate::confirm;
use crate::output::loss_text;
use crate::report::{Failure, Report};
use crate::restored;
use crate::surroundings::Surroundings;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings, confirmation: Confirmation) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    restored::recover_first(&release).await?;
    let plan = plan_undo(&release.site(), None).await?;
    let parts = plan.parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut what = format!(
        "Undo run {}: {parts} go back to what they were before it. What is live now is kept in turn.",
        plan.undoes
    );
    if !confirmation.yes
        && let Some(loss) = loss_of_undo(&release.site(), &plan).await?
    {
        what.push('\n');
        what.push_str(&loss_text(&loss).replace("not in the snapshot", "not in what comes back"));
    }
    confirm::restore(&release, &confirmation, &what)?;
    let done = undo(&release.site(), Some(&plan.undoes), &restored::choices(&release)).await;
    let done = done.map_err(|error| Failure::from(error).of_run(&release.context.run))?;
    Ok(restored::report_undo(&release, &done, &plan.undoes))
}

use backstay_model::Event;
use backstay_part::Site;
use backstay_repository::Lease;
use backstay_run::{Mark, Run};

use crate::Error;
use crate::course::{FENCE, observed};

/// The last that can fail without anybody noticing: what runs is written down, here and where another
/// host finds it.
pub(crate) async fn prepare(site: &Site<'_>, run: &mut Run, lease: &Lease) -> Result<(), Error> {
    run.enter(FENCE);
    let observed = site.context.interrupt.unless(site.workload.observe(site.context)).await;
    let observed = observed.ok_or(Error::Interrupted)??;
    run.note(FENCE, Mark::Intent, &observed).await?;
    run.publish().await?;
    if !lease.stands() {
        return Err(Error::LeaseLost);
    }
    if site.context.interrupt.is_requested() {
        return Err(Error::Interrupted);
    }
    Ok(())
}

/// Makes writers quiet. From here on a wish to stop is only remembered.
pub(crate) async fn close(site: &Site<'_>, run: &mut Run, lease: &Lease) -> Result<(), Error> {
    let observed = observed(run)?;
    site.context.hear(Event::StepBegan { step: FENCE.to_owned() });
    site.workload.stop(site.context, &observed).await?;
    run.note(FENCE, Mark::Done, &()).await?;
    site.context.hear(Event::StepEnded { step: FENCE.to_owned(), remark: None });
    // Whoever took the lease over may be ending this very run.
    if lease.stands() { Ok(()) } else { Err(Error::LeaseLost) }
}

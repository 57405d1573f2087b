use std::pin::Pin;

use async_trait::async_trait;
use backstay_model::{Finding, Loss, PartKind, PartName, PartPlan, RunId};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use crate::{Captured, Error, Recorded, Token, WarmCopy};

/// Two sides that are held as they were, compared when it is waited for.
pub type Comparison<'a> = Pin<Box<dyn Future<Output = Result<Loss, Error>> + Send + 'a>>;

/// One kind of thing that can be taken back: `capture → stage → prove → activate → revert | settle`.
///
/// Everything a run makes is named after the run's id, so that it can be found again without a token.
/// Every phase may be repeated after it succeeded, or died, and then does what is left to do.
/// A phase's future may be dropped anywhere; then whatever it had going must end with it, or be
/// harmless to a later `revert` and `abandon`. Recovery continues the run: it calls with the dead
/// run's id in the context.
#[async_trait]
pub trait Part: Send + Sync {
    fn name(&self) -> &PartName;

    fn kind(&self) -> PartKind;

    /// Whether capture and restore could work here and now. Changes nothing.
    async fn preflight(&self, context: &Context) -> Result<Vec<Finding>, Error>;

    /// A cheap look at what must not change while a snapshot is taken: image ids, file digests.
    /// Two looks at the same state are equal. Nothing where the part has a moment of its own.
    async fn look(&self, _context: &Context) -> Result<Option<serde_json::Value>, Error> {
        Ok(None)
    }

    /// Streams the live state into the repository. What cannot be read whole fails by name.
    async fn capture(&self, context: &Context, writer: &SnapshotWriter) -> Result<Captured, Error>;

    /// What taking this part back would do. Changes nothing; works with rights to read alone.
    async fn plan(&self, context: &Context, recorded: &Recorded) -> Result<PartPlan, Error>;

    /// Builds the recorded state beside the live one, which stays untouched.
    async fn stage(&self, context: &Context, recorded: &Recorded) -> Result<Token, Error>;

    /// The same of a copy that is only compared and then abandoned: what none but its users would need may be left out.
    async fn stage_for_proof(&self, context: &Context, recorded: &Recorded) -> Result<Token, Error> {
        self.stage(context, recorded).await
    }

    /// Takes up the warm copy of the recorded state, where there is one: staged and proven, with nothing to
    /// load. What was changed since it was proven is not given.
    async fn take_warm(&self, _context: &Context, _recorded: &Recorded) -> Result<Option<Token>, Error> {
        Ok(None)
    }

    /// Keeps what was staged and proven as a warm copy, whatever becomes of the run; earlier ones of other
    /// captures go. Does nothing where staging loads nothing.
    async fn keep_warm(&self, _context: &Context, _recorded: &Recorded, _staged: &Token) -> Result<(), Error> {
        Ok(())
    }

    /// The warm copies there are.
    async fn warm(&self, _context: &Context) -> Result<Vec<WarmCopy>, Error> {
        Ok(Vec::new())
    }

    /// Drops the warm copies, but for those of captures with these facts and those a run has taken up. Says
    /// which.
    async fn cool(&self, _context: &Context, _kept: &[String]) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// For undo: the token with which `activate` brings back what `activated` (the token of an
    /// earlier run's activation) replaced. Fails where that was let go.
    async fn stage_kept(&self, context: &Context, activated: &Token) -> Result<Token, Error>;

    /// Compares what is staged with the facts recorded at capture.
    async fn prove(&self, context: &Context, recorded: &Recorded, staged: &Token) -> Result<Proof, Error>;

    /// Switches: short, reversible. Returns what `revert` and `settle` need.
    async fn activate(&self, context: &Context, staged: &Token) -> Result<Token, Error>;

    /// Switches back, from wherever an activation of `staged` by this run ended or died. What was
    /// never switched is left as it is; what was staged is staged again, or kept again.
    async fn revert(&self, context: &Context, staged: &Token) -> Result<(), Error>;

    /// Where an activation of `staged` stands now, read from the live system itself. A part that lives
    /// on a host where the run never worked says [`Standing::NotSwitched`].
    async fn standing(&self, context: &Context, staged: &Token) -> Result<Standing, Error>;

    /// Looks at what the kept side and the live one hold after a switch. They are compared as they are now, whenever
    /// that is waited for and whatever is written meanwhile. Nothing where there is nothing to compare.
    async fn compare<'a>(&'a self, context: &'a Context, activated: &Token) -> Result<Option<Comparison<'a>>, Error>;

    /// Exactly what the kept side holds now that the live one lacks.
    async fn loss(&self, context: &Context, activated: &Token) -> Result<Option<Loss>, Error> {
        match self.compare(context, activated).await? {
            Some(comparison) => comparison.await.map(Some),
            None => Ok(None),
        }
    }

    /// Captures what an activation kept, so that letting go of it loses nothing. Nothing where there
    /// is nothing to capture.
    async fn capture_kept(
        &self,
        context: &Context,
        activated: &Token,
        writer: &SnapshotWriter,
    ) -> Result<Option<Captured>, Error>;

    /// Lets go of what an activation kept.
    async fn settle(&self, context: &Context, activated: &Token) -> Result<(), Error>;

    /// Removes whatever `run` staged and did not activate, with or without its token. What an earlier
    /// run kept is not of this run's making and stays. So does a copy that was live for a while, where
    /// something may have been written to it then.
    async fn abandon(&self, context: &Context, run: &RunId, staged: Option<&Token>) -> Result<(), Error>;

    /// The copies that `abandon` left for what may have been written to them, by name.
    async fn left(&self, _context: &Context, _run: &RunId) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Removes what `abandon` left, with all that is in it.
    async fn discard(&self, context: &Context, run: &RunId) -> Result<(), Error> {
        self.abandon(context, run, None).await
    }
}

/// The outcome of comparing a staged copy with its facts: it is proven if nothing was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    pub findings: Vec<String>,
    /// What was compared, in words: `41 tables, 1,204 rows, 7 sequences`.
    pub compared: String,
}

impl Proof {
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Where a switch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// What was live before the run is live.
    NotSwitched,
    /// It died between the two; `revert` and `activate` both can end it.
    Half(String),
    /// What the run staged is live, and what it replaced is kept.
    Switched,
    /// What the run staged is live, and what it replaced was let go.
    Settled,
    /// Neither is to be found as it was left: a person must look.
    Unclear(String),
}

use backstay_part::Condition;
use serde::{Deserialize, Serialize};

/// How the guarded command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Well,
    /// With this exit code.
    Badly(i32),
    Signalled(i32),
    /// It was ended because its time was up.
    OutOfTime,
    /// Somebody asked guard to stop.
    Interrupted,
    /// It could not be started.
    NotStarted(String),
}

/// What may happen to rows written since the snapshot when nobody is there to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    TakeBack,
    Ask,
}

/// What is known once the command has ended and the release was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    pub ended: Ended,
    pub condition: Condition,
    /// Whether anything is not as it was in the snapshot: images, files, schema or rows.
    pub anything_changed: bool,
    /// Whether the schema and the migration head are as captured, so that the old images fit.
    pub schema_as_captured: bool,
    /// Rows written since the snapshot; nothing where it could not be counted.
    pub rows_written: Option<u64>,
    /// Whether writers stood still from the snapshot on.
    pub fenced: bool,
    pub on_loss: OnLoss,
}

/// What guard does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The deploy stands.
    Keep,
    /// It failed before it changed anything.
    NothingToTakeBack,
    /// Images, files and databases go back.
    TakeBackWhole,
    /// The schema fits the old images: they and the files go back, and no row is touched.
    TakeBackAroundDatabase,
    /// Customers' writes would be lost and the old images do not fit the schema: a person decides.
    Ask,
}

/// The whole of guard's judgement. Customers' writes come first.
pub fn decide(situation: &Situation) -> Decision {
    let well = situation.ended == Ended::Well && situation.condition == Condition::Healthy;
    if well {
        return Decision::Keep;
    }
    if !situation.anything_changed {
        return Decision::NothingToTakeBack;
    }
    if situation.schema_as_captured {
        // Nothing in the database has to go back for the old release to run.
        return Decision::TakeBackAroundDatabase;
    }
    let nothing_to_lose = situation.fenced || situation.rows_written == Some(0);
    if nothing_to_lose || situation.on_loss == OnLoss::TakeBack { Decision::TakeBackWhole } else { Decision::Ask }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad() -> Situation {
        Situation {
            ended: Ended::Badly(1),
            condition: Condition::Unhealthy { failures: vec!["api: 503".to_owned()] },
            anything_changed: true,
            schema_as_captured: false,
            rows_written: Some(3),
            fenced: false,
            on_loss: OnLoss::Ask,
        }
    }

    #[test]
    fn each_case_has_its_decision() {
        let undecided = || Condition::Undecided { why: "no answer".to_owned() };
        let table = [
            ("good", Situation { ended: Ended::Well, condition: Condition::Healthy, ..bad() }, Decision::Keep),
            ("fails first", Situation { anything_changed: false, ..bad() }, Decision::NothingToTakeBack),
            (
                "unhealthy, same schema",
                Situation { ended: Ended::Well, schema_as_captured: true, ..bad() },
                Decision::TakeBackAroundDatabase,
            ),
            ("migrated, rows written", bad(), Decision::Ask),
            (
                "migrated, rows written, may be lost",
                Situation { on_loss: OnLoss::TakeBack, ..bad() },
                Decision::TakeBackWhole,
            ),
            ("migrated, nothing written", Situation { rows_written: Some(0), ..bad() }, Decision::TakeBackWhole),
            ("migrated, not counted", Situation { rows_written: None, ..bad() }, Decision::Ask),
            ("migrated, fenced", Situation { rows_written: None, fenced: true, ..bad() }, Decision::TakeBackWhole),
            ("undecided", Situation { ended: Ended::Well, condition: undecided(), ..bad() }, Decision::Ask),
            ("healthy, but the command failed", Situation { condition: Condition::Healthy, ..bad() }, Decision::Ask),
            ("hangs", Situation { ended: Ended::OutOfTime, rows_written: Some(0), ..bad() }, Decision::TakeBackWhole),
            (
                "interrupted first",
                Situation { ended: Ended::Interrupted, anything_changed: false, ..bad() },
                Decision::NothingToTakeBack,
            ),
        ];
        for (name, situation, decision) in table {
            assert_eq!(decide(&situation), decision, "{name}");
        }
    }

    #[test]
    fn a_customers_write_is_never_lost_unattended() {
        for rows_written in [None, Some(1), Some(u64::MAX)] {
            for ended in [Ended::Well, Ended::Badly(1), Ended::Signalled(9), Ended::OutOfTime, Ended::Interrupted] {
                for schema_as_captured in [false, true] {
                    let situation = Situation { ended: ended.clone(), rows_written, schema_as_captured, ..bad() };
                    assert_ne!(decide(&situation), Decision::TakeBackWhole, "{situation:?}");
                }
            }
        }
    }
}

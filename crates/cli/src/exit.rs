use std::process::ExitCode;

/// How the command ends; the table is in `docs/reference/exit-codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Bug = 1,
    Usage = 2,
    Environment = 3,
    Refused = 10,
    Failed = 11,
    TakenBack = 12,
    Stuck = 13,
    Damaged = 20,
    Unhealthy = 21,
    Held = 22,
    Stale = 23,
    Interrupted = 130,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

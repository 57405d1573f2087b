//! The house itself and journeys through the binary, each a sentence that must stay true.

#![expect(clippy::expect_used, reason = "the whole crate is tests; Clippy knows only the functions marked so")]

mod architecture;
mod bad_input;
mod by_hand;
mod crowded;
mod cut_short;
mod discretion;
mod documents;
mod exit_codes;
mod export;
mod ground;
mod guard;
mod guard_stack;
mod guides;
#[path = "../incidents/main.rs"]
mod incidents;
mod killed;
mod killed_at_random;
mod killed_stack;
mod migrate;
mod new_hosts;
mod packaged;
mod progress;
mod prune;
mod release_stack;
mod restore;
mod s3_policies;
mod screens;
mod shop_stack;
mod stack_database;
mod stack_health;
mod symptoms;
mod tidy;
mod under_load;
mod warm;
mod wire;

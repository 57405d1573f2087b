//! The house itself and journeys through the binary, each a sentence that must stay true.

mod architecture;
mod tidy;

//! The parts together, over time and under load: the built binary, real Redis servers, the local control plane.
//!
//! A module per behaviour. Conditions are awaited, never slept for.

#[path = "integration/push.rs"]
mod push;
#[path = "integration/stage.rs"]
mod stage;
#[path = "integration/start_up.rs"]
mod start_up;

//! Accepting, matching and serving downstream connections.

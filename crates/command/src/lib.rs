//! What every Redis command means, as a table.

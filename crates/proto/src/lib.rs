//! Generated messages and their JSON.

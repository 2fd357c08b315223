//! Real and scripted peers for tests.

//! A local control plane for the quickstart and the tests.

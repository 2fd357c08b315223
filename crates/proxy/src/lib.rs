//! The redis_proxy engine.

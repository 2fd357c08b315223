//! The engine against a model network with its own clock: model Redis nodes with real dictionaries, clients that check
//! every reply, and a driver as small as the real one that cuts every byte stream wherever it likes.
//!
//! A failing random run prints its seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod simulation {
    mod acknowledging;
    mod actor;
    mod asking;
    mod babbling;
    mod blocking;
    mod bounding;
    mod bus;
    mod clients;
    mod configuring;
    mod counting;
    mod failing;
    mod faults;
    mod ground;
    mod learning;
    mod mirroring;
    mod node;
    mod outliving;
    mod pressing;
    mod random;
    mod redirecting;
    mod roaming;
    mod scripting;
    mod sharing;
    mod straight;
    mod subscribing;
    mod transacting;
    mod turns;
    mod waiting;
    mod walking;
    mod world;
}

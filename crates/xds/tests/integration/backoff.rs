//! Pauses on tokio's paused clock: exactly as long as announced, jittered, growing to the cap and no further.

use std::time::Duration;

use redplane_xds::{Config, Endpoint, Event, Form};
use tokio::time::Instant;

use crate::receiver::{Receiver, config};

#[tokio::test(start_paused = true)]
async fn attempts_are_as_far_apart_as_announced() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = Endpoint::Unix(folder.path().join("nobody"));
    let base = config(Form::Delta, nobody);
    let mut receiver = Receiver::start(Config {
        backoff_base: redplane_xds::backoff::BASE,
        backoff_cap: redplane_xds::backoff::CAP,
        seed: 3,
        ..base
    });
    let mut longest = Duration::ZERO;
    let mut announced = Duration::ZERO;
    let mut last = Instant::now();
    for attempt in 0..40u32 {
        let Event::Disconnected {
            established: false,
            retry_in,
            ..
        } = receiver.event().await
        else {
            panic!("there is nobody to connect to")
        };
        let apart = Instant::now() - last;
        // tokio's timer counts in milliseconds.
        assert!(apart >= announced && apart <= announced + Duration::from_millis(2));
        let interval = redplane_xds::backoff::BASE * 2u32.saturating_pow(attempt.min(10));
        assert!(retry_in < interval.min(redplane_xds::backoff::CAP));
        longest = longest.max(retry_in);
        announced = retry_in;
        last = Instant::now();
    }
    assert!(longest > Duration::from_secs(20), "{longest:?}");
}

//! What all features of the `redis_proxy` work with: clients, connections and routes of one worker.
//!
//! [`core::Core`] owns them. A request leaves by one way ([`send`]), its reply comes back by one way ([`settle`]), and what
//! is neither is said by an event that the engine hands to the feature whose it is ([`core::Event`]). Nothing here knows a
//! feature, a socket or a clock.

pub mod action;
pub mod answer;
pub mod busy;
pub mod client_logins;
pub mod core;
pub mod delays;
pub mod departures;
pub mod fan_out;
pub mod fault;
pub mod greeted;
pub mod input;
pub mod known_logins;
pub mod lease;
pub mod mirror;
pub mod notice;
pub mod pools;
pub mod quiet;
pub mod reach;
pub mod readers;
pub mod redirect;
pub mod rename;
pub mod request;
pub mod rest;
pub mod scripts;
pub mod select;
pub mod send;
pub mod servers;
pub mod settle;
pub mod split;
pub mod straight;

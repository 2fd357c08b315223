//! Conditions that several messages share: on text, on a header, on a path, on metadata (`envoy.type.matcher.v3` and
//! `HeaderMatcher`).
//!
//! A condition is data and a pure answer. Which header or which address it is asked about is the caller's business.

mod header;
mod metadata;
mod regex;
mod string;
mod uri_template;

pub use header::{HeaderMatcher, HeaderTest};
pub use metadata::{MetadataMatcher, ValueMatcher};
pub use regex::FullRegex;
pub use string::StringMatcher;
pub use uri_template::UriTemplate;

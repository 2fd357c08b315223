//! A request against its requirement.
//!
//! Envoy: `source/extensions/filters/http/jwt_authn/{filter,verifier,authenticator}.cc`.

use redplane_config::jwt::{JwtAuthn, KeySet, KeySource, Provider, Requirement, RouteRequirement};
use serde_json::json;

use crate::changes::Changes;
use crate::extract::{Found, first, tokens};
use crate::refusal::{self, Refusal};
use crate::token::Token;
use crate::{Headers, Status, rule, signature};

/// Under this name the filter's metadata stands.
pub const METADATA: &str = "envoy.filters.http.jwt_authn";

/// What there is of the keys of a provider whose keys are fetched.
#[derive(Clone, Copy, Debug)]
pub enum Fetched<'k> {
    /// Not asked for yet, or too old.
    Missing,
    /// They could not be had.
    Failed,
    /// These.
    Keys(&'k KeySet),
}

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It goes on, with these changes.
    Passed(Box<Changes>),
    /// It is answered.
    Refused(Refusal),
    /// The keys of this provider are needed: once they are there, or cannot be had, ask again from the start.
    NeedsKeys(usize),
}

/// Decides on a request. `fetched` tells of providers with remote keys, by index; `now` is in seconds since 1970.
#[must_use]
pub fn check<'k>(
    config: &JwtAuthn,
    route: Option<&RouteRequirement>,
    headers: &Headers<'_>,
    fetched: &dyn Fn(usize) -> Fetched<'k>,
    now: u64,
) -> Verdict {
    let path = first(headers, ":path");
    let mut run = Run {
        config,
        headers,
        path: &path,
        fetched,
        now,
        changes: Changes::cleaned(config),
    };
    if config.bypass_cors_preflight && is_preflight(headers) {
        return Verdict::Passed(Box::new(run.changes));
    }
    let requirement = match route {
        None => rule::requirement(config, headers, &path),
        Some(RouteRequirement::Disabled) => None,
        Some(RouteRequirement::Named(name)) => match config.named.iter().find(|(known, _)| known == name) {
            Some((_, requirement)) => Some(requirement),
            None => return Verdict::Refused(refusal::unknown_name(config, name)),
        },
    };
    match requirement.map_or(Ok(Status::Ok), |requirement| run.evaluate(requirement)) {
        Err(provider) => Verdict::NeedsKeys(provider),
        Ok(Status::Ok) => match refusal::unfit_header(&run.changes) {
            Some(refusal) => Verdict::Refused(refusal),
            None => Verdict::Passed(Box::new(run.changes)),
        },
        Ok(status) => {
            let mut refusal = refusal::of_status(status, config, headers, &path);
            refusal.metadata = run.changes.metadata;
            Verdict::Refused(refusal)
        }
    }
}

/// One request on its way through the tree.
struct Run<'r, 'k> {
    config: &'r JwtAuthn,
    headers: &'r Headers<'r>,
    path: &'r str,
    fetched: &'r dyn Fn(usize) -> Fetched<'k>,
    now: u64,
    changes: Changes,
}

/// Whose tokens are looked at.
#[derive(Clone, Copy)]
struct Wanted<'r> {
    /// The one provider, or none: the issuer tells.
    provider: Option<usize>,
    /// Those whose places are read.
    places: &'r [usize],
    /// Instead of the provider's.
    audiences: Option<&'r [String]>,
}

impl Run<'_, '_> {
    /// What the requirement comes to, or the provider whose keys are needed.
    fn evaluate(&mut self, requirement: &Requirement) -> Result<Status, usize> {
        match requirement {
            Requirement::Nothing => Ok(Status::Ok),
            Requirement::Provider { provider, audiences } => self.strict(Wanted {
                provider: Some(*provider),
                places: &[*provider],
                audiences: audiences.as_deref(),
            }),
            Requirement::All(all) => {
                for one in all {
                    match self.evaluate(one)? {
                        Status::Ok => {}
                        failure => return Ok(failure),
                    }
                }
                Ok(Status::Ok)
            }
            Requirement::Any(any) => {
                let mut telling = Status::Missed;
                for one in any {
                    match self.evaluate(one)? {
                        Status::Ok => return Ok(Status::Ok),
                        failure => telling = more_telling(telling, failure),
                    }
                }
                Ok(telling)
            }
            Requirement::AllowMissing(places) => match self.strict(Wanted::of_any(places))? {
                Status::Missed => Ok(Status::Ok),
                other => Ok(other),
            },
            Requirement::AllowMissingOrFailed(places) => {
                let wanted = Wanted::of_any(places);
                for found in self.tokens(wanted) {
                    self.one(wanted, &found)?;
                }
                Ok(Status::Ok)
            }
        }
    }

    /// Every token must be good: a bad one beside a good one might be what the application reads.
    fn strict(&mut self, wanted: Wanted<'_>) -> Result<Status, usize> {
        let tokens = self.tokens(wanted);
        if tokens.is_empty() {
            self.note_failure(wanted.provider, Status::Missed);
            return Ok(Status::Missed);
        }
        for found in tokens {
            match self.one(wanted, &found)? {
                Status::Ok => {}
                failure => return Ok(failure),
            }
        }
        Ok(Status::Ok)
    }

    /// The tokens in the order in which they are looked at: the last place first, as in Envoy.
    fn tokens(&self, wanted: Wanted<'_>) -> Vec<Found> {
        let providers = wanted.places.iter().map(|&index| &self.config.providers[index]);
        let mut found = tokens(providers, self.headers, self.path, |place| {
            self.changes.empties(place)
        });
        found.reverse();
        found
    }

    fn one(&mut self, wanted: Wanted<'_>, found: &Found) -> Result<Status, usize> {
        let (provider, result) = self.verify(wanted, found);
        let status = match result {
            Ok(token) => {
                let index = provider.expect("a verified token has a provider");
                let provider = &self.config.providers[index];
                self.changes.verified(provider, found, token, self.path);
                Status::Ok
            }
            Err(Failure::Status(status)) => {
                self.note_failure(provider, status);
                status
            }
            Err(Failure::NeedsKeys(index)) => return Err(index),
        };
        Ok(status)
    }

    /// The provider of the token, if it is known, and what became of it.
    fn verify<'f>(
        &self,
        wanted: Wanted<'_>,
        found: &'f Found,
    ) -> (Option<usize>, Result<Token<'f>, Failure>) {
        let token = match Token::parse(&found.text) {
            Ok(token) => token,
            Err(status) => return (wanted.provider, Err(Failure::Status(status))),
        };
        let index = wanted
            .provider
            .or_else(|| self.by_issuer(wanted.places, &token.issuer));
        let Some(index) = index.filter(|_| found.admits(&token.issuer)) else {
            return (wanted.provider, Err(Failure::Status(Status::UnknownIssuer)));
        };
        let provider = &self.config.providers[index];
        let result = claims(provider, wanted.audiences, &token, self.now)
            .map_err(Failure::Status)
            .and_then(|()| self.signed(index, &token));
        (Some(index), result.map(|()| token))
    }

    fn by_issuer(&self, places: &[usize], issuer: &str) -> Option<usize> {
        let of = |issuer: &str| {
            let fits = |index: &&usize| self.config.providers[**index].issuer == issuer;
            places.iter().find(fits).copied()
        };
        of(issuer).or_else(|| of(""))
    }

    fn signed(&self, index: usize, token: &Token<'_>) -> Result<(), Failure> {
        let status = match &self.config.providers[index].keys {
            KeySource::Local(keys) => signature::check(token, keys),
            KeySource::None => Status::NoValidKeys,
            KeySource::Remote(_) => match (self.fetched)(index) {
                Fetched::Keys(keys) => signature::check(token, keys),
                Fetched::Failed => Status::FetchFail,
                Fetched::Missing => return Err(Failure::NeedsKeys(index)),
            },
        };
        match status {
            Status::Ok => Ok(()),
            failure => Err(Failure::Status(failure)),
        }
    }

    fn note_failure(&mut self, provider: Option<usize>, status: Status) {
        let Some(provider) = provider.map(|index| &self.config.providers[index]) else {
            return;
        };
        if !provider.failed_status_in_metadata.is_empty() {
            let failure = json!({"code": status as u8, "message": status.text()});
            self.changes
                .metadata
                .insert(provider.failed_status_in_metadata.clone(), failure);
        }
    }
}

impl<'r> Wanted<'r> {
    fn of_any(places: &'r [usize]) -> Self {
        Self {
            provider: None,
            places,
            audiences: None,
        }
    }
}

enum Failure {
    Status(Status),
    NeedsKeys(usize),
}

/// Of two failures of alternatives, the later one, unless it only says that there was nothing for it.
fn more_telling(before: Status, now: Status) -> Status {
    let says_little = |status| matches!(status, Status::Missed | Status::UnknownIssuer);
    if says_little(now) && !says_little(before) {
        before
    } else {
        now
    }
}

/// What a token says of itself.
fn claims(
    provider: &Provider,
    audiences: Option<&[String]>,
    token: &Token<'_>,
    now: u64,
) -> Result<(), Status> {
    let skew = provider.clock_skew.as_secs();
    if now.saturating_add(skew) < token.not_before {
        return Err(Status::NotYetValid);
    }
    if token.expires > 0 && now > token.expires.saturating_add(skew) {
        return Err(Status::Expired);
    }
    let is_late = |lifetime: std::time::Duration| {
        token.expires > now.saturating_add(lifetime.as_secs()).saturating_add(skew)
    };
    let has_no_end = token.expires == 0 && (provider.require_expiration || provider.max_lifetime.is_some());
    let is_of_other =
        |subjects: &redplane_config::matcher::StringMatcher| !subjects.matches(token.subject.as_bytes());
    if has_no_end
        || provider.max_lifetime.is_some_and(is_late)
        || provider.subjects.as_ref().is_some_and(is_of_other)
    {
        return Err(Status::VerificationFail);
    }
    let wanted = audiences.unwrap_or(&provider.audiences);
    let is_wanted = |audience: &String| {
        wanted
            .iter()
            .any(|wanted| redplane_config::jwt::is_audience(wanted, audience))
    };
    if !wanted.is_empty() && !token.audiences.iter().any(is_wanted) {
        return Err(Status::AudienceNotAllowed);
    }
    Ok(())
}

/// Whether a request is a preflight of CORS.
#[must_use]
pub fn is_preflight(headers: &Headers<'_>) -> bool {
    first(headers, ":method") == "OPTIONS"
        && !first(headers, "origin").is_empty()
        && !first(headers, "access-control-request-method").is_empty()
}

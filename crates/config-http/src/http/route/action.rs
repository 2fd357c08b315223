//! What a route does: forward, redirect, answer.

use std::sync::Arc;

use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use redplane_proto::pb::envoy::config::route::v3::route::Action as Proto;

use super::forward::Forward;
use super::mirror::Mirror;
use super::retry::RetryPolicy;
use crate::field::enumeration;
use crate::http::pattern::Rewrite;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid, data_source};

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `route`.
    Forward(Box<Forward>),
    /// `redirect`.
    Redirect(Box<Redirect>),
    /// `direct_response`.
    Direct(DirectResponse),
}

/// `RedirectAction`.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http`, `https` or another; `None` keeps the request's.
    pub scheme: Option<String>,
    /// `None` keeps the request's.
    pub host: Option<String>,
    /// `None` keeps the request's.
    pub port: Option<u32>,
    /// What becomes of the path.
    pub path: PathRedirect,
    /// `strip_query`.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRedirect {
    /// As it came.
    Keep,
    /// This one; its own query counts if it has one.
    Replace(String),
    /// `prefix_rewrite`.
    Prefix(String),
    /// `regex_rewrite`.
    Regex(Rewrite),
}

/// `DirectResponseAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// May be empty.
    pub body: Arc<[u8]>,
}

impl Action {
    pub(super) fn from_proto(
        action: Option<&Proto>,
        inherited: (&Option<Arc<RetryPolicy>>, &[Mirror]),
        body_limit: usize,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        match action {
            None => Err(Invalid::new("action", "value is required")),
            Some(Proto::Route(route)) => ignored.scope("route", |ignored| {
                let forward = Forward::from_proto(route, inherited, ignored)?;
                Ok(Self::Forward(Box::new(forward)))
            }),
            Some(Proto::Redirect(redirect)) => Redirect::from_proto(redirect)
                .map(|redirect| Self::Redirect(Box::new(redirect)))
                .map_err(|refusal| refusal.within("redirect")),
            Some(Proto::DirectResponse(direct)) => ignored.scope("direct_response", |ignored| {
                DirectResponse::from_proto(direct, body_limit, ignored).map(Self::Direct)
            }),
            Some(Proto::FilterAction(_)) => Err(Invalid::new("filter_action", "is not supported")),
            Some(Proto::NonForwardingAction(_)) => Err(Invalid::new(
                "non_forwarding_action",
                "is for gRPC servers, not for proxies",
            )),
        }
    }
}

impl Redirect {
    fn from_proto(message: &proto::RedirectAction) -> Result<Self, Invalid> {
        let status = match enumeration(message.response_code, "response_code")? {
            RedirectResponseCode::MovedPermanently => 301,
            RedirectResponseCode::Found => 302,
            RedirectResponseCode::SeeOther => 303,
            RedirectResponseCode::TemporaryRedirect => 307,
            RedirectResponseCode::PermanentRedirect => 308,
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self {
            status,
            scheme: match message.scheme_rewrite_specifier.as_ref() {
                Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
                Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => some(scheme),
                None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
            },
            host: some(&message.host_redirect),
            port: (message.port_redirect != 0).then_some(message.port_redirect),
            path: PathRedirect::from_proto(message.path_rewrite_specifier.as_ref())?,
            strip_query: message.strip_query,
        })
    }
}

impl PathRedirect {
    fn from_proto(specifier: Option<&PathRewriteSpecifier>) -> Result<Self, Invalid> {
        Ok(match specifier {
            None => Self::Keep,
            Some(PathRewriteSpecifier::PathRedirect(path)) => match path.as_str() {
                "" => Self::Keep,
                path => Self::Replace(path.to_owned()),
            },
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => match prefix.as_str() {
                "" => Self::Keep,
                prefix => Self::Prefix(prefix.to_owned()),
            },
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                Self::Regex(Rewrite::from_proto(regex).map_err(|refusal| refusal.within("regex_rewrite"))?)
            }
            Some(PathRewriteSpecifier::PathRewrite(_)) => {
                return Err(Invalid::new("path_rewrite", "is not supported"));
            }
        })
    }
}

impl DirectResponse {
    fn from_proto(
        message: &proto::DirectResponseAction,
        limit: usize,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, body_format);
        if !(200..600).contains(&message.status) {
            return Err(Invalid::new("status", "value must be inside range [200, 600)"));
        }
        let body = match message.body.as_ref() {
            None => Vec::new(),
            Some(source) => {
                ignored
                    .scope("body", |ignored| data_source::read(source, ignored))?
                    .bytes
            }
        };
        if body.len() > limit {
            let reason = format!("response body size is {} bytes; maximum is {limit}", body.len());
            return Err(Invalid::new("body", reason));
        }
        Ok(Self {
            // In range by the check above.
            status: message.status as u16,
            body: body.into(),
        })
    }
}

//! What a connection manager does to headers beyond what routes say.

use http::HeaderValue;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ServerHeaderTransformation;
use redplane_proto::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use redplane_proto::type_url;

use crate::extension::Extension;
use crate::field::enumeration;
use crate::http::client_cert::{ClientCertFields, ForwardClientCert};
use crate::{Ignored, Invalid};

/// Header settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSettings {
    /// `server_name`, `envoy` where absent.
    pub server_name: HeaderValue,
    /// What becomes of the `server` header of responses.
    pub server: ServerHeader,
    /// The client's address is the socket's, and is appended to `x-forwarded-for`.
    pub use_remote_address: bool,
    /// Trusted entries at the end of `x-forwarded-for`.
    pub trusted_hops: u32,
    /// `skip_xff_append`.
    pub skip_forwarded_for: bool,
    /// `via`: appended to requests and responses; `None` leaves it.
    pub via: Option<HeaderValue>,
    /// `x-request-id`.
    pub request_id: RequestId,
    /// `x-forwarded-client-cert`.
    pub client_cert: ForwardClientCert,
    /// What its element says.
    pub client_cert_fields: ClientCertFields,
    /// `append_x_forwarded_port`.
    pub append_forwarded_port: bool,
    /// `add_user_agent`: `user-agent` where there is none.
    pub add_user_agent: bool,
    /// `Expect: 100-continue` goes to the server, whose 100 comes back.
    pub proxy_100_continue: bool,
}

/// `server_header_transformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// Ours in place of the server's.
    #[default]
    Overwrite,
    /// Ours where the server sent none.
    AppendIfAbsent,
    /// Only the server's.
    PassThrough,
}

/// `x-request-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// Made where there is none.
    pub generate: bool,
    /// A stranger's is kept although `use_remote_address` is on.
    pub preserve_external: bool,
    /// Responses carry it too.
    pub in_response: bool,
    /// Its 15th character carries the decision to trace, where tracing is configured.
    pub pack_trace_reason: bool,
}

impl HeaderSettings {
    pub(super) fn from_proto(
        message: &proto::HttpConnectionManager,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let value = |text: &str, path: &str| {
            HeaderValue::from_str(text).map_err(|_| Invalid::new(path, "is no header value"))
        };
        let server_name = match message.server_name.as_str() {
            "" => "envoy",
            name => name,
        };
        let details = message.set_current_client_cert_details.as_ref();
        Ok(Self {
            server_name: value(server_name, "server_name")?,
            server: match enumeration(
                message.server_header_transformation,
                "server_header_transformation",
            )? {
                ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
                ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
                ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
            },
            use_remote_address: message.use_remote_address.is_some_and(|flag| flag.value),
            trusted_hops: message.xff_num_trusted_hops,
            skip_forwarded_for: message.skip_xff_append,
            via: match message.via.as_str() {
                "" => None,
                via => Some(value(via, "via")?),
            },
            request_id: RequestId::from_proto(message, ignored)?,
            client_cert: ForwardClientCert::from_proto(message.forward_client_cert_details)?,
            client_cert_fields: ClientCertFields::from_proto(details, ignored)?,
            append_forwarded_port: message.append_x_forwarded_port,
            add_user_agent: message.add_user_agent.is_some_and(|flag| flag.value),
            proxy_100_continue: message.proxy_100_continue,
        })
    }
}

impl RequestId {
    fn from_proto(message: &proto::HttpConnectionManager, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let mut pack = true;
        let extension = message.request_id_extension.as_ref();
        if let Some(any) = extension.and_then(|extension| extension.typed_config.as_ref()) {
            let extension = Extension::new("", Some(any));
            if extension.type_url != type_url::UUID_REQUEST_ID {
                return Err(Invalid::new(
                    "request_id_extension",
                    format!("{} is not known", extension.label()),
                ));
            }
            let uuid: UuidRequestIdConfig = extension.decode(ignored)?;
            pack = uuid.pack_trace_reason.is_none_or(|flag| flag.value);
        }
        Ok(Self {
            generate: message.generate_request_id.is_none_or(|flag| flag.value),
            preserve_external: message.preserve_external_request_id,
            in_response: message.always_set_request_id_in_response,
            pack_trace_reason: pack && message.tracing.is_some(),
        })
    }
}

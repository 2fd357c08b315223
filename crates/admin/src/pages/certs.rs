//! `/certs`: what is inside the certificates in use. Private keys never come this far.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use data_encoding::HEXLOWER;
use redplane_telemetry::access_log::timestamp;
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use crate::reply::Reply;
use crate::request::Request;
use crate::{CertificateFile, Sources};

/// The page.
pub(crate) fn page(sources: &Sources, _: &Request) -> Reply {
    let contexts = (sources.views.certificates)().into_iter().map(|context| {
        let list = |files: &[CertificateFile]| files.iter().flat_map(file_json).collect::<Vec<_>>();
        json!({"ca_cert": list(&context.ca_cert), "cert_chain": list(&context.cert_chain)})
    });
    Reply::json(&json!({"certificates": contexts.collect::<Vec<Value>>()}))
}

/// Each certificate of a file. What is no certificate was refused when the configuration came; here it is left out.
fn file_json(file: &CertificateFile) -> Vec<Value> {
    let pems = Pem::iter_from_buffer(&file.pem).filter_map(Result::ok);
    pems.filter_map(|pem| Some(certificate_json(file, &pem.parse_x509().ok()?)))
        .collect()
}

fn certificate_json(file: &CertificateFile, certificate: &X509Certificate<'_>) -> Value {
    let validity = certificate.validity();
    let now = file
        .now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let end = u64::try_from(validity.not_after.timestamp()).unwrap_or(0);
    let serial = HEXLOWER.encode(certificate.raw_serial());
    json!({
        "path": file.path,
        "serial_number": serial.trim_start_matches('0'),
        "subject_alt_names": subject_alt_names(certificate),
        "days_until_expiration": (end.saturating_sub(now) / 86_400).to_string(),
        "valid_from": moment(validity.not_before.timestamp()),
        "expiration_time": moment(validity.not_after.timestamp()),
    })
}

/// Seconds since 1970 as RFC 3339 without a fraction.
fn moment(seconds: i64) -> String {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let text = timestamp(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH));
    text.replace(".000Z", "Z")
}

fn subject_alt_names(certificate: &X509Certificate<'_>) -> Vec<Value> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    names.filter_map(name_json).collect()
}

fn name_json(name: &GeneralName<'_>) -> Option<Value> {
    match name {
        GeneralName::DNSName(name) => Some(json!({"dns": name})),
        GeneralName::URI(uri) => Some(json!({"uri": uri})),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = address
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()?;
            Some(json!({"ip_address": address.to_string()}))
        }
        _ => None,
    }
}

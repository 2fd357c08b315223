//! Messages in and out of `Any`, for code that does not know protobuf's own traits.

use prost::{Message, Name};

use crate::pb::google::protobuf::Any;
use crate::typed::resolve;

/// Wraps a message under its type URL.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// Takes a message out of an `Any` that names it, also under its v2 name or inside a TypedStruct.
///
/// # Errors
/// Another type, or bytes that are no such message: the reason for people.
pub fn unpack<M: Message + Name + Default>(any: &Any) -> Result<M, String> {
    let decode =
        |value: &[u8]| M::decode(value).map_err(|error| format!("malformed {}: {error}", M::full_name()));
    if any.type_url == M::type_url() {
        return decode(&any.value);
    }
    let resolved = resolve(any).map_err(|error| error.to_string())?;
    if resolved.type_url != M::type_url() {
        return Err(format!(
            "type_url: is {}, expected {}",
            any.type_url,
            M::type_url()
        ));
    }
    decode(&resolved.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::envoy::config::cluster::v3::Cluster;
    use crate::pb::envoy::config::listener::v3::Listener;

    #[test]
    fn what_is_packed_comes_out_again_and_nothing_else() {
        let cluster = Cluster {
            name: "a".to_owned(),
            ..Default::default()
        };
        let mut any = pack(&cluster);
        assert_eq!(unpack::<Cluster>(&any).unwrap(), cluster);
        assert!(unpack::<Listener>(&any).unwrap_err().starts_with("type_url: is "));
        any.type_url = "type.googleapis.com/envoy.api.v2.Cluster".to_owned();
        assert_eq!(unpack::<Cluster>(&any).unwrap().name, "a");
        any.type_url = pack(&cluster).type_url;
        any.value = vec![0xff];
        assert!(unpack::<Cluster>(&any).unwrap_err().starts_with("malformed "));
    }
}

//! `CidrRange`: a range of addresses, as chains and access rules name it.

use std::net::IpAddr;

use redplane_proto::pb::envoy::config::core::v3::CidrRange;

use crate::Invalid;

/// `CidrRange`, the address masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// First address of the range.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix_len: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl Cidr {
    /// Reads the message; an absent length is 0, one that is too long is the whole address, as in Envoy.
    pub fn from_proto(message: &CidrRange) -> Result<Self, Invalid> {
        let text = &message.address_prefix;
        let address: IpAddr = text
            .parse()
            .map_err(|_| Invalid::new("address_prefix", format!("malformed IP address: {text}")))?;
        let length = message.prefix_len.as_ref().map_or(0, |length| length.value);
        if length > 128 {
            return Err(Invalid::new(
                "prefix_len",
                "value must be less than or equal to 128",
            ));
        }
        Ok(Self::masked(address, u8::try_from(length).unwrap_or(128)))
    }

    /// Whether the address is in the range; one of the other family never is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = match (self.address, address) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => (u32::from(base) ^ u32::from(ip)).leading_zeros(),
            (IpAddr::V6(base), IpAddr::V6(ip)) => (u128::from(base) ^ u128::from(ip)).leading_zeros(),
            _ => return false,
        };
        same >= u32::from(self.prefix_len)
    }

    fn masked(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let prefix_len = length.min(32);
                let mask = u32::MAX.checked_shl(u32::from(32 - prefix_len)).unwrap_or(0);
                Self {
                    address: IpAddr::V4((u32::from(v4) & mask).into()),
                    prefix_len,
                }
            }
            IpAddr::V6(v6) => {
                let prefix_len = length.min(128);
                let mask = u128::MAX.checked_shl(u32::from(128 - prefix_len)).unwrap_or(0);
                Self {
                    address: IpAddr::V6((u128::from(v6) & mask).into()),
                    prefix_len,
                }
            }
        }
    }
}

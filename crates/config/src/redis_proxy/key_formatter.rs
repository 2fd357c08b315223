//! `key_formatter` of a route: Envoy's substitution format, as far as it makes sense for a key.
//!
//! Envoy takes any text and fails at each request; here an operator that is not served is refused with the push.

/// A parsed `key_formatter`: pieces put one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFormatter(pub Vec<KeyPiece>);

/// One piece of a key formatter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPiece {
    /// Literal text.
    Literal(Vec<u8>),
    /// `%KEY%`: the key after `remove_prefix`.
    Key,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`.
    RemoteAddress,
    /// `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`.
    RemoteAddressWithoutPort,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`.
    LocalAddress,
    /// `%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%`.
    LocalAddressWithoutPort,
    /// `%DOWNSTREAM_LOCAL_PORT%`.
    LocalPort,
}

impl KeyFormatter {
    /// Parses the format; empty leaves keys as they are. The error is the reason of the refusal.
    pub(crate) fn parse(format: &str) -> Result<Option<Self>, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            literal.extend_from_slice(before.as_bytes());
            let Some((name, tail)) = after.split_once('%') else {
                return Err(format!("`%{after}` has no closing `%`"));
            };
            rest = tail;
            // `%%` is one percent sign.
            if name.is_empty() {
                literal.push(b'%');
                continue;
            }
            let piece =
                operator(name).ok_or_else(|| format!("operator `%{name}%` is not supported in keys"))?;
            if !literal.is_empty() {
                pieces.push(KeyPiece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            pieces.push(KeyPiece::Literal(literal));
        }
        Ok((!pieces.is_empty()).then_some(Self(pieces)))
    }
}

fn operator(name: &str) -> Option<KeyPiece> {
    Some(match name {
        "KEY" => KeyPiece::Key,
        "DOWNSTREAM_REMOTE_ADDRESS" => KeyPiece::RemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => KeyPiece::RemoteAddressWithoutPort,
        "DOWNSTREAM_LOCAL_ADDRESS" => KeyPiece::LocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => KeyPiece::LocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => KeyPiece::LocalPort,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(format: &str) -> Vec<KeyPiece> {
        KeyFormatter::parse(format)
            .unwrap()
            .map_or_else(Vec::new, |formatter| formatter.0)
    }

    fn literal(text: &str) -> KeyPiece {
        KeyPiece::Literal(text.as_bytes().to_vec())
    }

    #[test]
    fn pieces_stand_in_order() {
        assert_eq!(
            parse("pre:%KEY%:post"),
            [literal("pre:"), KeyPiece::Key, literal(":post")]
        );
        assert_eq!(parse("{%KEY%}"), [literal("{"), KeyPiece::Key, literal("}")]);
        assert_eq!(
            parse("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%-%KEY%"),
            [KeyPiece::RemoteAddressWithoutPort, literal("-"), KeyPiece::Key]
        );
        assert_eq!(parse("constant"), [literal("constant")]);
        assert_eq!(parse("100%%%KEY%"), [literal("100%"), KeyPiece::Key]);
        assert!(parse("").is_empty());
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let reason = |format| KeyFormatter::parse(format).unwrap_err();
        assert_eq!(reason("%NOPE%"), "operator `%NOPE%` is not supported in keys");
        assert_eq!(reason("a%KEY"), "`%KEY` has no closing `%`");
        assert_eq!(reason("%"), "`%` has no closing `%`");
        assert!(reason("%key%").contains("not supported"));
    }
}

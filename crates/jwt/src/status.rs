//! What became of a token, in the words and numbers of Envoy's jwt_verify_lib.

/// Status of a token, in the library's order: the discriminant is the `code` in metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(
    missing_docs,
    reason = "the names are the library's; the texts say what they mean"
)]
pub enum Status {
    Ok = 0,
    Missed = 1,
    NotYetValid = 2,
    Expired = 3,
    BadFormat = 4,
    HeaderBadBase64 = 5,
    HeaderBadJson = 6,
    HeaderBadAlg = 7,
    HeaderNotImplementedAlg = 8,
    HeaderBadKid = 9,
    PayloadBadBase64 = 10,
    PayloadBadJson = 11,
    IssNotString = 12,
    SubNotString = 13,
    IatNotInteger = 14,
    IatOutOfRange = 15,
    NbfNotInteger = 16,
    NbfOutOfRange = 17,
    ExpNotInteger = 18,
    ExpOutOfRange = 19,
    JtiNotString = 20,
    AudNotString = 21,
    SignatureBadBase64 = 22,
    Ed25519WrongLength = 23,
    UnknownIssuer = 24,
    AudienceNotAllowed = 25,
    VerificationFail = 26,
    NoValidKeys = 30,
    KidAlgMismatch = 31,
    FetchFail = 39,
}

impl Status {
    /// The text: the body of a refusal.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Missed => "Jwt is missing",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::BadFormat => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Self::HeaderBadBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderBadJson => "Jwt header is an invalid JSON",
            Self::HeaderBadAlg => "Jwt header [alg] field is required and must be a string",
            Self::HeaderNotImplementedAlg => "Jwt header [alg] is not supported",
            Self::HeaderBadKid => "Jwt header [kid] field is not a string",
            Self::PayloadBadBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadBadJson => "Jwt payload is an invalid JSON",
            Self::IssNotString => "Jwt payload [iss] field is not a string",
            Self::SubNotString => "Jwt payload [sub] field is not a string",
            Self::IatNotInteger => "Jwt payload [iat] field is not an integer",
            Self::IatOutOfRange => "Jwt payload [iat] field is not a positive 64 bit integer",
            Self::NbfNotInteger => "Jwt payload [nbf] field is not an integer",
            Self::NbfOutOfRange => "Jwt payload [nbf] field is not a positive 64 bit integer",
            Self::ExpNotInteger => "Jwt payload [exp] field is not an integer",
            Self::ExpOutOfRange => "Jwt payload [exp] field is not a positive 64 bit integer",
            Self::JtiNotString => "Jwt payload [jti] field is not a string",
            Self::AudNotString => "Jwt payload [aud] field is not a string or string list",
            Self::SignatureBadBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::Ed25519WrongLength => "Jwt ED25519 signature is wrong length",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::AudienceNotAllowed => "Audiences in Jwt are not allowed",
            Self::VerificationFail => "Jwt verification fails",
            Self::NoValidKeys => "Jwks doesn't have any valid public key",
            Self::KidAlgMismatch => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::FetchFail => "Jwks remote fetch is failed",
        }
    }
}

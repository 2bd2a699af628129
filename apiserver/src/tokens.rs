//! Signed tokens (JWT with HS256). Whoever has the key can make and check them; nothing is stored.
//!
//! Source: RFC 7519, RFC 7515 and RFC 2104.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const BLOCK: usize = 64;

/// The key of a server's tokens.
#[derive(Clone)]
pub(crate) struct Tokens {
    key: [u8; 32],
}

fn mac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = [byte; BLOCK];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

impl Tokens {
    /// With a key from a secret.
    pub(crate) fn of(secret: &str) -> Self {
        Self {
            key: Sha256::new()
                .chain_update(b"tokens of service accounts\0")
                .chain_update(secret)
                .finalize()
                .into(),
        }
    }

    /// With a key that nobody else has.
    pub(crate) fn random() -> Self {
        Self { key: rand::random() }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let body = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(HEADER),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = URL_SAFE_NO_PAD.encode(mac(&self.key, body.as_bytes()));
        format!("{body}.{signature}")
    }

    /// The claims of a token that this key signed and that has not expired at `now` (seconds since 1970).
    pub(crate) fn verify(&self, token: &str, now: i64) -> Option<Value> {
        let (body, signature) = token.rsplit_once('.')?;
        let (header, claims) = body.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        // Digests are compared, so that the time it takes tells nothing.
        let same = Sha256::digest(signature) == Sha256::digest(mac(&self.key, body.as_bytes()));
        if !same || URL_SAFE_NO_PAD.decode(header).ok()? != HEADER.as_bytes() {
            return None;
        }
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (claims.get("exp")?.as_i64()? > now).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_key_and_only_in_time() {
        // RFC 4231, test case 2, with the key padded to 32 bytes as HMAC pads it.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let hex: String = mac(&key, b"what do ya want for nothing?")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let tokens = Tokens::of("secret");
        let token = tokens.sign(&json!({"exp": 100, "sub": "x"}));
        assert_eq!(tokens.verify(&token, 99).unwrap()["sub"], "x");
        assert_eq!(tokens.verify(&token, 100), None);
        assert_eq!(Tokens::of("other").verify(&token, 1), None);
        assert_eq!(Tokens::random().verify(&token, 1), None);
        for bad in ["", ".", "..", "a.b.c", &token[1..], &token[..token.len() - 2]] {
            assert_eq!(tokens.verify(bad, 1), None, "{bad}");
        }
    }
}

//! The logins that a worker's clients have brought and use. Numbers stand for them everywhere else; none is given twice.

use std::collections::BTreeMap;

use redplane_redis_core::pool::LoginId;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Logins that one worker's clients may use at once: each has connections of its own to every server.
const MOST: usize = 256;

/// One that is in use.
struct Known {
    user: Vec<u8>,
    password: Zeroizing<Vec<u8>>,
}

/// The logins that a worker's clients have brought. A number is never given to another one.
#[derive(Default)]
pub struct ClientLogins {
    known: BTreeMap<LoginId, Known>,
    last: u32,
}

impl ClientLogins {
    /// The number of a login, which may be a new one; `None` where too many are `in_use`.
    pub(crate) fn number(
        &mut self,
        (user, password): (&[u8], &[u8]),
        in_use: impl Fn(LoginId) -> bool,
    ) -> Option<LoginId> {
        // All are compared, so that time tells nothing of anybody's password.
        let mut found = None;
        for (id, known) in &self.known {
            if bool::from(known.user.ct_eq(user) & known.password.ct_eq(password)) {
                found = Some(*id);
            }
        }
        if found.is_some() {
            return found;
        }
        self.known.retain(|id, _| in_use(*id));
        if self.known.len() >= MOST {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        let id = LoginId(self.last);
        let (user, password) = (user.to_vec(), Zeroizing::new(password.to_vec()));
        self.known.insert(id, Known { user, password });
        Some(id)
    }

    /// User and password; the user is empty for AUTH with a password alone.
    pub(crate) fn words(&self, id: LoginId) -> Option<(&[u8], &[u8])> {
        self.known.get(&id).map(|known| (&*known.user, &**known.password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_login_for_ever() {
        let mut logins = ClientLogins::default();
        let all = |_| true;
        let one = logins.number((b"a", b"1"), all).unwrap();
        assert_eq!(logins.number((b"a", b"1"), all), Some(one));
        let other = logins.number((b"a", b"2"), all).unwrap();
        assert_ne!(one, other);
        assert_ne!(logins.number((b"", b"1"), all), Some(one));
        assert_eq!(logins.words(one), Some((&b"a"[..], &b"1"[..])));
        // Those that nobody uses are forgotten, and their numbers with them.
        let third = logins.number((b"b", b"3"), |id| id == other).unwrap();
        assert_eq!(logins.words(one), None);
        assert!(logins.words(other).is_some());
        let again = logins.number((b"a", b"1"), all).unwrap();
        assert!(again != one && again > third);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut logins = ClientLogins::default();
        for i in 0..MOST {
            let name = i.to_string();
            assert!(logins.number((name.as_bytes(), b"p"), |_| true).is_some());
        }
        assert_eq!(logins.number((b"new", b"p"), |_| true), None);
        assert!(logins.number((b"0", b"p"), |_| true).is_some());
        assert!(logins.number((b"new", b"p"), |id| id.0 > 1).is_some());
    }
}

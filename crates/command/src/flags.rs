//! Command flags and key flags as small bit sets, under the names that `COMMAND` reports.
//!
//! The build script writes them by name, so a flag that the data has and this file lacks fails the build.

macro_rules! bit_set {
    ($(#[$doc:meta])* $name:ident($int:ty) { $($flag:ident = $bit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub(crate) $int);

        impl $name {
            $(#[doc = concat!("`", $text, "`")] pub const $flag: Self = Self(1 << $bit);)*

            /// No flag at all.
            pub const EMPTY: Self = Self(0);

            /// Whether every flag of `other` is set here.
            #[inline]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any flag of `other` is set here.
            #[inline]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Flags of both.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The flag of this name.
            pub fn named(name: &str) -> Option<Self> {
                let all: &'static [($int, &'static str)] = &[$((1 << $bit, $text)),*];
                all.iter().find(|(_, text)| *text == name).map(|(bit, _)| Self(*bit))
            }

            /// The set as an integer; bits are this crate's own and may move between versions.
            pub const fn bits(self) -> $int {
                self.0
            }

            /// The names of the flags that are set, as `COMMAND` prints them.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                let all: &'static [($int, &'static str)] = &[$((1 << $bit, $text)),*];
                all.iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, name)| *name)
            }
        }
    };
}

bit_set! {
    /// What the engine has to do for a command beside serving it; the names stand in `policies.json`.
    Handling(u8) {
        BEFORE_LOGIN = 0, "before_login";
        WAITS_FOR_REPLIES = 1, "waits_for_replies";
        KEEPS_CACHING = 2, "keeps_caching";
        STEERS_TRANSACTION = 3, "steers_transaction";
        EXECUTES = 4, "executes";
        MAY_USE_REPLICA = 5, "may_use_replica";
    }
}

bit_set! {
    /// What a command is, in the words of Redis's `COMMAND`.
    Flags(u32) {
        WRITE = 0, "write";
        READONLY = 1, "readonly";
        DENYOOM = 2, "denyoom";
        ADMIN = 3, "admin";
        PUBSUB = 4, "pubsub";
        NOSCRIPT = 5, "noscript";
        BLOCKING = 6, "blocking";
        LOADING = 7, "loading";
        STALE = 8, "stale";
        FAST = 9, "fast";
        NO_AUTH = 10, "no_auth";
        NO_MULTI = 11, "no_multi";
        MAY_REPLICATE = 12, "may_replicate";
        NO_MANDATORY_KEYS = 13, "no_mandatory_keys";
        SENTINEL = 14, "sentinel";
        ONLY_SENTINEL = 15, "only_sentinel";
        NO_ASYNC_LOADING = 16, "no_async_loading";
        ALLOW_BUSY = 17, "allow_busy";
        SKIP_MONITOR = 18, "skip_monitor";
        SKIP_SLOWLOG = 19, "skip_slowlog";
        PROTECTED = 20, "protected";
        TOUCHES_ARBITRARY_KEYS = 21, "touches_arbitrary_keys";
        ASKING = 22, "asking";
    }
}

bit_set! {
    /// What a command does to the keys of one specification, in the words of `COMMAND`'s key specs.
    KeyFlags(u16) {
        RO = 0, "RO";
        RW = 1, "RW";
        OW = 2, "OW";
        RM = 3, "RM";
        ACCESS = 4, "access";
        UPDATE = 5, "update";
        INSERT = 6, "insert";
        DELETE = 7, "delete";
        NOT_KEY = 8, "not_key";
        INCOMPLETE = 9, "incomplete";
        VARIABLE_FLAGS = 10, "variable_flags";
    }
}

//! Why configuration is refused, and what was ignored in what was accepted.
//!
//! The text of [`Invalid`] travels to the control plane in the NACK and to the operator's log.

/// Refused configuration: the field's path in the message (`filter_chains[0].filters[1].settings.op_timeout`)
/// and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{reason}", if path.is_empty() { "" } else { ": " })]
pub struct Invalid {
    /// Where the field stands, as snake_case proto names joined by dots; lists with their index. Empty for the message
    /// itself.
    pub path: String,
    /// Why it cannot be honoured, one clause without a full stop.
    pub reason: String,
}

impl Invalid {
    /// A refusal of the field itself.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
        }
    }

    /// The same refusal seen from one message further out: `within("settings")` makes `op_timeout` into
    /// `settings.op_timeout`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let path = if self.path.is_empty() {
            outer.to_owned()
        } else {
            format!("{outer}.{}", self.path)
        };
        Self {
            path,
            reason: self.reason,
        }
    }
}

/// Fields and extensions that were accepted but change nothing: shown in the admin pages and counted in
/// `server.static_unknown_fields` / `server.dynamic_unknown_fields`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored(pub Vec<String>);

impl Ignored {
    /// Notes one ignored field or extension: its path, then, where the path alone says too little, a colon and more.
    pub fn note(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// Reads an inner message that stands in the field `outer`: its notes and its refusal get that path in front.
    pub fn scope<T>(
        &mut self,
        outer: &str,
        read: impl FnOnce(&mut Self) -> Result<T, Invalid>,
    ) -> Result<T, Invalid> {
        let mut inner = Self::default();
        let result = read(&mut inner).map_err(|refusal| refusal.within(outer));
        self.0
            .extend(inner.0.into_iter().map(|note| format!("{outer}.{note}")));
        result
    }

    /// Reads each message of the list field `outer`, as [`Self::scope`] does for one.
    pub fn each<M, T>(
        &mut self,
        outer: &str,
        list: &[M],
        mut read: impl FnMut(&M, &mut Self) -> Result<T, Invalid>,
    ) -> Result<Vec<T>, Invalid> {
        let item = |(i, message)| self.scope(&format!("{outer}[{i}]"), |inner| read(message, inner));
        list.iter().enumerate().map(item).collect()
    }
}

/// Whether a protobuf field says anything: what is at its default need not be noted as ignored.
pub trait Set {
    /// True if the field differs from an absent one.
    fn is_set(&self) -> bool;
}

impl<T> Set for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T> Set for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl Set for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl Set for bool {
    fn is_set(&self) -> bool {
        *self
    }
}

impl Set for i32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

impl Set for u32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

/// Notes those of the named fields of a message that are set.
#[macro_export]
macro_rules! ignore_fields {
    ($ignored:expr, $message:expr, $($field:ident),+ $(,)?) => {
        $(if $crate::invalid::Set::is_set(&$message.$field) {
            $ignored.note(stringify!($field));
        })+
    };
}
pub use crate::ignore_fields;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_grow_from_the_inside() {
        let refusal = Invalid::new("", "is malformed");
        assert_eq!(refusal.to_string(), "is malformed");
        let refusal = refusal.within("typed_config").within("filters[1]");
        assert_eq!(refusal.to_string(), "filters[1].typed_config: is malformed");
    }

    #[test]
    fn notes_and_refusals_get_the_same_path() {
        let mut ignored = Ignored::default();
        let result: Result<Vec<()>, _> = ignored.each("list", &[1, 2], |item, ignored| {
            ignored.note(format!("a{item}"));
            if *item == 2 {
                Err(Invalid::new("b", "no"))
            } else {
                Ok(())
            }
        });
        assert_eq!(result.unwrap_err().to_string(), "list[1].b: no");
        assert_eq!(ignored.0, ["list[0].a1", "list[1].a2"]);
    }
}

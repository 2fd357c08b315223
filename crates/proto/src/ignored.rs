//! Fields that a message does not have: counted, and the first ones named.

/// How many paths an [`Ignored`] names; the others are only counted.
const NAMED: usize = 100;

/// What reading left out: fields that the message does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// How many.
    pub count: usize,
    /// The paths of the first hundred.
    pub paths: Vec<String>,
}

impl Ignored {
    pub(crate) fn push(&mut self, path: String) {
        self.count += 1;
        if self.paths.len() < NAMED {
            self.paths.push(path);
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        let room = NAMED.saturating_sub(self.paths.len());
        self.paths.extend(other.paths.into_iter().take(room));
    }
}

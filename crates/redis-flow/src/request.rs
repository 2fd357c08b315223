//! A request as it came, what is known of its command, and what follows from that for its way.

use bytes::Bytes;
use redplane_command::{Command, CommandId, Flags};
use redplane_redis_core::output::LARGE;
use redplane_redis_core::pool::Access;
use redplane_resp::request::Args;

/// Whom the read policy may choose from for a command.
#[inline]
pub fn access_of(command: &Command) -> Access {
    if command.may_use_replica() {
        Access::Read
    } else {
        Access::Primary
    }
}

/// Whether a command changes something, so that a mirror of writes wants it.
#[inline]
pub fn is_mirrored_write(served: Served) -> bool {
    match served {
        Served::Known(command) => {
            command.is_write() || command.flags.contains(Flags::MAY_REPLICATE) && !command.is_read()
        }
        Served::Custom(_) => true,
    }
}

/// A decoded request: its bytes, where its arguments are, and the large buffer it stands in, if it does.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Its bytes.
    pub frame: &'a [u8],
    /// Where its arguments lie in them.
    pub args: &'a Args,
    /// The buffer that its bytes are part of, where large arguments may be kept without copying.
    pub shared: Option<&'a Bytes>,
}

impl<'a> Request<'a> {
    /// An argument; the command's name is the first.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        self.args.arg(self.frame, index)
    }

    /// Arguments, with the name.
    #[inline]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether it has no argument at all, which decoders pass over.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// The frame as a buffer of its own, where that saves a copy.
    #[inline]
    pub(crate) fn large(&self) -> Option<Bytes> {
        let shared = self.shared?;
        (self.frame.len() >= LARGE).then(|| shared.slice_ref(self.frame))
    }
}

/// A served command: a row of the table, or a name from `custom_commands` with its row among the statistics.
#[derive(Clone, Copy)]
pub enum Served {
    /// One of the command table.
    Known(&'static Command),
    /// Key is argument 1; nothing is known of it but that.
    Custom(CommandId),
}

impl Served {
    /// The number that statistics know it by.
    #[inline]
    pub fn id(self) -> CommandId {
        match self {
            Self::Known(command) => command.id,
            Self::Custom(id) => id,
        }
    }
}

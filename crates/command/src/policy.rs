//! How the proxy serves a command: where requests go and how replies become one.
//!
//! The engine matches on these enums and never on a name. Classes are those of the command reference;
//! policies refine Redis's own tips (`request_policy`, `response_policy` of `COMMAND`).

/// The coarse kind of a command; the compatibility page is ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// All keys in one slot.
    Keyed,
    /// Keys may lie in several slots; the command is split.
    KeyedMultiSplit,
    /// Asked of every primary.
    AllShards,
    /// Asked of every primary and replica.
    AllNodes,
    /// Answered by the proxy, or by any one primary.
    Local,
    /// Belongs to the client's own connection.
    ConnectionState,
    /// May hold its upstream connection for long.
    Blocking,
    /// Publish and subscribe.
    Pubsub,
    /// MULTI and its relatives.
    Transaction,
    /// Scripts and functions.
    Script,
    /// Not offered.
    Refuse,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPolicy {
    /// To the owner of the keys' slot; without keys to any primary, which then words the error.
    ByKey,
    /// The same, but BY and GET name further keys by patterns: no key may be elsewhere.
    Sort,
    /// To any one primary.
    AnyNode,
    /// Argument 2 is the slot number; any primary words the error when it is none.
    SlotArgument,
    /// Argument 1 is the shard's index, ordered by lowest slot; sent on as `INFO` with the rest.
    ShardIndex,
    /// Split by slot; the step of [`crate::FastKeys::Range`] says how many arguments belong to a key.
    MultiShard,
    /// To every primary.
    AllShards,
    /// To every primary and every replica.
    AllNodes,
    /// To primaries in random order, until one has an answer that is not null.
    RandomShards,
    /// To one shard after the other; the cursor carries the shard.
    Scan,
    /// Answered by the proxy itself.
    Local(Local),
    /// Changes the connection's transaction.
    Transaction(Transaction),
    /// To the owner of the keys' slot, on a connection of its own while it waits.
    Blocking(Blocking),
    /// Subscriptions and messages.
    Pubsub(Pubsub),
    /// To the owner of the keys' slot; without keys to one primary, always the same for one script.
    Script(Script),
    /// Only a name for its subcommands: alone it is a wrong number of arguments.
    Container,
    /// Not sent anywhere; [`crate::error::refused`] words the answer.
    Refuse(Refusal),
}

impl RequestPolicy {
    /// Where requests go, in words, for the compatibility page.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::ByKey | Self::Sort => "by key",
            Self::AnyNode => "any primary",
            Self::SlotArgument => "owner of the slot",
            Self::ShardIndex => "the shard of that index",
            Self::MultiShard => "split by slot",
            Self::AllShards => "all primaries",
            Self::AllNodes => "all primaries and replicas",
            Self::RandomShards => "primaries in random order",
            Self::Scan => "shard after shard",
            Self::Local(_) => "the proxy",
            Self::Transaction(_) => "the connection's transaction",
            Self::Blocking(_) => "by key, on a connection of its own",
            Self::Pubsub(_) => "subscriptions",
            Self::Script(_) => "by key, or one primary per script",
            Self::Container => "a subcommand",
            Self::Refuse(why) => why.reason(),
        }
    }
}

/// How the replies of several nodes become one. A node's error is the whole command's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyPolicy {
    /// One reply, passed on.
    Pass,
    /// Integers added.
    Sum,
    /// All must succeed; the first reply is the answer.
    AllSucceeded,
    /// One success is success, else the first error.
    OneSucceeded,
    /// The smallest integer.
    Min,
    /// Arrays of integers: the smallest at each place.
    MinPerElement,
    /// Arrays of integers: at each place 1 only when all say 1.
    LogicalAnd,
    /// Arrays of the fragments put back in the order of the request's keys (MGET).
    InKeyOrder,
    /// Arrays one behind the other.
    Concatenate,
    /// Arrays as one set, nothing twice.
    Union,
    /// Flat arrays of name and integer: integers added by name.
    SumPairs,
    /// Texts one behind the other, each under its node's address; once where all are the same.
    TextPerNode,
    /// LATENCY HISTORY: entries of time and spike, in order of time.
    ByTime,
    /// LATENCY LATEST: the last and the worst spike of each event.
    LatestPerEvent,
    /// LATENCY HISTOGRAM: added command by command.
    Histograms,
    /// FUNCTION STATS: of a node that runs a script, else the first.
    Busiest,
    /// The first reply that is not null.
    FirstNonNull,
    /// SLOWLOG GET: by time (element 1 of each entry), newest first, cut to argument 2 (10 without it).
    NewestFirst,
    /// SCAN: the cursor is rewritten.
    Scan,
    /// INFO: one report out of all.
    Info,
}

/// What the proxy answers itself: from the table, its configuration or the connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the command of that name")]
pub enum Local {
    AclWhoAmI,
    Asking,
    Auth,
    ClientCaching,
    ClientCapa,
    ClientGetName,
    ClientGetRedir,
    ClientId,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientNoEvict,
    ClientNoTouch,
    ClientPause,
    ClientReply,
    ClientSetInfo,
    ClientSetName,
    ClientTracking,
    ClientTrackingInfo,
    ClientUnblock,
    ClientUnpause,
    ClusterInfo,
    ClusterKeySlot,
    ClusterLinks,
    ClusterMyId,
    ClusterMyShardId,
    ClusterNodes,
    ClusterReplicas,
    ClusterShards,
    ClusterSlots,
    Command,
    CommandCount,
    CommandDocs,
    CommandGetKeys,
    CommandGetKeysAndFlags,
    CommandInfo,
    CommandList,
    Echo,
    Hello,
    Ping,
    Quit,
    Readonly,
    Readwrite,
    Reset,
    Role,
    Select,
    Time,
}

/// Commands that steer a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the command of that name")]
pub enum Transaction {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// Where a blocking command says how long it waits; [`fn@crate::patience`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Seconds, with a fraction, in the last argument.
    LastArgument,
    /// Seconds, with a fraction, in argument 1.
    FirstArgument,
    /// Milliseconds behind the option BLOCK; without it the command does not block.
    BlockOption,
    /// Milliseconds in the last argument, asked of the primaries that this client wrote to.
    Replication,
}

/// Subscriptions, messages and questions about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the command of that name")]
pub enum Pubsub {
    Subscribe,
    Unsubscribe,
    PSubscribe,
    PUnsubscribe,
    SSubscribe,
    SUnsubscribe,
    Publish,
    SPublish,
    Channels,
    NumPat,
    NumSub,
    ShardChannels,
    ShardNumSub,
}

/// What argument 1 of a script command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// The script itself: worth remembering under its SHA1.
    Body,
    /// A SHA1: on NOSCRIPT the remembered body is loaded there and the command sent again.
    Sha,
    /// A function's name.
    Function,
}

/// What a command does to the proxy's memory of scripts, besides being forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Argument 2 is a body to remember.
    LoadScript,
    /// All bodies are forgotten.
    FlushScripts,
    /// Arguments from 2 on are SHA1s; one whose body is remembered counts as 1.
    AskScripts,
}

/// Why a command is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Users are the proxy's configuration.
    Users,
    /// Concerns one node's disk.
    Disk,
    /// Changes the cluster behind the proxy.
    Topology,
    /// Loads code into one node.
    Modules,
    /// A debugging aid of one node.
    Debug,
    /// Shows all that one node does.
    Monitor,
    /// Spoken between nodes only.
    Replication,
    /// Known to Sentinel only.
    Sentinel,
    /// Ends one node.
    Shutdown,
    /// A cluster has one database only.
    OneDatabase,
    /// Learnt from a server, and not known to leave a shared connection as it was.
    Unproved,
    /// Learnt from a server that does not say where its keys are.
    UnknownKeys,
}

impl Refusal {
    /// The reason in words, for the compatibility page and the error text.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Users => "users are configured at the proxy",
            Self::Disk => "it concerns one node's disk",
            Self::Topology => "it changes the cluster behind the proxy",
            Self::Modules => "it loads code into one node",
            Self::Debug => "it is a debugging aid of one node",
            Self::Monitor => "it shows what one node does",
            Self::Replication => "it is spoken between nodes only",
            Self::Sentinel => "it is known to Sentinel only",
            Self::Shutdown => "it ends one node",
            Self::OneDatabase => "a cluster has one database only",
            Self::Unproved => "it is not known to be safe on connections that clients share",
            Self::UnknownKeys => "the servers do not say where its keys are",
        }
    }

    /// Whether clients get Redis's "unknown command", because a node in its place would say so as well.
    pub const fn hides(self) -> bool {
        matches!(self, Self::Sentinel | Self::Replication)
    }
}

//! Prints `docs/compatibility.md` from the table, so that the page cannot differ from what is served.

use crate::policy::{Class, Refusal, ReplyPolicy, RequestPolicy};
use crate::table::{Command, all};
use std::fmt::Write as _;

/// The page in Markdown: one section per class, one row per command.
pub fn compatibility_page() -> String {
    let mut page = String::from(
        "# Commands\n\nPrinted from the command table; do not edit. One row per command and subcommand: \
         whether Envoy 1.40 serves it, whether a replica may answer it, and how it is served here.\n",
    );
    let mut classes: Vec<Class> = all().iter().map(|command| command.class).collect();
    classes.sort_unstable();
    classes.dedup();
    for class in classes {
        let commands = || {
            all()
                .iter()
                .filter(|command| command.class == class && !is_container(command))
        };
        let _ = write!(page, "\n## {} ({})\n\n", title(class), commands().count());
        page.push_str("| Command | Since | Envoy | Replica | Request | Reply | Remark |\n");
        page.push_str("|---|---|---|---|---|---|---|\n");
        commands().for_each(|command| row(&mut page, command));
    }
    page
}

fn is_container(command: &Command) -> bool {
    command.request == RequestPolicy::Container
}

fn row(page: &mut String, command: &Command) {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    let _ = writeln!(
        page,
        "| {name} | {} | {} | {} | {} | {} | {} |",
        command.since,
        if command.served_by_envoy { "yes" } else { "" },
        if command.may_use_replica() { "yes" } else { "" },
        request(command.request),
        reply(command.reply),
        command.note,
    );
}

const fn title(class: Class) -> &'static str {
    match class {
        Class::Keyed => "Keys in one slot",
        Class::KeyedMultiSplit => "Keys in several slots, split (not atomic)",
        Class::AllShards => "All shards",
        Class::AllNodes => "All nodes",
        Class::Local => "Answered by the proxy or by any primary",
        Class::ConnectionState => "The client's connection",
        Class::Blocking => "Blocking",
        Class::Pubsub => "Publish and subscribe",
        Class::Transaction => "Transactions",
        Class::Script => "Scripts and functions",
        Class::Refuse => "Not offered",
    }
}

const fn request(policy: RequestPolicy) -> &'static str {
    match policy {
        RequestPolicy::ByKey => "by key",
        RequestPolicy::AnyNode => "any primary",
        RequestPolicy::SlotArgument => "owner of the slot",
        RequestPolicy::ShardIndex => "the shard of that index",
        RequestPolicy::MultiShard => "split by slot",
        RequestPolicy::AllShards => "all primaries",
        RequestPolicy::AllNodes => "all primaries and replicas",
        RequestPolicy::RandomShards => "primaries in random order",
        RequestPolicy::Scan => "shard after shard",
        RequestPolicy::Local(_) => "the proxy",
        RequestPolicy::Transaction(_) => "the connection's transaction",
        RequestPolicy::Blocking(_) => "by key, on a connection of its own",
        RequestPolicy::Pubsub(_) => "subscriptions",
        RequestPolicy::Script(_) => "by key, or one primary per script",
        RequestPolicy::Container => "a subcommand",
        RequestPolicy::Refuse(why) => refused(why),
    }
}

const fn refused(why: Refusal) -> &'static str {
    if why.hides() {
        "refused, as unknown"
    } else {
        why.reason()
    }
}

const fn reply(policy: ReplyPolicy) -> &'static str {
    match policy {
        ReplyPolicy::Pass => "",
        ReplyPolicy::Sum => "sum",
        ReplyPolicy::AllSucceeded => "all must succeed",
        ReplyPolicy::OneSucceeded => "one must succeed",
        ReplyPolicy::Min => "smallest",
        ReplyPolicy::MinPerElement => "smallest, element by element",
        ReplyPolicy::LogicalAnd => "and, element by element",
        ReplyPolicy::InKeyOrder => "in the order of keys",
        ReplyPolicy::Concatenate => "joined",
        ReplyPolicy::Union => "joined, nothing twice",
        ReplyPolicy::SumPairs => "sum by name",
        ReplyPolicy::TextPerNode => "a text per node",
        ReplyPolicy::FirstNonNull => "the first that is not null",
        ReplyPolicy::NewestFirst => "merged, newest first",
        ReplyPolicy::Scan => "cursor carries the shard",
        ReplyPolicy::Info => "one merged report",
    }
}

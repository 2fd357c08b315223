//! Prints `docs/compatibility.md` from the table, so that the page cannot differ from what is served.

use crate::policy::{Class, ReplyPolicy, RequestPolicy};
use crate::table::{Command, all};
use std::fmt::Write as _;

const HEAD: &str = "\
# Commands

Printed from the command table by `cargo run -p redplane-command --example compatibility`; do not edit.

A client that knows nothing of clusters finds one Redis behind redplane, with these differences:

- Keys of one command in different slots are refused where Redis Cluster refuses them (`CROSSSLOT`), unless the command
  is one of those that are split, which are then not atomic. The same holds for keys whose routes lead to different
  clusters, and for keys on different servers of a fleet that spreads them by hash.
- Commands for all primaries, nodes or shards visit those of all routes' clusters, a server that several of these know
  once.
- Where a route changes the names of keys (`remove_prefix`, `key_formatter`), replies and scripts have the names that
  the servers know them by: the key that BLPOP, LMPOP or XREAD answers with, what KEYS and SCAN list, `KEYS[1]`.
- A command of a transaction runs with EXEC: what a server would refuse when it is queued, as for want of memory, is said
  by EXEC.
- On a fleet that spreads keys by hash a script's PUBLISH reaches those who listen at the script's server only.
- On a cluster there is one database.
- In a transaction, what all servers are asked (DBSIZE, FLUSHALL, CONFIG SET …), SCAN, HELLO, CLIENT TRACKING and CLIENT
  CACHING run when the rest has, so that nothing may follow them that one server runs: it is refused, and EXEC with it.
  Where all keys are on one server that holds for the last four alone.
- What the last section lists is not offered, each for its reason.

Commands that this table lacks, of modules or newer servers, are learnt from the servers' `COMMAND` at their first use.
Those are served that read or write or come from a module, by the keys, flags and tips that the server states. Refused
are those that block, subscribe, administer or belong to a connection, because clients share connections, and those of
which the server does not say where their keys are.

In the tables: *Envoy* is whether Envoy 1.40 serves the command; *Replica* whether a read policy may choose a replica for
it; *Request* where it goes; *Reply* how the replies of several servers become one.
";

/// The page in Markdown: one section per class, one row per command.
pub fn compatibility_page() -> String {
    let mut page = String::from(HEAD);
    let mut classes: Vec<Class> = all().iter().map(|command| command.about.class).collect();
    classes.sort_unstable();
    classes.dedup();
    for class in classes {
        let commands = || {
            all()
                .iter()
                .filter(|command| command.about.class == class && !is_container(command))
        };
        let _ = write!(page, "\n## {} ({})\n\n", title(class), commands().count());
        if class == Class::Refuse {
            page.push_str("| Command | Since | Envoy | Why | Remark |\n|---|---|---|---|---|\n");
            commands().for_each(|command| refused_row(&mut page, command));
            continue;
        }
        page.push_str("| Command | Since | Envoy | Replica | Request | Reply | Remark |\n");
        page.push_str("|---|---|---|---|---|---|---|\n");
        commands().for_each(|command| row(&mut page, command));
    }
    page
}

fn is_container(command: &Command) -> bool {
    command.request == RequestPolicy::Container
}

fn name(command: &Command) -> String {
    command.name.to_ascii_uppercase().replace('|', " ")
}

fn refused_row(page: &mut String, command: &Command) {
    let why = match command.request {
        RequestPolicy::Refuse(why) if why.hides() => {
            format!("{}; answered as an unknown command", why.reason())
        }
        RequestPolicy::Refuse(why) => why.reason().to_owned(),
        served => served.words().to_owned(),
    };
    let _ = writeln!(
        page,
        "| {} | {} | {} | {why} | {} |",
        name(command),
        command.about.since,
        if command.about.served_by_envoy { "yes" } else { "" },
        command.about.note,
    );
}

fn row(page: &mut String, command: &Command) {
    let _ = writeln!(
        page,
        "| {} | {} | {} | {} | {} | {} | {} |",
        name(command),
        command.about.since,
        if command.about.served_by_envoy { "yes" } else { "" },
        if command.may_use_replica() { "yes" } else { "" },
        command.request.words(),
        reply(command.reply),
        command.about.note,
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
        ReplyPolicy::TextPerNode => "a text per node, once where all are the same",
        ReplyPolicy::ByTime => "in order of time",
        ReplyPolicy::LatestPerEvent => "the last and the worst of each event",
        ReplyPolicy::Histograms => "added, command by command",
        ReplyPolicy::Busiest => "of a node that runs a script, else the first",
        ReplyPolicy::FirstNonNull => "the first that is not null",
        ReplyPolicy::NewestFirst => "merged, newest first",
        ReplyPolicy::Scan => "cursor carries the shard",
        ReplyPolicy::Info => "one merged report",
    }
}

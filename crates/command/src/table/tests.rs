//! The table as a whole: that it is laid out as the search expects, and that policies fit their commands.

use super::*;
use crate::page::compatibility_page;

fn named(name: &str) -> &'static Command {
    let found = all().iter().find(|command| command.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the table"))
}

#[test]
fn ids_are_places_and_names_are_sorted() {
    assert!(
        all()
            .iter()
            .enumerate()
            .all(|(at, command)| command.id.index() == at)
    );
    assert!(all().is_sorted_by(|a, b| a.name < b.name));
    assert!(
        all()
            .iter()
            .all(|command| command.index.name == pack(command.name.as_bytes()))
    );
}

#[test]
fn most_names_are_in_their_own_slot() {
    let moved = all()
        .iter()
        .filter(|command| !command.name.contains('|'))
        .filter(|command| {
            let slot = INDEX[command.index.name.slot(SEED)];
            usize::from(slot) != command.id.index() + 1
        });
    assert!(moved.count() < 20);
}

#[test]
fn a_container_means_nothing_alone() {
    for command in all()
        .iter()
        .filter(|command| command.request == RequestPolicy::Container)
    {
        assert!(
            command.has_subcommands() && !command.arity_ok(1),
            "{}",
            command.name
        );
    }
}

#[test]
fn requests_are_judged_in_the_order_of_the_server() {
    let judge = |request: &str| {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        match find(args.len(), |at| args[at]) {
            Ok(command) => command.name.to_owned(),
            Err(NotFound::Command) => "no command".to_owned(),
            Err(NotFound::Subcommand(container)) => format!("no subcommand of {}", container.name),
            Err(NotFound::Arity(command)) => format!("arity of {}", command.name),
        }
    };
    assert_eq!(judge("GeT k"), "get");
    assert_eq!(judge("get"), "arity of get");
    assert_eq!(judge("CLIENT"), "arity of client");
    assert_eq!(judge("CLIENT setname x"), "client|setname");
    assert_eq!(judge("CLIENT setname"), "arity of client|setname");
    assert_eq!(judge("CLIENT nosuch"), "no subcommand of client");
    assert_eq!(judge("COMMAND"), "command");
    assert_eq!(judge("COMMAND docs get"), "command|docs");
    assert_eq!(judge("client|setname x"), "no command");
    assert_eq!(judge("SENTINEL nosuch"), "sentinel");
    assert_eq!(judge("bf.add k v"), "bf.add");
    assert!(find(0, |_| &[]).is_err());
}

#[test]
fn replicas_get_reads_that_any_server_answers_alike() {
    for name in [
        "get", "mget", "exists", "eval_ro", "fcall_ro", "sort_ro", "pfcount", "xread", "ttl", "keys",
        "dbsize",
    ] {
        assert!(named(name).may_use_replica(), "{name}");
    }
    let primary = [
        "set",
        "getex",
        "getset",
        "getdel",
        "spop",
        "sort",
        "georadius",
        "bitfield",
        "eval",
        "fcall",
        "xreadgroup",
        "touch",
        "object|idletime",
        "object|freq",
        "scan",
        "publish",
        "lolwut",
        "blpop",
        "xadd",
        "bf.add",
    ];
    for name in primary {
        assert!(!named(name).may_use_replica(), "{name}");
    }
    assert!(
        !all()
            .iter()
            .any(|command| command.may_use_replica() && command.is_write())
    );
}

#[test]
fn policies_of_commands_that_matter_most() {
    let of = |name: &str| (named(name).request, named(name).reply);
    assert_eq!(of("get"), (RequestPolicy::ByKey, ReplyPolicy::Pass));
    assert_eq!(of("msetnx"), (RequestPolicy::ByKey, ReplyPolicy::Pass));
    assert_eq!(of("mget"), (RequestPolicy::MultiShard, ReplyPolicy::InKeyOrder));
    assert_eq!(of("mset"), (RequestPolicy::MultiShard, ReplyPolicy::AllSucceeded));
    assert_eq!(of("del"), (RequestPolicy::MultiShard, ReplyPolicy::Sum));
    assert_eq!(of("dbsize"), (RequestPolicy::AllShards, ReplyPolicy::Sum));
    assert_eq!(
        of("script|load"),
        (RequestPolicy::AllNodes, ReplyPolicy::AllSucceeded)
    );
    assert_eq!(
        of("script|exists"),
        (RequestPolicy::AllShards, ReplyPolicy::LogicalAnd)
    );
    assert_eq!(of("ping"), (RequestPolicy::Local(Local::Ping), ReplyPolicy::Pass));
    assert_eq!(of("acl|setuser").0, RequestPolicy::Refuse(Refusal::Users));
    assert_eq!(of("acl|whoami").0, RequestPolicy::Local(Local::AclWhoAmI));
    assert_eq!(of("lastsave"), (RequestPolicy::AllShards, ReplyPolicy::Min));
}

#[test]
fn only_split_commands_are_split_and_only_they_have_no_single_reply() {
    let split: Vec<_> = all()
        .iter()
        .filter(|c| c.request == RequestPolicy::MultiShard)
        .map(|c| c.name)
        .collect();
    assert_eq!(split, ["del", "exists", "mget", "mset", "touch", "unlink"]);
    let one = [
        RequestPolicy::ByKey,
        RequestPolicy::AnyNode,
        RequestPolicy::SlotArgument,
        RequestPolicy::ShardIndex,
    ];
    assert!(
        all()
            .iter()
            .filter(|c| one.contains(&c.request))
            .all(|c| c.reply == ReplyPolicy::Pass)
    );
}

#[test]
fn envoy_serves_what_its_stats_name() {
    let mut names: Vec<_> = all()
        .iter()
        .filter(|c| c.about.served_by_envoy)
        .map(envoy_stat_name)
        .collect();
    names.dedup();
    assert_eq!(names.len(), 196);
    assert_eq!(envoy_stat_name(named("config|set")), "config");
    assert!(named("client|setname").about.served_by_envoy && !named("client|pause").about.served_by_envoy);
    assert!(named("script|load").about.served_by_envoy && !named("eval_ro").about.served_by_envoy);
}

#[test]
fn the_page_has_every_command() {
    let page = compatibility_page();
    assert!(
        page == include_str!("../../../../docs/compatibility.md"),
        "print it anew: cargo run -p redplane-command --example compatibility > docs/compatibility.md"
    );
    let rows = all()
        .iter()
        .filter(|command| command.request != RequestPolicy::Container);
    for command in rows {
        let row = format!("\n| {} |", command.name.to_ascii_uppercase().replace('|', " "));
        assert_eq!(page.matches(&row).count(), 1, "{row}");
    }
}

//! Access rules read from YAML.

use redplane_proto::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpProto;
use redplane_proto::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkProto;

use super::*;
use crate::matcher::StringMatcher;
use crate::sample::{message, refusal};

fn network(fields: &str) -> Result<(NetworkRbac, Vec<String>), Invalid> {
    let mut ignored = Ignored::default();
    let read = NetworkRbac::from_proto(
        &message::<NetworkProto>(&format!("{{stat_prefix: s, {fields}}}")),
        &mut ignored,
    )?;
    Ok((read, ignored.0))
}

fn http(fields: &str) -> Result<(HttpRbac, Vec<String>), Invalid> {
    let mut ignored = Ignored::default();
    let read = HttpRbac::from_proto(&message::<HttpProto>(&format!("{{{fields}}}")), &mut ignored)?;
    Ok((read, ignored.0))
}

/// The rules with one policy of these parts.
fn policy(permissions: &str, principals: &str) -> String {
    format!("rules: {{policies: {{p: {{permissions: [{permissions}], principals: [{principals}]}}}}}}")
}

fn only(rules: Option<Rules>) -> Policy {
    rules.unwrap().policies.remove(0)
}

#[test]
fn fields_of_the_filters() {
    let (read, ignored) = network("rules: {}, shadow_rules: {action: LOG}, shadow_rules_stat_prefix: x_, delay_deny: 1s, enforcement_type: CONTINUOUS").unwrap();
    assert_eq!(
        read.rules,
        Some(Rules {
            action: Action::Allow,
            policies: vec![]
        })
    );
    assert_eq!(read.shadow.unwrap().action, Action::Log);
    assert_eq!(
        (read.stat_prefix.as_str(), read.shadow_prefix.as_str()),
        ("s", "x_")
    );
    assert_eq!(read.delay_deny.as_secs(), 1);
    assert!(ignored.is_empty());
    let (read, ignored) = http("rules_stat_prefix: r_, track_per_rule_stats: true").unwrap();
    assert!(read.rules.is_none() && read.rules_prefix == "r_");
    assert_eq!(ignored, ["track_per_rule_stats"]);
    let none = NetworkRbac::from_proto(&NetworkProto::default(), &mut Ignored::default());
    assert_eq!(
        refusal(none),
        "stat_prefix: value length must be at least 1 characters"
    );
}

#[test]
fn policies_stand_in_the_order_of_their_names() {
    let any = "{permissions: [{any: true}], principals: [{any: true}]}";
    let (read, _) = http(&format!(
        "rules: {{action: DENY, policies: {{b: {any}, a: {any}, B: {any}}}}}"
    ))
    .unwrap();
    let names: Vec<_> = read
        .rules
        .unwrap()
        .policies
        .into_iter()
        .map(|policy| policy.name)
        .collect();
    assert_eq!(names, ["B", "a", "b"]);
}

#[test]
fn a_matcher_tree_lets_nobody_in() {
    let (read, ignored) = network("rules: {action: DENY}, matcher: {}, shadow_matcher: {}").unwrap();
    assert_eq!(
        read.rules,
        Some(Rules {
            action: Action::Allow,
            policies: vec![]
        })
    );
    assert!(read.shadow.is_none());
    assert_eq!(ignored.len(), 2);
}

#[test]
fn what_cannot_be_evaluated_is_kept_and_noted() {
    for (field, permission) in [
        ("url_path", "{url_path: {path: {exact: /}}}"),
        (
            "metadata",
            "{metadata: {filter: f, path: [{key: k}], value: {null_match: {}}}}",
        ),
        (
            "sourced_metadata",
            "{sourced_metadata: {metadata_matcher: {filter: f, path: [{key: k}], value: {bool_match: true}}}}",
        ),
    ] {
        let (read, ignored) = network(&policy(permission, "{any: true}")).unwrap();
        assert_eq!(
            only(read.rules).permissions,
            Condition::Any(vec![Condition::Unknown(field.into())])
        );
        let note = format!(
            "rules.policies[p].permissions[0].{field}: a connection has no requests: it is not evaluated, what depends on it is denied"
        );
        assert_eq!(ignored, [note]);
        let (read, ignored) = http(&policy(permission, "{any: true}")).unwrap();
        assert!(
            !matches!(only(read.rules).permissions, Condition::Any(list) if matches!(list[0], Condition::Unknown(_)))
        );
        assert!(ignored.is_empty(), "{ignored:?}");
    }
    let (read, ignored) = http(&policy(
        "{matcher: {name: m}}",
        "{filter_state: {key: k, string_match: {exact: a}}}, {custom: {name: c}}",
    ))
    .unwrap();
    let read = only(read.rules);
    assert_eq!(
        read.permissions,
        Condition::Any(vec![Condition::Unknown("matcher".into())])
    );
    assert!(
        matches!(read.principals, Condition::Any(list) if list.iter().all(|one| matches!(one, Condition::Unknown(_))))
    );
    assert_eq!(ignored.len(), 3);
    let cel =
        "rules: {policies: {p: {permissions: [{any: true}], principals: [{any: true}], condition: {}}}}";
    let (read, ignored) = http(cel).unwrap();
    assert!(
        matches!(only(read.rules).principals, Condition::All(list) if matches!(list[1], Condition::Unknown(_)))
    );
    assert_eq!(
        ignored,
        ["rules.policies[p].condition: CEL is not evaluated, what depends on it is denied"]
    );
}

#[test]
fn a_connection_has_no_headers() {
    let reason = "header: rule not supported by RBAC network filter";
    let permission = network(&policy("{not_rule: {header: {name: a}}}", "{any: true}"));
    assert_eq!(
        refusal(permission),
        format!("rules.policies[p].permissions[0].not_rule.{reason}")
    );
    let principal = network(&policy("{any: true}", "{header: {name: a}}"));
    assert_eq!(
        refusal(principal),
        format!("rules.policies[p].principals[0].{reason}")
    );
}

#[test]
fn refusals_name_the_field() {
    let at = "rules.policies[p]";
    for (permission, principal, expected) in [
        (
            "",
            "{any: true}",
            "permissions: value must contain at least 1 item(s)",
        ),
        (
            "{any: true}",
            "",
            "principals: value must contain at least 1 item(s)",
        ),
        ("{}", "{any: true}", "permissions[0].rule: value is required"),
        ("{any: true}", "{}", "principals[0].identifier: value is required"),
        (
            "{any: false}",
            "{any: true}",
            "permissions[0].any: value must equal true",
        ),
        (
            "{any: true}",
            "{any: false}",
            "principals[0].any: value must equal true",
        ),
        (
            "{and_rules: {}}",
            "{any: true}",
            "permissions[0].and_rules.rules: value must contain at least 1 item(s)",
        ),
        (
            "{or_rules: {rules: [{any: true}, {}]}}",
            "{any: true}",
            "permissions[0].or_rules.rules[1].rule: value is required",
        ),
        (
            "{not_rule: {}}",
            "{any: true}",
            "permissions[0].not_rule.rule: value is required",
        ),
        (
            "{any: true}",
            "{and_ids: {}}",
            "principals[0].and_ids.ids: value must contain at least 1 item(s)",
        ),
        (
            "{any: true}",
            "{not_id: {or_ids: {ids: [{any: false}]}}}",
            "principals[0].not_id.or_ids.ids[0].any: value must equal true",
        ),
        (
            "{destination_port: 65536}",
            "{any: true}",
            "permissions[0].destination_port: value must be less than or equal to 65535",
        ),
        (
            "{destination_port_range: {start: 2, end: 2}}",
            "{any: true}",
            "permissions[0].destination_port_range: range start 2 cannot be greater or equal than range end 2",
        ),
        (
            "{destination_port_range: {start: -1, end: 2}}",
            "{any: true}",
            "permissions[0].destination_port_range: range start -1 is out of bounds",
        ),
        (
            "{destination_ip: {address_prefix: x}}",
            "{any: true}",
            "permissions[0].destination_ip.address_prefix: malformed IP address: x",
        ),
        (
            "{requested_server_name: {}}",
            "{any: true}",
            "permissions[0].requested_server_name.match_pattern: value is required",
        ),
        (
            "{requested_server_name: {safe_regex: {regex: 'a)|(b'}}}",
            "{any: true}",
            "permissions[0].requested_server_name.safe_regex.regex: unexpected )",
        ),
        (
            "{header: {name: ''}}",
            "{any: true}",
            "permissions[0].header.name: value length must be at least 1 characters",
        ),
        (
            "{url_path: {}}",
            "{any: true}",
            "permissions[0].url_path.rule: value is required",
        ),
        (
            "{any: true}",
            "{authenticated: {principal_name: {prefix: ''}}}",
            "principals[0].authenticated.principal_name.prefix: value length must be at least 1 characters",
        ),
        (
            "{any: true}",
            "{metadata: {filter: f, value: {null_match: {}}}}",
            "principals[0].metadata.path: value must contain at least 1 item(s)",
        ),
    ] {
        assert_eq!(
            refusal(http(&policy(permission, principal))),
            format!("{at}.{expected}")
        );
    }
}

/// Not from YAML: this kind of message is in no descriptor set.
#[test]
fn templates_of_paths_are_read() {
    use redplane_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
    use redplane_proto::pb::envoy::config::rbac::v3::permission::Rule;
    use redplane_proto::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;

    let read = |template: &str| {
        let config = UriTemplateMatchConfig {
            path_template: template.to_owned(),
        };
        let template = Rule::UriTemplate(TypedExtensionConfig {
            name: "t".to_owned(),
            typed_config: Some(redplane_proto::pack(&config)),
        });
        let message = proto::Permission { rule: Some(template) };
        Condition::permission(&message, Scope::Request, &mut Ignored::default())
    };
    let Condition::UriTemplate(template) = read("/a/*").unwrap() else {
        panic!("it is a template")
    };
    assert!(template.matches(b"/a/b") && !template.matches(b"/a/b/c"));
    assert_eq!(
        refusal(read("/a/**/*")),
        "uri_template.typed_config.path_template: Implicit variable path glob after text glob"
    );
}

#[test]
fn every_kind_is_read() {
    let mtls = "type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config";
    let permissions = [
        "{and_rules: {rules: [{any: true}]}}".to_owned(),
        "{destination_ip: {address_prefix: 10.0.0.1, prefix_len: 8}}".into(),
        "{destination_port_range: {start: 1, end: 3}}".into(),
        "{requested_server_name: {suffix: .x}}".into(),
    ];
    let principals = [
        "{authenticated: {}}".to_owned(),
        "{authenticated: {principal_name: {exact: a}}}".into(),
        "{source_ip: {address_prefix: '::1', prefix_len: 128}}".into(),
        "{direct_remote_ip: {address_prefix: '::1', prefix_len: 128}}".into(),
        "{remote_ip: {address_prefix: '::1', prefix_len: 128}}".into(),
        format!(
            "{{custom: {{name: m, typed_config: {{'@type': {mtls}, any_validated_client_certificate: true}}}}}}"
        ),
    ];
    let (read, ignored) = http(&policy(&permissions.join(","), &principals.join(","))).unwrap();
    assert!(ignored.is_empty(), "{ignored:?}");
    let Policy {
        permissions: Condition::Any(permissions),
        principals: Condition::Any(principals),
        ..
    } = only(read.rules)
    else {
        panic!("a policy is a list of each");
    };
    assert_eq!(permissions[0], Condition::All(vec![Condition::Always]));
    assert!(matches!(&permissions[1], Condition::DestinationIp(range) if range.prefix_len == 8));
    assert_eq!(permissions[2], Condition::DestinationPorts(1..3));
    assert_eq!(
        permissions[3],
        Condition::ServerName(StringMatcher::Suffix(".x".into()))
    );
    assert_eq!(principals[0], Condition::Authenticated(None));
    assert_eq!(
        principals[1],
        Condition::Authenticated(Some(StringMatcher::Exact("a".into())))
    );
    assert!(
        matches!(principals[2], Condition::SourceIp(_))
            && matches!(principals[3], Condition::DirectRemoteIp(_))
    );
    assert!(matches!(principals[4], Condition::RemoteIp(_)));
    assert_eq!(principals[5], Condition::Certificate(None));
    let neither = policy(
        "{any: true}",
        &format!("{{custom: {{name: m, typed_config: {{'@type': {mtls}}}}}}}"),
    );
    assert!(refusal(http(&neither)).contains("must be set in the mTLS authenticated"));
}

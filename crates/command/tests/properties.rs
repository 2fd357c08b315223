//! What must hold for any input: names are found in any case, nothing panics, indices are in range.

use proptest::collection::vec;
use proptest::prelude::*;
use redplane_command::{
    Command, SlotOf, all, crc16, error, find, first_key, hash_tag, keys, lookup, lookup_sub, patience, slot,
    slots,
};

/// Any command with arguments that are likely to steer the search for keys.
fn request() -> impl Strategy<Value = (&'static Command, Vec<Vec<u8>>)> {
    let word = prop_oneof![
        "STREAMS|streams|STORE|store|STOREDIST|KEYS|BY|GET|LIMIT|BLOCK|0|1|2|3|-1|18446744073709551615|[{]a[}]b",
        "[0-9]{1,20}",
        "[a-z{}]{0,9}",
    ];
    let args = prop_oneof![
        vec(word.prop_map(String::into_bytes), 0..12),
        vec(vec(any::<u8>(), 0..20), 0..5)
    ];
    ((0..all().len()).prop_map(|at| &all()[at]), args).prop_map(|(command, mut args)| {
        args.insert(0, command.name.as_bytes().to_vec());
        (command, args)
    })
}

fn any_case(name: &str, upper: u64) -> String {
    let turn = |(at, letter): (usize, char)| {
        if upper >> (at % 64) & 1 == 1 {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    };
    name.chars().enumerate().map(turn).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn every_name_is_found_in_any_case(at in 0..all().len(), upper in any::<u64>()) {
        let command = &all()[at];
        let name = any_case(command.name, upper);
        let found = match name.split_once('|') {
            Some((container, sub)) => lookup(container.as_bytes()).and_then(|c| lookup_sub(c, sub.as_bytes())),
            None => lookup(name.as_bytes()),
        };
        prop_assert_eq!(found.map(|found| found.id), Some(command.id));
    }

    #[test]
    fn other_bytes_are_no_command(name in vec(any::<u8>(), 0..40)) {
        if let Some(found) = lookup(&name) {
            prop_assert!(found.name.as_bytes().eq_ignore_ascii_case(&name));
        }
    }

    #[test]
    fn one_wrong_byte_is_another_name(at in 0..all().len(), place in any::<prop::sample::Index>(), byte: u8) {
        let mut name = all()[at].name.as_bytes().to_vec();
        let place = place.index(name.len());
        name[place] = byte;
        if let Some(found) = lookup(&name) {
            prop_assert!(found.name.as_bytes().eq_ignore_ascii_case(&name));
        }
    }

    #[test]
    fn keys_are_arguments((command, args) in request()) {
        let arg = |at: usize| args[at].as_slice();
        let found: Vec<usize> = keys(command, args.len(), arg).collect();
        prop_assert!(found.iter().all(|key| (1..args.len()).contains(key)), "{:?}", found);
        prop_assert_eq!(first_key(command, args.len(), arg), found.first().copied());
        let mut expected: Vec<u16> = found.iter().map(|key| slot(arg(*key))).collect();
        expected.dedup();
        match slots(command, args.len(), arg) {
            SlotOf::NoKeys => prop_assert!(found.is_empty()),
            SlotOf::One(one) => prop_assert_eq!(expected, vec![one]),
            SlotOf::Cross => prop_assert!(expected.len() > 1),
        }
        let _ = patience(command, args.len(), arg);
        let _ = find(args.len(), arg);
    }

    #[test]
    fn crc_agrees_with_the_crate(bytes in vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(crc16(&bytes), crc16::State::<crc16::XMODEM>::calculate(&bytes));
    }

    #[test]
    fn hash_tags_follow_the_specification(key in "[a-c{}]{0,24}") {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let expected = tag.filter(|tag| !tag.is_empty()).unwrap_or(&key);
        prop_assert_eq!(hash_tag(key.as_bytes()), expected.as_bytes());
    }

    #[test]
    fn errors_are_one_short_line(name in vec(any::<u8>(), 0..300), args in vec(vec(any::<u8>(), 0..200), 0..9)) {
        let mut out = Vec::new();
        error::unknown_command(&mut out, &name, args.iter().map(Vec::as_slice));
        prop_assert!(out.starts_with(b"-ERR ") && out.ends_with(b"\r\n") && out.len() < 500);
        prop_assert!(!out[..out.len() - 2].iter().any(u8::is_ascii_control));
    }
}

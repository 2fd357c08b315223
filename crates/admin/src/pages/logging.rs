//! `/logging`: the levels of Envoy's loggers, changed while the process runs.
//!
//! istioctl looks for the logger's name in the list before it sets a level, so all of Envoy's names are there. What a
//! level does to our own log is decided by the function that the binary gives.

use std::fmt::Write;

use crate::Sources;
use crate::levels::{Level, Levels};
use crate::reply::Reply;
use crate::request::Request;

const USAGE: &str = "\nusage: /logging?<name>=<level> (change single level)\n\
    usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
    usage: /logging?level=<level> (change all levels)\n\
    usage: /logging?group=<group_name>:<level> (change group of loggers)\n\
    levels: trace debug info warning error critical off \n";

/// The page.
pub(crate) fn page(sources: &Sources, request: &Request) -> Reply {
    // The home page's form sends every field, filled or not.
    let given = request.params.pairs().iter().chain(request.form.pairs());
    let given: Vec<_> = given.filter(|(_, value)| !value.is_empty()).collect();
    let changed = match given.as_slice() {
        [] => Ok(()),
        [(key, value)] => change(&sources.levels, key, value),
        _ => Err("error: invalid number of parameters\n"),
    };
    match changed {
        Ok(()) => Reply::text(list(&sources.levels)),
        Err(reason) => Reply::bad_request(format!("{reason}{USAGE}{}", list(&sources.levels))),
    }
}

fn change(levels: &Levels, key: &str, value: &str) -> Result<(), &'static str> {
    match key {
        "level" => {
            levels.change_all(level(value)?);
            Ok(())
        }
        // Groups are of files, which we do not have either.
        "group" => Err("error: group parameter requires fine-grain logging to be enabled\n"),
        "paths" => {
            let pairs = value.split(',').map(|pair| {
                let (name, word) = pair
                    .split_once(':')
                    .ok_or("error: empty logger name or empty logger level\n")?;
                Ok((name, level(word)?))
            });
            levels.change(&pairs.collect::<Result<Vec<_>, &'static str>>()?)
        }
        name => levels.change(&[(name, level(value)?)]),
    }
}

fn level(word: &str) -> Result<Level, &'static str> {
    Level::from_word(word).ok_or("error: unknown logger level\n")
}

fn list(levels: &Levels) -> String {
    let mut page = "active loggers:\n".to_owned();
    for (name, level) in levels.lock().iter() {
        // Writing into a String cannot fail.
        let _ = writeln!(page, "  {name}: {}", level.word());
    }
    page.push('\n');
    page
}

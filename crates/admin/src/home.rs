//! The home page: every endpoint as a link or a form, so that a person can reach all of them with a mouse.

use crate::endpoint::{Endpoint, Param, ParamKind};
use crate::html::escape;
use crate::reply::{HTML, Reply};

const STYLE: &str = "body { font-family: sans-serif; margin: 1em; } \
    table { border-collapse: collapse; } td { padding: 4px; text-align: left; vertical-align: top; } \
    tr.gray { background-color: #dddddd; } td.option { padding-left: 20px; text-align: right; } \
    form { margin: 0; } button.link { background: none; border: none; padding: 0; color: #069; \
    font-size: medium; text-decoration: underline; cursor: pointer; }";

/// The page of these endpoints.
pub(crate) fn page(endpoints: &[Endpoint]) -> Reply {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n  <title>redplane admin</title>\n  <style>{STYLE}</style>\n\
         </head>\n<body>\n  <table class='home-table'>\n    <thead>\n      <tr>\n        <th>Command</th>\n        \
         <th>Description</th>\n      </tr>\n    </thead>\n    <tbody>\n"
    );
    let shown = endpoints.iter().filter(|endpoint| endpoint.path != "/");
    for (at, endpoint) in shown.enumerate() {
        write_endpoint(
            &mut page,
            endpoint,
            if at % 2 == 1 { " class='gray'" } else { "" },
        );
    }
    page.push_str("    </tbody>\n  </table>\n</body>\n</html>\n");
    Reply::new(HTML, page)
}

fn write_endpoint(page: &mut String, endpoint: &Endpoint, class: &str) {
    // Without the slash: the page also works behind a proxy that puts it under a path.
    let path = endpoint.path.trim_start_matches('/');
    let command = if endpoint.mutates {
        format!("<form action='{path}' method='post' id='{path}'><button>{path}</button></form>")
    } else if endpoint.params.is_empty() {
        format!("<a href='{path}'>{path}</a>")
    } else {
        format!("<form action='{path}' method='get' id='{path}'><button class='link'>{path}</button></form>")
    };
    let help = escape(endpoint.help);
    page.push_str(&format!("<tr{class}><td>{command}</td><td>{help}</td></tr>\n"));
    for param in endpoint.params {
        let (input, help) = (input(path, param), escape(param.help));
        page.push_str(&format!(
            "<tr{class}><td class='option'>{input}</td><td><label for='{path}-{}'>{help}</label></td></tr>\n",
            param.name
        ));
    }
}

fn input(path: &str, param: &Param) -> String {
    let name = param.name;
    let attributes = format!("name='{name}' id='{path}-{name}' form='{path}'");
    match param.kind {
        ParamKind::Flag => format!("<input type='checkbox' {attributes}>"),
        ParamKind::Text => format!("<input type='text' {attributes}>"),
        ParamKind::OneOf(words) => {
            let options: String = words
                .iter()
                .map(|word| format!("<option value='{word}'>{word}</option>"))
                .collect();
            format!("<select {attributes}>{options}</select>")
        }
    }
}

//! Format strings: text with operators between percent signs, or a JSON shape whose strings are such texts.
//!
//! Envoy: `substitution_format_string`. In JSON a string that is one operator alone keeps its type (numbers stay
//! numbers, nothing becomes null); in text nothing prints as `-`, or as the empty string with `omit_empty_values`.

use serde_json::{Map, Value};

use super::operator::Operator;
use super::record::Record;

/// Envoy's default text format for HTTP and TCP.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Deeper JSON shapes are refused.
const MAX_DEPTH: usize = 32;

/// A format that was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadFormat {
    /// A percent sign without its partner, or no operator behind it.
    #[error("no operator at position {0}")]
    NoOperator(usize),
    /// The length behind the colon is no number.
    #[error("length of operator {0} is not a number")]
    Length(String),
    /// A JSON shape that is nested too deeply.
    #[error("nested more than 32 levels deep")]
    Depth,
}

/// A parsed format.
#[derive(Clone, Debug)]
pub struct Format {
    shape: Shape,
    omit_empty: bool,
}

#[derive(Clone, Debug)]
enum Shape {
    Text(Vec<Piece>),
    Json(Json),
}

#[derive(Clone, Debug)]
enum Json {
    Text(Vec<Piece>),
    Object(Vec<(String, Self)>),
    List(Vec<Self>),
    Fixed(Value),
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Operator {
        operator: Operator,
        length: Option<usize>,
    },
}

impl Default for Format {
    fn default() -> Self {
        // The default is correct; a test holds that.
        Self::text(DEFAULT).unwrap_or(Self {
            shape: Shape::Text(Vec::new()),
            omit_empty: false,
        })
    }
}

impl Format {
    /// A text format. It brings its own newline, as in Envoy.
    ///
    /// # Errors
    /// When a percent sign does not belong to an operator.
    pub fn text(format: &str) -> Result<Self, BadFormat> {
        Ok(Self {
            shape: Shape::Text(pieces(format)?),
            omit_empty: false,
        })
    }

    /// A JSON format; each line ends with a newline.
    ///
    /// # Errors
    /// When one of the strings is no format, or the nesting is too deep.
    pub fn json(shape: &Value) -> Result<Self, BadFormat> {
        Ok(Self {
            shape: Shape::Json(Json::parse(shape, 0)?),
            omit_empty: false,
        })
    }

    /// `omit_empty_values`: nothing prints as the empty string, and a JSON member without value is left out.
    #[must_use]
    pub fn omit_empty(self, omit_empty: bool) -> Self {
        Self { omit_empty, ..self }
    }

    /// Appends the line of a record.
    pub fn render(&self, record: &Record<'_>, line: &mut String) {
        match &self.shape {
            Shape::Text(pieces) => self.render_text(pieces, record, line),
            Shape::Json(json) => {
                let value = self.render_json(json, record).unwrap_or(Value::Null);
                line.push_str(&value.to_string());
                line.push('\n');
            }
        }
    }

    fn render_text(&self, pieces: &[Piece], record: &Record<'_>, line: &mut String) {
        for piece in pieces {
            match piece {
                Piece::Literal(text) => line.push_str(text),
                Piece::Operator { operator, length } => match operator.value(record) {
                    Value::Null if self.omit_empty => {}
                    Value::Null => line.push('-'),
                    Value::String(text) => line.push_str(truncate(&text, *length)),
                    value => line.push_str(truncate(&value.to_string(), *length)),
                },
            }
        }
    }

    /// `None` for what `omit_empty_values` leaves out.
    fn render_json(&self, json: &Json, record: &Record<'_>) -> Option<Value> {
        match json {
            Json::Fixed(value) => Some(value.clone()),
            Json::Text(pieces) => match pieces.as_slice() {
                [Piece::Operator { operator, length }] => match operator.value(record) {
                    Value::Null if self.omit_empty => None,
                    Value::String(text) => Some(Value::from(truncate(&text, *length))),
                    value => Some(value),
                },
                pieces => {
                    let mut text = String::new();
                    self.render_text(pieces, record, &mut text);
                    Some(Value::from(text))
                }
            },
            Json::List(list) => Some(Value::Array(
                list.iter()
                    .filter_map(|json| self.render_json(json, record))
                    .collect(),
            )),
            Json::Object(members) => {
                let rendered = members
                    .iter()
                    .filter_map(|(name, json)| Some((name.clone(), self.render_json(json, record)?)));
                Some(Value::Object(rendered.collect::<Map<_, _>>()))
            }
        }
    }
}

impl Json {
    fn parse(value: &Value, depth: usize) -> Result<Self, BadFormat> {
        if depth > MAX_DEPTH {
            return Err(BadFormat::Depth);
        }
        Ok(match value {
            Value::String(text) => Self::Text(pieces(text)?),
            Value::Array(list) => Self::List(
                list.iter()
                    .map(|item| Self::parse(item, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(members) => {
                let member =
                    |(name, value): (&String, &Value)| Ok((name.clone(), Self::parse(value, depth + 1)?));
                Self::Object(members.iter().map(member).collect::<Result<_, _>>()?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Fixed(value.clone()),
        })
    }
}

/// Splits a text at its operators: `%NAME%`, `%NAME(argument)%`, `%NAME(argument):length%`, and `%%` for a percent sign.
fn pieces(format: &str) -> Result<Vec<Piece>, BadFormat> {
    let mut pieces = Vec::new();
    let (mut literal, mut rest) = (String::new(), format);
    while let Some(percent) = rest.find('%') {
        literal.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        let (piece, after) = operator(rest).ok_or(BadFormat::NoOperator(format.len() - rest.len() - 1))?;
        pieces.push(piece?);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// The operator at the beginning of a text and what follows it; `None` when there is none.
fn operator(text: &str) -> Option<(Result<Piece, BadFormat>, &str)> {
    let end = text
        .find(|char: char| !(char.is_ascii_alphanumeric() || char == '_'))
        .filter(|end| *end > 0)?;
    let (name, mut rest) = text.split_at(end);
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        // A time format has percent signs of its own, so the parenthesis ends the argument.
        let (found, after) = inside.split_once(')')?;
        (argument, rest) = (Some(found), after);
    }
    let (length, rest) = rest.split_once('%')?;
    let piece = match length.strip_prefix(':') {
        None if length.is_empty() => Ok(None),
        Some(length) => length
            .parse()
            .map(Some)
            .map_err(|_| BadFormat::Length(name.to_owned())),
        None => return None,
    };
    Some((
        piece.map(|length| Piece::Operator {
            operator: Operator::parse(name, argument),
            length,
        }),
        rest,
    ))
}

/// At most `length` bytes, cut at a character.
fn truncate(text: &str, length: Option<usize>) -> &str {
    let mut end = length.unwrap_or(text.len()).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

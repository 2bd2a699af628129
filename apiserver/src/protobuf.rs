//! Bodies in the protobuf encoding of Kubernetes, which typed commands of kubectl send (`kubectl create namespace`).
//!
//! Only what those commands write is known here. A field that is set and not known refuses the body; nothing is
//! dropped in silence. Source: the protobuf encoding and the `generated.proto` field numbers of Kubernetes 1.33.

mod messages;

use base64::Engine as _;
use serde_json::{Map, Value, json};

/// The start of every such body.
const MAGIC: &[u8] = b"k8s\0";
const DEPTH_MAX: usize = 32;

/// What a field holds. Plain values are left out when they are zero, optional ones are told as they are.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    OptionalNumber,
    OptionalBool,
    Time,
    IntOrString,
    Message(Message),
    Texts,
    Messages(Message),
    TextMap,
    BytesMap,
    QuantityMap,
    /// Not taken from clients.
    Ignored,
}

/// Number, name in JSON and kind of each field.
type Message = &'static [(u64, &'static str, Kind)];

/// A value on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Is this body in that encoding?
pub(crate) fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// The object in a body.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope = body
        .strip_prefix(MAGIC)
        .ok_or("it does not start as Kubernetes' protobuf does")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for (number, wire) in fields(envelope)? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                for (number, wire) in fields(meta)? {
                    match (number, wire) {
                        (1, Wire::Bytes(text)) => api_version = self::text(text)?,
                        (2, Wire::Bytes(text)) => kind = self::text(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(known) = messages::of(&api_version, &kind) else {
        return Err(format!("protobuf of {kind} in {api_version} is not known here"));
    };
    let mut object = message(raw, known, &kind, 0)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

fn varint(rest: &[u8]) -> Result<(u64, &[u8]), String> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f)
            .checked_shl(7 * u32::try_from(index).unwrap_or(0))
            .unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value, rest.get(index + 1..).unwrap_or_default()));
        }
    }
    Err("a number does not end".to_owned())
}

fn fields(mut rest: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, String> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (tag, tail) = varint(rest)?;
        let (wire, tail) = match tag & 7 {
            0 => {
                let (number, tail) = varint(tail)?;
                (Wire::Number(number), tail)
            }
            2 => {
                let (length, tail) = varint(tail)?;
                let length = usize::try_from(length).map_err(|_| "a length is too large")?;
                let (bytes, tail) = tail.split_at_checked(length).ok_or("a field is cut off")?;
                (Wire::Bytes(bytes), tail)
            }
            other => return Err(format!("wire type {other} is not used by Kubernetes")),
        };
        found.push((tag >> 3, wire));
        rest = tail;
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
}

/// Nothing but zeros and empty values, which Go writes for fields that are not set.
fn is_blank(bytes: &[u8], depth: usize) -> bool {
    bytes.is_empty()
        || depth < DEPTH_MAX
            && fields(bytes).is_ok_and(|fields| {
                fields.iter().all(|(_, wire)| match wire {
                    Wire::Number(number) => *number == 0,
                    Wire::Bytes(bytes) => is_blank(bytes, depth + 1),
                })
            })
}

fn message(bytes: &[u8], known: Message, path: &str, depth: usize) -> Result<Map<String, Value>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("{path} is nested too deeply"));
    }
    let mut object = Map::new();
    for (number, wire) in fields(bytes)? {
        match known.iter().find(|(known, _, _)| *known == number) {
            Some((_, name, kind)) => field(&mut object, name, *kind, &wire, path, depth)?,
            None => {
                let blank = match wire {
                    Wire::Number(number) => number == 0,
                    Wire::Bytes(bytes) => is_blank(bytes, depth),
                };
                if !blank {
                    return Err(format!("field {number} of {path} in protobuf is not known here"));
                }
            }
        }
    }
    Ok(object)
}

fn field(
    object: &mut Map<String, Value>,
    name: &str,
    kind: Kind,
    wire: &Wire<'_>,
    path: &str,
    depth: usize,
) -> Result<(), String> {
    let below = || format!("{path}.{name}");
    let value = match (kind, wire) {
        (Kind::Ignored, _) => return Ok(()),
        (Kind::Text, Wire::Bytes([])) => return Ok(()),
        (Kind::Text, Wire::Bytes(bytes)) => text(bytes)?.into(),
        (Kind::Number, Wire::Number(0)) => return Ok(()),
        (Kind::Number | Kind::OptionalNumber, Wire::Number(number)) => number.cast_signed().into(),
        (Kind::OptionalBool, Wire::Number(number)) => (*number != 0).into(),
        (Kind::Time, Wire::Bytes(bytes)) => time(bytes)?,
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Kind::Message(known), Wire::Bytes(bytes)) => {
            let inner = message(bytes, known, &below(), depth + 1)?;
            // Go writes messages that are not set.
            if inner.is_empty() && name != "metadata" {
                return Ok(());
            }
            inner.into()
        }
        (Kind::Texts, Wire::Bytes(bytes)) => return push(object, name, text(bytes)?.into()),
        (Kind::Messages(known), Wire::Bytes(bytes)) => {
            let inner = message(bytes, known, &below(), depth + 1)?;
            return push(object, name, inner.into());
        }
        (Kind::TextMap | Kind::BytesMap | Kind::QuantityMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes, kind)?;
            let slot = object.entry(name).or_insert_with(|| json!({}));
            if let Some(map) = slot.as_object_mut() {
                map.insert(key, value);
            }
            return Ok(());
        }
        _ => {
            return Err(format!(
                "{} has another type in protobuf than it should have",
                below()
            ));
        }
    };
    if !value.is_null() {
        object.insert(name.to_owned(), value);
    }
    Ok(())
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), String> {
    let slot = object.entry(name).or_insert_with(|| json!([]));
    slot.as_array_mut().ok_or("a list is not one")?.push(value);
    Ok(())
}

fn entry(bytes: &[u8], kind: Kind) -> Result<(String, Value), String> {
    let (mut key, mut value) = (String::new(), &[][..]);
    for (number, wire) in fields(bytes)? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    let value = match kind {
        Kind::BytesMap => base64::engine::general_purpose::STANDARD.encode(value),
        // An amount is a message with its text.
        Kind::QuantityMap => match fields(value)?.into_iter().find(|(number, _)| *number == 1) {
            Some((_, Wire::Bytes(inner))) => text(inner)?,
            _ => String::new(),
        },
        _ => text(value)?,
    };
    Ok((key, value.into()))
}

fn time(bytes: &[u8]) -> Result<Value, String> {
    for (number, wire) in fields(bytes)? {
        if let (1, Wire::Number(seconds)) = (number, wire) {
            let time = jiff::Timestamp::from_second(seconds.cast_signed());
            return Ok(time.map_or(Value::Null, |time| time.to_string().into()));
        }
    }
    Ok(Value::Null)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for (field, wire) in fields(bytes)? {
        match (field, wire) {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => string = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut all = vec![number << 3 | 2, u8::try_from(inner.len()).unwrap()];
        all.extend_from_slice(inner);
        all
    }

    fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    #[test]
    fn known_fields_are_read_and_unknown_ones_refused() {
        let label = bytes(11, &[bytes(1, b"a"), bytes(2, b"b")].concat());
        // An empty prefix of the name, and no time: as Go writes what is not set.
        let meta = bytes(1, &[bytes(1, b"x"), bytes(2, b""), bytes(8, b""), label].concat());
        let data = bytes(2, &[bytes(1, b"k"), bytes(2, b"v")].concat());
        assert_eq!(
            decode(&body("Secret", &[meta.clone(), data].concat())).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "labels": {"a": "b"}}, "data": {"k": "dg=="}})
        );
        let unknown = decode(&body("Namespace", &[meta, bytes(9, b"zz")].concat())).unwrap_err();
        assert_eq!(unknown, "field 9 of Namespace in protobuf is not known here");
        assert!(decode(&body("Odd", b"")).unwrap_err().contains("Odd"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&body("Service", &raw));
            let _ = decode(&[MAGIC, &raw].concat());
        }
    }
}

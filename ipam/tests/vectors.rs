//! Recorded behaviour of Calico's blocks, names and handles: `tests/vectors` of the repository, or the folder that
//! `CARACAL_VECTORS` names.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::collections::BTreeMap;

use caracal_api::names::{affinity_name, block_name, handle_id, handle_name};
use caracal_api::v3::AllocationAttribute;
use caracal_ipam::{Assignment, Block, Owner, Release};
use jiff::Timestamp;
use serde_json::{Value, json};

#[path = "../../tests/vectors/reader.rs"]
mod reader;

fn check(family: &str, run: impl Fn(&Value) -> Value) {
    for reader::Case { place, value } in reader::cases(family) {
        assert_eq!(value["out"], run(&value["in"]), "{place}: {}", value["in"]);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn state(block: &Block) -> Value {
    let spec = block.spec();
    let allocations: serde_json::Map<String, Value> = spec
        .allocations
        .iter()
        .enumerate()
        .filter_map(|(ordinal, index)| index.map(|index| (ordinal.to_string(), json!(index))))
        .collect();
    let attributes = if spec.attributes.is_empty() {
        Value::Null
    } else {
        json!(spec.attributes)
    };
    json!({
        "allocations": allocations, "attributes": attributes,
        "free": block.free(), "unallocated": spec.unallocated,
    })
}

fn step(block: &mut Block, op: &Value) -> Value {
    let now = Timestamp::now();
    let owner = Owner::host(text(&op["host"]));
    let attributes: BTreeMap<String, String> =
        serde_json::from_value(op["attrs"].clone()).unwrap_or_default();
    let want = Assignment {
        owner: &owner,
        handle: op["handle"].as_str(),
        attributes: &attributes,
        strict: op["strict"].as_bool().unwrap_or_default(),
    };
    let mut out = json!({});
    match text(&op["op"]) {
        "auto" => {
            let count = usize::try_from(op["num"].as_u64().unwrap()).unwrap();
            match block.auto_assign(count, &want, &[]) {
                Ok(ips) if ips.is_empty() => {}
                Ok(ips) => out["ips"] = json!(ips),
                Err(_) => out["error"] = json!(true),
            }
        }
        "assign" => {
            if block
                .assign(text(&op["address"]).parse().unwrap(), &want)
                .is_err()
            {
                out["error"] = json!(true);
            }
        }
        "release" => {
            let release = Release {
                address: text(&op["address"]).parse().unwrap(),
                handle: op["handle"].as_str().map(ToOwned::to_owned),
                sequence_number: None,
            };
            match block.release(&[release], now) {
                Ok((_, free)) if free.is_empty() => out["released"] = json!(1),
                Ok((_, free)) => out["notAllocated"] = json!(free),
                Err(_) => out["error"] = json!(true),
            }
        }
        "releaseByHandle" => {
            let count = block.release_by_handle(text(&op["handle"]), now);
            if count > 0 {
                out["released"] = json!(count);
            }
        }
        other => panic!("unknown operation {other}"),
    }
    block.collect(0, now);
    out["state"] = state(block);
    out
}

#[test]
fn vectors_of_blocks() {
    check("ipamblock", |input| {
        let owner = Owner(text(&input["affinity"]).to_owned());
        let cidr = text(&input["cidr"]).parse().unwrap();
        let mut block = Block::new(cidr, Some(&owner), Timestamp::now()).unwrap();
        if input["reserve_ends"] == true {
            // A new block of a Windows node: the ends are assigned before anything else.
            let mut spec = block.into_spec();
            let last = i32::try_from(spec.allocations.len() - 1).unwrap();
            spec.attributes.push(AllocationAttribute {
                handle_id: Some("reserved".to_owned()),
                secondary: [("note".to_owned(), "n".to_owned())].into(),
                ..AllocationAttribute::default()
            });
            *spec.allocations.first_mut().unwrap() = Some(0);
            *spec.allocations.last_mut().unwrap() = Some(0);
            spec.unallocated.retain(|free| *free != 0 && *free != last);
            block = Block::from_spec(spec).unwrap();
        }
        let initial = state(&block);
        let steps: Vec<Value> = input["ops"]
            .as_array()
            .unwrap()
            .iter()
            .map(|op| step(&mut block, op))
            .collect();
        // What is left can be stored and read again.
        assert_eq!(Block::from_spec(block.spec().clone()).unwrap(), block);
        json!({"initial": initial, "steps": steps})
    });
}

#[test]
fn vectors_of_names() {
    check("ipamnames", |input| {
        let cidr = text(&input["cidr"]).parse().unwrap();
        json!({"block": block_name(&cidr), "affinity": affinity_name(text(&input["host"]), &cidr)})
    });
}

#[test]
fn vectors_of_handles() {
    check("handle", |input| {
        let id = handle_id(text(&input["network"]), text(&input["containerID"]));
        json!({"handleID": id, "name": handle_name(&id)})
    });
}

//! `openapi.json`, held against the code.

use std::collections::BTreeSet;

use serde_json::Value;

use super::site::Site;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.json");

fn document() -> Value {
    serde_json::to_value(consumer::api::document()).unwrap()
}

#[test]
fn the_file_is_what_the_code_says() {
    let file: Value = serde_json::from_slice(&std::fs::read(FILE).unwrap()).unwrap();
    let hint = "the API has changed: run `cargo run -p consumer -- openapi >openapi.json` and look at the difference";
    assert!(file == document(), "{hint}");
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let site = Site::start().await;
    let answer = super::site::Answer::of(site.request(reqwest::Method::GET, "/openapi.json")).await;
    assert_eq!((answer.status, answer.json()), (200, document()));
}

/// All references in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn it_is_a_whole_document_of_openapi_3_1() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 15);
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
}

fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(|(method, operation)| (format!("{method} {path}"), operation.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn every_operation_says_what_it_needs_and_how_it_refuses() {
    let operations = operations(&document());
    assert_eq!(operations.len(), 12, "{:?}", operations.iter().map(|(name, _)| name).collect::<Vec<_>>());
    let mut ids = BTreeSet::new();
    for (name, operation) in operations {
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        let scopes = operation["security"][0]["bearer"].as_array().unwrap();
        assert_eq!(scopes.len(), 1, "{name}");
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "401", "403", "429", "503"] {
            assert!(responses.contains_key(status), "{name}: {status}");
        }
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {status}");
            let is_problem = response["content"].get("application/problem+json").is_some();
            assert_eq!(is_problem, status.as_str() >= "400", "{name}: {status}");
        }
    }
}

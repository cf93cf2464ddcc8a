//! The OpenAPI document against the routes: those in the sources, and those that answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::server::start;

/// Where routes of the HTTP port are declared, and the one that is declared by a constant.
const SOURCES: [&str; 2] = ["src/web.rs", "query/src/http.rs"];
const REMOTE_WRITE: &str = "/api/v1/write";

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Paths with the methods of their handlers, as the sources declare them.
fn declared() -> BTreeMap<String, BTreeSet<String>> {
    assert!(source("ingest/src/remote_write.rs").contains(&format!("\"{REMOTE_WRITE}\"")));
    let mut routes = BTreeMap::from([(REMOTE_WRITE.to_owned(), BTreeSet::from(["post".to_owned()]))]);
    for path in SOURCES {
        for declaration in source(path).split(".route(\"").skip(1) {
            let (route, handlers) = declaration.split_once('"').unwrap();
            let handlers = handlers.lines().next().unwrap();
            let methods = ["get", "post", "delete", "put"].into_iter().filter(|method| {
                handlers.contains(&format!(", {method}(")) || handlers.contains(&format!(").{method}("))
            });
            routes.insert(route.to_owned(), methods.map(str::to_owned).collect());
        }
    }
    routes
}

/// The same of the document.
fn documented(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().cloned().collect())).collect()
}

/// Every `$ref` below `value`.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str() {
                    Some(reference) if key == "$ref" => found.push(reference),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_every_route_and_every_route_of_it_answers() {
    let (_dir, server) = start();
    let (status, text) = server.get("/api/v1/openapi.json").await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(documented(&document), declared());
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    let client = reqwest::Client::new();
    for (path, methods) in documented(&document) {
        for method in methods {
            let url = format!("http://{}{}", server.http, path.replace("{id}", "1"));
            let request = client.request(method.to_uppercase().parse().unwrap(), url);
            let response = request.send().await.unwrap();
            let (status, body) = (response.status().as_u16(), response.text().await.unwrap());
            // Nothing of this id is not the same as no such route, which answers without a word.
            assert!(status != 405 && (status != 404 || body.contains("error")), "{method} {path}: {status} {body}");
            let operation = &document["paths"][&path][&method];
            let listed = operation["responses"].as_object().unwrap();
            assert!(listed.contains_key(&status.to_string()), "{method} {path}: {status} {body}");
        }
    }
}

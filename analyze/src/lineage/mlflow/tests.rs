use super::*;

/// A registry that answers as MLflow's tracking server does, with pages of a size of its own.
struct FakeRegistry {
    models: Vec<serde_json::Value>,
    versions: Vec<serde_json::Value>,
    page_rows: usize,
    asked: Vec<Request>,
}

impl FakeRegistry {
    fn new(page_rows: usize) -> Self {
        Self { models: Vec::new(), versions: Vec::new(), page_rows, asked: Vec::new() }
    }

    fn add_model(&mut self, name: &str, aliases: &[(&str, &str)]) {
        let aliases: Vec<_> =
            aliases.iter().map(|(alias, version)| serde_json::json!({"alias": alias, "version": version})).collect();
        self.models.retain(|model| model["name"] != name);
        self.models.push(serde_json::json!({"name": name, "creation_timestamp": 1, "aliases": aliases}));
    }

    fn add_version(&mut self, name: &str, version: usize, time_ms: usize) {
        self.versions.push(serde_json::json!({
            "name": name, "version": version.to_string(), "creation_timestamp": time_ms,
            "last_updated_timestamp": time_ms, "current_stage": "None", "source": "s3://models/x",
            "run_id": "0a1b", "status": "READY", "tags": [{"key": "team", "value": "vision"}],
        }));
        self.versions.sort_by_key(|row| std::cmp::Reverse(row["last_updated_timestamp"].as_u64()));
    }

    fn answer(&mut self, request: &Request) -> (u16, Vec<u8>) {
        self.asked.push(request.clone());
        let value = |key: &str| request.query.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
        let (rows, key) = match request.path {
            "/api/2.0/mlflow/registered-models/search" => (&self.models, "registered_models"),
            "/api/2.0/mlflow/model-versions/search" => (&self.versions, "model_versions"),
            "/api/2.0/mlflow/registered-models/alias" => {
                let (name, alias) = (value("name").unwrap(), value("alias").unwrap());
                let found = self.models.iter().find(|model| model["name"] == name.as_str()).and_then(|model| {
                    let aliases = model["aliases"].as_array().unwrap();
                    let version = aliases.iter().find(|one| one["alias"] == alias.as_str())?["version"].clone();
                    self.versions.iter().find(|row| row["name"] == name.as_str() && row["version"] == version)
                });
                return match found {
                    Some(version) => (200, serde_json::json!({"model_version": version}).to_string().into_bytes()),
                    None => (400, format!(r#"{{"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias {alias} not found."}}"#).into_bytes()),
                };
            }
            other => panic!("unexpected path {other}"),
        };
        let from: usize = value("page_token").map_or(0, |token| token.parse().unwrap());
        let page: Vec<_> = rows.iter().skip(from).take(self.page_rows).collect();
        let mut answer = serde_json::json!({key: page});
        if from + self.page_rows < rows.len() {
            answer["next_page_token"] = (from + self.page_rows).to_string().into();
        }
        (200, answer.to_string().into_bytes())
    }

    fn poll(&mut self, previous: Option<&Snapshot>, options: PollOptions, now_us: i64) -> Snapshot {
        let mut poll = Poll::start(previous, options, now_us);
        while let Some(request) = poll.request() {
            let (status, body) = self.answer(&request);
            poll.accept(status, &body).unwrap();
        }
        poll.finish(now_us).unwrap()
    }
}

#[test]
fn a_registry_of_several_pages_of_1_000_versions_is_read_whole_and_then_by_its_changes() {
    let mut registry = FakeRegistry::new(1_000);
    registry.add_model("resnet", &[("champion", "2499")]);
    (1..=2_500).for_each(|version| registry.add_version("resnet", version, 1_000 + version));
    let first = registry.poll(None, PollOptions::default(), 10_000_000);
    assert_eq!((first.versions.len(), registry.asked.len()), (2_500, 4));
    assert_eq!(changes(None, &first).len(), 2_501);

    registry.asked.clear();
    registry.add_version("resnet", 2_501, 9_000);
    registry.add_model("resnet", &[("champion", "2501")]);
    let options = PollOptions { full: false, ..PollOptions::default() };
    let second = registry.poll(Some(&first), options, 20_000_000);
    assert_eq!((second.versions.len(), registry.asked.len()), (2_501, 2));
    let found = changes(Some(&first), &second);
    assert!(matches!(&found[0], Change::VersionAdded(version) if version.version == "2501"), "{found:?}");
    // The poll before bounds the move to 10 s, but version 2501 was registered at 9 s: the poll is later.
    let expected = Change::AliasMoved {
        model: "resnet".to_owned(),
        alias: "champion".to_owned(),
        from: Some("2499".to_owned()),
        to: Some("2501".to_owned()),
        not_before_us: 10_000_000,
        seen_us: 20_000_000,
    };
    assert_eq!(found[1..], [expected]);
}

#[test]
fn nothing_changed_gives_no_changes_and_deletions_are_noticed() {
    let mut registry = FakeRegistry::new(2);
    registry.add_model("resnet", &[("champion", "2")]);
    registry.add_model("bert", &[]);
    (1..=3).for_each(|version| registry.add_version("resnet", version, version));
    registry.add_version("bert", 1, 2);
    let first = registry.poll(None, PollOptions::default(), 10_000);
    let same = registry.poll(Some(&first), PollOptions { full: false, ..PollOptions::default() }, 20_000);
    assert_eq!(changes(Some(&first), &same), []);

    registry.models.retain(|model| model["name"] == "resnet");
    registry.versions.retain(|row| row["name"] == "resnet" && row["version"] != "1");
    let full = registry.poll(Some(&same), PollOptions::default(), 30_000);
    let removed = |model: &str, version: &str| Change::VersionRemoved { model: model.into(), version: version.into() };
    assert_eq!(changes(Some(&same), &full), [removed("bert", "1"), removed("resnet", "1")]);
}

#[test]
fn tags_and_removed_aliases_are_changes() {
    let mut registry = FakeRegistry::new(10);
    registry.add_model("resnet", &[("champion", "1")]);
    registry.add_version("resnet", 1, 1);
    let first = registry.poll(None, PollOptions::default(), 10_000);
    registry.add_model("resnet", &[]);
    registry.models[0]["tags"] = serde_json::json!([{"key": "tier", "value": "gold"}]);
    registry.versions[0]["tags"] = serde_json::json!([{"key": "team", "value": "speech"}]);
    let second = registry.poll(Some(&first), PollOptions::default(), 20_000);
    let found = changes(Some(&first), &second);
    assert!(matches!(&found[0], Change::VersionUpdated(version) if version.tags["team"] == "speech"), "{found:?}");
    assert!(matches!(&found[1], Change::ModelTagsChanged { tags, .. } if tags["tier"] == "gold"), "{found:?}");
    assert!(matches!(&found[2], Change::AliasMoved { to: None, from: Some(_), .. }), "{found:?}");
    assert_eq!(found.len(), 3);
}

#[test]
fn aliases_that_search_leaves_out_are_asked_one_by_one() {
    let mut registry = FakeRegistry::new(10);
    registry.add_model("resnet", &[("champion", "1")]);
    registry.add_version("resnet", 1, 1);
    let asked = ["champion", "gone"].map(|alias| ("resnet".to_owned(), alias.to_owned())).to_vec();
    let options = PollOptions { aliases_asked: asked, ..PollOptions::default() };
    let snapshot = registry.poll(None, options, 10_000);
    assert_eq!(snapshot.models["resnet"].aliases.len(), 1);
    assert_eq!(registry.asked.len(), 4);
}

#[test]
fn a_poll_that_would_not_end_does() {
    let mut poll = Poll::start(None, PollOptions::default(), 1);
    let page = br#"{"registered_models": [], "next_page_token": "again"}"#;
    poll.accept(200, page).unwrap();
    assert!(matches!(poll.accept(200, page), Err(PollError::TokenRepeats { pages: 2, .. })));

    let mut poll = Poll::start(None, PollOptions { pages_max: 1, ..PollOptions::default() }, 1);
    assert!(matches!(poll.accept(200, page), Err(PollError::TooManyPages { pages_max: 1, .. })));
    assert!(poll.finish(1).is_err());
}

#[test]
fn a_registry_that_is_down_or_is_none_says_what_to_do() {
    for (status, body, remedy, expected) in [
        (503, "upstream down", Remedy::Retry, "not available (status 503): upstream down"),
        (429, r#"{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow"}"#, Remedy::Retry, "slow"),
        (401, "You are not authenticated", Remedy::Fix, "check the token"),
        (404, "<html>", Remedy::Fix, "the address ends before /api"),
        (404, r#"{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}"#, Remedy::Absent, "no run"),
        (400, r#"{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad order_by"}"#, Remedy::Fix, "bad order_by"),
        (200, "<html>login</html>", Remedy::Fix, "login page"),
        (200, r#"{"run": {"info": {}}}"#, Remedy::Fix, "run_id"),
    ] {
        let error = read_run(status, body.as_bytes()).unwrap_err();
        assert_eq!(error.remedy(), remedy, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_run_tells_code_parameters_metrics_and_data() {
    let body = br#"{"run": {"info": {"run_id": "0a1b", "experiment_id": "0", "status": "FINISHED",
        "start_time": 1722500000000, "end_time": "1722500600000", "lifecycle_stage": "active"},
        "data": {"metrics": [{"key": "loss", "value": "NaN", "timestamp": 1, "step": 0},
                             {"key": "accuracy", "value": 0.913, "timestamp": 1, "step": 0},
                             {"key": "epochs", "value": 3}],
                 "params": [{"key": "lr", "value": "0.01"}],
                 "tags": [{"key": "mlflow.source.git.commit", "value": "c0ffee"}]},
        "inputs": {"dataset_inputs": [{"tags": [{"key": "mlflow.data.context", "value": "training"}],
                   "dataset": {"name": "imagenet", "digest": "d1", "source_type": "local", "source": "{}"}}]}}}"#;
    let run = read_run(200, body).unwrap();
    assert_eq!((run.start_time, run.end_time), (Some(1_722_500_000_000), Some(1_722_500_600_000)));
    assert_eq!((run.commit(), run.params["lr"].as_str()), (Some("c0ffee"), "0.01"));
    assert!(run.metrics["loss"].is_nan());
    assert_eq!((run.metrics["accuracy"], run.metrics["epochs"]), (0.913, 3.0));
    assert_eq!((run.datasets[0].digest.as_str(), run.datasets[0].context.as_deref()), ("d1", Some("training")));
}

#[test]
fn the_token_appears_in_the_header_only() {
    let token = Token::new(" s3cret\n").unwrap();
    assert_eq!(token.authorization(), "Bearer s3cret");
    assert!(!format!("{token:?}").contains("s3cret"));
    assert_eq!(Token::new(" \n"), Err(TokenError::Empty));
    assert_eq!(Token::new("a\nb"), Err(TokenError::Character { at: 1 }));
}

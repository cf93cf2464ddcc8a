//! Documents in the shape that the tools write.

use super::*;
use crate::gates::limit::{Condition, Limit, Unit};
use crate::gates::rule::{Interval, LogicalType, RuleKind, Severity};

const SUITE: &str = r#"{
  "name": "orders", "id": "b6a6d6a6-0000-4000-8000-000000000000", "meta": {"great_expectations_version": "1.3.0"},
  "expectations": [
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id", "mostly": 0.95}, "meta": {}, "severity": "warning"},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "unit", "value_set": ["kg", "lb"]}, "meta": {}},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "iban", "regex": "^[A-Z]{2}"}, "meta": {}},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "iban", "regex": "(?!x)"}, "meta": {}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "price", "min_value": 0, "max_value": 10, "strict_min": true}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "day", "min_value": "2020-01-01"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id", "mostly": 0.9}},
    {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "b"]}},
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 10000, "max_value": null}},
    {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "price", "type_": "float64"}},
    {"type": "expect_column_proportion_of_unique_values_to_be_between", "kwargs": {"column": "id", "min_value": 0.9}},
    {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["id", "unit"], "exact_match": false}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id", "row_condition": "x > 1"}},
    {"type": "expect_column_kl_divergence_to_be_less_than", "kwargs": {"column": "id", "threshold": 0.1}}
  ]}"#;

fn kinds(import: &Import) -> Vec<(&str, &str)> {
    import.tables[0].rules.iter().map(|rule| (rule.column.as_deref().unwrap_or("-"), rule.kind.name())).collect()
}

#[test]
fn great_expectations_suites_map_and_list_the_rest() {
    let import = Import::from_great_expectations("suite.json", SUITE).unwrap();
    let wanted = [
        ("id", "missingValues"),
        ("unit", "allowedSet"),
        ("iban", "pattern"),
        ("price", "range"),
        ("id", "duplicateValues"),
        ("-", "duplicateValues"),
        ("-", "rowCount"),
        ("price", "type"),
        ("id", "uniqueness"),
        ("-", "schema"),
    ];
    assert_eq!(kinds(&import), wanted);
    let rules = &import.tables[0].rules;
    assert_eq!(import.tables[0].name, "orders");
    assert_eq!(rules[0].kind, RuleKind::Missing { tokens: Vec::new(), limit: Limit::percent_max(5.0) });
    assert_eq!((rules[0].severity, rules[1].severity), (Severity::Warn, Severity::Fail));
    let interval = Interval { min: Some(0.0), max: Some(10.0), min_exclusive: true, max_exclusive: false };
    assert_eq!(rules[3].kind, RuleKind::Range { interval, limit: Limit::none() });
    let at_least = Limit::new(Condition::GreaterOrEqual(90.0), Unit::Percent);
    assert_eq!(rules[8].kind, RuleKind::Uniqueness { columns: vec!["id".into()], limit: at_least });
    let left: Vec<(&str, &str)> =
        import.unmapped.iter().map(|left| (left.place.path.as_str(), left.reason.as_str())).collect();
    assert_eq!(left.len(), 5);
    assert!(left[0].0 == "expectations[3]" && left[0].1.contains("look-around"), "{left:?}");
    assert_eq!(left[1], ("expectations[5]", "its ends are no numbers"));
    assert!(left[3].1.contains("row_condition"));
    assert_eq!(import.unmapped[4].what, "expect_column_kl_divergence_to_be_less_than");
}

#[test]
fn suites_of_the_older_format_are_read() {
    let suite = r#"{"expectation_suite_name": "old", "data_asset_type": null, "expectations": [
        {"expectation_type": "expect_table_row_count_to_equal", "kwargs": {"value": 10}},
        {"expectation_type": "expect_column_values_to_be_increasing", "kwargs": {"column": "t", "strictly": true}},
        {"expectation_type": "expect_column_to_exist", "kwargs": {"column": "t"}}, {}]}"#;
    let import = Import::from_great_expectations("old.json", suite).unwrap();
    assert_eq!(kinds(&import), [("-", "rowCount"), ("t", "monotone"), ("-", "schema")]);
    assert_eq!(import.unmapped.len(), 1);
    let error = Import::from_great_expectations("x.json", "{\"a\":\n1").unwrap_err().to_string();
    assert!(error.starts_with("x.json:2: EOF while parsing"), "{error}");
    let error = Import::from_great_expectations("x.json", "{}").unwrap_err().to_string();
    assert_eq!(error, "x.json: \"expectations\" is missing; give the JSON file of an expectation suite");
}

const SCHEMA: &str = r#"
version: 2
models:
  - name: orders
    columns:
      - name: order_id
        data_tests:
          - unique
          - not_null:
              config: { severity: warn }
      - name: status
        tests:
          - accepted_values:
              values: ['placed', 'shipped']
          - not_null:
              config:
                where: "deleted = false"
      - name: customer_id
        data_tests:
          - relationships:
              arguments:
                to: ref('customers')
                field: id
          - dbt_utils.accepted_range: { min_value: 0, inclusive: false }
          - dbt_utils.not_null_proportion: { at_least: 0.95 }
          - dbt_expectations.expect_column_to_be_odd
    data_tests:
      - dbt_utils.unique_combination_of_columns:
          combination_of_columns: [country, order_id]
      - dbt_utils.equal_rowcount: { compare_model: ref('raw') }
sources:
  - name: raw
    tables:
      - name: payments
        columns:
          - name: id
            tests: [not_null]
"#;

#[test]
fn dbt_generic_tests_map_and_list_the_rest() {
    let import = Import::from_dbt("schema.yml", SCHEMA).unwrap();
    assert_eq!(import.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["orders", "payments"]);
    let wanted = [
        ("-", "duplicateValues"),
        ("order_id", "duplicateValues"),
        ("order_id", "missingValues"),
        ("status", "allowedSet"),
        ("customer_id", "reference"),
        ("customer_id", "range"),
        ("customer_id", "missingValues"),
    ];
    assert_eq!(kinds(&import), wanted);
    let rules = &import.tables[0].rules;
    assert_eq!(rules[2].severity, Severity::Warn);
    assert_eq!(rules[4].kind, RuleKind::Reference { to: "customers.id".into(), limit: Limit::none() });
    assert_eq!(rules[6].kind, RuleKind::Missing { tokens: Vec::new(), limit: Limit::percent_max(5.0) });
    let left: Vec<(&str, Option<usize>)> =
        import.unmapped.iter().map(|left| (left.what.as_str(), left.place.line)).collect();
    let wanted = [
        ("dbt_utils.equal_rowcount", Some(30)),
        ("not_null", Some(15)),
        ("dbt_expectations.expect_column_to_be_odd", Some(26)),
    ];
    assert_eq!(left, wanted);
    assert!(import.unmapped[1].reason.contains("`where` is SQL"));
    assert!(Import::from_dbt("schema.yml", "version: 2").unwrap_err().to_string().contains("describes no table"));
}

#[test]
fn sagemaker_constraints_map_and_list_the_rest() {
    let constraints = r#"{
      "version": 0.0,
      "features": [
        {"name": "churn", "inferred_type": "Integral", "completeness": 1.0, "num_constraints": {"is_non_negative": true}},
        {"name": "minutes", "inferred_type": "Fractional", "completeness": 0.9, "num_constraints": {"is_non_negative": false}},
        {"name": "state", "inferred_type": "String", "completeness": 1.0, "string_constraints": {"domains": ["KS", "OH"]},
         "monitoringConfigOverrides": {}},
        {"name": "blob", "inferred_type": "Unknown"}
      ],
      "monitoring_config": {
        "evaluate_constraints": "Enabled", "emit_metrics": "Enabled", "datatype_check_threshold": 1.0,
        "domain_content_threshold": 1.0,
        "distribution_constraints": {"perform_comparison": "Enabled", "comparison_threshold": 0.1, "comparison_method": "Robust"}
      }
    }"#;
    let import = Import::from_sagemaker("constraints.json", constraints).unwrap();
    let wanted = [
        ("churn", "type"),
        ("churn", "missingValues"),
        ("churn", "range"),
        ("minutes", "type"),
        ("minutes", "missingValues"),
        ("state", "type"),
        ("state", "missingValues"),
        ("state", "allowedSet"),
        ("-", "schema"),
    ];
    assert_eq!(kinds(&import), wanted);
    let rules = &import.tables[0].rules;
    assert_eq!(rules[0].kind, RuleKind::Type { logical: Some(LogicalType::Integer), unit: None });
    assert_eq!(rules[4].kind, RuleKind::Missing { tokens: Vec::new(), limit: Limit::percent_max(10.0) });
    let left: Vec<&str> = import.unmapped.iter().map(|left| left.what.as_str()).collect();
    assert_eq!(left, ["inferred_type", "datatype_check_threshold", "distribution_constraints"]);
    assert!(Import::from_sagemaker("c.json", "[]").unwrap_err().to_string().contains("\"features\" is missing"));
}

//! Contracts as people write them, and the errors of those that are wrong.

use std::time::Duration;

use super::*;
use crate::gates::limit::{Condition, Limit, Unit};
use crate::gates::rule::{Dimension, Interval, LogicalType, RuleKind, Severity};

const HEAD: &str = "apiVersion: v3.1.0\nkind: DataContract\nid: payments\nversion: 1.1.0\nstatus: active\n";

const ORDERS: &str = r#"
apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 1.1.0
status: active
team:
  - { username: left, role: Owner, dateOut: "2022-10-01" }
  - { username: keeper, role: Owner }
schema:
  - name: orders
    physicalName: orders_v2
    physicalType: table
    properties:
      - name: order_id
        physicalName: ord_id
        logicalType: string
        primaryKey: true
        primaryKeyPosition: 1
      - name: unit
        logicalType: string
        quality:
          - metric: invalidValues
            arguments: { validValues: ['pounds', 'kg'] }
            mustBeLessThan: 5
            unit: rows
            severity: warning
      - name: iban
        logicalType: string
        quality:
          - id: iban_format
            metric: invalidValues
            mustBe: 0
            description: The value must be an IBAN.
            arguments:
            pattern: '^[A-Z]{2}[0-9]{2}[A-Z0-9]{4}[0-9]{7}([A-Z0-9]?){0,16}$'
      - name: email
        logicalType: string
        unique: true
        quality:
          - metric: missingValues
            arguments: { missingValues: [null, '', 'N/A'] }
            mustBeLessThan: 1
            unit: percent
            dimension: cp
      - name: latency
        logicalType: number
        required: true
        logicalTypeOptions: { minimum: 0, exclusiveMaximum: 60000 }
        customProperties:
          - { property: unit, value: ms }
        quality:
          - type: custom
            engine: driftwatt
            implementation: |
              rule: iqrOutliers
              factor: 3
              mustBeLessThan: 2
              unit: percent
          - type: custom
            engine: driftwatt
            mustBeLessOrEqualTo: 3
            implementation: { rule: nonFinite }
          - type: sql
            query: SELECT COUNT(*) FROM {object}
            mustBeLessThan: 3600
          - type: text
            description: Measured at the edge.
          - type: custom
            engine: soda
            implementation: "type: duplicate_percent"
      - name: customer
        logicalType: integer
        relationships:
          - to: customers.id
            type: foreignKey
      - name: label
        logicalType: string
        quality:
          - { type: custom, engine: driftwatt, implementation: { rule: classBalance, shareMin: 0.05, classes: [cat, dog] } }
          - { type: custom, engine: driftwatt, implementation: { rule: labelFormat, format: snake } }
    quality:
      - metric: rowCount
        mustBeBetween: [100, 120]
      - metric: duplicateValues
        mustBe: 0
        arguments: { properties: [order_id, email] }
slaProperties:
  - { property: latency, value: 4, unit: d, element: orders.created_at }
  - { property: Latency, value: 30m, element: elsewhere.created_at }
  - { property: retention, value: 3, unit: y, element: orders.created_at }
"#;

fn orders() -> Contract {
    Contract::from_odcs("orders.odcs.yaml", ORDERS).unwrap()
}

fn rule<'a>(table: &'a Table, id: &str) -> &'a Rule {
    let ids = || table.rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>();
    table.rules.iter().find(|rule| rule.id == id).unwrap_or_else(|| panic!("{id} is not in {:?}", ids()))
}

#[test]
fn metrics_of_the_standard_are_read() {
    let contract = orders();
    assert_eq!(
        (contract.id.as_str(), contract.owner.as_deref()),
        ("53581432-6c55-4ba2-a65f-72344a91553a", Some("keeper"))
    );
    let table = contract.table(None).unwrap();
    assert_eq!(contract.table(Some("orders_v2")).unwrap(), table);
    let units = rule(table, "unit.allowedSet");
    let limit = Limit::new(Condition::Less(5.0), Unit::Rows);
    assert_eq!(units.kind, RuleKind::AllowedSet { values: vec!["pounds".into(), "kg".into()], limit });
    assert_eq!((units.severity, units.source.as_str()), (Severity::Warn, "schema[0].properties[1].quality[0]"));
    let iban = rule(table, "iban_format");
    assert!(matches!(&iban.kind, RuleKind::Pattern { regex, .. } if regex.starts_with("^[A-Z]{2}")));
    assert_eq!(iban.description.as_deref(), Some("The value must be an IBAN."));
    let email = rule(table, "email.missingValues");
    let limit = Limit::new(Condition::Less(1.0), Unit::Percent);
    assert_eq!(email.kind, RuleKind::Missing { tokens: vec!["".into(), "N/A".into()], limit });
    assert_eq!(email.dimension, Some(Dimension::Completeness));
    assert_eq!(
        rule(table, "rowCount").kind,
        RuleKind::RowCount(Limit::new(Condition::Between(100.0, 120.0), Unit::Rows))
    );
    let columns = vec!["ord_id".to_string(), "email".to_string()];
    assert_eq!(rule(table, "duplicateValues").kind, RuleKind::Duplicates { columns, limit: Limit::none() });
}

#[test]
fn what_is_declared_becomes_rules() {
    let contract = orders();
    let table = contract.table(Some("orders")).unwrap();
    assert_eq!(table.primary_key, ["ord_id"]);
    let none = Limit::none;
    let missing = RuleKind::Missing { tokens: Vec::new(), limit: none() };
    assert_eq!(rule(table, "ord_id.missingValues").kind, missing);
    assert_eq!(rule(table, "latency.missingValues").kind, missing);
    assert_eq!(
        rule(table, "ord_id.duplicateValues").kind,
        RuleKind::Duplicates { columns: vec!["ord_id".into()], limit: none() }
    );
    assert_eq!(
        rule(table, "email.duplicateValues").kind,
        RuleKind::Duplicates { columns: vec!["email".into()], limit: none() }
    );
    let kind = RuleKind::Type { logical: Some(LogicalType::Number), unit: Some("ms".into()) };
    assert_eq!(rule(table, "latency.type").kind, kind);
    let interval = Interval { min: Some(0.0), max: Some(60_000.0), max_exclusive: true, ..Interval::default() };
    assert_eq!(rule(table, "latency.range").kind, RuleKind::Range { interval, limit: none() });
    assert_eq!(
        rule(table, "customer.reference").kind,
        RuleKind::Reference { to: "customers.id".into(), limit: none() }
    );
    assert!(matches!(&rule(table, "schema").kind, RuleKind::Schema { columns, open: true } if columns.len() == 7));
    assert_eq!(rule(table, "schema.extra").severity, Severity::Warn);
}

#[test]
fn own_rules_are_read_and_those_of_others_are_kept_as_skipped() {
    let contract = orders();
    let table = contract.table(None).unwrap();
    let limit = Limit::new(Condition::Less(2.0), Unit::Percent);
    assert_eq!(rule(table, "latency.iqrOutliers").kind, RuleKind::IqrOutliers { factor: 3.0, limit });
    let limit = Limit::new(Condition::LessOrEqual(3.0), Unit::Rows);
    assert_eq!(rule(table, "latency.nonFinite").kind, RuleKind::NonFinite(limit));
    let unsupported = table.rules.iter().filter(|rule| matches!(rule.kind, RuleKind::Unsupported { .. })).count();
    assert_eq!(unsupported, 3);
    assert!(
        matches!(&rule(table, "label.classBalance").kind, RuleKind::ClassBalance { classes, .. } if classes.len() == 2)
    );
    let age_max = Duration::from_secs(4 * 86_400);
    assert_eq!(rule(table, "created_at.freshness").kind, RuleKind::Freshness { age_max });
    assert_eq!(contract.notes.len(), 1);
    assert!(contract.notes[0].text.contains("elsewhere.created_at"));
    assert_eq!(contract.notes[0].place.line, Some(90));
}

#[test]
fn a_contract_without_rules_has_the_defaults() {
    let contract = Contract::from_odcs("c.yaml", &format!("{HEAD}schema:\n  - name: t\n")).unwrap();
    assert_eq!(contract.table(None).unwrap().rules, [Rule::default_row_count()]);
    let two = Contract::from_odcs("c.yaml", &format!("{HEAD}schema:\n  - name: a\n  - name: b\n")).unwrap();
    let error = two.table(None).unwrap_err().to_string();
    assert_eq!(error, "no name is given: the rules are of a, b; name one of them with --table");
}

#[test]
fn every_own_rule_is_read_from_its_name() {
    let of_column = |implementation: &str| {
        let text = format!(
            "{HEAD}schema:\n  - name: t\n    properties:\n      - name: x\n        quality:\n          \
             - {{ type: custom, engine: driftwatt, implementation: {implementation} }}\n"
        );
        Contract::from_odcs("c.yaml", &text).map(|contract| contract.tables[0].rules[0].kind.name())
    };
    let check = |implementation: &str, name: &str| assert_eq!(of_column(implementation).unwrap(), name);
    check("{ rule: nonFinite }", "nonFinite");
    check("{ rule: allowedSet, values: [1, 2] }", "allowedSet");
    check("{ rule: pattern, pattern: '^a' }", "pattern");
    check("{ rule: labelFormat, format: kebab }", "labelFormat");
    check("{ rule: range, min: 0, max: 1, maxExclusive: true }", "range");
    check("{ rule: iqrOutliers }", "iqrOutliers");
    check("{ rule: robustZ, z: 4 }", "robustZ");
    check("{ rule: distinctOfPast, ratioMax: 3 }", "distinctOfPast");
    check("{ rule: constant }", "constant");
    check("{ rule: monotone, strict: true }", "monotone");
    check("{ rule: freshness, ageMax: 4h }", "freshness");
    check("{ rule: classBalance, shareMax: 0.9 }", "classBalance");
    check("{ rule: reference, to: customers.id }", "reference");
    check("{ rule: uniqueness, mustBeGreaterThan: 99, unit: percent }", "uniqueness");
    let wrong = |implementation: &str, wanted: &str| {
        let error = of_column(implementation).unwrap_err().to_string();
        assert!(error.starts_with("c.yaml:11 at ") && error.contains(wanted), "{implementation} gave {error}");
    };
    wrong("{ rule: rang, min: 0 }", "\"rang\" is not known; use uniqueness, rowCountOfPast");
    wrong("{ rule: range, minimum: 0 }", "no parameter \"minimum\"; use min, max");
    wrong("{ rule: range }", "no end");
    wrong("{ rule: range, min: 2, max: 1 }", "min 2 is above max 1");
    wrong("{ rule: rowCountOfPast }", "rule of a table");
    wrong("{ rule: robustZ, z: 0 }", "0 is not above 0");
    wrong("{ rule: distinctOfPast, ratioMin: 3 }", "3 to 2");
    wrong("{ rule: classBalance }", "asks for nothing");
    wrong("{ rule: classBalance, shareMin: 5 }", "from 0 to 1");
    wrong("{ rule: freshness, ageMax: 4 parsecs }", "\"parsecs\" is not known");
    wrong("{ rule: uniqueness }", "no operator");
    wrong("\"rule: rang\"", "quality[0].implementation.rule");
    wrong("\"rule: [\"", "implementation");
}

#[test]
fn errors_name_file_line_path_and_remedy() {
    let check = |text: &str, wanted: &str| {
        let error = Contract::from_odcs("c.yaml", text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text:?} gave {error}");
    };
    check("a: 1", "c.yaml:1: \"kind\" is missing; a contract begins with `kind: DataContract`");
    check("kind: Other", "c.yaml:1 at kind: this is no data contract");
    check("kind: DataContract\napiVersion: v2.2.2", "c.yaml:2 at apiVersion: version \"v2.2.2\"");
    check("- a", "\"kind\" is missing");
    check(HEAD, "no table under `schema`");
    let rule = |of_column: bool, rule: &str| {
        let place =
            if of_column { "properties:\n      - name: x\n        quality:\n          " } else { "quality:\n      " };
        format!("{HEAD}schema:\n  - name: t\n    {place}- {rule}\n")
    };
    check(&rule(true, "{ metric: nullValus, mustBe: 0 }"), "c.yaml:11 at schema[0].properties[0].quality[0].metric");
    check(&rule(true, "{ metric: nullValues }"), "no operator; add one, such as `mustBe: 0`");
    check(&rule(true, "{ metric: nullValues, mustBe: '0' }"), "a number was expected, not \"0\"");
    check(&rule(true, "{ metric: nullValues, mustBe: 0, unit: ms }"), "write rows or percent");
    check(&rule(true, "{ metric: nullValues, mustBe: 0, severity: meh }"), "use warning or error");
    check(&rule(true, "{ metric: nullValues, mustBe: 0, dimension: size }"), "use accuracy, completeness");
    check(&rule(true, "{ metric: nullValues, mustBeBetween: [5, 1] }"), "5 is greater than 1");
    check(&rule(true, "{ metric: nullValues, mustBeBetween: [5] }"), "write [from, to]");
    check(&rule(true, "{ metric: rowCount, mustBe: 0 }"), "move the rule to the quality of the table");
    check(&rule(true, "{ metric: invalidValues, mustBe: 0 }"), "nothing says what is valid");
    check(&rule(true, "{ metric: invalidValues, mustBe: 0, pattern: '(?=a)' }"), "look-around");
    check(&rule(true, "{ type: magic }"), "use library, text, sql or custom");
    check(&rule(true, "{ type: custom }"), "name the engine");
    check(&rule(true, "{ description: x }"), "the rule has no metric");
    check(&rule(false, "{ metric: nullValues, mustBe: 0 }"), "move the rule under a property");
    check(&rule(false, "{ metric: duplicateValues, mustBe: 0 }"), "the rule names no columns");
    let unknown = "{ metric: duplicateValues, mustBe: 0, arguments: { properties: [y] } }";
    check(&rule(false, unknown), "the contract has no column \"y\"");
    check(&format!("{HEAD}schema:\n  - name: t\n  - name: t\n"), "stands twice");
    check(
        &format!("{HEAD}schema:\n  - name: t\n    properties: [{{ name: x, logicalType: text }}]\n"),
        "use string, date",
    );
}

#[test]
fn names_of_rules_are_unique() {
    let mut table = Table::new("t");
    (0..3).for_each(|_| table.push(Rule::default_row_count()));
    assert_eq!(
        table.rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(),
        ["rowCount", "rowCount#2", "rowCount#3"]
    );
}

#[test]
fn the_contract_of_the_documentation_is_read() {
    let page = include_str!("../../../../docs/gates.md");
    let yaml = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let contract = Contract::from_odcs("gates.md", yaml).unwrap();
    assert_eq!(contract.owner.as_deref(), Some("keeper"));
    let table = contract.table(Some("train")).unwrap();
    assert!(matches!(rule(table, "created_at.freshness").kind, RuleKind::Freshness { .. }));
    assert!(matches!(rule(table, "latency.range").kind, RuleKind::Range { .. }));
    assert_eq!(rule(table, "latency.missingValues").severity, Severity::Warn);
    assert!(table.rules.iter().all(|rule| !matches!(rule.kind, RuleKind::Unsupported { .. })));
}

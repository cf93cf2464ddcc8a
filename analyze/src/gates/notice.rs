//! What the owner of a data set is told about a batch that is held back: what, where, how much, and what to do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    advice::advice,
    checked::CheckedFile,
    dataset::ContractTag,
    page::sample_rows,
    result::{RuleResult, Status},
};
use crate::delivery::{Attachment, Mail};

/// Event of the webhook.
pub const BATCH_HELD: &str = "driftwatt.batch.held";

/// Rules that a mail spells out; the report has all.
const RULES_SHOWN: usize = 20;

/// A batch that may not be used, to be told to somebody.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The batch.
    pub checked: &'a CheckedFile,
    /// Its contract.
    pub contract: &'a ContractTag,
    /// Where it was moved; none if it was left where it is.
    pub held_at: Option<&'a str>,
    /// When it was checked, microseconds since 1970 in UTC.
    pub now_us: i64,
}

impl Notice<'_> {
    /// The owner that the contract names, a user name or a mail address.
    pub fn owner(&self) -> Option<&str> {
        self.contract.owner.as_deref().map(str::trim).filter(|owner| !owner.is_empty())
    }

    /// The mail to `to`, with the report attached.
    pub fn mail(&self, to: Vec<String>) -> Mail {
        let page = self.checked.to_page(self.contract, self.held_at, self.now_us).to_html();
        Mail {
            to,
            subject: self.subject(),
            text: self.text(),
            html: page.clone(),
            attachments: vec![Attachment {
                file_name: "report.html".into(),
                content_type: "text/html; charset=utf-8".into(),
                content: page.into_bytes(),
            }],
        }
    }

    /// One line.
    pub fn subject(&self) -> String {
        let outcome = &self.checked.outcome;
        let how_much = match (outcome.failed, outcome.errors) {
            (0, errors) => format!("{errors} of {} rules could not be decided", self.checked.results.len()),
            (failed, _) => format!("{failed} of {} rules failed", self.checked.results.len()),
        };
        // A name may hold a line feed, which would end the header.
        let name: String = self.checked.file_name().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("Held back: {name} – {how_much}")
    }

    /// The mail's text.
    pub fn text(&self) -> String {
        let checked = self.checked;
        let place = self.held_at.map_or_else(
            || format!("Where: {}; it was not moved (no quarantine folder was given).", checked.file),
            |held| format!("Where: held back at {held}, with its report beside it (was {}).", checked.file),
        );
        let version = self.contract.version.as_deref().unwrap_or("without a version");
        let mut text = format!(
            "What: {} {} of the data set {} do not keep the contract {} ({version}), table {}.\n{place}\nContent: {}\n\nHow \
             much:\n",
            checked.rows(),
            checked.kind.as_str(),
            checked.name.dataset.as_deref().unwrap_or("(no name)"),
            self.contract.id,
            checked.table,
            checked.digest,
        );
        let broken = checked.broken();
        for result in broken.iter().take(RULES_SHOWN) {
            text += &rule_text(result);
        }
        if broken.len() > RULES_SHOWN {
            text += &format!("- and {} more, see the report\n", broken.len() - RULES_SHOWN);
        }
        text += "\nWhat to do:\n";
        let advised: BTreeSet<&str> = broken.iter().map(|result| advice(result)).collect();
        for line in advised {
            text += &format!("- {line}\n");
        }
        text += &match self.held_at {
            Some(held) => format!(
                "- To release it as it is: move {held} back to {}. To replace it: put a mended file there, which is checked anew.\n",
                checked.file
            ),
            None => "- Do not use it until it is mended and checked anew.\n".to_owned(),
        };
        text
    }

    /// The body of the webhook.
    pub fn webhook(&self) -> Value {
        let checked = self.checked;
        let broken = checked.broken().into_iter().map(|result| {
            json!({
                "rule": result.rule_id, "status": result.status.as_str(), "expected": result.expected,
                "observed": result.observed, "rows_failed": result.rows_failed, "advice": advice(result),
            })
        });
        json!({
            "event": BATCH_HELD,
            "subject": self.subject(),
            "file": checked.file,
            "held_at": self.held_at,
            "digest": checked.digest,
            "dataset": checked.name.dataset,
            "rows": checked.rows(),
            "status": checked.outcome.status.as_str(),
            "contract": { "id": self.contract.id, "version": self.contract.version, "owner": self.contract.owner },
            "broken": broken.collect::<Vec<_>>(),
        })
    }
}

fn rule_text(result: &RuleResult) -> String {
    let mut text = format!("- {} {}: {}", result.status, result.rule_id, result.observed);
    if result.status != Status::Error {
        text += &format!("; expected {}", result.expected);
    }
    if let Some(reason) = &result.reason {
        text += &format!(" ({reason})");
    }
    if !result.samples.is_empty() {
        text += &format!("; first rows {}", sample_rows(result));
    }
    text + "\n"
}

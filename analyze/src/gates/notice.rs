//! What the owner of a data set is told about a batch that is held back: what, where, how much, and what to do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{advice::advice, checked::CheckedFile, dataset::ContractTag, result::Status};
use crate::delivery::{Attachment, Letter};

/// Event of the webhook.
pub const BATCH_HELD: &str = "driftwatt.batch.held";

/// Rules that a mail spells out; the report has all.
const RULES_SHOWN: usize = 20;

/// Where a checked batch is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BatchPlace {
    /// Where it was: it may be used, or nobody gave a quarantine folder.
    #[default]
    Left,
    /// Held back here, with its report beside it.
    Held(String),
    /// Still where it was, for it could not be moved; why.
    NotMoved(String),
    /// In the tables, where what was received stays; drift of this window is not judged.
    Stored,
}

impl BatchPlace {
    /// Where it is held back.
    pub fn held_at(&self) -> Option<&str> {
        match self {
            Self::Held(held) => Some(held),
            Self::Left | Self::NotMoved(_) | Self::Stored => None,
        }
    }
}

/// A batch that may not be used, to be told to somebody.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The batch.
    pub checked: &'a CheckedFile,
    /// Its contract.
    pub contract: &'a ContractTag,
    /// Where it is.
    pub place: &'a BatchPlace,
    /// When it was checked, microseconds since 1970 in UTC.
    pub now_us: i64,
}

impl Notice<'_> {
    /// The owner that the contract names, a user name or a mail address.
    pub fn owner(&self) -> Option<&str> {
        self.contract.owner.as_deref().map(str::trim).filter(|owner| !owner.is_empty())
    }

    /// The letter to the mail addresses `to` and the webhooks of these names, with the report attached.
    pub fn letter(&self, to: Vec<String>, webhooks: Vec<String>) -> Letter {
        let page = self.checked.to_page(self.contract, self.place, self.now_us).to_html();
        Letter {
            to,
            webhooks,
            event: BATCH_HELD,
            subject: self.subject(),
            text: self.text(),
            html: page.clone(),
            attachments: vec![Attachment {
                file_name: "report.html".into(),
                content_type: "text/html; charset=utf-8".into(),
                content: page.into_bytes(),
            }],
            result: self.result(),
        }
    }

    /// One line.
    pub fn subject(&self) -> String {
        let outcome = &self.checked.outcome;
        let how_much = match (outcome.failed, outcome.errors) {
            (0, 0) => format!("none of {} rules had anything to decide on", self.checked.results.len()),
            (0, errors) => format!("{errors} of {} rules could not be decided", self.checked.results.len()),
            (failed, _) => format!("{failed} of {} rules failed", self.checked.results.len()),
        };
        // A name may hold a line feed, which would end the header.
        let name: String = self.checked.file_name().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let what = if self.place.held_at().is_some() { "Held back" } else { "Not usable" };
        format!("{what}: {name} – {how_much}")
    }

    /// The mail's text.
    pub fn text(&self) -> String {
        let checked = self.checked;
        let place = match self.place {
            BatchPlace::Left => {
                format!("Where: {}; no quarantine folder was given, so it was not moved.", checked.file)
            }
            BatchPlace::Held(held) => {
                format!("Where: held back at {held}, with its report beside it (was {}).", checked.file)
            }
            BatchPlace::NotMoved(why) => format!("Where: still {}; it could not be moved: {why}.", checked.file),
            BatchPlace::Stored => format!("Where: {}; what was received stays in the tables.", checked.file),
        };
        let judged = match checked.outcome.status {
            Status::Error => "could not be judged by",
            Status::Skipped => "gave nothing to judge to",
            Status::Pass | Status::Warn | Status::Fail => "do not keep",
        };
        let version = self.contract.version.as_deref().unwrap_or("without a version");
        let mut text = format!(
            "What: {} {} of the data set {} {judged} the contract {} ({version}), table {}.\n{place}\nContent: {}\n\nHow \
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
            text += &format!("- {} {}\n", result.status, result.finding());
        }
        if broken.len() > RULES_SHOWN {
            text += &format!("- and {} more, see the report\n", broken.len() - RULES_SHOWN);
        }
        text += "\nWhat to do:\n";
        let advised: BTreeSet<&str> = broken.iter().map(|result| advice(result)).collect();
        for line in advised {
            text += &format!("- {line}\n");
        }
        text += &match self.place {
            BatchPlace::Held(held) => format!(
                "- To release it as it is: driftwatt release {held} --reason WHY, which moves it back to {file}. To replace it: put a \
                 mended file there, which is checked anew.\n",
                file = checked.file
            ),
            BatchPlace::Left => "- Do not use it until it is mended and checked anew.\n".to_owned(),
            BatchPlace::NotMoved(_) => {
                "- Keep it from being used: it is where it was. Move it away, or mend it and check it anew.\n"
                    .to_owned()
            }
            BatchPlace::Stored => {
                "- Mend what sends it. Drift of this window has the status gate_failed until it is checked anew and passes.\n"
                    .to_owned()
            }
        };
        text
    }

    /// The result for programs.
    fn result(&self) -> Value {
        let checked = self.checked;
        let broken = checked.broken().into_iter().map(|result| {
            json!({
                "rule": result.rule_id, "status": result.status.as_str(), "expected": result.expected,
                "observed": result.observed, "rows_failed": result.rows_failed, "advice": advice(result),
            })
        });
        json!({
            "file": checked.file,
            "held_at": self.place.held_at(),
            "not_moved": match self.place {
                BatchPlace::NotMoved(why) => Some(why),
                BatchPlace::Left | BatchPlace::Held(_) | BatchPlace::Stored => None,
            },
            "digest": checked.digest,
            "dataset": checked.name.dataset,
            "rows": checked.rows(),
            "status": checked.outcome.status.as_str(),
            "contract": { "id": self.contract.id, "version": self.contract.version, "owner": self.contract.owner },
            "broken": broken.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::{BatchKind, BatchName, BatchSummary, Outcome};

    #[test]
    fn it_says_where_the_batch_is_and_what_follows_from_it() {
        let checked = CheckedFile {
            file: "in/a.csv".into(),
            kind: BatchKind::Rows,
            table: "train".into(),
            digest: "sha256:0".into(),
            size_bytes: 1,
            summary: BatchSummary { rows: 1, columns: vec![] },
            name: BatchName::parse("a.csv"),
            history: vec![],
            references: vec![],
            damaged: vec![],
            results: vec![],
            outcome: Outcome::of(&[]),
        };
        let contract = ContractTag::default();
        for (place, subject, texts) in [
            (BatchPlace::Left, "Not usable: a.csv", ["no quarantine folder was given", "Do not use it until"]),
            (
                BatchPlace::Held("held/a.csv".into()),
                "Held back: a.csv",
                ["held back at held/a.csv", "driftwatt release held/a.csv"],
            ),
            (
                BatchPlace::NotMoved("disk full".into()),
                "Not usable: a.csv",
                ["could not be moved: disk full", "Keep it from"],
            ),
        ] {
            let notice = Notice { checked: &checked, contract: &contract, place: &place, now_us: 0 };
            let end = " – none of 0 rules had anything to decide on";
            assert_eq!(notice.subject(), format!("{subject}{end}"));
            let text = notice.text();
            assert!(texts.iter().all(|words| text.contains(words)), "{text}");
            let letter = notice.letter(vec![], vec![]);
            assert_eq!((letter.event, &letter.result["held_at"]), (BATCH_HELD, &json!(place.held_at())));
        }
    }
}

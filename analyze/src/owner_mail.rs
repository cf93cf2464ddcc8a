//! Idle GPUs as mail: one per owner, however many GPUs.

use std::collections::BTreeMap;

use crate::format::escape_html;

/// An idle GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct IdleFinding {
    /// `host/id`.
    pub gpu: String,
    /// Service on it; none if nothing is known to run there.
    pub service: Option<String>,
    /// Mail address of the owner; none if nobody is named.
    pub owner: Option<String>,
    /// Mean utilisation, 0 to 1.
    pub mean: Option<f64>,
    /// `idle-held` or `free`.
    pub state: String,
    /// Hours idle in the window.
    pub hours: Option<f64>,
    /// Cost of those hours; none if the price is unknown.
    pub cost: Option<f64>,
    /// Whether the data is simulated.
    pub simulated: bool,
}

/// What all mails of one check share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleCheck {
    /// The window in words, with its time zone.
    pub window: String,
    /// Currency of the costs.
    pub currency: String,
    /// Who gets what has no owner.
    pub default_owner: String,
}

/// The mail of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerMail {
    /// Who gets it.
    pub to: String,
    /// One line.
    pub subject: String,
    /// For readers without HTML.
    pub text: String,
    /// A whole HTML page.
    pub html: String,
    /// The GPUs it tells of, as in the findings.
    pub gpus: Vec<String>,
    /// Whether they are simulated.
    pub simulated: bool,
}

const COLUMNS: [&str; 6] = ["GPU", "service", "mean", "state", "hours idle", "cost"];

/// One mail per owner, sorted by address; its GPUs by cost, unknown last, then by name. Simulated and real GPUs are never in
/// one mail.
pub fn owner_mails(findings: &[IdleFinding], check: &IdleCheck) -> Vec<OwnerMail> {
    let mut by_owner: BTreeMap<(String, bool), Vec<&IdleFinding>> = BTreeMap::new();
    for finding in findings {
        let named = finding.owner.as_deref().map(str::trim).filter(|owner| !owner.is_empty());
        let owner = named.unwrap_or(&check.default_owner);
        // Names of domains and, in practice, of mailboxes do not tell cases apart: one person, one mail.
        by_owner.entry((owner.to_lowercase(), finding.simulated)).or_default().push(finding);
    }
    by_owner.into_iter().map(|((to, simulated), found)| owner_mail(to, simulated, found, check)).collect()
}

fn cell(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| "unknown".into(), show)
}

fn row(finding: &IdleFinding, currency: &str) -> [String; 6] {
    [
        finding.gpu.clone(),
        finding.service.clone().unwrap_or_else(|| "unknown".into()),
        cell(finding.mean, |mean| format!("{:.1} %", mean * 100.0)),
        finding.state.clone(),
        cell(finding.hours, |hours| format!("{hours:.1}")),
        cell(finding.cost, |cost| format!("{currency} {cost:.2}")),
    ]
}

/// The sum of what is known, which says so where some is not.
fn total(found: &[&IdleFinding], currency: &str) -> String {
    let known: Vec<f64> = found.iter().filter_map(|finding| finding.cost.filter(|cost| cost.is_finite())).collect();
    let (sum, missing) = (known.iter().sum::<f64>(), found.len() - known.len());
    match (known.len(), missing) {
        (0, _) => "cost unknown".into(),
        (_, 0) => format!("{currency} {sum:.2}"),
        _ => format!("at least {currency} {sum:.2}, {missing} without a price"),
    }
}

fn advice(found: &[&IdleFinding]) -> Vec<&'static str> {
    let mut lines = Vec::new();
    if found.iter().any(|finding| finding.state == "idle-held") {
        lines.push(
            "idle-held: something keeps memory without computing. If a notebook or a forgotten process does, end it; if a \
             service does, look at its proposal with `driftwatt recommend` before scaling down.",
        );
    }
    if found.iter().any(|finding| finding.state == "free") {
        lines
            .push("free: nothing keeps memory. Release the allocation, or lower the request of the job that holds it.");
    }
    if found.iter().any(|finding| finding.owner.as_deref().is_none_or(|owner| owner.trim().is_empty())) {
        lines.push("Some have no owner, so they came to this address; name one and the next mail goes there.");
    }
    lines.push("A low mean is no verdict: capacity for peaks is meant to be idle at times.");
    lines
}

fn owner_mail(to: String, simulated: bool, mut found: Vec<&IdleFinding>, check: &IdleCheck) -> OwnerMail {
    found.sort_by(|one, other| {
        let cost = |finding: &IdleFinding| finding.cost.filter(|cost| cost.is_finite()).unwrap_or(-1.0);
        cost(other).total_cmp(&cost(one)).then_with(|| one.gpu.cmp(&other.gpu))
    });
    let mark = if simulated { "SIMULATED: " } else { "" };
    let (plural, total) = (if found.len() == 1 { "GPU" } else { "GPUs" }, total(&found, &check.currency));
    let subject: String = format!("{mark}{} idle {plural} – {total}", found.len());
    // A currency from a file could hold a line feed, which would end the header.
    let subject = subject.replace(char::is_control, " ");
    let rows: Vec<[String; 6]> = found.iter().map(|finding| row(finding, &check.currency)).collect();
    let advice = advice(&found);
    let intro =
        format!("{mark}{} {plural} of yours were idle; window: {}. In all: {total}.", found.len(), check.window);
    let gpus = found.iter().map(|finding| finding.gpu.clone()).collect();
    let (text, html) = (text(&intro, &rows, &advice), html(&subject, &intro, &rows, &advice));
    OwnerMail { to, subject, text, html, gpus, simulated }
}

fn text(intro: &str, rows: &[[String; 6]], advice: &[&str]) -> String {
    let header = COLUMNS.map(str::to_owned);
    let lines: Vec<&[String; 6]> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = format!("{intro}\n\n");
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| {
                let one_line = cell.replace(char::is_control, " ");
                format!("{one_line}{}", " ".repeat(width.saturating_sub(cell.chars().count())))
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text += "\nWhat to do\n";
    for line in advice {
        text += &format!("- {line}\n");
    }
    text
}

/// Styles stand at the elements: mail readers drop a style sheet, and with it the table.
fn html(subject: &str, intro: &str, rows: &[[String; 6]], advice: &[&str]) -> String {
    const CELL: &str = "padding:4px 10px;border-bottom:1px solid #d3dae0;text-align:left;vertical-align:top";
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{}</title></head>\n\
         <body style=\"font:15px/1.5 sans-serif\"><p>{}</p>\n\
         <div style=\"overflow-x:auto\"><table style=\"border-collapse:collapse\"><tr>",
        escape_html(subject),
        escape_html(intro)
    );
    for column in COLUMNS {
        html += &format!("<th scope=\"col\" style=\"{CELL}\">{column}</th>");
    }
    html += "</tr>\n";
    for row in rows {
        html += "<tr>";
        for cell in row {
            html += &format!("<td style=\"{CELL}\">{}</td>", escape_html(cell));
        }
        html += "</tr>\n";
    }
    html += "</table></div>\n<p><b>What to do</b></p>\n<ul>\n";
    for line in advice {
        html += &format!("<li>{}</li>\n", escape_html(line));
    }
    html + "</ul></body></html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(gpu: &str, owner: Option<&str>, cost: Option<f64>) -> IdleFinding {
        IdleFinding {
            gpu: gpu.into(),
            service: Some("chat".into()),
            owner: owner.map(str::to_owned),
            mean: Some(0.021),
            state: "idle-held".into(),
            hours: Some(161.5),
            cost,
            simulated: false,
        }
    }

    fn check() -> IdleCheck {
        IdleCheck {
            window: "2026-11-16 to 2026-11-23, UTC".into(),
            currency: "EUR".into(),
            default_owner: "ops@example.com".into(),
        }
    }

    #[test]
    fn one_mail_per_owner_however_many_gpus() {
        let mut findings: Vec<_> =
            (0..143).map(|at| finding(&format!("node/{at:03}"), Some("ada@example.com"), Some(1.5))).collect();
        findings[7].owner = Some(" Ada@Example.com".into());
        findings.push(finding("node/x", None, None));
        findings.push(finding("node/y", Some(""), Some(2.0)));
        let mails = owner_mails(&findings, &check());
        assert_eq!(
            mails.iter().map(|mail| mail.to.as_str()).collect::<Vec<_>>(),
            ["ada@example.com", "ops@example.com"]
        );
        assert_eq!(mails[0].subject, "143 idle GPUs – EUR 214.50");
        assert_eq!(mails[0].text.matches("node/").count(), 143);
        assert_eq!(mails[0].html.matches("node/").count(), 143);
        assert_eq!(mails[1].subject, "2 idle GPUs – at least EUR 2.00, 1 without a price");
        assert!(mails[1].text.contains("name one and the next mail goes there"));
        assert!(!mails[0].text.contains("no owner"));
        assert!(mails[1].text.find("node/y").unwrap() < mails[1].text.find("node/x").unwrap(), "unknown cost last");
        assert!(owner_mails(&[], &check()).is_empty());
    }

    #[test]
    fn unknown_is_said_and_never_zero() {
        let mut nothing = finding("node/0", None, None);
        (nothing.service, nothing.mean, nothing.hours) = (None, Some(f64::NAN), None);
        let mail = owner_mails(&[nothing], &check()).remove(0);
        assert_eq!(mail.subject, "1 idle GPU – cost unknown");
        assert_eq!(mail.text.matches("unknown").count(), 5, "{}", mail.text);
        assert!(!mail.text.contains("0.0"));
    }

    #[test]
    fn simulated_gpus_have_a_mail_of_their_own() {
        let simulated = IdleFinding { simulated: true, ..finding("node/1", None, Some(1.0)) };
        let mails = owner_mails(&[finding("node/0", None, Some(1.0)), simulated], &check());
        assert_eq!(mails.len(), 2);
        assert!(mails[1].subject.starts_with("SIMULATED: 1 idle GPU") && mails[1].text.starts_with("SIMULATED: "));
        assert!(!mails[0].html.contains("SIMULATED"));
    }

    #[test]
    fn text_of_others_cannot_break_out() {
        let bad = IdleFinding { service: Some("<b>\nBcc: x".into()), ..finding("n<i>/0", None, Some(1.0)) };
        let mail = owner_mails(&[bad], &IdleCheck { currency: "EUR\r\nBcc: x".into(), ..check() }).remove(0);
        assert!(!mail.subject.contains(char::is_control));
        assert!(!mail.html.contains("<b>\n") && !mail.html.contains("n<i>"));
        assert!(mail.text.contains("<b> Bcc: x"), "one line per GPU");
    }
}

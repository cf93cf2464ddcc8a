//! What somebody can do about a broken rule.

use super::result::{RuleResult, Status};

/// A sentence for a rule that is broken, or that could not be decided.
pub(crate) fn advice(result: &RuleResult) -> &'static str {
    if result.status == Status::Error {
        return "The rule could not be decided: bring the contract and the data together, as the reason says.";
    }
    match result.metric {
        "missingValues" => {
            "Ask the source why the values are missing and load the batch again; if so many are normal, raise the limit."
        }
        "rowCount" | "rowCountOfPast" => {
            "See whether the export was cut or ran twice; load the batch again once it is whole."
        }
        "type" => "Convert the column back, or agree on the new type or unit and raise the version of the contract.",
        "schema" => "Restore the columns that are missing; add new ones to the contract if they are meant to be there.",
        "nonFinite" | "range" | "iqrOutliers" | "robustZ" => {
            "Look at the sample rows: mend what made the values, or widen the limit if they are real."
        }
        "allowedSet" | "pattern" | "labelFormat" => {
            "Mend the spelling at the source, or add the values to the contract if they are new and right."
        }
        "duplicateValues" | "uniqueness" => "Remove the repeated rows: often a file was loaded or appended twice.",
        "distinctOfPast" | "constant" | "classBalance" => {
            "See whether a part of the data is missing or was filled with a default before training on it."
        }
        "monotone" | "freshness" => "See whether the pipeline before this one ran, and in order.",
        "reference" => "Load the other table first, or remove the rows that refer to nothing.",
        "imageReadable" => "Replace the damaged files: the report lists them by name.",
        "imageSizes" | "imageSize" | "imageSide" | "imageAspect" | "imageChannels" => {
            "Convert the images to what the contract states, or leave out those that differ."
        }
        _ => "Mend the batch, or the contract if the batch is right.",
    }
}

//! The rule `images` of a table: what the images of a folder or a manifest have to be like.

use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::image::ImageRules;
use crate::gates::limit::Limit;

/// Relative difference from the stated aspect that is allowed where nothing is said.
const ASPECT_TOLERANCE: f64 = 0.02;

/// Reads the parameters; the severity is the rule's own.
pub(super) fn read(at: &At<'_>, limit: Limit) -> Result<ImageRules> {
    let sizes = match at.get("sizes") {
        Some(sizes) => sizes.items()?.iter().map(size).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    let channels = match at.get("channels") {
        Some(channels) => channels.items()?.iter().map(|at| whole(at, 4)).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    let optional = |key: &str, max: u32| at.get(key).map(|at| whole(&at, max)).transpose();
    // Who lists sizes allows as many different ones.
    let sizes_max = match optional("sizesMax", 1_000_000)? {
        Some(count) => Some(count as usize),
        None => sizes.is_empty().then_some(1),
    };
    Ok(ImageRules {
        sizes,
        sizes_max,
        side_min: optional("sideMin", u32::MAX)?,
        aspect: aspect(at)?,
        channels: channels.into_iter().filter_map(|count| u8::try_from(count).ok()).collect(),
        limit,
        ..ImageRules::default()
    })
}

/// `224x224`
fn size(at: &At<'_>) -> Result<(u32, u32)> {
    let text = at.text()?;
    let side = |side: &str| side.trim().parse::<u32>().ok().filter(|side| *side > 0);
    let read = text.split_once(['x', '×']).and_then(|(width, height)| Some((side(width)?, side(height)?)));
    read.ok_or_else(|| at.error(format!("{text:?} is no size of an image"), "write width and height as 224x224"))
}

fn whole(at: &At<'_>, max: u32) -> Result<u32> {
    let number = at.number()?;
    if number.fract() == 0.0 && number >= 1.0 && number <= f64::from(max) {
        Ok(number as u32)
    } else {
        Err(at.error(format!("{number} is no whole number from 1 to {max}"), "write one"))
    }
}

fn aspect(at: &At<'_>) -> Result<Option<(f64, f64)>> {
    let positive = |key: &str| {
        let Some(member) = at.get(key) else { return Ok(None) };
        let number = member.number()?;
        if number > 0.0 {
            Ok(Some(number))
        } else {
            Err(member.error(format!("{number} is not above 0"), "write a positive number, such as 1.0 for a square"))
        }
    };
    match (positive("aspect")?, positive("aspectTolerance")?) {
        (Some(aspect), tolerance) => Ok(Some((aspect, tolerance.unwrap_or(ASPECT_TOLERANCE)))),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(at.error("aspectTolerance has no aspect", "add aspect, width divided by height")),
    }
}

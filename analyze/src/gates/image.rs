//! Whether images go together: their sizes, their smallest side, their aspect and their channels, from headers alone.
//!
//! Images come from a folder or from a manifest, a text file with one path a line. A file that is no image is not left
//! out: it breaks the rule `imageReadable` with its [`Damage`].

mod check;
mod header;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

pub(crate) use check::{check_images, digest_of_images, is_of_images};
pub use header::{Damage, Format, Header, read_header};

use super::error::{Error, Result};
use super::limit::Limit;
use super::result::{RuleResult, Status};
use super::rule::{Dimension, Severity};
use super::scan::{Sample, mask};

/// File names that are taken for images in a folder.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "gif", "webp"];

/// Folders within folders that are visited.
const DEPTH_MAX: usize = 32;

/// Different sizes that are counted one by one.
const SIZES_MAX: usize = 10_000;

/// Damaged files and samples that are kept by name.
const NAMES_MAX: usize = 100;

/// Largest manifest.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// What images have to be like; an absent rule is not evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRules {
    /// Allowed sizes, width and height in pixels; empty for any.
    pub sizes: Vec<(u32, u32)>,
    /// How many different sizes there may be: 1 for consistent images.
    pub sizes_max: Option<usize>,
    /// Smallest length of the shorter side, in pixels.
    pub side_min: Option<u32>,
    /// Width divided by height, and the largest relative difference from it: `(1.0, 0.02)` is square within 2 %.
    pub aspect: Option<(f64, f64)>,
    /// Allowed numbers of channels; empty for any.
    pub channels: Vec<u8>,
    /// Of the images that break a rule.
    pub limit: Limit,
    /// What a broken rule does to the batch.
    pub severity: Severity,
}

impl Default for ImageRules {
    /// One size, and no damaged file.
    fn default() -> Self {
        Self {
            sizes: Vec::new(),
            sizes_max: Some(1),
            side_min: None,
            aspect: None,
            channels: Vec::new(),
            limit: Limit::none(),
            severity: Severity::Fail,
        }
    }
}

/// Images that break one rule.
#[derive(Debug, Clone, Default)]
struct Broken {
    count: u64,
    samples: Vec<Sample>,
}

impl Broken {
    fn add(&mut self, image: u64, name: &str) {
        self.count += 1;
        if self.samples.len() < 10 {
            self.samples.push(Sample { row: image, key: Some(mask(name)) });
        }
    }
}

/// The state of a pass over images.
#[derive(Debug, Clone)]
pub struct ImageScan {
    rules: ImageRules,
    images: u64,
    readable: u64,
    damaged: Vec<(String, Damage)>,
    sizes: BTreeMap<(u32, u32), u64>,
    sizes_overflow: bool,
    unreadable: Broken,
    wrong_size: Broken,
    small: Broken,
    wrong_aspect: Broken,
    wrong_channels: Broken,
}

impl ImageScan {
    /// A pass that has seen no image.
    pub fn new(rules: ImageRules) -> Self {
        Self {
            rules,
            images: 0,
            readable: 0,
            damaged: Vec::new(),
            sizes: BTreeMap::new(),
            sizes_overflow: false,
            unreadable: Broken::default(),
            wrong_size: Broken::default(),
            small: Broken::default(),
            wrong_aspect: Broken::default(),
            wrong_channels: Broken::default(),
        }
    }

    /// Takes one image.
    pub fn add(&mut self, name: &str, header: std::result::Result<Header, Damage>) {
        let image = self.images;
        self.images += 1;
        let header = match header {
            Ok(header) => header,
            Err(damage) => {
                self.unreadable.add(image, name);
                if self.damaged.len() < NAMES_MAX {
                    self.damaged.push((name.to_string(), damage));
                }
                return;
            }
        };
        self.readable += 1;
        let size = (header.width, header.height);
        if self.sizes.len() < SIZES_MAX || self.sizes.contains_key(&size) {
            *self.sizes.entry(size).or_default() += 1;
        } else {
            self.sizes_overflow = true;
        }
        if !self.rules.sizes.is_empty() && !self.rules.sizes.contains(&size) {
            self.wrong_size.add(image, name);
        }
        if self.rules.side_min.is_some_and(|side| header.width.min(header.height) < side) {
            self.small.add(image, name);
        }
        let aspect = f64::from(header.width) / f64::from(header.height);
        if self.rules.aspect.is_some_and(|(wanted, tolerance)| (aspect / wanted - 1.0).abs() > tolerance) {
            self.wrong_aspect.add(image, name);
        }
        if !self.rules.channels.is_empty() && !self.rules.channels.contains(&header.channels) {
            self.wrong_channels.add(image, name);
        }
    }

    /// The first hundred files that are no images, with their names, for whoever repairs them.
    pub fn damaged(&self) -> &[(String, Damage)] {
        &self.damaged
    }

    /// Different sizes with the number of their images; the first 10 000.
    pub fn sizes(&self) -> &BTreeMap<(u32, u32), u64> {
        &self.sizes
    }

    /// Judges the rules.
    pub fn finish(&self) -> Vec<RuleResult> {
        let rules = &self.rules;
        let mut results = vec![self.counted("imageReadable", "damaged images".into(), &self.unreadable, self.images)];
        if let Some(sizes_max) = rules.sizes_max {
            results.push(self.size_set(sizes_max));
        }
        let mut add = |wanted: bool, metric, expected: String, broken: &Broken| {
            if wanted {
                results.push(self.counted(metric, expected, broken, self.readable));
            }
        };
        let sizes =
            rules.sizes.iter().map(|(width, height)| format!("{width}x{height}")).collect::<Vec<_>>().join(", ");
        add(!rules.sizes.is_empty(), "imageSize", format!("sizes other than {sizes}"), &self.wrong_size);
        let side = rules.side_min.unwrap_or_default();
        add(rules.side_min.is_some(), "imageSide", format!("shorter side below {side} pixels"), &self.small);
        let (aspect, tolerance) = rules.aspect.unwrap_or_default();
        let expected = format!("aspect other than {aspect} ± {} %", tolerance * 100.0);
        add(rules.aspect.is_some(), "imageAspect", expected, &self.wrong_aspect);
        let channels = rules.channels.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let expected = format!("channels other than {channels}");
        add(!rules.channels.is_empty(), "imageChannels", expected, &self.wrong_channels);
        results
    }

    fn counted(&self, metric: &'static str, expected: String, broken: &Broken, of: u64) -> RuleResult {
        let mut result = self.result(metric, format!("{expected} {}", self.rules.limit).replace(" rows", " images"));
        if of == 0 {
            return skipped(result);
        }
        let count = broken.count as f64;
        result.status = self.status(self.rules.limit.decide(count, count, of).unwrap_or(false));
        result.observed = format!("{} of {of} images", broken.count);
        result.value = Some(self.rules.limit.value(count, of));
        result.rows_checked = of;
        result.rows_failed = Some(broken.count);
        result.samples.clone_from(&broken.samples);
        if metric == "imageReadable" && broken.count > 0 {
            let named = self.damaged.iter().take(3).map(|(name, damage)| format!("{} {damage}", mask(name)));
            result.reason = Some(named.collect::<Vec<_>>().join("; "));
        }
        result
    }

    fn size_set(&self, sizes_max: usize) -> RuleResult {
        let mut result = self.result("imageSizes", format!("at most {sizes_max} different sizes"));
        if self.readable == 0 {
            return skipped(result);
        }
        let mut by_count: Vec<(&(u32, u32), &u64)> = self.sizes.iter().collect();
        by_count.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let common = by_count.iter().take(3).map(|((w, h), count)| format!("{w}x{h} {count} times"));
        let more = if self.sizes_overflow { "more than " } else { "" };
        result.status = self.status(self.sizes.len() <= sizes_max && !self.sizes_overflow);
        result.observed = format!("{more}{} sizes: {}", self.sizes.len(), common.collect::<Vec<_>>().join(", "));
        result.value = Some(self.sizes.len() as f64);
        result.rows_checked = self.readable;
        result
    }

    fn status(&self, holds: bool) -> Status {
        match (holds, self.rules.severity) {
            (true, _) => Status::Pass,
            (false, Severity::Warn) => Status::Warn,
            (false, Severity::Fail) => Status::Fail,
        }
    }

    fn result(&self, metric: &'static str, expected: String) -> RuleResult {
        RuleResult {
            rule_id: metric.into(),
            metric,
            column: None,
            status: Status::Skipped,
            severity: self.rules.severity,
            dimension: Some(Dimension::Consistency),
            expected,
            observed: "unknown".into(),
            value: None,
            rows_checked: 0,
            rows_failed: None,
            samples: Vec::new(),
            reason: None,
        }
    }
}

/// The images below a folder, in the order of their paths, or those that a manifest lists: one path a line, relative to its
/// folder; empty lines and those that begin with `#` are passed over. Links to folders are not followed.
///
/// # Errors
/// [`Error::Read`] if the folder or the manifest cannot be read, or the latter is larger than 256 MiB.
pub(crate) fn images_of(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    if path.is_dir() {
        let mut paths = Vec::new();
        collect(path, 0, &mut paths)?;
        paths.sort();
        let named = |file: PathBuf| (file.strip_prefix(path).unwrap_or(&file).display().to_string(), file);
        return Ok(paths.into_iter().map(named).collect());
    }
    images_listed(path, path.parent().unwrap_or(Path::new(".")))
}

/// The images that the manifest at `path` lists, relative to `folder`: where it stood, for one that was moved since.
///
/// # Errors
/// As of [`images_of`].
pub(crate) fn images_listed(path: &Path, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |source| Error::Read { path: path.display().to_string(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() > MANIFEST_BYTES_MAX {
        return Err(failed(std::io::Error::other("larger than 256 MiB; split it")));
    }
    file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| (line.to_owned(), folder.join(line))).collect())
}

/// The header of a file; one that cannot be opened is damaged.
pub(crate) fn read_file(path: &Path) -> std::result::Result<Header, Damage> {
    match File::open(path) {
        Ok(file) => read_header(&mut BufReader::new(file)),
        Err(_) => Err(Damage::Unreadable),
    }
}

fn skipped(mut result: RuleResult) -> RuleResult {
    result.reason = Some("no image to look at".into());
    result
}

fn collect(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |source| Error::Read { path: folder.display().to_string(), source };
    if depth > DEPTH_MAX {
        return Err(failed(std::io::Error::other("more than 32 folders within one another")));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if kind.is_dir() {
            collect(&path, depth + 1, paths)?;
        } else if path
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| EXTENSIONS.iter().any(|x| e.eq_ignore_ascii_case(x)))
        {
            paths.push(path);
        }
    }
    Ok(())
}

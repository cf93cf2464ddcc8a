//! Headers byte by byte, what is no image, and the rules.

use std::{
    fs,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use super::*;
use crate::gates::{CheckInputs, Contract, RuleKind, Table};

/// A PNG without pixels: header and end.
fn png(width: u32, height: u32, colour: u8) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, colour, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"\0\0\0\0IEND\xae\x42\x60\x82");
    bytes
}

/// A JPEG with an application segment, padding, a frame header and an end.
fn jpeg(width: u16, height: u16, channels: u8, frame: u8) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe0, 0, 6, 1, 2, 3, 4, 0xff, 0xff, frame, 0, 17, 8];
    bytes.extend(height.to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.push(channels);
    bytes.extend([0; 9]);
    bytes.extend([0xff, 0xd9]);
    bytes
}

fn gif(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([0, 0, 0, 0x3b]);
    bytes
}

fn webp(chunk: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((12 + body.len() as u32).to_le_bytes());
    bytes.extend(b"WEBP");
    bytes.extend(chunk);
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn read(bytes: &[u8]) -> std::result::Result<Header, Damage> {
    read_header(&mut Cursor::new(bytes))
}

fn check(bytes: &[u8], format: Format, size: (u32, u32), channels: u8) {
    assert_eq!(read(bytes), Ok(Header { format, width: size.0, height: size.1, channels }));
    // No prefix of an image is one, and none panics.
    for end in 1..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{format:?} cut at {end}");
    }
}

#[test]
fn headers_of_all_formats_are_read() {
    for (colour, channels) in [(0, 1), (2, 3), (3, 3), (4, 2), (6, 4)] {
        check(&png(640, 480, colour), Format::Png, (640, 480), channels);
    }
    for frame in [0xc0, 0xc1, 0xc2, 0xcf] {
        check(&jpeg(1920, 1080, 3, frame), Format::Jpeg, (1920, 1080), 3);
    }
    check(&jpeg(8, 9, 1, 0xc0), Format::Jpeg, (8, 9), 1);
    check(&gif(300, 200), Format::Gif, (300, 200), 3);
    check(&webp(b"VP8 ", &[0, 0, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xf0, 0]), Format::WebP, (320, 240), 3);
    let bits: u32 = 99 | (49 << 14) | (1 << 28);
    let lossless = [&[0x2f][..], &bits.to_le_bytes()].concat();
    check(&webp(b"VP8L", &lossless), Format::WebP, (100, 50), 4);
    check(&webp(b"VP8X", &[0x10, 0, 0, 0, 99, 0, 0, 49, 0, 0]), Format::WebP, (100, 50), 4);
    check(&webp(b"VP8X", &[0, 0, 0, 0, 99, 0, 0, 49, 0, 0]), Format::WebP, (100, 50), 3);
}

/// A file that the operating system does not give out.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("bad sector"))
    }
}

impl Seek for Broken {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Ok(100)
    }
}

#[test]
fn damaged_files_have_a_status() {
    assert_eq!(read(b""), Err(Damage::Empty));
    assert_eq!(read(b"hello world, no image"), Err(Damage::UnknownFormat));
    assert_eq!(read(&png(0, 5, 2)), Err(Damage::InvalidHeader));
    assert_eq!(read(&png(5, u32::MAX, 2)), Err(Damage::InvalidHeader));
    assert_eq!(read(&png(5, 5, 7)), Err(Damage::InvalidHeader));
    assert_eq!(read(&jpeg(5, 5, 0, 0xc0)), Err(Damage::InvalidHeader));
    assert_eq!(read(&jpeg(5, 0, 3, 0xc0)), Err(Damage::InvalidHeader));
    assert_eq!(read(&[0xff, 0xd8, 0xff, 0xda, 0, 0, 0, 0, 0xff, 0xd9]), Err(Damage::InvalidHeader));
    assert_eq!(read(&[0xff, 0xd8, 0xff, 0xe0, 0, 0, 0, 0]), Err(Damage::InvalidHeader));
    assert_eq!(read(&webp(b"VP8?", &[0; 10])), Err(Damage::InvalidHeader));
    let without_end = &png(5, 5, 2)[..33];
    assert_eq!(read(without_end), Err(Damage::Truncated));
    assert_eq!(read_header(&mut Broken), Err(Damage::Unreadable));
}

fn scan(rules: ImageRules, images: &[Vec<u8>]) -> Vec<RuleResult> {
    let mut scan = ImageScan::new(rules);
    images.iter().enumerate().for_each(|(index, bytes)| scan.add(&format!("image-{index}.png"), read(bytes)));
    scan.finish()
}

fn statuses(results: &[RuleResult]) -> Vec<(&str, Status)> {
    results.iter().map(|result| (result.metric, result.status)).collect()
}

#[test]
fn rules_decide_both_ways() {
    let rules = || ImageRules {
        sizes: vec![(64, 64), (32, 32)],
        sizes_max: Some(1),
        side_min: Some(48),
        aspect: Some((1.0, 0.05)),
        channels: vec![3],
        ..ImageRules::default()
    };
    let good = scan(rules(), &[png(64, 64, 2), jpeg(64, 64, 3, 0xc0)]);
    assert!(good.iter().all(|result| result.status == Status::Pass), "{good:?}");
    assert_eq!(good.len(), 6);
    let bad = scan(rules(), &[png(64, 64, 2), png(32, 40, 6), b"no image".to_vec()]);
    assert!(bad.iter().all(|result| result.status == Status::Fail), "{bad:?}");
    assert_eq!(bad[0].observed, "1 of 3 images");
    assert_eq!(bad[0].reason.as_deref(), Some("i…g (11 characters) no PNG, JPEG, GIF or WebP"));
    assert_eq!(bad[1].observed, "2 sizes: 32x40 1 times, 64x64 1 times");
    assert_eq!(bad[5].samples, [Sample { row: 1, key: Some("i…g (11 characters)".into()) }]);
    let warned = scan(ImageRules { severity: Severity::Warn, ..rules() }, &[png(32, 40, 6)]);
    assert!(warned[1..].iter().all(|result| matches!(result.status, Status::Warn | Status::Pass)), "{warned:?}");
}

#[test]
fn no_images_are_skipped_and_only_damaged_ones_fail() {
    let none = scan(ImageRules::default(), &[]);
    assert_eq!(statuses(&none), [("imageReadable", Status::Skipped), ("imageSizes", Status::Skipped)]);
    let damaged = scan(ImageRules::default(), &[Vec::new()]);
    assert_eq!(statuses(&damaged), [("imageReadable", Status::Fail), ("imageSizes", Status::Skipped)]);
}

#[test]
fn folders_and_manifests_are_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("b")).unwrap();
    fs::write(folder.path().join("a.PNG"), png(10, 10, 2)).unwrap();
    fs::write(folder.path().join("b/c.jpg"), jpeg(10, 10, 3, 0xc0)).unwrap();
    fs::write(folder.path().join("b/empty.gif"), b"").unwrap();
    fs::write(folder.path().join("notes.txt"), b"no image").unwrap();
    let contract = "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nschema:\n  - name: pictures\n    quality:\n      \
                    - { metric: rowCount, mustBe: 3 }\n      \
                    - { type: custom, engine: driftwatt, implementation: { rule: images, channels: [3] }, mustBeLessThan: 40, \
                    unit: percent, severity: warning }\n";
    let contract = Contract::from_odcs("c.yaml", contract).unwrap();
    let table = contract.table(None).unwrap();
    let check = |path: &Path| check_images(path, table, &CheckInputs::default());
    let of_folder = check(folder.path()).unwrap();
    assert_eq!(of_folder.damaged, [("b/empty.gif".to_owned(), Damage::Empty.to_string())]);
    let ids: Vec<_> = of_folder.results.iter().map(|result| (result.rule_id.as_str(), result.status)).collect();
    let expected = ["rowCount", "images.imageReadable", "images.imageSizes", "images.imageChannels"];
    assert_eq!(ids, expected.map(|id| (id, Status::Pass)));
    assert_eq!(of_folder.results[0].observed, "3 images");
    fs::write(folder.path().join("list.txt"), "# images\na.PNG\n\nb/c.jpg\nmissing.png\n").unwrap();
    let of_manifest = check(&folder.path().join("list.txt")).unwrap();
    assert_eq!(of_manifest.damaged, [("missing.png".to_owned(), Damage::Unreadable.to_string())]);
    assert_eq!(of_manifest.rows(), 3);
    assert_ne!(of_manifest.digest, of_folder.digest);
    assert_eq!(of_folder.digest, check(folder.path()).unwrap().digest);
    let error = check(&folder.path().join("none.txt")).unwrap_err().to_string();
    assert!(error.starts_with("read ") && error.contains("none.txt"), "{error}");
    let error = check_images(folder.path(), &Table::new("rows"), &CheckInputs::default()).unwrap_err().to_string();
    assert!(error.contains("no rule for images") && error.contains("rule: images"), "{error}");
}

#[test]
fn rules_of_images_are_read_with_their_errors() {
    let rules = |parameters: &str| {
        let contract = format!(
            "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nschema:\n  - name: pictures\n    quality:\n      \
             - {{ type: custom, engine: driftwatt, implementation: {{ rule: images, {parameters} }} }}\n"
        );
        let contract = Contract::from_odcs("c.yaml", &contract).map_err(|error| error.to_string())?;
        let found = contract.tables[0].rules.iter().find_map(|rule| match &rule.kind {
            RuleKind::Images(rules) => Some(rules.clone()),
            _ => None,
        });
        Ok::<_, String>(found.unwrap())
    };
    let read = rules("sizes: [224x224, 64 x 48], sideMin: 48, aspect: 1.5, channels: [1, 3]").unwrap();
    assert_eq!((read.sizes, read.sizes_max), (vec![(224, 224), (64, 48)], None));
    assert_eq!((read.side_min, read.aspect, read.channels), (Some(48), Some((1.5, 0.02)), vec![1, 3]));
    assert_eq!(rules("sizesMax: 3").unwrap().sizes_max, Some(3));
    for (parameters, word) in [
        ("sizes: [big]", "224x224"),
        ("sideMin: 0", "whole number"),
        ("channels: [9]", "1 to 4"),
        ("aspectTolerance: 0.1", "no aspect"),
        ("aspect: -1", "above 0"),
        ("side: 3", "no parameter"),
    ] {
        let error = rules(parameters).unwrap_err();
        assert!(error.contains(word) && error.contains("c.yaml:"), "{parameters}: {error}");
    }
}

proptest::proptest! {
    /// Whatever follows the first bytes of a format, the reader answers.
    #[test]
    fn any_bytes_are_read_or_refused(magic in 0usize..5, rest in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
        let start: &[u8] = [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b""][magic];
        if let Ok(header) = read(&[start, rest.as_slice()].concat()) {
            proptest::prop_assert!(header.width > 0 && header.height > 0 && (1..=4).contains(&header.channels));
        }
    }
}

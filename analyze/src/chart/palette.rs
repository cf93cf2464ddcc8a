//! Colours of pages and charts, light and dark, as CSS variables.
//!
//! Every pair of text and ground has a contrast of at least 4.5:1 (WCAG 2.2, 1.4.3), every mark against the page at least
//! 3:1 (1.4.11); `tests` computes them.

/// Name, colour in light, colour in dark.
type Colour = (&'static str, &'static str, &'static str);

/// Text, grounds and lines.
const PAGE: [Colour; 7] = [
    ("bg", "#ffffff", "#12171d"),
    ("panel", "#f3f5f7", "#1c232b"),
    ("fg", "#1b242e", "#e6ebf0"),
    ("dim", "#55616d", "#a3b0bd"),
    ("line", "#d3dae0", "#3a4652"),
    ("link", "#0b5c9c", "#7fc0ff"),
    ("warn", "#8a3b00", "#ffb47a"),
];

/// Marks of series and states, in order; each also has its own dash or hatch.
const MARKS: [Colour; 6] = [
    ("s0", "#1769aa", "#6db3f2"),
    ("s1", "#b5541c", "#f0a56a"),
    ("s2", "#2b7a4b", "#74c997"),
    ("s3", "#7a4bb0", "#c3a0ee"),
    ("s4", "#8a6d00", "#d9bd55"),
    ("s5", "#5c6773", "#a9b4bf"),
];

/// Grounds of a heat map from low to high.
const HEAT: [Colour; 5] = [
    ("h0", "#eef3f8", "#1d2731"),
    ("h1", "#c9dcee", "#22405c"),
    ("h2", "#8fbbe0", "#2a5f8f"),
    ("h3", "#2f72ad", "#86bdf0"),
    ("h4", "#0d3f6b", "#c5e1fb"),
];

/// Text on each ground of the heat map.
const HEAT_TEXT: [Colour; 5] = [
    ("t0", "#1b242e", "#e6ebf0"),
    ("t1", "#1b242e", "#ffffff"),
    ("t2", "#101820", "#ffffff"),
    ("t3", "#ffffff", "#0b1219"),
    ("t4", "#ffffff", "#0b1219"),
];

fn variables(dark: bool) -> String {
    let groups = [&PAGE[..], &MARKS, &HEAT, &HEAT_TEXT];
    groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|(name, on_light, on_dark)| format!("--{name}:{};", if dark { on_dark } else { on_light }))
        .collect()
}

/// The variables for screens, light and dark, and for paper, which is light.
pub(crate) fn style() -> String {
    format!(
        ":root{{color-scheme:light dark;{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n",
        variables(false),
        variables(true)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance of `#rrggbb` (WCAG 2.2).
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    fn find(name: &str) -> Colour {
        *PAGE.iter().chain(&MARKS).chain(&HEAT).chain(&HEAT_TEXT).find(|colour| colour.0 == name).unwrap()
    }

    #[test]
    fn the_measure_is_that_of_the_standard() {
        assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
        // A pair that is known to fail narrowly, and the grey that just passes.
        assert!(contrast("#777777", "#ffffff") < 4.5 && contrast("#767676", "#ffffff") >= 4.5);
    }

    #[test]
    fn every_text_can_be_read_and_every_mark_be_seen_in_light_and_dark() {
        let mut pairs = Vec::new();
        for text in ["fg", "dim", "link", "warn"] {
            pairs.extend([(text, "bg", 4.5), (text, "panel", 4.5)]);
        }
        for (name, ..) in MARKS {
            pairs.push((name, "bg", 3.0));
        }
        for (text, ground) in [("t0", "h0"), ("t1", "h1"), ("t2", "h2"), ("t3", "h3"), ("t4", "h4")] {
            pairs.push((text, ground, 4.5));
        }
        for (one, other, least) in pairs {
            let (a, b) = (find(one), find(other));
            for (ratio, scheme) in [(contrast(a.1, b.1), "light"), (contrast(a.2, b.2), "dark")] {
                assert!(ratio >= least, "{one} on {other} in {scheme}: {ratio:.2} is below {least}");
            }
        }
    }
}

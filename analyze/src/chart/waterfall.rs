//! What is left at each step, as of GPU-hours: paid, allocated, held, busy, productive.

use super::{Canvas, Caption, Svg, WIDTH, known, number};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// Its name.
    pub name: String,
    /// What is left; none if unknown.
    pub value: Option<f64>,
    /// What that costs; none if unknown.
    pub money: Option<f64>,
    /// Share of the time that telemetry covers, 0 to 1.
    pub coverage: Option<f64>,
}

/// Steps from the whole down.
#[derive(Debug, Clone, PartialEq)]
pub struct Waterfall {
    /// What it is.
    pub caption: Caption,
    /// Unit of the values, such as `GPU-hours`.
    pub unit: String,
    /// Currency of the money, such as `USD`.
    pub currency: String,
    /// The steps, from the top.
    pub rungs: Vec<Rung>,
}

const LEFT: f64 = 150.0;
const RIGHT: f64 = WIDTH - 12.0;

impl Waterfall {
    /// Draws it. What was lost since the last known step is outlined behind the bar.
    pub fn to_svg(&self) -> Svg {
        let mut canvas = Canvas::new(&self.caption, self.rungs.len() as f64 * 48.0 + 20.0);
        let largest = self.rungs.iter().filter_map(|rung| known(rung.value)).fold(0.0, f64::max);
        let width = |value: f64| if largest > 0.0 { value / largest * (RIGHT - LEFT) } else { 0.0 };
        let mut before: Option<f64> = None;
        for (at, rung) in self.rungs.iter().enumerate() {
            let y = 18.0 + at as f64 * 48.0;
            canvas.label(4.0, y + 15.0, "bold", &rung.name, 20);
            let money = known(rung.money)
                .map_or_else(|| "cost unknown".into(), |money| format!("{} {}", self.currency, number(money)));
            let coverage = known(rung.coverage).map_or_else(
                || "coverage unknown".into(),
                |coverage| format!("coverage {} %", number((coverage * 1_000.0).floor() / 10.0)),
            );
            let text = if let Some(value) = known(rung.value) {
                if let Some(lost) = before.filter(|before| *before > value) {
                    canvas.rect("gap", LEFT + width(value), y, width(lost - value), 20.0);
                }
                canvas.rect("f0", LEFT, y, width(value), 20.0);
                let share = before.filter(|before| *before > 0.0).map_or_else(String::new, |before| {
                    format!(" ({} % of the step before)", number((value / before * 1_000.0).round() / 10.0))
                });
                before = Some(value);
                format!("{} {}{share} · {money} · {coverage}", number(value), self.unit)
            } else {
                canvas.rect("gap", LEFT, y, RIGHT - LEFT, 20.0);
                canvas.text((LEFT + RIGHT) / 2.0, y + 14.0, "mid dim", "unknown");
                format!("unknown · {money} · {coverage}")
            };
            canvas.label(LEFT, y + 35.0, "dim", &text, 96);
        }
        canvas.finish()
    }
}

//! The loss over the steps: every value as a faint line, a smoothed one over it.

use crate::api::LossPoint;
use crate::format;
use leptos::prelude::*;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 48.0;

#[component]
pub fn LossCurve(
    #[prop(into)] losses: Signal<Vec<LossPoint>>,
    /// The step at which the training will end.
    #[prop(into)]
    steps: Signal<u32>,
) -> impl IntoView {
    let frame = Memo::new(move |_| losses.with(|losses| Frame::around(losses, steps.get())));
    let raw = move || losses.with(|losses| frame.get().path(losses.iter().map(|point| (point.step, point.loss))));
    let smooth = move || losses.with(|losses| frame.get().path(smoothed(losses)));
    view! {
        <figure class="chart">
            <svg id="loss-curve" viewBox=format!("0 0 {WIDTH} {HEIGHT}") role="img" aria-label=move || losses.with(|losses| in_words(losses))>
                <g class="axis">{move || frame.get().grid()}</g>
                <text class="axis-title" x=(LEFT + WIDTH - RIGHT) / 2.0 y=HEIGHT - 4.0 text-anchor="middle">"Step"</text>
                <text class="axis-title" transform=format!("translate(12 {}) rotate(-90)", (TOP + HEIGHT - BOTTOM) / 2.0) text-anchor="middle">"Loss"</text>
                <path class="raw" d=raw/>
                <path class="smooth" d=smooth/>
            </svg>
            <figcaption class="hint">{move || losses.with(|losses| latest(losses))}</figcaption>
        </figure>
    }
    .into_any()
}

/// The values that the axes span.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Frame {
    steps: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn around(losses: &[LossPoint], steps: u32) -> Self {
        let last = losses.last().map_or(1, |point| point.step);
        let mut sorted: Vec<_> = losses.iter().map(|point| point.loss).filter(|loss| loss.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        // One wild micro-batch must not flatten the rest: the top 2 % may leave the frame.
        let high = sorted.get(sorted.len() * 98 / 100).copied().unwrap_or(1.0) * 1.05;
        let low = sorted.first().copied().unwrap_or(0.0);
        let low = if low < high / 2.0 { 0.0 } else { low * 0.98 };
        Self { steps: f64::from(steps.max(last).max(1)), low, high: high.max(low + 1e-6) }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + step / self.steps * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, loss: f64) -> f64 {
        let share = ((loss - self.low) / (self.high - self.low)).clamp(-0.02, 1.02);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, points: impl Iterator<Item = (u32, f64)>) -> String {
        let mut path = String::new();
        for (step, loss) in points.filter(|(_, loss)| loss.is_finite()) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            path.push_str(&format!("{command}{:.1} {:.1}", self.x(f64::from(step)), self.y(loss)));
        }
        path
    }

    fn grid(&self) -> impl IntoView + use<> {
        let across: Vec<_> = ticks(self.low, self.high, 4)
            .into_iter()
            .map(|loss| {
                let y = self.y(loss);
                view! {
                    <line x1=LEFT x2=WIDTH - RIGHT y1=y y2=y/>
                    <text x=LEFT - 6.0 y=y + 4.0 text-anchor="end">{format::number(loss)}</text>
                }
            })
            .collect();
        let along: Vec<_> = ticks(0.0, self.steps, 6)
            .into_iter()
            .map(|step| view! { <text x=self.x(step) y=HEIGHT - BOTTOM + 20.0 text-anchor="middle">{format::number(step)}</text> })
            .collect();
        (across, along)
    }
}

/// About `count` round values (1, 2 or 5 times a power of ten apart) from `low` to `high`.
fn ticks(low: f64, high: f64, count: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(count);
    let power = 10f64.powf(rough.log10().floor());
    let apart = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let (first, last) = ((low / apart).ceil() as i64, (high / apart).floor() as i64);
    (first..=last).map(|index| index as f64 * apart).collect()
}

/// An exponential mean over about ten steps, without the usual pull towards its first value.
fn smoothed(losses: &[LossPoint]) -> impl Iterator<Item = (u32, f64)> {
    const KEEP: f64 = 0.9;
    let (mut sum, mut weight) = (0.0, 0.0);
    losses.iter().filter(|point| point.loss.is_finite()).map(move |point| {
        sum = KEEP * sum + (1.0 - KEEP) * point.loss;
        weight = KEEP * weight + (1.0 - KEEP);
        (point.step, sum / weight)
    })
}

fn latest(losses: &[LossPoint]) -> String {
    let (Some(point), Some((_, mean))) = (losses.last(), smoothed(losses).last()) else {
        return "The curve starts with the first step.".into();
    };
    let rate = format!("{:.1e}", point.learning_rate);
    format!(
        "Step {}: loss {:.4}, smoothed {mean:.4}, gradient norm {:.3}, learning rate {rate}",
        point.step, point.loss, point.gradient_norm
    )
}

fn in_words(losses: &[LossPoint]) -> String {
    let mut means = smoothed(losses);
    match (means.next(), means.last()) {
        (Some((from, start)), Some((to, end))) => format!("Loss curve: smoothed loss {start:.3} at step {from}, {end:.3} at step {to}"),
        _ => "Loss curve, still empty".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(losses: &[f64]) -> Vec<LossPoint> {
        let point =
            |(index, loss): (usize, &f64)| LossPoint { step: index as u32 + 1, loss: *loss, learning_rate: 1e-3, gradient_norm: 0.1 };
        losses.iter().enumerate().map(point).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 200.0, 4), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!(ticks(0.0, 0.9, 4), [0.0, 0.5]);
        assert_eq!(ticks(0.0, 1.0, 6), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
    }

    #[test]
    fn smoothing_starts_at_the_first_value_and_settles() {
        let means: Vec<_> = smoothed(&points(&[2.0; 30])).collect();
        assert!(means.iter().all(|(_, mean)| (mean - 2.0).abs() < 1e-12));
    }

    #[test]
    fn the_curve_stays_in_its_frame_and_leaves_out_what_is_no_number() {
        let losses = points(&[1.0, f64::NAN, 0.5, 0.25]);
        let frame = Frame::around(&losses, 10);
        let path = frame.path(losses.iter().map(|point| (point.step, point.loss)));
        assert_eq!(path.matches(['M', 'L']).count(), 3);
        assert!(frame.x(10.0) <= WIDTH && frame.y(frame.high) >= 0.0 && frame.y(frame.low) <= HEIGHT);
    }
}

//! One comparison of ours with the reference, measured, judged and printed as a row.

use anyhow::{Result, ensure};
use engine::{DType, Device, Pipeline, Precision, Tensor};
use serde::Serialize;

/// What a comparison must reach. The cosine alone would let a wrong scale or one wrong value pass, so the relative error
/// ‖ours − reference‖ / ‖reference‖ has a bar of the same strictness: √(2·(1 − cosine)).
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    cosine: f64,
    relative: f64,
    /// The relative error that is allowed where the blocks are held in bf16, fp8 and NF4.
    rounded: [f64; 3],
}

impl Bar {
    /// One pass through one part of the model.
    pub const STAGE: Self = Self { cosine: 0.999_99, relative: 4.5e-3, rounded: [0.03, 0.08, 0.25] };
    /// What has gone through many steps.
    pub const SAMPLING: Self = Self { cosine: 0.999_9, relative: 1.42e-2, rounded: [0.08, 0.2, 0.5] };
    /// Gradients and losses.
    pub const TRAINING: Self = Self { cosine: -1.0, relative: 1e-3, rounded: [0.08, 0.25, 0.6] };
    /// Weights after optimiser steps. AdamW's first steps are as long for a small gradient as for a large one, so that one whose sign is
    /// rounding's moves its weight the wrong way.
    pub const WEIGHTS: Self = Self { cosine: -1.0, relative: 1e-3, rounded: [0.3, 0.6, 1.0] };
    /// Plain arithmetic on known numbers, in f32 everywhere.
    pub const EXACT: Self = Self { cosine: 0.999_99, relative: 1e-5, rounded: [1e-5; 3] };

    /// The bar for this pipeline's precision.
    pub fn on(self, pipeline: &Pipeline) -> Self {
        self.in_precision(pipeline.placement.precision)
    }

    fn in_precision(self, precision: Precision) -> Self {
        let [bf16, fp8, nf4] = self.rounded;
        let relative = match precision {
            Precision::F32 => return self,
            Precision::Bf16 => bf16,
            Precision::Fp8 => fp8,
            Precision::Nf4 => nf4,
        };
        let cosine = if self.cosine <= -1.0 { self.cosine } else { 1.0 - relative * relative / 2.0 };
        Self { cosine, relative, ..self }
    }
}

/// What rows in this precision are judged by.
pub fn bounds(precision: Precision) -> String {
    let relative = |bar: Bar| bar.in_precision(precision).relative;
    format!(
        "bounds in {precision}, relative errors: {} a stage, {} a sampling, {} gradients and losses, {} trained weights",
        relative(Bar::STAGE),
        relative(Bar::SAMPLING),
        relative(Bar::TRAINING),
        relative(Bar::WEIGHTS)
    )
}

#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub stage: String,
    pub check: String,
    /// Absent for what is equal or not, such as token ids.
    pub cosine: Option<f64>,
    pub max_difference: Option<f64>,
    pub mean_difference: Option<f64>,
    pub relative_error: Option<f64>,
    pub pass: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The single tensors behind a row that sums them up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<Row>,
}

impl Row {
    /// A yes or no; `Err` says what differs.
    pub fn verdict(stage: &str, check: impl Into<String>, verdict: Result<(), String>) -> Self {
        Self {
            stage: stage.into(),
            check: check.into(),
            cosine: None,
            max_difference: None,
            mean_difference: None,
            relative_error: None,
            pass: verdict.is_ok(),
            note: verdict.err(),
            tensors: Vec::new(),
        }
    }

    pub fn compare(stage: &str, check: impl Into<String>, ours: &Tensor, reference: &Tensor, bar: Bar) -> Result<Self> {
        Self::compare_above(stage, check, ours, reference, bar, 0.0)
    }

    /// The same, where a reference shorter than `floor` counts as that long: what is nearly zero is compared absolutely.
    pub fn compare_above(stage: &str, check: impl Into<String>, ours: &Tensor, reference: &Tensor, bar: Bar, floor: f64) -> Result<Self> {
        let check = check.into();
        if significant(ours) != significant(reference) {
            let differs = format!("shape {:?} instead of {:?}", ours.dims(), reference.dims());
            return Ok(Self::verdict(stage, check, Err(differs)));
        }
        let measured = Measured::new(&values(ours)?, &values(reference)?, floor);
        Ok(Self {
            cosine: Some(measured.cosine),
            max_difference: Some(measured.max),
            mean_difference: Some(measured.mean),
            relative_error: Some(measured.relative),
            pass: measured.passes(bar),
            ..Self::verdict(stage, check, Ok(()))
        })
    }

    /// One row for many tensors: the worst of them. Those that fall short come first, each in a row of its own.
    pub fn group(stage: &str, check: &str, tensors: Vec<Self>) -> Vec<Self> {
        let error = |row: &&Self| row.relative_error.unwrap_or(f64::INFINITY);
        let Some(worst) = tensors.iter().max_by(|a, b| error(a).total_cmp(&error(b))) else { return Vec::new() };
        let summary = Self {
            stage: stage.into(),
            check: format!("{check}, worst of {}", tensors.len()),
            pass: tensors.iter().all(|row| row.pass),
            note: Some(match worst.relative_error {
                Some(error) => format!("{} relative {error:.1e}", worst.check),
                None => worst.check.clone(),
            }),
            ..worst.clone()
        };
        let failed: Vec<Self> = tensors.iter().filter(|row| !row.pass).cloned().collect();
        failed.into_iter().chain([Self { tensors, ..summary }]).collect()
    }
}

struct Measured {
    cosine: f64,
    max: f64,
    mean: f64,
    relative: f64,
}

impl Measured {
    fn new(ours: &[f64], reference: &[f64], floor: f64) -> Self {
        let pairs = || ours.iter().zip(reference);
        let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let differences = || pairs().map(|(a, b)| (a - b).abs());
        let (length, distance) = (norm(reference), differences().map(|x| x * x).sum::<f64>().sqrt());
        let both = norm(ours) * length;
        Self {
            // Two zeros point the same way.
            cosine: if both == 0.0 && distance == 0.0 { 1.0 } else { pairs().map(|(a, b)| a * b).sum::<f64>() / both },
            // f64::max drops NaN; a NaN of ours must be seen.
            max: differences().fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most }),
            mean: differences().sum::<f64>() / ours.len().max(1) as f64,
            relative: if distance == 0.0 { 0.0 } else { distance / length.max(floor) },
        }
    }

    /// Comparisons with NaN are false, so a NaN anywhere falls short. Nearly nothing (below the floor) has no direction to judge.
    fn passes(&self, bar: Bar) -> bool {
        self.relative <= bar.relative && (self.cosine >= bar.cosine || bar.cosine <= -1.0)
    }
}

/// Reference gradients of weights that hardly act are rounding noise; measured against the longest of them.
pub fn norm(tensor: &Tensor) -> Result<f64> {
    Ok(values(tensor)?.iter().map(|x| x * x).sum::<f64>().sqrt())
}

pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    ensure!(!values.is_empty(), "a tensor of the reference is empty");
    Ok(values)
}

/// The shape without sides of length 1, which say nothing.
fn significant(tensor: &Tensor) -> Vec<usize> {
    tensor.dims().iter().copied().filter(|&side| side != 1).collect()
}

/// Rows under their headings, each column as wide as it must be.
pub fn table(rows: &[Row]) -> String {
    let heading = ["stage", "check", "cosine", "max diff", "mean diff", "", ""].map(String::from);
    let lines: Vec<[String; 7]> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |cells: &[String; 7]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            2..=4 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn cells(row: &Row) -> [String; 7] {
    let number = |value: Option<f64>| value.map_or("-".into(), |x| format!("{x:.2e}"));
    [
        row.stage.clone(),
        row.check.clone(),
        row.cosine.map_or("-".into(), |x| format!("{x:.7}")),
        number(row.max_difference),
        number(row.mean_difference),
        if row.pass { "pass".into() } else { "FAIL".into() },
        row.note.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn passes(ours: &[f32], reference: &[f32], bar: Bar) -> bool {
        Row::compare("stage", "check", &tensor(ours), &tensor(reference), bar).unwrap().pass
    }

    #[test]
    fn a_wrong_scale_a_wrong_value_and_nan_fall_short() {
        let reference: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        assert!(passes(&reference, &reference, Bar::STAGE));
        let doubled: Vec<f32> = reference.iter().map(|x| 2.0 * x).collect();
        assert!(!passes(&doubled, &reference, Bar::STAGE));
        for damage in [1.0, f32::NAN, f32::INFINITY] {
            let mut damaged = reference.clone();
            damaged[7] += damage;
            assert!(!passes(&damaged, &reference, Bar::STAGE), "{damage}");
        }
    }

    #[test]
    fn fewer_digits_have_looser_bars() {
        for bar in [Bar::STAGE, Bar::SAMPLING, Bar::TRAINING, Bar::WEIGHTS] {
            let bars = Precision::ALL.map(|precision| bar.in_precision(precision));
            assert!(bars.windows(2).all(|pair| pair[0].relative < pair[1].relative && pair[0].cosine >= pair[1].cosine), "{bars:?}");
        }
        assert_eq!(Bar::EXACT.in_precision(Precision::Nf4).relative, Bar::EXACT.relative);
        assert!(bounds(Precision::Bf16).contains("in bf16"));
    }

    #[test]
    fn what_is_nearly_zero_is_compared_absolutely() {
        let row = |floor| Row::compare_above("s", "c", &tensor(&[2e-9]), &tensor(&[1e-9]), Bar::TRAINING, floor).unwrap();
        assert!(!row(0.0).pass);
        assert!(row(1e-4).pass);
        assert!(passes(&[0.0, 0.0], &[0.0, 0.0], Bar::STAGE));
    }

    #[test]
    fn shapes_must_agree_but_for_ones() {
        let flat = tensor(&[1.0, 2.0]);
        let row = |ours: &Tensor| Row::compare("s", "c", ours, &flat, Bar::EXACT).unwrap();
        assert!(row(&flat.reshape((1, 2)).unwrap()).pass);
        assert!(!row(&tensor(&[1.0, 2.0, 3.0])).pass);
    }

    #[test]
    fn a_group_shows_its_worst_and_every_failure() {
        let row = |name: &str, ours: f32| Row::compare("s", name, &tensor(&[ours]), &tensor(&[1.0]), Bar::TRAINING).unwrap();
        let rows = Row::group("s", "grad", vec![row("a", 1.0), row("b", 1.5), row("c", 1.0005)]);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].check.as_str(), rows[1].check.as_str()), ("b", "grad, worst of 3"));
        assert!(!rows[1].pass && rows[1].tensors.len() == 3);
    }
}

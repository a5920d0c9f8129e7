//! A weight's bytes in a form, under the names that the form's readers know, and the values that come back from them.

use super::{Form, Parameter};
use crate::{
    Result,
    quant::{Nf4, dynamic, fp8, nf4},
};
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use half::bf16;
use serde_json::json;

/// How numbers are stored in a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    Bf16,
    U8,
    I8,
    E4m3,
    Blocks(GgmlDType),
}

/// A tensor to be written: its key and shape are known before its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub key: String,
    pub kind: Kind,
    pub shape: Vec<usize>,
}

impl Slot {
    fn new(key: impl Into<String>, kind: Kind, shape: &[usize]) -> Self {
        Self { key: key.into(), kind, shape: shape.to_vec() }
    }

    pub fn bytes(&self) -> usize {
        let count: usize = self.shape.iter().product();
        match self.kind {
            Kind::F32 => 4 * count,
            Kind::Bf16 => 2 * count,
            Kind::U8 | Kind::I8 | Kind::E4m3 => count,
            Kind::Blocks(kind) => count / kind.block_size() * kind.type_size(),
        }
    }
}

pub struct Encoded {
    /// The bytes of each slot, in order.
    pub tensors: Vec<Vec<u8>>,
    /// What comes back, where it is not what went in.
    pub values: Option<Tensor>,
}

/// Room for bitsandbytes' state of a weight: JSON may end in spaces, and its length must be known before its numbers.
const STATE: usize = 256;

/// Where a parameter's bytes go.
pub fn slots(form: Form, parameter: &Parameter) -> Vec<Slot> {
    let Parameter { key, shape, .. } = parameter;
    let count: usize = shape.iter().product();
    match (form, parameter.quantised) {
        (Form::Nf4, true) => {
            let blocks = count.div_ceil(nf4::BLOCK);
            vec![
                Slot::new(key, Kind::U8, &[count.div_ceil(2), 1]),
                Slot::new(format!("{key}.absmax"), Kind::U8, &[blocks]),
                Slot::new(format!("{key}.nested_absmax"), Kind::F32, &[blocks.div_ceil(dynamic::BLOCK)]),
                Slot::new(format!("{key}.nested_quant_map"), Kind::F32, &[256]),
                Slot::new(format!("{key}.quant_map"), Kind::F32, &[16]),
                Slot::new(format!("{key}.quant_state.bitsandbytes__nf4"), Kind::U8, &[STATE]),
            ]
        }
        (Form::Int8, true) => vec![
            Slot::new(key, Kind::I8, shape),
            Slot::new(format!("{}.SCB", parameter.layer()), Kind::F32, &shape[..1]),
            Slot::new(format!("{key}_format"), Kind::U8, &[]),
        ],
        (Form::Fp8, true) => {
            vec![Slot::new(key, Kind::E4m3, shape), Slot::new(format!("{}.scale_weight", parameter.layer()), Kind::F32, &[])]
        }
        (Form::Gguf(kind), true) => vec![Slot::new(key, Kind::Blocks(fitting(kind, shape)), shape)],
        (Form::Gguf(_), false) => vec![Slot::new(key, Kind::F32, shape)],
        _ => vec![Slot::new(key, Kind::Bf16, shape)],
    }
}

/// Rows that this type's blocks do not divide go to the next finer one that does.
fn fitting(kind: GgmlDType, shape: &[usize]) -> GgmlDType {
    let row = shape[shape.len() - 1];
    [kind, GgmlDType::Q8_0].into_iter().find(|kind| row.is_multiple_of(kind.block_size())).unwrap_or(GgmlDType::F16)
}

/// weight: f32
pub fn encode(form: Form, parameter: &Parameter, weight: &Tensor) -> Result<Encoded> {
    let values = || -> Result<Vec<f32>> { Ok(weight.flatten_all()?.to_vec1()?) };
    match (form, parameter.quantised) {
        (Form::Nf4, true) => four_bit(&values()?, parameter),
        (Form::Int8, true) => int8(&values()?, parameter),
        (Form::Fp8, true) => e4m3(&values()?, parameter),
        (Form::Gguf(kind), true) => blocks(weight, fitting(kind, &parameter.shape)),
        (Form::Gguf(_), false) => Ok(Encoded { tensors: vec![f32_bytes(&values()?)], values: None }),
        _ => Ok(Encoded { tensors: vec![values()?.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect()], values: None }),
    }
}

fn four_bit(values: &[f32], parameter: &Parameter) -> Result<Encoded> {
    let mut whole = values.to_vec();
    whole.resize(values.len().next_multiple_of(nf4::BLOCK), 0.0);
    let quantised = Nf4::quantise(&whole);
    let mut back = quantised.dequantise();
    back.truncate(values.len());
    let Nf4 { mut codes, absmax } = quantised;
    codes.truncate(values.len().div_ceil(2));
    let state = json!({
        "quant_type": "nf4", "blocksize": nf4::BLOCK, "dtype": "bfloat16", "shape": parameter.shape,
        "nested_blocksize": dynamic::BLOCK, "nested_dtype": "float32", "nested_offset": absmax.offset,
    });
    let mut state = state.to_string().into_bytes();
    state.resize(STATE, b' ');
    let maps = [dynamic::SIGNED.values().as_slice(), nf4::VALUES.as_slice()].map(f32_bytes);
    let [nested, map] = maps;
    Ok(Encoded {
        tensors: vec![codes, absmax.codes, f32_bytes(&absmax.scales), nested, map, state],
        values: Some(tensor(back, parameter)?),
    })
}

/// LLM.int8: each row from −127 to 127 of its largest magnitude.
fn int8(values: &[f32], parameter: &Parameter) -> Result<Encoded> {
    let width = parameter.shape[1].max(1);
    let (mut codes, mut scales, mut back) = (Vec::with_capacity(values.len()), Vec::new(), Vec::with_capacity(values.len()));
    for row in values.chunks(width) {
        let most = row.iter().fold(0f32, |most, x| most.max(x.abs()));
        let factor = if most > 0.0 { 127.0 / most } else { 0.0 };
        for x in row {
            let code = (x * factor).round_ties_even() as i8;
            codes.push(code as u8);
            back.push(f32::from(code) * most / 127.0);
        }
        scales.push(most);
    }
    Ok(Encoded { tensors: vec![codes, f32_bytes(&scales), vec![0]], values: Some(tensor(back, parameter)?) })
}

fn e4m3(values: &[f32], parameter: &Parameter) -> Result<Encoded> {
    let most = values.iter().fold(0f32, |most, x| most.max(x.abs()));
    let scale = if most > 0.0 { most / fp8::LARGEST } else { 1.0 };
    let codes: Vec<u8> = values.iter().map(|x| fp8::encode(x / scale)).collect();
    let back = codes.iter().map(|code| fp8::decode(*code) * scale).collect();
    Ok(Encoded { tensors: vec![codes, f32_bytes(&[scale])], values: Some(tensor(back, parameter)?) })
}

fn blocks(weight: &Tensor, kind: GgmlDType) -> Result<Encoded> {
    let quantised = QTensor::quantize(weight, kind)?;
    Ok(Encoded { tensors: vec![quantised.data()?.into_owned()], values: Some(quantised.dequantize(&Device::Cpu)?) })
}

fn tensor(values: Vec<f32>, parameter: &Parameter) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, parameter.shape.as_slice(), &Device::Cpu)?)
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

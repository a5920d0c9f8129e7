//! Reading an adapter file, whoever wrote it: diffusers, kohya, ComfyUI, OneTrainer, XLabs, PEFT or LyCORIS.
//!
//! diffusers `loaders/lora_pipeline.py` (`lora_state_dict`), `loaders/lora_conversion_utils.py`, `utils/peft_utils.py` (`get_peft_kwargs`);
//! kohya `networks/convert_flux_lora.py`; LyCORIS `modules/{loha,lokr}.py`.

use super::{
    Adapter,
    delta::{Delta, Factor, Form, LoraPair, Magnitude, Product, Update},
    header,
    key::{Home, Key, Layout, Role, home},
    scale::Scales,
};
use crate::{Error, bfl::Fused};
use candle_core::{DType, Device, Tensor};
use safetensors::{SafeTensors, tensor::TensorView};
use std::{collections::BTreeMap, ops::Range, path::Path};

/// PEFT's own configuration, which it saves beside its weights.
const PEFT_CONFIG: &str = "adapter_config.json";

/// Weights of a layer; FLUX.1's largest has 21504·3072. Beyond, a small file could ask for any amount of memory.
const LARGEST: usize = 1 << 28;

impl Adapter {
    /// Reads a safetensors file, with PEFT's configuration if that lies beside it.
    pub fn load(path: &Path, device: &Device) -> crate::Result<Self> {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        Self::load_as(&name, path, device)
    }

    /// The same under another name than the file's.
    pub fn load_as(name: &str, path: &Path, device: &Device) -> crate::Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::adapter(path.to_string_lossy(), format!("cannot be read: {e}")))?;
        let config = std::fs::read_to_string(path.with_file_name(PEFT_CONFIG)).ok();
        Self::read(name, &bytes, config.as_deref(), device)
    }

    /// Reads the same from bytes alone; `name` is used in errors.
    pub fn from_bytes(name: &str, bytes: &[u8], device: &Device) -> crate::Result<Self> {
        Self::read(name, bytes, None, device)
    }

    fn read(name: &str, bytes: &[u8], config: Option<&str>, device: &Device) -> crate::Result<Self> {
        let refuse = |problem: String| Error::adapter(name, problem);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| refuse(not_safetensors(&e)))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| refuse(not_safetensors(&e)))?;
        let metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let mut file = File::gather(&tensors, device).map_err(refuse)?;
        // PEFT's file may lie beside adapters of others; only names as PEFT writes them are its own.
        let config = config.filter(|_| file.layout == Layout::RawPeft);
        if file.layout == Layout::RawPeft && config.is_none() && !metadata.contains_key(header::KEY) && file.alphas().is_empty() {
            file.left_out
                .push((PEFT_CONFIG.into(), "PEFT's configuration is not beside the file, so alpha is taken to be the rank".into()));
        }
        let scales = Scales::new(&metadata, config, file.alphas(), file.layout == Layout::Diffusers).map_err(refuse)?;
        let any = !file.layers.is_empty();
        let modules = file.deltas(&scales).map_err(refuse)?;
        if modules.is_empty() {
            // Layers that were neither placed nor left out: fused ones, of which no part moves.
            let idle = any && file.left_out.is_empty();
            return Err(refuse(if idle { "it changes nothing: every one of its products is zero".into() } else { file.nothing() }));
        }
        Ok(Self { name: name.to_owned(), layout: file.layout, modules, left_out: file.left_out, metadata })
    }
}

fn not_safetensors(error: &safetensors::SafeTensorError) -> String {
    format!("truncated or not a safetensors file ({error})")
}

/// What a file holds, by the layers' names in it.
struct File {
    layout: Layout,
    layers: BTreeMap<String, (Home, Tensors)>,
    /// Keys that lead nowhere, and why.
    left_out: Vec<(String, String)>,
}

/// What it holds of one layer.
type Tensors = BTreeMap<Role, Tensor>;

impl File {
    fn gather(tensors: &SafeTensors, device: &Device) -> Result<Self, String> {
        let mut file = Self { layout: Layout::Bare, layers: BTreeMap::new(), left_out: Vec::new() };
        let mut votes = BTreeMap::<Layout, usize>::new();
        let mut keys = tensors.names();
        keys.sort_unstable();
        for key in keys {
            let view = tensors.tensor(key).map_err(|e| not_safetensors(&e))?;
            match Key::parse(key).and_then(|key| Ok((home(key.module)?, key))) {
                Ok(((home, layout), Key { module, role })) => {
                    *votes.entry(layout).or_default() += 1;
                    let (_, parts) = file.layers.entry(module.to_owned()).or_insert_with(|| (home, Tensors::new()));
                    if parts.insert(role, numbers(key, &view, device)?).is_some() {
                        return Err(format!("{module} has its {role:?} twice"));
                    }
                }
                Err(reason) => file.left_out.push((key.to_owned(), reason)),
            }
        }
        file.layout = votes.into_iter().max_by_key(|&(_, count)| count).map_or(Layout::Bare, |(layout, _)| layout);
        Ok(file)
    }

    /// Why there is nothing in it.
    fn nothing(&self) -> String {
        let first = self.left_out.first().map_or(String::new(), |(key, reason)| format!(" (key {key}: {reason})"));
        format!("this is not a LoRA file of FLUX.1 that diffusers, kohya, ComfyUI, OneTrainer, XLabs, PEFT or LyCORIS would write{first}")
    }

    fn alphas(&self) -> BTreeMap<String, f64> {
        let alpha = |(name, (_, parts)): (&String, &(Home, Tensors))| Some((name.clone(), number(parts.get(&Role::Alpha)?)?));
        self.layers.iter().filter_map(alpha).collect()
    }

    /// By diffusers' paths.
    fn deltas(&mut self, scales: &Scales) -> Result<BTreeMap<String, Delta>, String> {
        let mut modules = BTreeMap::new();
        for (name, (home, parts)) in std::mem::take(&mut self.layers) {
            if parts.keys().all(|role| *role == Role::Alpha) {
                self.left_out.push((format!("{name}.alpha"), "an alpha without the pair that it scales".into()));
                continue;
            }
            let delta = delta(&name, &parts, scales.of(&name, path(&home), rank(&parts))?)?;
            let (outputs, inputs) = delta.update.shape();
            if outputs.saturating_mul(inputs) > LARGEST {
                self.left_out.push((name, format!("{inputs} to {outputs} features are more than any layer of FLUX.1 has")));
                continue;
            }
            match placed(home, delta) {
                Ok(placed) => {
                    for (path, delta) in placed {
                        if modules.insert(path.clone(), delta).is_some() {
                            return Err(format!("it changes {path} twice, the second time as {name}"));
                        }
                    }
                }
                Err(reason) => self.left_out.push((name, reason)),
            }
        }
        if scales.say_dora() && modules.values().all(|delta| delta.magnitude.is_none()) {
            return Err("its header says that it is a DoRA adapter, but its magnitudes are missing".into());
        }
        Ok(modules)
    }
}

/// The name that a configuration's patterns speak of.
fn path(home: &Home) -> &str {
    match home {
        Home::Layer(path) => path,
        Home::Part(fused, index) => &fused.parts[*index],
        Home::Fused(fused) | Home::First(fused, _) => {
            if fused.parts.len() == 1 {
                &fused.parts[0]
            } else {
                &fused.name
            }
        }
    }
}

/// By which alpha is divided; none if the factors are whole.
fn rank(parts: &Tensors) -> Option<usize> {
    [Role::Down, Role::Lokr2b, Role::Lokr1b, Role::Hada1b].iter().find_map(|role| parts.get(role)?.dims().first().copied())
}

fn number(tensor: &Tensor) -> Option<f64> {
    match tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).ok()?[..] {
        [number] => Some(f64::from(number)),
        _ => None,
    }
}

/// ΔW as the file calls its layer, all rows.
fn delta(name: &str, parts: &Tensors, scale: f64) -> Result<Delta, String> {
    let scale =
        scale * parts.get(&Role::Scalar).map_or(Ok(1.0), |scalar| number(scalar).ok_or(format!("{name}: its scalar is not one number")))?;
    if parts.get(&Role::Alpha).is_some_and(|alpha| number(alpha).is_none()) {
        return Err(format!("{name}: its alpha must be a single number"));
    }
    let update = update(name, parts, scale)?;
    let magnitude = parts.iter().find_map(|(role, values)| if let Role::Magnitude(square) = role { Some((*square, values)) } else { None });
    let magnitude = magnitude.map(|(square, values)| {
        let shape = update.shape();
        let of = square.axis(values.dims(), shape).ok_or_else(|| {
            format!("{name}: {:?} magnitudes are neither one for each of {} outputs nor of {} inputs", values.dims(), shape.0, shape.1)
        })?;
        Ok::<_, String>(Magnitude { values: values.flatten_all().map_err(|e| e.to_string())?, of })
    });
    Ok(Delta { update, magnitude: magnitude.transpose()? })
}

fn update(name: &str, parts: &Tensors, scale: f64) -> Result<Update, String> {
    let has = |role: Role| parts.contains_key(&role);
    let matrix = |role: Role| -> Result<Tensor, String> {
        let tensor = parts.get(&role).ok_or_else(|| format!("{name} has a part of its factors only: {role:?} is missing"))?;
        if tensor.rank() == 2 {
            Ok(tensor.clone())
        } else {
            Err(format!("{name}: {role:?} has shape {:?}, but a matrix is needed", tensor.dims()))
        }
    };
    let low = |tall: Role, wide: Role| -> Result<Factor, String> {
        let (tall, wide) = (matrix(tall)?, matrix(wide)?);
        if tall.dims()[1] != wide.dims()[0] || wide.dims()[0] == 0 {
            return Err(format!("{name}: factors {:?} and {:?} have no common rank", tall.dims(), wide.dims()));
        }
        Ok(Factor::Low(tall, wide))
    };
    let either = |whole: Role, tall: Role, wide: Role| if has(whole) { matrix(whole).map(Factor::Whole) } else { low(tall, wide) };
    if has(Role::Hada1a) {
        let factors = [low(Role::Hada1a, Role::Hada1b)?, low(Role::Hada2a, Role::Hada2b)?];
        if factors[0].shape() != factors[1].shape() {
            return Err(format!(
                "{name}: LoHa's matrices are {:?} and {:?}; they must be of one shape",
                factors[0].shape(),
                factors[1].shape()
            ));
        }
        return Ok(Update::Product(Product::new(Form::Hadamard(factors), scale)));
    }
    if has(Role::Lokr1) || has(Role::Lokr1a) {
        let factors = [either(Role::Lokr1, Role::Lokr1a, Role::Lokr1b)?, either(Role::Lokr2, Role::Lokr2a, Role::Lokr2b)?];
        return Ok(Update::Product(Product::new(Form::Kronecker(factors), scale)));
    }
    if has(Role::Whole) {
        return Ok(Update::Product(Product::new(Form::Whole(matrix(Role::Whole)?), scale)));
    }
    match (has(Role::Down), has(Role::Up)) {
        (true, false) => Err(format!("{name} has a lora_A but no lora_B")),
        (false, true) => Err(format!("{name} has a lora_B but no lora_A")),
        (false, false) => Err(format!("{name} has a part of its factors only")),
        (true, true) => {
            let (a, b) = (matrix(Role::Down)?, matrix(Role::Up)?);
            if a.dims()[0] != b.dims()[1] || a.dims()[0] == 0 {
                return Err(format!("{name}: lora_A {:?} and lora_B {:?} have no common rank", a.dims(), b.dims()));
            }
            Ok(Update::Pair(LoraPair { a, b, scale }))
        }
    }
}

/// The same for each of diffusers' layers that it belongs to, or why it cannot be divided.
fn placed(home: Home, delta: Delta) -> Result<Vec<(String, Delta)>, String> {
    let (fused, wanted) = match home {
        Home::Layer(path) => return Ok(vec![(path, delta)]),
        Home::Part(fused, index) if fused.parts.len() > 1 => return Ok(vec![(fused.parts[index].clone(), delta)]),
        Home::First(fused, count) => (Fused { parts: fused.parts[..count].to_vec(), ..fused }, count),
        Home::Fused(fused) | Home::Part(fused, _) => {
            let count = fused.parts.len();
            (fused, count)
        }
    };
    let (outputs, inputs) = delta.update.shape();
    let rows = fused
        .rows(outputs, inputs)
        .ok_or_else(|| format!("{outputs} outputs from {inputs} inputs cannot be divided among {}", fused.parts.join(", ")))?;
    if wanted > 1 && delta.magnitude.as_ref().is_some_and(|magnitude| magnitude.of == super::Axis::Inputs) {
        return Err("DoRA's lengths of the columns of several layers at once cannot be divided among them".into());
    }
    let part = |(path, rows): (&String, &Vec<Range<usize>>)| {
        let part = part_of(&delta, rows, wanted > 1).map_err(|e| format!("{path}: {e}"))?;
        Ok(part.map(|part| (path.clone(), part)))
    };
    fused.parts.iter().zip(&rows).filter_map(|part_rows| part(part_rows).transpose()).collect()
}

/// None for a pair that adds nothing: a fused layer has room for parts that were never adapted.
fn part_of(delta: &Delta, rows: &[Range<usize>], divided: bool) -> crate::Result<Option<Delta>> {
    let magnitude = match &delta.magnitude {
        Some(Magnitude { values, of: super::Axis::Outputs }) => {
            let picked = rows.iter().map(|range| values.narrow(0, range.start, range.len())).collect::<candle_core::Result<Vec<_>>>()?;
            Some(Magnitude { values: Tensor::cat(&picked, 0)?, of: super::Axis::Outputs })
        }
        other => other.clone(),
    };
    let update = match delta.update.rows(rows)? {
        Update::Pair(pair) if divided && magnitude.is_none() => match without_zeros(&pair)? {
            Some(pair) => Update::Pair(pair),
            None => return Ok(None),
        },
        update => update,
    };
    Ok(Some(Delta { update, magnitude }))
}

/// A pair without the columns of B that are all zero, and the rows of A that they meet: those of the layers that were put beside this one.
fn without_zeros(pair: &LoraPair) -> crate::Result<Option<LoraPair>> {
    let columns = pair.b.abs()?.max(0)?.to_vec1::<f32>()?;
    let used: Vec<u32> = (0..).zip(&columns).filter(|(_, most)| **most != 0.0).map(|(column, _)| column).collect();
    if used.is_empty() {
        return Ok(None);
    }
    if used.len() == columns.len() {
        return Ok(Some(pair.clone()));
    }
    let used = Tensor::new(used, pair.b.device())?;
    Ok(Some(LoraPair { a: pair.a.index_select(&used, 0)?, b: pair.b.index_select(&used, 1)?, scale: pair.scale }))
}

/// A tensor of finite numbers, in f32.
fn numbers(key: &str, view: &TensorView, device: &Device) -> Result<Tensor, String> {
    let dtype = match view.dtype() {
        safetensors::Dtype::BF16 => DType::BF16,
        safetensors::Dtype::F16 => DType::F16,
        safetensors::Dtype::F32 => DType::F32,
        safetensors::Dtype::F64 => DType::F64,
        safetensors::Dtype::I64 => DType::I64,
        other => return Err(format!("{key} is stored as {other}; bf16, f16 and f32 are read")),
    };
    if view.shape().contains(&0) {
        return Err(format!("{key} has shape {:?}, which holds no number", view.shape()));
    }
    let read = || -> candle_core::Result<(Tensor, f32)> {
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), device)?.to_dtype(DType::F32)?;
        // x·0 is 0 for every finite x and NaN for the others.
        let poison = (&tensor * 0.0)?.sum_all()?.to_scalar()?;
        Ok((tensor, poison))
    };
    match read().map_err(|e| format!("{key}: {e}"))? {
        (tensor, poison) if poison == 0.0 => Ok(tensor),
        _ => Err(format!("{key} holds NaN or infinity; the training that made it went wrong")),
    }
}

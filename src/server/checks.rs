//! Every field of a request against its limit. What is refused is told with what is allowed.

use super::error::refuse;
use crate::jobs::resident::Facts;
use app::api::{AdapterUse, ApiError, ApiResult, CompareRequest, GenerateRequest, limits::*};
use std::fmt::Display;

pub fn generate(request: &GenerateRequest, facts: Option<&Facts>) -> ApiResult<()> {
    prompt(&request.prompt)?;
    picture(request.width, request.height, request.steps, request.guidance, facts)?;
    between("Pictures", request.count, 1, MAX_COUNT)?;
    seed(request.seed, request.count)?;
    if request.adapters.len() > MAX_ADAPTERS {
        return Err(refuse(format!("{} adapters are too many; at most {MAX_ADAPTERS} can be mixed.", request.adapters.len())));
    }
    request.adapters.iter().map(|used| used.scale).try_for_each(scale)?;
    twice(&request.adapters)
}

pub fn compare(request: &CompareRequest, facts: Option<&Facts>) -> ApiResult<()> {
    prompt(&request.prompt)?;
    picture(request.width, request.height, request.steps, request.guidance, facts)?;
    between("Seeds", request.count, 1, MAX_COUNT)?;
    seed(request.seed, request.count)?;
    between("Strengths", request.scales.len() as u32, 1, MAX_COUNT)?;
    request.scales.iter().copied().try_for_each(scale)?;
    if request.scales.contains(&0.0) {
        return Err(refuse("Strength 0 is the base model, which is drawn anyway; give another one."));
    }
    let repeated = request.scales.iter().enumerate().any(|(i, scale)| request.scales[..i].contains(scale));
    if repeated { Err(refuse("Each strength can be given once only.")) } else { Ok(()) }
}

/// A caption: one line, with words in it.
pub fn caption(text: &str) -> ApiResult<String> {
    let caption = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if caption.is_empty() {
        return Err(refuse("A caption cannot be empty; say in a few words what the picture shows."));
    }
    short("A caption", &caption, MAX_CAPTION_CHARS)?;
    Ok(caption)
}

pub fn name(text: &str) -> ApiResult<String> {
    let name = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        return Err(refuse("A name is needed; a word or two will do."));
    }
    short("A name", &name, MAX_NAME_CHARS)?;
    Ok(name)
}

/// A trigger phrase; empty means none.
pub fn trigger(text: &str) -> ApiResult<Option<String>> {
    let trigger = text.split_whitespace().collect::<Vec<_>>().join(" ");
    short("A trigger phrase", &trigger, MAX_NAME_CHARS)?;
    Ok((!trigger.is_empty()).then_some(trigger))
}

fn prompt(prompt: &str) -> ApiResult<()> {
    if prompt.trim().is_empty() {
        return Err(refuse("The prompt is empty; describe what you would like to see."));
    }
    short("The prompt", prompt, MAX_PROMPT_CHARS)
}

fn picture(width: u32, height: u32, steps: u32, guidance: f64, facts: Option<&Facts>) -> ApiResult<()> {
    if ![width, height].iter().all(|side| (16..=MAX_SIDE).contains(side) && side.is_multiple_of(16)) {
        return Err(refuse(format!(
            "{width}×{height} cannot be drawn: width and height must be multiples of 16 from 16 to {MAX_SIDE}, such as 256×256."
        )));
    }
    if let Some(most) = facts.map(Facts::most_pixels).filter(|most| width * height > *most) {
        let side = most.isqrt();
        return Err(refuse(format!("{width}×{height} is too large for this model; at most as many pixels as {side}×{side} can be drawn.")));
    }
    if let Some(facts) = facts {
        facts.check_picture(width, height).map_err(refuse)?;
    }
    between("Steps", steps, 1, MAX_STEPS)?;
    within("Guidance", guidance, 0.0, MAX_GUIDANCE)
}

fn scale(scale: f64) -> ApiResult<()> {
    within("An adapter's strength", scale, -MAX_SCALE, MAX_SCALE)
}

fn twice(adapters: &[AdapterUse]) -> ApiResult<()> {
    let repeated = adapters.iter().enumerate().any(|(i, used)| adapters[..i].iter().any(|other| other.id == used.id));
    if repeated { Err(refuse("Each adapter can be used once only; give it one strength.")) } else { Ok(()) }
}

/// The last picture's seed too must be one that may be asked for again.
fn seed(seed: Option<u64>, count: u32) -> ApiResult<()> {
    let most = MAX_SEED - u64::from(count.saturating_sub(1));
    match seed {
        Some(seed) if seed > most => Err(refuse(format!("Seed {seed} is too large; at most {most} is allowed."))),
        _ => Ok(()),
    }
}

fn short(what: &str, text: &str, most: usize) -> ApiResult<()> {
    match text.chars().count() {
        given if given > most => Err(refuse(format!("{what} of {given} characters is too long; at most {most} are allowed."))),
        _ => Ok(()),
    }
}

fn between(what: &str, given: u32, least: u32, most: u32) -> ApiResult<()> {
    if (least..=most).contains(&given) { Ok(()) } else { Err(outside(what, given, least, most)) }
}

/// NaN lies in no range.
fn within(what: &str, given: f64, least: f64, most: f64) -> ApiResult<()> {
    if (least..=most).contains(&given) { Ok(()) } else { Err(outside(what, given, least, most)) }
}

fn outside<T: Display>(what: &str, given: T, least: T, most: T) -> ApiError {
    refuse(format!("{what}: {given} is not allowed; give a number from {least} to {most}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> GenerateRequest {
        GenerateRequest {
            prompt: "a lake".into(),
            width: 256,
            height: 256,
            steps: 4,
            guidance: 3.5,
            seed: None,
            count: 1,
            adapters: vec![],
        }
    }

    #[test]
    fn each_field_is_refused_in_a_sentence_that_names_the_limit() {
        type Spoil = fn(&mut GenerateRequest);
        let cases: [(Spoil, &str); 10] = [
            (|r| r.prompt = "x".repeat(100_000), "4000"),
            (|r| r.prompt = " \n".into(), "empty"),
            (|r| r.width = 250, "multiples of 16"),
            (|r| r.height = 1 << 20, "multiples of 16"),
            (|r| r.steps = 0, "1 to 100"),
            (|r| r.guidance = f64::NAN, "0 to 20"),
            (|r| r.guidance = -1.0, "0 to 20"),
            (|r| r.count = 0, "1 to 4"),
            (|r| r.seed = Some(u64::MAX), "at most"),
            (|r| r.adapters = vec![AdapterUse { id: "a".to_owned().into(), name: String::new(), scale: f64::INFINITY }], "-2 to 2"),
        ];
        generate(&request(), None).unwrap();
        for (spoil, allowed) in cases {
            let mut spoilt = request();
            spoil(&mut spoilt);
            let error = generate(&spoilt, None).unwrap_err();
            assert_eq!(error.status, 422);
            assert!(error.message.contains(allowed), "{}", error.message);
        }
    }

    #[test]
    fn captions_are_one_line_with_words() {
        assert_eq!(caption(" a\n lake ").unwrap(), "a lake");
        assert!(caption(" \n").is_err() && caption(&"x".repeat(2001)).is_err());
        assert_eq!(trigger("  ").unwrap(), None);
    }
}

//! Everything a recipe decides, folded away. An empty field keeps the recipe's value, which stands in it faintly.

use crate::api::RecipeSettings;
use crate::format;
use crate::forms::TrainForm;
use leptos::prelude::*;

#[component]
pub fn Advanced(typed: TrainForm, settings: Memo<RecipeSettings>) -> impl IntoView {
    let whole =
        move |pick: fn(&RecipeSettings) -> Option<u32>| Signal::derive(move || settings.with(|s| pick(s).map(|value| value.to_string())));
    let real = move |pick: fn(&RecipeSettings) -> Option<f64>| Signal::derive(move || settings.with(|s| pick(s).map(format::number)));
    let text = move |pick: fn(&RecipeSettings) -> Option<String>| Signal::derive(move || settings.with(pick));
    let yes_no = move |pick: fn(&RecipeSettings) -> Option<bool>| {
        Signal::derive(move || settings.with(|s| pick(s).map(|on| if on { "yes" } else { "no" }.to_owned())))
    };
    view! {
        <details class="more">
            <summary>"Advanced settings"</summary>
            <div class="more-body advanced">
                <p class="hint">"Empty fields keep the recipe's values, shown in grey."</p>
                <Field name="steps" label="Steps" value=typed.steps from=whole(|s| s.steps)/>
                <Field name="rank" label="Rank" value=typed.rank from=whole(|s| s.rank)/>
                <Field name="alpha" label="Alpha" value=typed.alpha from=real(|s| s.alpha)/>
                <Field name="learning_rate" label="Learning rate" value=typed.learning_rate from=real(|s| s.learning_rate)/>
                <Choice name="schedule" label="Schedule" value=typed.schedule options=&["constant", "cosine", "linear"] from=text(|s| s.schedule.clone())/>
                <Field name="warmup_steps" label="Warm-up steps" value=typed.warmup_steps from=whole(|s| s.warmup_steps)/>
                <Field name="batch_size" label="Batch size" value=typed.batch_size from=whole(|s| s.batch_size)/>
                <Field name="accumulate" label="Batches per step" value=typed.accumulate from=whole(|s| s.accumulate)/>
                <Field name="resolution" label="Size" value=typed.resolution from=text(|s| s.resolution.clone())/>
                <Choice name="buckets" label="Keep aspect ratios" value=typed.buckets options=&["yes", "no"] from=yes_no(|s| s.buckets)/>
                <Choice name="flip" label="Mirror half of the pictures" value=typed.flip options=&["yes", "no"] from=yes_no(|s| s.flip)/>
                <Field name="targets" label="Layers" value=typed.targets from=text(|s| s.targets.clone())/>
                <Choice name="optimizer" label="Optimiser" value=typed.optimizer options=&["adamw", "adamw8bit"] from=text(|s| s.optimizer.clone())/>
                <Choice
                    name="timestep_sampling"
                    label="Noise levels"
                    value=typed.timestep_sampling
                    options=&["none", "logit_normal", "mode", "shifted"]
                    from=text(|s| s.timestep_sampling.clone())
                />
                <Choice
                    name="weighting"
                    label="Loss weighting"
                    value=typed.weighting
                    options=&["none", "sigma_sqrt", "cosmap"]
                    from=text(|s| s.weighting.clone())
                />
                <Field name="guidance" label="Guidance" value=typed.guidance from=real(|s| s.guidance)/>
                <Field name="caption_dropout" label="Caption dropout" value=typed.caption_dropout from=real(|s| s.caption_dropout)/>
                <Field
                    name="seed"
                    label="Seed"
                    value=typed.seed
                    from=Signal::derive(move || settings.with(|s| s.seed.map(|seed| seed.to_string())))
                />
                <Field name="checkpoint_every" label="Checkpoint every … steps" value=typed.checkpoint_every from=whole(|s| s.checkpoint_every)/>
                <Choice
                    name="gradient_checkpointing"
                    label="Save memory, train slower"
                    value=typed.gradient_checkpointing
                    options=&["auto", "none", "smart", "full"]
                    from=text(|s| s.gradient_checkpointing.clone())
                />
                <SamplePrompts value=typed.sample_prompts from=Signal::derive(move || settings.with(|s| s.sample_prompts.clone().unwrap_or_default()))/>
            </div>
        </details>
    }
    .into_any()
}

#[component]
fn Field(name: &'static str, label: &'static str, value: String, from: Signal<Option<String>>) -> impl IntoView {
    view! {
        <label class="setting">
            <span>{label}</span>
            <input type="text" name=format!("form[{name}]") value=value placeholder=move || from.get().unwrap_or_default() autocomplete="off"/>
        </label>
    }
    .into_any()
}

#[component]
fn Choice(
    name: &'static str,
    label: &'static str,
    value: String,
    options: &'static [&'static str],
    from: Signal<Option<String>>,
) -> impl IntoView {
    let words = |option: &str| option.replace('_', " ");
    let kept = move || format!("as the recipe: {}", from.get().map_or_else(|| "its own".into(), |value| words(&value)));
    let option = |option: &'static str| {
        let selected = option == value;
        view! { <option value=option selected=selected>{words(option)}</option> }
    };
    view! {
        <label class="setting">
            <span>{label}</span>
            <select name=format!("form[{name}]")>
                <option value="">{kept}</option>
                {options.iter().copied().map(option).collect_view()}
            </select>
        </label>
    }
    .into_any()
}

#[component]
fn SamplePrompts(value: String, from: Signal<Vec<String>>) -> impl IntoView {
    let placeholder = move || {
        let prompts = from.get();
        if prompts.is_empty() { "One prompt a line, drawn at every checkpoint".into() } else { prompts.join("\n") }
    };
    view! {
        <label class="setting wide">
            <span>"Sample prompts, one a line"</span>
            <textarea name="form[sample_prompts]" rows="3" placeholder=placeholder>
                {value}
            </textarea>
        </label>
    }
    .into_any()
}

//! One adapter: samples, facts, and its actions.

use crate::api::{AdapterId, AdapterInfo, limits::MAX_NAME_CHARS};
use crate::calls::adapters::{DeleteAdapter, RenameAdapter};
use crate::components::{Confirm, Fact, Icon, PostForm, icon, post_to};
use crate::format;
use crate::forms::{CompareForm, GenerateForm, publish_page};
use leptos::prelude::*;

#[component]
pub fn AdapterCard(adapter: AdapterInfo, rename: ServerAction<RenameAdapter>, delete: ServerAction<DeleteAdapter>) -> impl IntoView {
    let thumbs = adapter.sample_urls.iter().take(3).map(|url| view! { <img src=url.clone() alt="" loading="lazy"/> }).collect_view();
    let title = format!("adapter-{}", adapter.id);
    let weights = format!("/files/adapters/{}.safetensors", adapter.id);
    view! {
        <li class="adapter-card">
            <article aria-labelledby=title>
                <div class="thumbs" class:empty=adapter.sample_urls.is_empty()>{thumbs}</div>
                <h2 id=title.clone()>{adapter.name.clone()}</h2>
                <Facts adapter=adapter.clone()/>
                <div class="actions">
                    <a class="button primary" href=GenerateForm::with_adapter(&adapter.id).href()>
                        <Icon path=icon::BRUSH/>
                        "Generate with it"
                    </a>
                    <a class="button" href=CompareForm::with_adapter(&adapter.id).href()>
                        <Icon path=icon::COLUMNS/>
                        "Compare"
                    </a>
                    <a class="button" href=weights download="">
                        <Icon path=icon::DOWNLOAD/>
                        "Download"
                    </a>
                    <a class="button" href=publish_page(&adapter.id)>
                        <Icon path=icon::SHARE/>
                        "Publish"
                    </a>
                </div>
                <div class="actions quiet-actions">
                    <Exports id=adapter.id.clone()/>
                    <a class="button quiet" href=format!("/files/adapters/{}.json", adapter.id) download="">"Recipe (JSON)"</a>
                    <Rename adapter=adapter.clone() rename/>
                    <Delete adapter delete/>
                </div>
            </article>
        </li>
    }
    .into_any()
}

/// The same adapter for other programs.
#[component]
fn Exports(id: AdapterId) -> impl IntoView {
    const PROGRAMS: [(&str, &str); 3] = [("diffusers", "diffusers"), ("kohya", "kohya"), ("comfyui", "ComfyUI")];
    let link = |(program, name): (&'static str, &'static str)| {
        let href = format!("/files/adapters/{id}.safetensors?for={program}");
        view! { <a class="button quiet" href=href download="" rel="external">{name}</a> }
    };
    view! {
        <details class="confirm">
            <summary class="button quiet">"For other programs"</summary>
            <div class="confirm-body">
                <p>"The same weights under the names that each program reads, compared weight by weight before you get them."</p>
                <div class="with-buttons">{PROGRAMS.map(link).collect_view()}</div>
            </div>
        </details>
    }
}

#[component]
fn Facts(adapter: AdapterInfo) -> impl IntoView {
    let run = adapter.run.map(|run| format!("/train/{run}"));
    view! {
        <dl class="facts">
            {adapter.trigger.map(|trigger| view! { <Fact term="Trigger" value=trigger/> })}
            <Fact term="Rank" value=format!("{}, alpha {}", adapter.rank, format::number(adapter.alpha))/>
            {(adapter.steps > 0).then(|| view! { <Fact term="Steps" value=adapter.steps.to_string()/> })}
            {adapter.loss.map(|loss| view! { <Fact term="Loss" value=format!("{loss:.4}")/> })}
            <Fact term="File" value=format::bytes(adapter.bytes)/>
            <Fact term="Base" value=adapter.base_model/>
            <Fact term="Made" value=format::date(adapter.created_at)/>
        </dl>
        {run.map(|run| view! { <p><a href=run>{if adapter.training { "Still training: watch it" } else { "See its training" }}</a></p> })}
    }
}

#[component]
fn Rename(adapter: AdapterInfo, rename: ServerAction<RenameAdapter>) -> impl IntoView {
    let field = format!("name-{}", adapter.id);
    view! {
        <details class="confirm">
            <summary class="button quiet">
                <Icon path=icon::PEN/>
                "Rename"
            </summary>
            <div class="confirm-body">
                <PostForm to=post_to(rename) class="field">
                    <input type="hidden" name="id" value=adapter.id.0/>
                    <label for=field.clone()>"New name"</label>
                    <div class="with-buttons">
                        <input type="text" id=field name="name" value=adapter.name required maxlength=MAX_NAME_CHARS.to_string() autocomplete="off"/>
                        <button type="submit" class="button">"Save"</button>
                    </div>
                </PostForm>
            </div>
        </details>
    }
}

#[component]
fn Delete(adapter: AdapterInfo, delete: ServerAction<DeleteAdapter>) -> impl IntoView {
    view! {
        <Confirm label="Delete" warning=format!("“{}” is deleted for good. Pictures drawn with it stay.", adapter.name)>
            <PostForm to=post_to(delete)>
                <input type="hidden" name="id" value=adapter.id.0/>
                <button type="submit" class="button danger">"Delete this adapter"</button>
            </PostForm>
        </Confirm>
    }
}

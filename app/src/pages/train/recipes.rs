//! Recipes as cards, one of them chosen.

use crate::api::RecipeInfo;
use crate::components::Fact;
use leptos::prelude::*;

#[component]
pub fn RecipeCards(recipes: Vec<RecipeInfo>, chosen: String) -> impl IntoView {
    let card = move |recipe: RecipeInfo| {
        let checked = recipe.name == chosen;
        let settings = recipe.settings;
        view! {
            <label class="recipe-card">
                <input type="radio" name="form[recipe]" value=recipe.name checked=checked/>
                <span>
                    <strong>{recipe.title}</strong>
                    <span class="hint">{recipe.description}</span>
                    <dl class="facts">
                        {settings.steps.map(|steps| view! { <Fact term="Steps" value=steps.to_string()/> })}
                        {settings.rank.map(|rank| view! { <Fact term="Rank" value=rank.to_string()/> })}
                        {settings.resolution.map(|size| view! { <Fact term="Size" value=size.replace('x', " × ")/> })}
                    </dl>
                </span>
            </label>
        }
    };
    view! {
        <fieldset class="field recipes">
            <legend>"Recipe"</legend>
            {recipes.into_iter().map(card).collect_view()}
        </fieldset>
    }
}

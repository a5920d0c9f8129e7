//! Content that is made anew whenever its value is set: new elements, because a field that was typed into ignores a new `value` attribute.

use leptos::prelude::*;

pub fn anew<T>(value: impl Fn() -> T + Send + Sync + 'static, content: impl Fn(T) -> AnyView + Clone + Send + Sync + 'static) -> AnyView
where
    T: Clone + Send + Sync + 'static,
{
    let count = StoredValue::new(0u32);
    let each = move || {
        count.update_value(|count| *count += 1);
        [(count.get_value(), value())]
    };
    view! { <For each key=|(count, _)| *count children=move |(_, value)| content(value)/> }.into_any()
}

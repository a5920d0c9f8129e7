//! Line icons on a 24-pixel grid, drawn for Atelier with round ends like the ornament.

use leptos::prelude::*;

pub const BRUSH: &str =
    "M20 3c-4 2-8.5 6-10.5 9.500l2 2C15 12.5 18.5 8 20.5 4zM9 13.500c-2.5-.5-4 1-4.3 3.200C4.5 18.5 4 19.5 2.5 20c3 1.5 8.5 1 8.5-4.3";
pub const COLUMNS: &str = "M4 5c5-1.5 11-1.5 16 0v14c-5 1.5-11 1.5-16 0zM12 4v16M15 9.500l2.5 2.5-2.5 2.500M9 9.500L6.5 12 9 14.5";
pub const PALETTE: &str = "M12 3c-5 0-9 3.8-9 8.700C3 16.5 6.8 21 11.5 21c2 0 2.5-1.5 1.8-2.8-.8-1.6.2-3.2 2-3.200H18c2 0 3-1.6 3-3.600C21 6.5 17 3 12 3zM7.5 12v.01M9.5 7.700v.01M14.5 7.200v.01M17.5 10.500v.01";
pub const RIBBON: &str = "M12 3c3 0 5 2.2 5 5s-2 5-5 5-5-2.2-5-5 2-5 5-5zM9 12.500L7.5 21l4.5-2.5 4.5 2.5-1.5-8.5";
pub const FRAMES: &str = "M3.5 4.500h9v9h-9zM15.5 4.500h5v5h-5zM15.5 12.500h5v7h-5zM3.5 16.500h9v3h-9z";
pub const DOWNLOAD: &str = "M12 3.500v11M7.5 10.500c2 1 3.5 2.5 4.5 4.5 1-2 2.5-3.5 4.5-4.500M4 19.500c5 1.3 11 1.3 16 0";
pub const SHARE: &str =
    "M12 15.500v-12M7.5 7.500c2-1 3.5-2.300 4.500-4 1 1.700 2.500 3 4.500 4M5 11.500v7.500c4.500 1.300 9.500 1.300 14 0v-7.500";
pub const TRASH: &str = "M4 6.500h16M9 6.500c0-4 6-4 6 0M6 6.500l1 13c3 1.2 7 1.2 10 0l1-13M10 10.500l.3 6M14 10.500l-.3 6";
pub const DICE: &str = "M5 5c4.5-1 9.5-1 14 0 1 4.5 1 9.5 0 14-4.5 1-9.5 1-14 0-1-4.5-1-9.5 0-14zM8.5 8.500v.01M15.5 8.500v.01M12 12v.01M8.5 15.500v.01M15.5 15.500v.01";
pub const LOCK: &str = "M5.5 11c4-1 9-1 13 0v8.500c-4 1-9 1-13 0zM8 10.500V8c0-5.5 8-5.5 8 0v2.500M12 14.500v2";
pub const AGAIN: &str = "M19.5 12c0 9-15 9.5-15 .500C4.5 4 15 2.5 18 8M18.5 3.500V8.500h-5";
pub const CLOSE: &str = "M6 6c4 3.5 8.5 8 12 12M18 6c-4 3.5-8.5 8-12 12";
pub const PLUS: &str = "M12 5v14M5 12h14";
pub const STOP: &str = "M6.5 6.500h11v11h-11z";
pub const MOON: &str = "M19.5 14.500C12 17 6.5 11 9.5 4 3 6 2 14 7 18s11 1.5 12.5-3.500z";
pub const PEN: &str = "M4 20l1-5L16 4c1.5-1 5 2.5 4 4L9 19zM14 6l4 4";
pub const LOUPE: &str = "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.500L20.5 20.5";

/// Beside words, or alone in a control that has an accessible name of its own.
#[component]
pub fn Icon(path: &'static str) -> impl IntoView {
    view! {
        <svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" focusable="false">
            <path d=path/>
        </svg>
    }
}

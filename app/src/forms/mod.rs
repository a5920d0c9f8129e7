//! What the forms hold, as it was typed, and how that becomes a request. The same values travel in the address of a page.

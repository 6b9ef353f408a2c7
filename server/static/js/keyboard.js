/** Keyboard shortcuts of the whole page. The grid and the lightbox have their own. */

/** `actions` maps a key, as named by `KeyboardEvent.key`, to a function, which returns false to ignore the key. */
export function listenForKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (document.querySelector("dialog[open]") || (typing && event.key !== "Escape")) return;
    if (actions[event.key] && actions[event.key](event) !== false) event.preventDefault();
  });
}

/** Keys that work anywhere on the page. Keys of the grid and of the large view are theirs. */

/** `actions` maps a key, as `KeyboardEvent.key` names it, to what it does; it answers false to leave the key alone. */
export function listen(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (document.querySelector("dialog[open]") || (typing && event.key !== "Escape")) return;
    if (actions[event.key] && actions[event.key](event) !== false) event.preventDefault();
  });
}

/** Menus made of `<details>` close as menus do: on Escape, and when the reader goes elsewhere. */
export function closingMenus() {
  const open = () => document.querySelector(".menu[open]");
  document.addEventListener("keydown", (event) => {
    const menu = open();
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.preventDefault();
  });
  for (const kind of ["pointerdown", "focusin"]) {
    document.addEventListener(kind, (event) => {
      const menu = open();
      if (menu && !menu.contains(event.target)) menu.open = false;
    });
  }
}

/** Menus are `<details>` elements. Close them on Escape, and when the focus or a click goes elsewhere. */
export function closeMenusOnLeave() {
  const openMenu = () => document.querySelector(".menu[open]");
  document.addEventListener("keydown", (event) => {
    const menu = openMenu();
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.preventDefault();
  });
  for (const type of ["pointerdown", "focusin"]) {
    document.addEventListener(type, (event) => {
      const menu = openMenu();
      if (menu && !menu.contains(event.target)) menu.open = false;
    });
  }
}

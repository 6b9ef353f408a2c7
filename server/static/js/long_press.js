/** A long press on a tile shows its buttons, which a pointer shows by hovering. */

const DELAY = 500;
/** Movement that makes a press a scroll, in pixels. */
const MAX_MOVE = 10;

/** Mark the tile that is pressed with the class `has-tools`, until another place is touched. */
export function listenForLongPresses(grid) {
  let timer = 0;
  let start = null;
  let pressed = null;
  const cancel = () => clearTimeout(timer);
  document.addEventListener("pointerdown", (event) => {
    cancel();
    if (!event.target.closest?.(".tile-tools")) grid.querySelector(".has-tools")?.classList.remove("has-tools");
    pressed = null;
    const tile = event.pointerType === "mouse" ? null : event.target.closest?.(".tile");
    if (!tile || !grid.contains(tile) || event.target.closest(".tile-tools")) return;
    start = event;
    timer = setTimeout(() => {
      pressed = tile;
      tile.classList.add("has-tools");
    }, DELAY);
  });
  document.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > MAX_MOVE) cancel();
  });
  for (const type of ["pointerup", "pointercancel"]) document.addEventListener(type, cancel);
  // The browser's own menu, and the click that ends the press.
  grid.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());
  grid.addEventListener("click", (event) => {
    if (!pressed || event.target.closest(".tile-tools")) return;
    event.preventDefault();
    pressed = null;
  });
}

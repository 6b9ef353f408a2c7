/**
 * Places the images that the server rendered, before the browser first paints them: where grid.js and image_detail.js
 * will place them too. Everything that would delay those of the first screen comes after them: further images, and
 * gallery.js.
 * The page loads it as a classic script, so it must not use module features; the server resolves its imports.
 */

import { DIVIDER_HEIGHT, emptyLayout, fitContainer, moveTo } from "./grid_layout.js";
import { reserveSpace } from "./reserved_space.js";
import { storedFactor } from "./tile_size.js";

/** Maximum delay of the rest, in milliseconds, if the images of the first screen are slow. */
const MAX_DELAY = 1000;

const grid = document.getElementById("grid");
const container = document.getElementById("results");
const layout = emptyLayout(container, storedFactor());
for (const element of grid.children) {
  if (element.classList.contains("divider")) moveTo(element, layout.addDivider(DIVIDER_HEIGHT));
  else layout.add(sizeOf(element.querySelector("img")));
}
// A row has its boxes when it is full.
const tiles = [...grid.querySelectorAll(".tile")];
for (const [index, tile] of tiles.entries()) moveTo(tile, layout.boxes[index]);
grid.classList.add("is-ready");
fitContainer(container, document.getElementById("end-of-list"), layout);

const selected = document.querySelector(".detail-image");
for (const element of selected ? [selected, selected.parentElement] : []) reserveSpace(element, sizeOf(selected));

const script = Object.assign(document.createElement("script"), {
  type: "module",
  src: new URL("gallery.js", document.currentScript.src),
});
const screenEnd = innerHeight - container.getBoundingClientRect().top;
const below = tiles.filter((_, index) => layout.boxes[index].top > screenEnd);
for (const tile of below) tile.hidden = true;
const decoded = tiles.filter((tile) => !tile.hidden).map((tile) => tile.querySelector("img").decode());
Promise.race([Promise.allSettled(decoded), new Promise((resolve) => setTimeout(resolve, MAX_DELAY))])
  // A timer in a frame fires when that frame has been painted.
  .then(() => requestAnimationFrame(() => setTimeout(loadRest)));

function loadRest() {
  for (const tile of below) tile.hidden = false;
  document.head.append(script);
}

/** The size of an image as its attributes tell it; of a lazy image there is no other before it is loaded. */
function sizeOf(picture) {
  return { width: Number(picture.getAttribute("width")), height: Number(picture.getAttribute("height")) };
}

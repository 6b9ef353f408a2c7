/**
 * Places the images that the server rendered, before the browser first paints them: where grid.js and image_detail.js
 * will place them too.
 * The page loads it as a classic script, so it must not use module features; the server resolves its imports.
 */

import { DIVIDER_HEIGHT, emptyLayout, fitContainer, moveTo } from "./grid_layout.js";
import { reserveSpace } from "./reserved_space.js";
import { storedFactor } from "./tile_size.js";

const grid = document.getElementById("grid");
const container = document.getElementById("results");
const layout = emptyLayout(container, storedFactor());
for (const element of grid.children) {
  if (element.classList.contains("divider")) moveTo(element, layout.addDivider(DIVIDER_HEIGHT));
  else layout.add(sizeOf(element.querySelector("img")));
}
// A row has its boxes when it is full.
for (const [index, tile] of grid.querySelectorAll(".tile").entries()) moveTo(tile, layout.boxes[index]);
grid.classList.add("is-ready");
fitContainer(container, document.getElementById("end-of-list"), layout);

const selected = document.querySelector(".detail-image");
for (const element of selected ? [selected, selected.parentElement] : []) reserveSpace(element, sizeOf(selected));

/** The size of an image as its attributes tell it; of a lazy image there is no other before it is loaded. */
function sizeOf(picture) {
  return { width: Number(picture.getAttribute("width")), height: Number(picture.getAttribute("height")) };
}

/** The geometry of the grid in its container, which css/tokens.css and the reader's tile size determine. */

import { JustifiedRows } from "./justified_rows.js";
import { Masonry, columnCount } from "./masonry.js";

export const DIVIDER_HEIGHT = 72;
/** The height of rows, as a share of the minimum width of a column. */
const ROW_HEIGHT = 0.9;
/** Space below the last tile for the end of the list. */
const END_HEIGHT = 140;

/** An empty layout for the container's width; `tileSize` is a factor of the size in the style sheet. */
export function emptyLayout(container, tileSize) {
  const style = getComputedStyle(container);
  const gap = parseFloat(style.getPropertyValue("--tile-gap"));
  const minWidth = parseFloat(style.getPropertyValue("--tile-min")) * tileSize;
  const width = container.clientWidth;
  if (container.classList.contains("is-in-rows")) {
    return new JustifiedRows({ width, gap, rowHeight: Math.round(minWidth * ROW_HEIGHT) });
  }
  return new Masonry({ width, gap, columns: columnCount(width, minWidth, gap, tileSize > 1.4 ? 1 : 2) });
}

/** Give the container the height of the layout, and place the end of the list below the tiles. */
export function fitContainer(container, end, layout) {
  container.style.height = `${layout.height + END_HEIGHT}px`;
  end.style.transform = `translateY(${layout.height}px)`;
}

export function moveTo(element, box) {
  element.style.width = `${box.width}px`;
  element.style.height = `${box.height}px`;
  element.style.transform = `translate(${box.left}px, ${box.top}px)`;
}

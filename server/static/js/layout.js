/** Where each tile stands. Pure arithmetic: no DOM, so that a page of any length is laid out at once. */

/** A tile is never wider than 2.5 times its height, nor higher than 2.2 times its width: longer images are cropped. */
const FLATTEST = 0.4;
const TALLEST = 2.2;

/** How many columns fit: as many as are at least `narrowest` wide, and never fewer than `fewest`. */
export function columnCount(width, narrowest, gap, fewest = 2) {
  return Math.max(fewest, Math.floor((width + gap) / (narrowest + gap)));
}

/**
 * A masonry in reading order: each tile goes below the shortest column, so earlier tiles are never lower than later
 * ones by more than a tile. Boxes are `{left, top, width, height, column}` in pixels from the wall's corner.
 */
export class Masonry {
  constructor({ width, columns, gap }) {
    this.gap = gap;
    this.width = width;
    this.columnWidth = (width - gap * (columns - 1)) / columns;
    this.heights = new Array(columns).fill(0);
    this.columns = Array.from({ length: columns }, () => []);
    this.boxes = [];
  }

  get height() {
    return Math.max(0, ...this.heights) - (this.boxes.length ? this.gap : 0);
  }

  /** Place the next tile; an image of unknown size is taken as square. */
  add({ width, height }) {
    const ratio = width && height ? Math.min(TALLEST, Math.max(FLATTEST, height / width)) : 1;
    // Half a pixel of difference is no reason to leave the reading order.
    const lowest = Math.min(...this.heights);
    const column = this.heights.findIndex((bottom) => bottom - lowest < 1);
    const box = {
      left: column * (this.columnWidth + this.gap),
      top: this.heights[column],
      width: this.columnWidth,
      height: Math.round(this.columnWidth * ratio),
      column,
    };
    this.columns[column].push(this.boxes.length);
    this.heights[column] += box.height + this.gap;
    this.boxes.push(box);
    return box;
  }

  /** Close all columns with a band of the whole width; answers where the band stands. */
  divide(bandHeight) {
    const top = Math.max(...this.heights);
    this.heights.fill(top + bandHeight);
    return { left: 0, top, width: this.width, height: bandHeight };
  }

  /** The indices of the boxes that touch the span from `top` to `bottom`, in order. */
  within(top, bottom) {
    const found = [];
    for (const column of this.columns) {
      for (let at = this.#firstEndingBelow(column, top); at < column.length; at += 1) {
        if (this.boxes[column[at]].top > bottom) break;
        found.push(column[at]);
      }
    }
    return found.sort((a, b) => a - b);
  }

  /** The box next to `index` in a direction ("up", "down", "left", "right"), or `index` itself at the edge. */
  next(index, direction) {
    const last = this.boxes.length - 1;
    if (direction === "left") return Math.max(0, index - 1);
    if (direction === "right") return Math.min(last, index + 1);
    const { column } = this.boxes[index];
    const at = this.columns[column].indexOf(index) + (direction === "down" ? 1 : -1);
    return this.columns[column][at] ?? index;
  }

  #firstEndingBelow(column, top) {
    let low = 0;
    let high = column.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const box = this.boxes[column[middle]];
      if (box.top + box.height < top) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The positions of the tiles. Pure arithmetic without the DOM, so that a list of any length is laid out at once. */

// Images outside this range of height to width are cropped.
const MIN_RATIO = 0.4;
const MAX_RATIO = 2.2;

/** The number of columns of at least `minWidth` that fit, but never fewer than `minColumns`. */
export function columnCount(width, minWidth, gap, minColumns = 2) {
  return Math.max(minColumns, Math.floor((width + gap) / (minWidth + gap)));
}

/**
 * A masonry layout in reading order: each tile goes below the shortest column, so an earlier tile is never lower than a
 * later one by more than a tile. Boxes are `{left, top, width, height, column}`, in pixels from the corner of the grid.
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

  /** Place the next tile and return its box; an image of unknown size is square. */
  add({ width, height }) {
    const ratio = width && height ? Math.min(MAX_RATIO, Math.max(MIN_RATIO, height / width)) : 1;
    // Differences below a pixel must not change the reading order.
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

  /** End all columns with a divider of the full width, and return its box. */
  addDivider(height) {
    const top = Math.max(...this.heights);
    this.heights.fill(top + height);
    return { left: 0, top, width: this.width, height };
  }

  /** The indices of the boxes that intersect the range from `top` to `bottom`, in order. */
  between(top, bottom) {
    const indices = [];
    for (const column of this.columns) {
      for (let row = this.#firstEndingBelow(column, top); row < column.length; row += 1) {
        if (this.boxes[column[row]].top > bottom) break;
        indices.push(column[row]);
      }
    }
    return indices.sort((a, b) => a - b);
  }

  /** The index of the box next to `index` ("up", "down", "left", "right"), or `index` itself at the edge. */
  next(index, direction) {
    if (direction === "left") return Math.max(0, index - 1);
    if (direction === "right") return Math.min(this.boxes.length - 1, index + 1);
    const column = this.columns[this.boxes[index].column];
    const row = column.indexOf(index) + (direction === "down" ? 1 : -1);
    return column[row] ?? index;
  }

  /** Binary search for the first row of a column whose box ends below `top`. */
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

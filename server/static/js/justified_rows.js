/** Rows of nearly equal height, for lists by date. Pure arithmetic without the DOM, with the methods of Masonry. */

// Images outside this range of width to height are cropped.
const MIN_RATIO = 0.45;
const MAX_RATIO = 3;

/**
 * Each row is filled from left to right and scaled to the full width, unless a divider or the end follows. Boxes are
 * `{left, top, width, height, row}`, in pixels from the corner of the grid.
 */
export class JustifiedRows {
  #open = [];
  #top = 0;

  constructor({ width, gap, rowHeight }) {
    this.width = width;
    this.gap = gap;
    this.rowHeight = rowHeight;
    this.boxes = [];
    // Of each row, the indices of its first image and of the one after its last.
    this.rows = [];
  }

  get height() {
    return this.#top + (this.#open.length ? this.rowHeight : -this.gap);
  }

  /** Place the next tile and return its box; an image of unknown size is square. */
  add({ width, height }) {
    const ratio = width && height ? Math.min(MAX_RATIO, Math.max(MIN_RATIO, width / height)) : 1;
    if (!this.#open.length) this.rows.push({ start: this.boxes.length, end: this.boxes.length });
    this.#open.push(ratio);
    this.boxes.push(null);
    this.rows.at(-1).end += 1;
    const available = this.width - this.gap * (this.#open.length - 1);
    const fitting = available / this.#open.reduce((sum, each) => sum + each);
    this.#placeRow(Math.min(this.rowHeight, fitting), fitting <= this.rowHeight);
    const box = this.boxes.at(-1);
    if (fitting <= this.rowHeight) this.#endRow(box.height);
    return box;
  }

  /** End the row with a divider of the full width, and return its box. */
  addDivider(height) {
    if (this.#open.length) this.#endRow(this.rowHeight);
    const box = { left: 0, top: this.#top, width: this.width, height };
    this.#top += height;
    return box;
  }

  /** The indices of the boxes that intersect the range from `top` to `bottom`, in order. */
  between(top, bottom) {
    const indices = [];
    for (let row = this.#firstEndingBelow(top); row < this.rows.length; row += 1) {
      const { start, end } = this.rows[row];
      if (this.boxes[start].top > bottom) break;
      for (let index = start; index < end; index += 1) indices.push(index);
    }
    return indices;
  }

  /** The index of the box next to `index` ("up", "down", "left", "right"), or `index` itself at the edge. */
  next(index, direction) {
    if (direction === "left") return Math.max(0, index - 1);
    if (direction === "right") return Math.min(this.boxes.length - 1, index + 1);
    const box = this.boxes[index];
    const row = this.rows[box.row + (direction === "down" ? 1 : -1)];
    if (!row) return index;
    const centre = box.left + box.width / 2;
    let nearest = row.start;
    while (nearest + 1 < row.end && this.boxes[nearest + 1].left <= centre) nearest += 1;
    return nearest;
  }

  #placeRow(height, isFull) {
    const { start } = this.rows.at(-1);
    let left = 0;
    for (const [position, ratio] of this.#open.entries()) {
      const isLast = isFull && position === this.#open.length - 1;
      const width = isLast ? this.width - left : Math.round(height * ratio);
      const box = { left, top: this.#top, width, height: Math.round(height), row: this.rows.length - 1 };
      this.boxes[start + position] = box;
      left += width + this.gap;
    }
  }

  #endRow(height) {
    this.#open = [];
    this.#top += Math.round(height) + this.gap;
  }

  /** Binary search for the first row that ends below `top`. */
  #firstEndingBelow(top) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const box = this.boxes[this.rows[middle].start];
      if (box.top + box.height < top) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Selecting tiles by dragging a box with the mouse, from beside the tiles or, with Shift, from anywhere. */

/** Distance from which a press becomes a drag, in pixels. */
const THRESHOLD = 6;

/** `onStart()` returns a value that is passed to `onChange(value, ids)` with the ids of the tiles in the box. */
export function listenForBox({ grid, onStart, onChange }) {
  document.querySelector("main").addEventListener("pointerdown", (down) => {
    const isFree = !down.target.closest("a, button, input, summary, .menu-panel, .tile, h1, p");
    const inTile = down.shiftKey && grid.contains(down.target) && !down.target.closest("button, input");
    if (down.pointerType !== "mouse" || down.button !== 0 || !(isFree || inTile)) return;
    down.preventDefault(); // no text selection, no dragged image
    new BoxDrag(grid, down, onStart, onChange);
  });
}

class BoxDrag {
  #grid;
  #start;
  #box = null;
  #ids = new Set();
  #value;
  #onStart;
  #onChange;

  constructor(grid, down, onStart, onChange) {
    this.#grid = grid;
    this.#start = { x: down.pageX, y: down.pageY };
    this.#onStart = onStart;
    this.#onChange = onChange;
    const listening = new AbortController();
    const { signal } = listening;
    addEventListener("pointermove", (event) => this.#move(event), { signal });
    // Without native drags of images, which would end the events.
    addEventListener("dragstart", (event) => event.preventDefault(), { signal, capture: true });
    for (const type of ["pointerup", "pointercancel"]) {
      addEventListener(
        type,
        () => {
          listening.abort();
          this.#end();
        },
        { signal },
      );
    }
  }

  #move({ pageX: x, pageY: y }) {
    if (!this.#box) {
      if (Math.hypot(x - this.#start.x, y - this.#start.y) < THRESHOLD) return;
      this.#value = this.#onStart();
      this.#box = document.createElement("div");
      this.#box.className = "selection-box";
      document.body.append(this.#box);
    }
    const left = Math.min(x, this.#start.x);
    const top = Math.min(y, this.#start.y);
    const width = Math.abs(x - this.#start.x);
    const height = Math.abs(y - this.#start.y);
    Object.assign(this.#box.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    this.#collect(left - scrollX, top - scrollY, width, height);
  }

  /** Tiles that have scrolled out of the page keep their state. */
  #collect(left, top, width, height) {
    for (const tile of this.#grid.querySelectorAll(".tile")) {
      const box = tile.getBoundingClientRect();
      const isInside = box.left < left + width && box.right > left && box.top < top + height && box.bottom > top;
      if (isInside) this.#ids.add(Number(tile.dataset.id));
      else this.#ids.delete(Number(tile.dataset.id));
    }
    this.#onChange(this.#value, this.#ids);
  }

  #end() {
    if (!this.#box) return;
    this.#box.remove();
    // The click that follows belongs to the drag.
    const swallowing = new AbortController();
    const swallow = (event) => {
      event.preventDefault();
      event.stopPropagation();
    };
    addEventListener("click", swallow, { capture: true, signal: swallowing.signal });
    setTimeout(() => swallowing.abort());
  }
}

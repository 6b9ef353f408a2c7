/**
 * The virtualised grid of images: every image has a box, but only those near the viewport have elements, so the page
 * costs the same with ten images as with fifty thousand. Elements move by `transform`, which causes no layout shifts.
 */

import { DIVIDER_HEIGHT, emptyLayout, fitContainer, moveTo } from "./grid_layout.js";
import { isLoaded } from "./paged_list.js";
import { adoptTile, createTile, showPicture, updateTile } from "./tile.js";

const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

export class Grid {
  #container;
  #grid;
  #end;
  #topBar;
  #tileUrl;
  #onRender;
  #images = [];
  #done = true;
  #layout = null;
  #tiles = new Map();
  #boxes = new WeakMap();
  #createDividers = () => () => null;
  #dividerAbove;
  // The elements of the dividers, by the indices of the images below them.
  #dividers = new Map();
  #current = 0;
  #frame = 0;
  #tileSize = 1;

  /** `tileUrl(image)` is the target of a tile's link; `onRender(first, last)` is called with the indices near the view. */
  constructor({ container, grid, end, topBar, tileUrl, onRender }) {
    this.#onRender = onRender;
    this.#container = container;
    this.#grid = grid;
    this.#end = end;
    this.#topBar = topBar;
    this.#tileUrl = tileUrl;
    addEventListener("scroll", () => this.#scheduleRender(), { passive: true });
    addEventListener("resize", () => this.#scheduleRender(), { passive: true });
    new ResizeObserver(() => this.onResize()).observe(container);
    grid.addEventListener("keydown", (event) => this.#onKey(event));
    grid.addEventListener("focusin", (event) => {
      const index = this.indexOf(event.target);
      if (index >= 0) this.#setCurrent(index);
    });
  }

  /** Take over the tiles that the server rendered, and return their images. */
  adopt() {
    const images = [];
    for (const tile of this.#grid.querySelectorAll(".tile[data-image]")) {
      const image = JSON.parse(tile.dataset.image);
      adoptTile(tile, image, this.#tileUrl(image));
      this.#tiles.set(image.id, tile);
      images.push(image);
    }
    for (const divider of this.#grid.querySelectorAll(".divider")) divider.remove();
    return images;
  }

  /**
   * Show another list from its start, in columns or in rows, with the dividers of dividers.js. The grid keeps reading
   * `images`: report its changes with `onAppend`, `onPrepend`, `onPrevious` and `update`.
   */
  show(images, { done, createDividers, isInRows = false }) {
    this.#images = images;
    this.#done = done;
    this.#createDividers = createDividers;
    this.#container.classList.toggle("is-in-rows", isInRows);
    this.#current = 0;
    const shown = new Set(images.map((image) => image.id));
    for (const [id, tile] of this.#tiles) {
      // Tiles of another list have other scores and links. Before the first layout they are those of the server.
      if (!shown.has(id) || this.#layout) this.#removeTile(id, tile);
    }
    this.#relayout();
    this.#grid.classList.add("is-ready");
  }

  /** Show images that were appended to the list. */
  onAppend({ done }) {
    this.#done = done;
    this.#placeFrom(this.#layout.boxes.length);
    this.#render();
  }

  /** Show `count` images that were inserted at the start of the list, and animate the others. */
  onPrepend(count) {
    this.#current += count;
    if (!reducedMotion.matches) {
      this.#grid.classList.add("is-moving");
      setTimeout(() => this.#grid.classList.remove("is-moving"), 400);
    }
    this.#relayout();
  }

  /** Show `count` images that were inserted at the start of the list, and keep those in view where they are. */
  onPrevious(count) {
    this.#current += count;
    const position = this.#firstPosition(count);
    this.#relayout();
    this.scrollToPosition(position);
  }

  /** Show the changed status of an image. */
  update(image) {
    const tile = this.#tiles.get(image.id);
    if (tile) updateTile(tile, image);
  }

  /** The size of the tiles, as a factor of the size in the style sheet. */
  set tileSize(factor) {
    this.#tileSize = factor;
    if (this.#layout) this.#relayoutInPlace();
  }

  /** The scroll position: the first image that is entirely in view, and its distance from the top of the window. */
  get position() {
    const visibleTop = this.#topBar.getBoundingClientRect().bottom;
    if (!this.#layout || scrollY === 0 || this.#gridTop > visibleTop) return { y: scrollY };
    return this.#firstPosition(0);
  }

  scrollToPosition({ y, id, offset }) {
    const index = id === undefined ? -1 : this.#images.findIndex((image) => image.id === id);
    const top = index < 0 ? y : this.#gridTop + scrollY + this.#layout.boxes[index].top - offset;
    scrollTo({ top, behavior: "instant" });
    this.#render();
  }

  /** The index of the image whose tile contains an element, or -1. */
  indexOf(node) {
    const tile = node.closest?.(".tile");
    return tile ? Number(tile.getAttribute("aria-posinset")) - 1 : -1;
  }

  /** Scroll an image into view and focus it. */
  focus(index) {
    if (!this.#images[index]) return;
    this.#setCurrent(index);
    this.#render();
    const tile = this.#tiles.get(this.#images[index].id);
    tile.scrollIntoView({ block: "nearest", behavior: "instant" });
    tile.querySelector(".tile-link").focus({ preventScroll: true });
  }

  get hasFocus() {
    return this.#grid.contains(document.activeElement) && document.activeElement !== this.#grid;
  }

  /** The images that have elements. */
  get renderedImages() {
    return this.#images.filter((image) => this.#tiles.has(image.id));
  }

  /** The index of the first image whose top is in view, or -1. */
  get firstInView() {
    const gridTop = this.#gridTop;
    const visibleTop = this.#topBar.getBoundingClientRect().bottom;
    const indices = this.#layout.between(visibleTop - gridTop, innerHeight - gridTop);
    return indices.find((index) => this.#layout.boxes[index].top + gridTop >= visibleTop) ?? indices[0] ?? -1;
  }

  /** Adapt to another width. Not while a dialog is open: it hides the scroll bar only temporarily. */
  onResize() {
    if (!this.#layout || this.#container.clientWidth === this.#layout.width) return;
    if (!document.querySelector("dialog[open]")) this.#relayoutInPlace();
  }

  get #gridTop() {
    return this.#container.getBoundingClientRect().top;
  }

  /** The position of the first image in view, before whose layout `shift` images have been inserted. */
  #firstPosition(shift) {
    const index = this.firstInView;
    if (index < 0) return { y: scrollY };
    return { y: scrollY, id: this.#images[index + shift].id, offset: this.#layout.boxes[index].top + this.#gridTop };
  }

  #relayoutInPlace() {
    const { position } = this;
    this.#relayout();
    this.scrollToPosition(position);
  }

  #relayout() {
    this.#layout = emptyLayout(this.#container, this.#tileSize);
    for (const divider of this.#dividers.values()) divider.remove();
    this.#dividers.clear();
    this.#dividerAbove = this.#createDividers();
    this.#placeFrom(0);
    this.#render();
  }

  #placeFrom(start) {
    for (let index = start; index < this.#images.length; index += 1) {
      const content = this.#dividerAbove(this.#images[index]);
      if (content) this.#placeDivider(index, content);
      this.#layout.add(this.#images[index]);
    }
    fitContainer(this.#container, this.#end, this.#layout);
  }

  #placeDivider(index, content) {
    const divider = document.createElement("li");
    divider.className = "divider";
    divider.append(...content);
    this.#dividers.set(index, divider);
    moveTo(divider, this.#layout.addDivider(DIVIDER_HEIGHT));
  }

  #scheduleRender() {
    this.#frame ||= requestAnimationFrame(() => this.#render());
  }

  #render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#layout) return;
    const top = -this.#gridTop;
    const indices = this.#layout.between(top - innerHeight, top + 2 * innerHeight);
    const [first, last] = [indices[0], indices.at(-1)];
    // Removing the focused tile would lose the reader's place, however far away it is.
    if (this.hasFocus && !indices.includes(this.#current)) indices.push(this.#current);
    indices.sort((a, b) => a - b);
    this.#removeTilesExcept(indices);
    if (indices.length && !indices.includes(this.#current)) {
      this.#current = indices.find((index) => this.#layout.boxes[index].top >= top) ?? indices[0];
    }
    this.#insertTiles(indices.filter((index) => isLoaded(this.#images[index]) || this.#tiles.has(this.#images[index].id)));
    if (first !== undefined) this.#onRender(first, last);
  }

  /** Show images that were loaded again. */
  refresh() {
    this.#scheduleRender();
  }

  #removeTilesExcept(indices) {
    const ids = new Set(indices.map((index) => this.#images[index].id));
    for (const [id, tile] of this.#tiles) {
      if (!ids.has(id)) this.#removeTile(id, tile);
    }
  }

  /** Put the elements in reading order, for screen readers and the Tab key, and leave those in place untouched. */
  #insertTiles(indices) {
    const elements = indices.flatMap((index) =>
      this.#dividers.has(index) ? [this.#dividers.get(index), this.#tile(index)] : [this.#tile(index)],
    );
    const shown = new Set(elements);
    for (const divider of this.#dividers.values()) if (!shown.has(divider)) divider.remove();
    let next = this.#grid.firstElementChild;
    for (const element of elements) {
      if (element === next) next = next.nextElementSibling;
      else this.#grid.insertBefore(element, next);
    }
  }

  /** The tile of an image at its position; created if necessary. */
  #tile(index) {
    const image = this.#images[index];
    let tile = this.#tiles.get(image.id);
    if (!tile) {
      tile = createTile(image, this.#tileUrl(image));
      this.#tiles.set(image.id, tile);
    }
    const tabIndex = index === this.#current ? 0 : -1;
    const link = tile.querySelector(".tile-link");
    if (link.tabIndex !== tabIndex) link.tabIndex = tabIndex;
    // Scrolling leaves most tiles where they are.
    const box = this.#layout.boxes[index];
    if (this.#boxes.get(tile) === box) return tile;
    this.#boxes.set(tile, box);
    moveTo(tile, box);
    showPicture(tile, image, box.width);
    tile.setAttribute("aria-posinset", index + 1);
    tile.setAttribute("aria-setsize", this.#done ? this.#images.length : -1);
    return tile;
  }

  #removeTile(id, tile) {
    // Stop an unfinished download: it would delay the images that are in view.
    const picture = tile.querySelector(".tile-image");
    if (!picture.complete) picture.removeAttribute("src");
    tile.remove();
    this.#tiles.delete(id);
  }

  /** Make an image the one that the Tab key reaches. */
  #setCurrent(index) {
    const previous = this.#tiles.get(this.#images[this.#current]?.id);
    if (previous) previous.querySelector(".tile-link").tabIndex = -1;
    this.#current = index;
    const tile = this.#tiles.get(this.#images[index].id);
    if (tile) tile.querySelector(".tile-link").tabIndex = 0;
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.indexOf(event.target) < 0) return;
    let target;
    if (event.key in ARROWS) target = this.#layout.next(this.#current, ARROWS[event.key]);
    else if (event.key === "Home") target = 0;
    else if (event.key === "End") target = this.#images.length - 1;
    else return;
    event.preventDefault();
    this.focus(target);
  }
}

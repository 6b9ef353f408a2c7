/**
 * The wall of images. Every image has a box from the start, but only those near the viewport have elements: the page
 * costs the same after ten images and after fifty thousand. Elements move by `transform` alone, which shifts nothing.
 */

import { Masonry, columnCount } from "./layout.js";
import { adoptTile, createTile, updateTile } from "./tile.js";

const DIVIDER_HEIGHT = 72;
/** Room below the last tile, where the wall says what comes next. */
const MORE_HEIGHT = 140;
const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

export class Grid {
  #wall;
  #list;
  #more;
  #bar;
  #addressOf;
  #images = [];
  #done = true;
  #layout = null;
  #elements = new Map();
  #placed = new WeakMap();
  #divider = null;
  #dividerNotice = [];
  #weakFrom = -1;
  #current = 0;
  #frame = 0;
  #zoom = 1;

  /** `addressOf(image)` is where a click on a tile leads. */
  constructor({ wall, list, more, bar, addressOf }) {
    this.#wall = wall;
    this.#list = list;
    this.#more = more;
    this.#bar = bar;
    this.#addressOf = addressOf;
    addEventListener("scroll", () => this.#soon(), { passive: true });
    addEventListener("resize", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.resized()).observe(wall);
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("focusin", (event) => {
      const index = this.indexOf(event.target);
      if (index >= 0) this.#makeCurrent(index);
    });
  }

  /** The images that the server wrote into the page; their elements stay in use. */
  adopt() {
    const images = [];
    for (const element of this.#list.querySelectorAll(".tile[data-image]")) {
      const image = JSON.parse(element.dataset.image);
      adoptTile(element, image);
      this.#elements.set(image.id, element);
      images.push(image);
    }
    for (const divider of this.#list.querySelectorAll(".divider")) divider.remove();
    return images;
  }

  /** Show a list from its beginning; `divider` are the nodes that stand above the weak matches. The wall keeps reading `images`: tell it of changes by the methods below. */
  show(images, { done, divider = [] }) {
    this.#images = images;
    this.#done = done;
    this.#dividerNotice = divider;
    this.#current = 0;
    const kept = new Set(images.map((image) => image.id));
    for (const [id, element] of this.#elements) {
      // Another list means other scores and other addresses, unless this is the page that the server wrote.
      if (!kept.has(id) || this.#layout) this.#drop(id, element);
    }
    this.relayout();
    this.#list.classList.add("is-ready");
  }

  /** The list has grown at its end. */
  grown({ done }) {
    this.#done = done;
    this.#place(this.#layout.boxes.length);
    this.#render();
  }

  /** The list has grown at its top by `count`; what was there moves out of the way, visibly. */
  grownAtTop(count) {
    this.#current += count;
    if (!reducedMotion.matches) {
      this.#list.classList.add("is-moving");
      setTimeout(() => this.#list.classList.remove("is-moving"), 400);
    }
    this.relayout();
  }

  /** An image of the list has changed its state. */
  update(image) {
    const element = this.#elements.get(image.id);
    if (element) updateTile(element, image);
  }

  /** Larger or smaller tiles: 1 is what the style sheet says. */
  set zoom(factor) {
    this.#zoom = factor;
    if (this.#layout) this.keepingPlace(() => this.relayout());
  }

  relayout() {
    const style = getComputedStyle(this.#wall);
    const gap = parseFloat(style.getPropertyValue("--tile-gap"));
    const narrowest = parseFloat(style.getPropertyValue("--tile-min")) * this.#zoom;
    const width = this.#wall.clientWidth;
    const fewest = this.#zoom > 1.4 ? 1 : 2;
    this.#layout = new Masonry({ width, gap, columns: columnCount(width, narrowest, gap, fewest) });
    this.#weakFrom = -1;
    this.#divider?.remove();
    this.#divider = null;
    this.#place(0);
    this.#render();
  }

  /** Do something that moves tiles, and put what was at the top of the window back there. */
  keepingPlace(action) {
    const place = this.place();
    action();
    this.goTo(place);
  }

  /** What the reader looks at: the first whole image in the window and how far down it stands. */
  place() {
    const eye = this.#bar.getBoundingClientRect().bottom;
    const wallTop = this.#wall.getBoundingClientRect().top;
    if (!this.#layout || scrollY === 0 || wallTop > eye) return { y: scrollY };
    const index = this.firstInView;
    if (index < 0) return { y: scrollY };
    return { y: scrollY, id: this.#images[index].id, offset: this.#layout.boxes[index].top + wallTop };
  }

  /** Scroll to a place; answers whether its image is in the list. */
  goTo(place) {
    const index = place.id === undefined ? -1 : this.#images.findIndex((image) => image.id === place.id);
    const wallTop = this.#wall.getBoundingClientRect().top + scrollY;
    scrollTo({ top: index < 0 ? place.y : wallTop + this.#layout.boxes[index].top - place.offset, behavior: "instant" });
    this.#render();
    return place.id === undefined || index >= 0;
  }

  /** The index of the image whose tile holds an element, or -1. */
  indexOf(node) {
    const element = node.closest?.(".tile");
    return element ? this.#images.findIndex((image) => this.#elements.get(image.id) === element) : -1;
  }

  /** Give the keyboard to an image, scrolling it into view. */
  focus(index) {
    if (!this.#images[index]) return;
    this.#makeCurrent(index);
    this.#render();
    const element = this.#elements.get(this.#images[index].id);
    element.scrollIntoView({ block: "nearest", behavior: "instant" });
    element.querySelector(".tile-link").focus({ preventScroll: true });
  }

  get hasFocus() {
    return this.#list.contains(document.activeElement) && document.activeElement !== this.#list;
  }

  /** The images that have elements now. */
  get nearby() {
    return this.#images.filter((image) => this.#elements.has(image.id));
  }

  /** The index of the first image that begins within the window, or -1. */
  get firstInView() {
    const wallTop = this.#wall.getBoundingClientRect().top;
    const eye = this.#bar.getBoundingClientRect().bottom;
    const seen = this.#layout.within(eye - wallTop, innerHeight - wallTop);
    return seen.find((at) => this.#layout.boxes[at].top + wallTop >= eye) ?? seen[0] ?? -1;
  }

  /** The wall may have another width now. Behind an open dialog it waits: the scroll bar is only away for a while. */
  resized() {
    if (!this.#layout || this.#wall.clientWidth === this.#layout.width) return;
    if (!document.querySelector("dialog[open]")) this.keepingPlace(() => this.relayout());
  }

  #place(from) {
    for (let at = from; at < this.#images.length; at += 1) {
      if (this.#images[at].weak && this.#weakFrom < 0) this.#divide(at);
      this.#layout.add(this.#images[at]);
    }
    this.#wall.style.height = `${this.#layout.height + MORE_HEIGHT}px`;
    this.#more.style.transform = `translateY(${this.#layout.height}px)`;
  }

  #divide(at) {
    this.#weakFrom = at;
    this.#divider = document.createElement("li");
    this.#divider.className = "divider";
    this.#divider.append(...this.#dividerNotice);
    this.#put(this.#divider, this.#layout.divide(DIVIDER_HEIGHT));
  }

  #soon() {
    this.#frame ||= requestAnimationFrame(() => this.#render());
  }

  #render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#layout) return;
    const top = -this.#wall.getBoundingClientRect().top;
    const wanted = this.#layout.within(top - innerHeight, top + 2 * innerHeight);
    // The tile that has the keyboard stays, however far away: losing it would lose the reader's place.
    if (this.hasFocus && !wanted.includes(this.#current)) wanted.push(this.#current);
    wanted.sort((a, b) => a - b);

    const keep = new Set(wanted.map((at) => this.#images[at].id));
    for (const [id, element] of this.#elements) {
      if (!keep.has(id)) this.#drop(id, element);
    }
    if (wanted.length && !wanted.includes(this.#current)) {
      this.#current = wanted.find((at) => this.#layout.boxes[at].top >= top) ?? wanted[0];
    }
    const elements = wanted.flatMap((at) => (at === this.#weakFrom ? [this.#divider, this.#tile(at)] : [this.#tile(at)]));
    if (!elements.includes(this.#divider)) this.#divider?.remove();
    // Elements stand in reading order, for screen readers and the Tab key; those in their place are not touched.
    let next = this.#list.firstElementChild;
    for (const element of elements) {
      if (element === next) next = next.nextElementSibling;
      else this.#list.insertBefore(element, next);
    }
  }

  /** The element of an image, made if need be, where it belongs. */
  #tile(at) {
    const image = this.#images[at];
    let element = this.#elements.get(image.id);
    if (!element) {
      element = createTile(image, this.#addressOf(image));
      this.#elements.set(image.id, element);
    }
    const tabIndex = at === this.#current ? 0 : -1;
    const link = element.querySelector(".tile-link");
    if (link.tabIndex !== tabIndex) link.tabIndex = tabIndex;
    // While the reader scrolls, most tiles stand where they stood.
    const box = this.#layout.boxes[at];
    if (this.#placed.get(element) === box) return element;
    this.#placed.set(element, box);
    this.#put(element, box);
    element.setAttribute("aria-posinset", at + 1);
    element.setAttribute("aria-setsize", this.#done ? this.#images.length : -1);
    return element;
  }

  #drop(id, element) {
    // A picture that is still being fetched would hold up those that have come into view.
    const picture = element.querySelector(".tile-image");
    if (!picture.complete) picture.removeAttribute("src");
    element.remove();
    this.#elements.delete(id);
  }

  #put(element, box) {
    element.style.width = `${box.width}px`;
    element.style.height = `${box.height}px`;
    element.style.transform = `translate(${box.left}px, ${box.top}px)`;
  }

  #makeCurrent(index) {
    const previous = this.#elements.get(this.#images[this.#current]?.id);
    if (previous) previous.querySelector(".tile-link").tabIndex = -1;
    this.#current = index;
    const element = this.#elements.get(this.#images[index].id);
    if (element) element.querySelector(".tile-link").tabIndex = 0;
  }

  #key(event) {
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

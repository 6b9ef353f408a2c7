/** Images that are added or indexed while the page is open: shows them, or offers to. */

import { getJson, imagesUrl, listUrl } from "./api.js";
import { isRecent } from "./page_state.js";
import { text } from "./texts.js";

/** Minimum time between two checks, in milliseconds. */
const CHECK_INTERVAL = 1500;
/** Images are not inserted until the pointer has rested this long, in milliseconds. */
const POINTER_REST = 1500;
/** Images are not inserted if the page is scrolled further than this, in pixels. */
const MAX_SCROLL = 60;
const CHECKED_IMAGES = 100;

export class NewImages {
  #gallery;
  #button;
  #text;
  #stats = null;
  #statsAtLoad = null;
  #waiting = [];
  #hasGap = false;
  #checking = false;
  #checkAgain = false;
  #lastMove = -Infinity;

  /** `gallery` has `state`, `list`, `grid`, `canShift`, `insert(images)` and `reload()`. */
  constructor(gallery, { button, text, area }) {
    this.#gallery = gallery;
    this.#button = button;
    this.#text = text;
    button.addEventListener("click", () => this.#accept());
    area.addEventListener("pointermove", () => (this.#lastMove = performance.now()), { passive: true });
    addEventListener("scroll", () => this.#offer(), { passive: true });
  }

  /** Start again for another list. */
  reset() {
    this.#waiting = [];
    this.#hasGap = false;
    this.#button.hidden = true;
    this.#statsAtLoad = this.#stats;
  }

  /** Take new statistics of the collection, and check for new images if they changed. */
  update(stats) {
    const before = this.#stats;
    this.#stats = stats;
    this.#statsAtLoad ??= stats;
    const changed = before && ["total", "embedded", "pending", "failed"].some((name) => before[name] !== stats[name]);
    if (changed) this.check();
  }

  /** Check for new and changed images, now or as soon as the interval since the last check has passed. */
  async check() {
    if (this.#checking) {
      this.#checkAgain = true;
      return;
    }
    this.#checking = true;
    this.#checkAgain = false;
    const { state } = this.#gallery;
    try {
      // A list that starts further down is not that of the newest images.
      if (isRecent(state) && !this.#gallery.list.hasPrevious) await this.#checkRecent(state);
    } catch {
      this.#checkAgain = true;
    }
    this.#offer();
    setTimeout(() => {
      this.#checking = false;
      if (this.#checkAgain || this.#waiting.length) this.check();
    }, CHECK_INTERVAL);
  }

  async #checkRecent(state) {
    const { list, grid } = this.#gallery;
    const page = await getJson(listUrl(state, { limit: CHECKED_IMAGES }));
    if (list !== this.#gallery.list) return;
    this.#refresh(page.images);
    const added = page.images.filter((image) => !list.byId.has(image.id));
    // If the whole page is new, there are more images between it and the list.
    this.#hasGap = list.images.length > 0 && added.length === page.images.length && page.next_cursor !== null;
    this.#waiting = added;
    const fetched = new Set(page.images.map((image) => image.id));
    const pending = grid.renderedImages.filter((image) => image.status === "pending" && !fetched.has(image.id));
    if (pending.length) {
      const ids = pending.slice(0, CHECKED_IMAGES).map((image) => image.id);
      this.#refresh((await getJson(imagesUrl(state.bucket, ids))).images);
    }
  }

  #refresh(images) {
    const { list, grid } = this.#gallery;
    for (const image of images) {
      const shown = list.byId.get(image.id);
      if (!shown || (shown.status === image.status && shown.thumbnail_url === image.thumbnail_url)) continue;
      Object.assign(shown, image);
      grid.update(shown);
    }
  }

  #offer() {
    const { state, grid, canShift } = this.#gallery;
    if (!isRecent(state)) {
      const indexed = this.#stats && this.#statsAtLoad ? this.#stats.embedded - this.#statsAtLoad.embedded : 0;
      this.#showButton(indexed > 0 ? text("count.newly_indexed", { count: indexed }) : "");
    } else if (!this.#waiting.length) {
      this.#showButton("");
    } else if (scrollY > MAX_SCROLL || !canShift || grid.hasFocus) {
      const count = this.#waiting.length;
      this.#showButton(this.#hasGap ? text("count.many_new") : text("count.new", { count }));
    } else if (performance.now() - this.#lastMove > POINTER_REST) {
      this.#accept();
    }
  }

  #showButton(label) {
    if (this.#text.textContent !== label) this.#text.textContent = label;
    this.#button.hidden = label === "";
  }

  #accept() {
    const { state } = this.#gallery;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#button.hidden = true;
    if (!isRecent(state) || this.#hasGap) this.#gallery.reload();
    else this.#gallery.insert(waiting);
    this.#hasGap = false;
  }
}

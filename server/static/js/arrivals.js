/** Images that arrive while the page is open: new ones on top of the recent, marks that go, news for a search. */

import { getJson } from "./api.js";
import { browsing, list, some } from "./address.js";
import { number } from "./format.js";

/** The shortest time between two looks, however fast images arrive, in milliseconds. */
const PAUSE = 1500;
/** Nothing moves under a hand that has just moved. */
const HAND_AT_REST = 1500;
const AT_TOP = 60;

export class Arrivals {
  #gallery;
  #pill;
  #text;
  #seen = null;
  #waiting = [];
  #missed = false;
  #looking = false;
  #again = false;
  #lastMove = -Infinity;

  /** `gallery` has `state`, `results`, `grid`, `atRest`, `insert(images)` and `reload()`. */
  constructor(gallery, { pill, text, wall }) {
    this.#gallery = gallery;
    this.#pill = pill;
    this.#text = text;
    pill.addEventListener("click", () => this.#accept());
    wall.addEventListener("pointermove", () => (this.#lastMove = performance.now()), { passive: true });
    addEventListener("scroll", () => this.#offer(), { passive: true });
  }

  /** Another list is shown: what was waiting for the last one is forgotten. */
  reset() {
    this.#waiting = [];
    this.#missed = false;
    this.#pill.hidden = true;
    this.loadedAt = this.#seen;
  }

  stats(stats) {
    const before = this.#seen;
    this.#seen = stats;
    this.loadedAt ??= stats;
    const same = before && ["total", "embedded", "pending", "failed"].every((name) => before[name] === stats[name]);
    if (before && !same) this.look();
  }

  /** See what has changed, as soon as the last look is some time ago. */
  async look() {
    if (this.#looking) {
      this.#again = true;
      return;
    }
    this.#looking = true;
    this.#again = false;
    const { state } = this.#gallery;
    try {
      if (browsing(state)) await this.#lookAtRecent(state);
    } catch {
      this.#again = true;
    }
    this.#offer();
    setTimeout(() => {
      this.#looking = false;
      if (this.#again || this.#waiting.length) this.look();
    }, PAUSE);
  }

  async #lookAtRecent(state) {
    const { results, grid } = this.#gallery;
    const page = await getJson(list(state, { limit: 100 }));
    if (results !== this.#gallery.results) return;
    this.#refresh(page.images);
    const fresh = page.images.filter((image) => !results.byId.has(image.id));
    // When not even the last of the page is known, there are more in between.
    this.#missed = results.images.length > 0 && fresh.length === page.images.length && page.next_cursor !== null;
    this.#waiting = fresh;
    const listed = new Set(page.images.map((image) => image.id));
    const marked = grid.nearby.filter((image) => image.status === "pending" && !listed.has(image.id));
    if (marked.length) {
      const ids = marked.slice(0, 100).map((image) => image.id);
      this.#refresh((await getJson(some(state.bucket, ids))).images);
    }
  }

  #refresh(images) {
    const { results, grid } = this.#gallery;
    for (const image of images) {
      const known = results.byId.get(image.id);
      if (!known || (known.status === image.status && known.thumbnail_url === image.thumbnail_url)) continue;
      Object.assign(known, image);
      grid.update(known);
    }
  }

  #offer() {
    const { state, grid, atRest } = this.#gallery;
    if (!browsing(state)) {
      const more = this.#seen && this.loadedAt ? this.#seen.embedded - this.loadedAt.embedded : 0;
      this.#say(more > 0 ? `${number(more)} more ${more === 1 ? "image is" : "images are"} searchable now` : "");
      return;
    }
    if (!this.#waiting.length) return this.#say("");
    if (scrollY > AT_TOP || !atRest || grid.hasFocus) {
      const count = this.#waiting.length;
      this.#say(this.#missed ? "Many new images" : `${number(count)} new image${count === 1 ? "" : "s"}`);
    } else if (performance.now() - this.#lastMove > HAND_AT_REST) {
      this.#accept();
    }
  }

  #say(text) {
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#pill.hidden = text === "";
  }

  #accept() {
    const { state } = this.#gallery;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#pill.hidden = true;
    if (!browsing(state) || this.#missed) this.#gallery.reload();
    else this.#gallery.insert(waiting);
    this.#missed = false;
  }
}

/** One list of images, as far as it has been loaded: what a search, a neighbourhood or the recent images answer. */

import { getJson } from "./api.js";
import { LARGEST_PAGE, PAGE_SIZE, after, list } from "./address.js";

export class Results {
  #address;
  #loading = null;

  /** `first` is a page that is known already: `{images, next_cursor}` or `{images, nextAddress}`. */
  constructor(state, first = null) {
    this.#address = list(state);
    this.state = state;
    this.images = [];
    this.byId = new Map();
    this.next = this.#address;
    if (first) this.#take(first);
  }

  get done() {
    return this.next === null;
  }

  /** Load the next page and answer its images; concurrent calls share one request. */
  more({ signal, limit } = {}) {
    this.#loading ??= this.#load(signal, limit).finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  /** Put images at the top that are not in the list yet; answers those. */
  prepend(images) {
    const fresh = images.filter((image) => !this.byId.has(image.id));
    for (const image of fresh) this.byId.set(image.id, image);
    this.images.unshift(...fresh);
    return fresh;
  }

  async #load(signal, limit) {
    if (this.done) return [];
    const url = new URL(this.next, location.href);
    // Who has come this far goes on: larger pages keep ahead of a fast scroll.
    url.searchParams.set("limit", limit ?? (this.images.length < 3 * PAGE_SIZE ? PAGE_SIZE : LARGEST_PAGE));
    return this.#take(await getJson(url.pathname + url.search, { signal }));
  }

  #take(page) {
    // An image that arrived meanwhile can stand in two pages of the recent ones.
    const fresh = page.images.filter((image) => !this.byId.has(image.id));
    for (const image of fresh) this.byId.set(image.id, image);
    this.images.push(...fresh);
    this.next = page.nextAddress ?? (page.next_cursor ? after(this.#address, page.next_cursor) : null);
    return fresh;
  }
}

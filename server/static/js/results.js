/** One list of images, as far as it has been loaded: what a search, a neighbourhood or the recent images answer. */

import { getJson } from "./api.js";
import { LARGEST_PAGE, PAGE_SIZE, list } from "./address.js";

export class Results {
  #cursor;
  #loading = null;

  /** `first` is a page that is known already, as the API answers it. */
  constructor(state, first = null) {
    this.state = state;
    this.images = [];
    this.byId = new Map();
    this.done = false;
    if (first) this.#take(first);
  }

  /** Load the next page and answer its images; concurrent calls share one request. */
  more({ signal, limit } = {}) {
    this.#loading ??= this.#load(signal, limit).finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  /** Nothing more is to be had. */
  end() {
    this.done = true;
  }

  /** Put images at the top that are not in the list yet; answers those. */
  prepend(images) {
    const fresh = this.#add(images);
    this.images.unshift(...fresh);
    return fresh;
  }

  async #load(signal, limit) {
    if (this.done) return [];
    // Who has come this far goes on: larger pages keep ahead of a fast scroll.
    limit ??= this.images.length < 3 * PAGE_SIZE ? PAGE_SIZE : LARGEST_PAGE;
    return this.#take(await getJson(list(this.state, { limit, cursor: this.#cursor }), { signal }));
  }

  #take({ images, next_cursor: cursor }) {
    // An image that arrived meanwhile can stand in two pages of the recent ones.
    const fresh = this.#add(images);
    this.images.push(...fresh);
    this.#cursor = cursor;
    this.done = !cursor;
    return fresh;
  }

  #add(images) {
    const fresh = images.filter((image) => !this.byId.has(image.id));
    for (const image of fresh) this.byId.set(image.id, image);
    return fresh;
  }
}

/** One list of images, as far as its pages are loaded: search results, similar images, or recent images. */

import { MAX_PAGE_SIZE, PAGE_SIZE, getJson, imagesAroundUrl, listUrl } from "./api.js";

export class PagedList {
  #cursor;
  #previousCursor = null;
  #loading = null;

  /** `firstPage` is the first page in the format of the API, if it is already loaded. */
  constructor(state, firstPage = null) {
    this.state = state;
    this.images = [];
    this.byId = new Map();
    this.done = false;
    if (firstPage) this.#append(firstPage);
  }

  /** Load the part of the recent images that has an image in its middle. */
  static async around(state, id) {
    const page = await getJson(imagesAroundUrl(state, id));
    const list = new PagedList(state, page);
    list.#previousCursor = page.previous_cursor;
    return list;
  }

  /** Return whether further images precede those that are loaded. */
  get hasPrevious() {
    return this.#previousCursor !== null;
  }

  /** Load the page that precedes the first loaded image, and return its images. */
  async loadPrevious() {
    const cursor = this.#previousCursor;
    if (cursor === null) return [];
    const page = await getJson(listUrl(this.state, { limit: MAX_PAGE_SIZE, cursor }));
    if (cursor !== this.#previousCursor) return [];
    this.#previousCursor = page.previous_cursor;
    return this.prepend(page.images);
  }

  /** Load the next page and return its images; concurrent calls share one request. */
  loadMore({ signal, limit } = {}) {
    this.#loading ??= this.#load(signal, limit).finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  /** Stop loading: there are no further pages. */
  end() {
    this.done = true;
  }

  /** Insert images at the start, and return those that the list did not contain. */
  prepend(images) {
    const added = this.#index(images);
    this.images.unshift(...added);
    return added;
  }

  async #load(signal, limit) {
    if (this.done) return [];
    // Larger pages stay ahead of a reader who scrolls fast.
    limit ??= this.images.length < 3 * PAGE_SIZE ? PAGE_SIZE : MAX_PAGE_SIZE;
    return this.#append(await getJson(listUrl(this.state, { limit, cursor: this.#cursor }), { signal }));
  }

  #append({ images, next_cursor: cursor }) {
    // An image that is inserted meanwhile may appear on two pages of the recent images.
    const added = this.#index(images);
    this.images.push(...added);
    this.#cursor = cursor;
    this.done = !cursor;
    return added;
  }

  #index(images) {
    const added = images.filter((image) => !this.byId.has(image.id));
    for (const image of added) this.byId.set(image.id, image);
    return added;
  }
}

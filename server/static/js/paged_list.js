/**
 * One list of images, as far as its pages are loaded: search results, similar images, or recent images. A long list
 * keeps the images around those in view. Of the others it keeps `{id, width, height, weak, taken_at}`, which their
 * places need, and loads their pages again when they come near.
 */

import { MAX_PAGE_SIZE, PAGE_SIZE, getJson, imagesAroundUrl, listUrl } from "./api.js";

/** Lists of up to this many images are kept whole. */
const MAX_WHOLE = 3000;
/** Number of images that are kept before and after those in view. */
const KEPT = 1000;

/** Return whether an image has all its properties. */
export const isLoaded = (image) => "key" in image;

export class PagedList {
  /** The pages that can be loaded again: `{start, count, limit, cursor, isLoaded}`. */
  #pages = [];
  #cursor;
  #previousCursor = null;
  #loading = null;
  #loadingPrevious = null;

  /** `firstPage` is the first page in the format of the API, if it is already loaded. */
  constructor(state, firstPage = null) {
    this.state = state;
    this.images = [];
    this.byId = new Map();
    this.done = false;
    /** The parts of the words, as the API describes them. */
    this.understood = undefined;
    if (firstPage) this.#append(firstPage);
  }

  /** Load the part of the recent images that has an image in its middle. */
  static async around(state, id) {
    const page = await getJson(imagesAroundUrl(state, id));
    return new PagedList(state, page);
  }

  /** Return whether further images precede those that are loaded. */
  get hasPrevious() {
    return this.#previousCursor !== null;
  }

  /** Load the page that precedes the first loaded image, and return its images. */
  loadPrevious() {
    this.#loadingPrevious ??= this.#loadPrevious().finally(() => {
      this.#loadingPrevious = null;
    });
    return this.#loadingPrevious;
  }

  /** Load the next page and return its images; concurrent calls share one request. */
  loadMore({ signal, limit } = {}) {
    this.#loading ??= this.#load(signal, limit).finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  /** Drop the properties of images far from those between two indices. */
  forget(first, last) {
    if (this.images.length <= MAX_WHOLE) return;
    for (const page of this.#pages) {
      const isNear = page.start <= last + KEPT && page.start + page.count >= first - KEPT;
      if (isNear || !page.isLoaded) continue;
      page.isLoaded = false;
      for (let index = page.start; index < page.start + page.count; index += 1) {
        const { id, width, height, weak, taken_at } = this.images[index];
        this.#put(index, { id, width, height, weak, taken_at });
      }
    }
  }

  /** Load the images between two indices again that `forget` has dropped. */
  async reload(first, last) {
    const missing = this.#pages.filter((page) => !page.isLoaded && page.start <= last && page.start + page.count > first);
    for (const page of missing) page.isLoaded = true;
    await Promise.all(missing.map((page) => this.#reloadPage(page)));
  }

  /** Stop loading: there are no further pages. */
  end() {
    this.done = true;
  }

  /** Insert images at the start, and return those that the list did not contain. */
  prepend(images) {
    const added = this.#index(images);
    this.images.unshift(...added);
    for (const page of this.#pages) page.start += added.length;
    return added;
  }

  async #load(signal, limit) {
    if (this.done) return [];
    // Larger pages stay ahead of a reader who scrolls fast.
    limit ??= this.images.length < 3 * PAGE_SIZE ? PAGE_SIZE : MAX_PAGE_SIZE;
    const cursor = this.#cursor;
    const added = this.#append(await getJson(listUrl(this.state, { limit, cursor }), { signal }));
    const { length: count } = added;
    if (cursor) this.#pages.push({ start: this.images.length - count, count, limit, cursor, isLoaded: true });
    return added;
  }

  async #loadPrevious() {
    if (!this.hasPrevious) return [];
    const page = await getJson(listUrl(this.state, { limit: MAX_PAGE_SIZE, cursor: this.#previousCursor }));
    this.#previousCursor = page.previous_cursor;
    return this.prepend(page.images);
  }

  async #reloadPage(page) {
    const { limit, cursor } = page;
    try {
      const { images } = await getJson(listUrl(this.state, { limit, cursor }));
      const indices = new Map();
      for (let index = page.start; index < page.start + page.count; index += 1) indices.set(this.images[index].id, index);
      for (const image of images) {
        if (indices.has(image.id)) this.#put(indices.get(image.id), image);
      }
    } catch {
      page.isLoaded = false;
    }
  }

  #put(index, image) {
    this.images[index] = image;
    this.byId.set(image.id, image);
  }

  #append({ images, next_cursor: cursor, previous_cursor: previousCursor = null, understood }) {
    this.understood ??= understood?.parts;
    if (!this.images.length) this.#previousCursor = previousCursor;
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

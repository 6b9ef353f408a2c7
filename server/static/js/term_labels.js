/** The name and thumbnail of each term of a query. */

import { getJson, imagesUrl } from "./api.js";
import { fileName } from "./format.js";
import { text } from "./texts.js";

const STORAGE_KEY = "query-image-thumbnails";
/** Thumbnails of uploaded images that the browser stores. */
const MAX_STORED = 24;

export class TermLabels {
  #bucket;
  #images = new Map();

  constructor(bucket) {
    this.#bucket = bucket;
  }

  /** Cache images of the collection that may become terms. */
  cache(images) {
    for (const image of images) this.#images.set(String(image.id), image);
  }

  /** `{name, thumbnail}` of a term: `thumbnail` is null for words, and "" for an image that has none. */
  of({ kind, value }) {
    if (kind === "text") return { name: value, thumbnail: null };
    if (kind === "image") {
      const image = this.#images.get(value);
      return { name: image ? fileName(image.key) : text("term.an_image"), thumbnail: image?.thumbnail_url ?? "" };
    }
    return { name: text("term.your_image"), thumbnail: storedThumbnails()[value] ?? "" };
  }

  /** Fetch the images among `terms` that are not cached; returns whether any were found. */
  async load(terms) {
    const missing = terms.filter(({ kind, value }) => kind === "image" && !this.#images.has(value));
    if (!missing.length) return false;
    const url = imagesUrl(this.#bucket, missing.map(({ value }) => value));
    const { images } = await getJson(url).catch(() => ({ images: [] }));
    this.cache(images);
    return images.length > 0;
  }
}

/** Store the thumbnail of an uploaded image in the browser: the server does not store the image. */
export function storeThumbnail(handle, thumbnail) {
  if (!thumbnail) return;
  const others = Object.entries(storedThumbnails()).filter(([other]) => other !== handle);
  const thumbnails = Object.fromEntries([...others, [handle, thumbnail]].slice(-MAX_STORED));
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(thumbnails));
  } catch {
    // Storage may be full or disabled: the chip shows an icon instead.
  }
}

function storedThumbnails() {
  try {
    return JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
  } catch {
    return {};
  }
}

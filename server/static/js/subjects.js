/** What the terms of a query look like: the name and the thumbnail of each picture. */

import { getJson } from "./api.js";
import { some } from "./address.js";
import { fileName } from "./format.js";

/** How many uploaded pictures the browser remembers. */
const REMEMBERED = 24;

export class Subjects {
  #bucket;
  #images = new Map();

  constructor(bucket) {
    this.#bucket = bucket;
  }

  /** These images of the collection may be asked for. */
  know(images) {
    for (const image of images) this.#images.set(String(image.id), image);
  }

  /** `{name, picture}` of a term: `picture` is null for words, and "" where there is none to show. */
  of({ kind, value }) {
    if (kind === "text") return { name: value, picture: null };
    if (kind === "image") {
      const image = this.#images.get(value);
      return { name: image ? fileName(image.key) : "an image", picture: image?.thumbnail_url ?? "" };
    }
    return { name: "your picture", picture: uploaded()[value] ?? "" };
  }

  /** Ask for the images of `terms` that are not known yet; answers whether there were any. */
  async learn(terms) {
    const ids = terms.filter(({ kind, value }) => kind === "image" && !this.#images.has(value)).map(({ value }) => value);
    if (!ids.length) return false;
    const { images } = await getJson(some(this.#bucket, ids)).catch(() => ({ images: [] }));
    this.know(images);
    return images.length > 0;
  }
}

/** Keep the thumbnail of an uploaded picture: the server does not keep the picture. */
export function rememberUploaded(handle, picture) {
  if (!picture) return;
  const others = Object.entries(uploaded()).filter(([known]) => known !== handle);
  try {
    localStorage.setItem("pictures", JSON.stringify(Object.fromEntries([...others, [handle, picture]].slice(-REMEMBERED))));
  } catch {
    // The chip shows a sign in place of the picture.
  }
}

function uploaded() {
  try {
    return JSON.parse(localStorage.getItem("pictures") ?? "{}");
  } catch {
    return {};
  }
}

/** Uploads of images to search with. Each has a chip that shows its progress and cancels it. */

import { postJson, queryImagesUrl } from "./api.js";
import { bytes } from "./format.js";
import { uploadChip } from "./query_chips.js";
import { storeThumbnail } from "./term_labels.js";
import { text } from "./texts.js";

/** The start of the server's message about an unusable file. */
const UNUSABLE_BODY = /^the body cannot be used: /;

export class QueryImageUploads {
  #bucket;
  #maxBytes;
  #on;
  #running = new Set();
  #terms = [];

  /** `on` has `change()`, `error(text)`, and `done(terms)`, which is called when the last upload has finished. */
  constructor({ bucket, maxBytes, on }) {
    this.#bucket = bucket;
    this.#maxBytes = maxBytes;
    this.#on = on;
  }

  get chips() {
    return [...this.#running].map(({ chip }) => chip);
  }

  get running() {
    return this.#running.size > 0;
  }

  addFiles(files) {
    for (const file of files) {
      const name = file.name || text("term.this_image");
      const problem = this.#problemOf(file);
      if (problem) this.#on.error(text("search.upload_failed", { name, reason: problem }));
      else this.#upload(file, name);
    }
  }

  /** Search with the image at a URL, which the server fetches. */
  addUrl(url) {
    return this.#upload({ url }, url);
  }

  cancelAll() {
    for (const { abort } of this.#running) abort.abort();
    this.#running.clear();
    this.#terms = [];
  }

  /** A reason to reject a file without uploading it, or "". */
  #problemOf(file) {
    if (file.type && !file.type.startsWith("image/")) return text("search.not_an_image");
    return file.size > this.#maxBytes ? text("search.too_large", { size: bytes(this.#maxBytes) }) : "";
  }

  /** `content` is a file, or an object with its URL. */
  async #upload(content, name) {
    const preview = content instanceof Blob ? URL.createObjectURL(content) : "";
    const upload = { abort: new AbortController() };
    upload.chip = uploadChip({ name, thumbnail: preview }, () => {
      upload.abort.abort();
      this.#finish(upload);
    });
    this.#running.add(upload);
    this.#on.change();
    const progress = upload.chip.querySelector("progress");
    try {
      const { query_image: value, thumbnail } = await postJson(queryImagesUrl(this.#bucket), content, {
        signal: upload.abort.signal,
        // Once all is sent, the server computes the vector, which takes an unknown time.
        onProgress: (share) => (share < 1 ? (progress.value = share) : progress.removeAttribute("value")),
      });
      storeThumbnail(value, thumbnail);
      this.#terms.push({ kind: "query_image", value, weight: 1 });
      this.#finish(upload);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#finish(upload);
      this.#on.error(text("search.upload_failed", { name, reason: error.message.replace(UNUSABLE_BODY, "") }));
    } finally {
      URL.revokeObjectURL(preview);
    }
  }

  #finish(upload) {
    this.#running.delete(upload);
    if (this.running || !this.#terms.length) this.#on.change();
    else this.#on.done(this.#terms.splice(0));
  }
}

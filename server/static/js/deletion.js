/** A deletion that waits some seconds before it is sent: until then nothing has happened, and it can be undone. */

import { deleteImage } from "./api.js";
import { text } from "./texts.js";

/** Time to undo a deletion, in seconds. */
const UNDO_TIME = 8;
const CONCURRENCY = 3;

export class Deletion {
  #bucket;
  #undo;
  #show;
  #onEnd;
  #timer = 0;

  /** `show(text)` shows the progress; `onEnd(failed)` gets `{image, error}` of each failure, or null if undone. */
  constructor({ bucket, undo, show, onEnd }) {
    this.#bucket = bucket;
    this.#undo = undo;
    this.#show = show;
    this.#onEnd = onEnd;
    undo.addEventListener("click", () => this.cancel());
  }

  start(images) {
    this.#undo.hidden = false;
    this.#undo.focus();
    this.#countDown(images, UNDO_TIME);
  }

  /** Undo the deletion if it has not been sent. */
  cancel() {
    if (!this.#timer) return;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#undo.hidden = true;
    this.#onEnd(null);
  }

  #countDown(images, seconds) {
    if (!seconds) return this.#send(images);
    this.#show(text("selection.deleting_in", { count: images.length, seconds }));
    this.#timer = setTimeout(() => this.#countDown(images, seconds - 1), 1000);
  }

  async #send(images) {
    this.#timer = 0;
    this.#undo.hidden = true;
    const waiting = [...images];
    const failed = [];
    const work = async () => {
      for (let image = waiting.shift(); image; image = waiting.shift()) {
        this.#show(text("selection.deleting", { done: images.length - waiting.length, total: images.length }));
        await deleteImage(this.#bucket, image.id).catch((error) => failed.push({ image, error }));
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
    this.#onEnd(failed);
  }
}

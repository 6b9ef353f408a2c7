/** Uploads to the collection: some at once, each retried while the server is busy. */

import { addImageUrl, postJson } from "./api.js";

const CONCURRENCY = 3;
/** Waits before the retries of one file, in seconds. */
const RETRY_WAITS = [1, 2, 4, 8, 16];
/** Too many uploads, the server overloaded, no connection. */
const RETRIED = [429, 503, 0];

export class ImageUpload {
  #bucket;
  #files;
  #onProgress;
  #abort = new AbortController();
  #sent = new Map();
  added = 0;
  failed = [];

  /** `files` are `{file, path}`; `path` is the key of a file from a folder, else "". */
  constructor(bucket, files, onProgress) {
    this.#bucket = bucket;
    this.#files = [...files];
    this.total = files.length;
    this.#onProgress = onProgress;
  }

  /** The share of the files that is sent, from 0 to 1. */
  get share() {
    const sent = [...this.#sent.values()].reduce((sum, share) => sum + share, 0);
    return (this.added + this.failed.length + sent) / this.total;
  }

  /** Upload all files; ends early after `cancel`. */
  async run() {
    await Promise.all(Array.from({ length: CONCURRENCY }, () => this.#work()));
  }

  cancel() {
    this.#files = [];
    this.#abort.abort();
  }

  async #work() {
    for (let next = this.#files.shift(); next; next = this.#files.shift()) {
      try {
        await this.#send(next);
        this.added += 1;
      } catch (error) {
        if (error.name === "AbortError") return;
        this.failed.push({ name: next.path || next.file.name, error });
      } finally {
        this.#sent.delete(next);
      }
      this.#onProgress();
    }
  }

  async #send(each) {
    const url = addImageUrl(this.#bucket, each.path ? { key: each.path } : { filename: each.file.name });
    for (const wait of [...RETRY_WAITS, null]) {
      try {
        const onProgress = (share) => this.#onSent(each, share);
        return await postJson(url, each.file, { signal: this.#abort.signal, onProgress });
      } catch (error) {
        if (wait === null || !RETRIED.includes(error.status)) throw error;
        await this.#pause(wait);
      }
    }
  }

  #onSent(each, share) {
    this.#sent.set(each, share);
    this.#onProgress();
  }

  #pause(seconds) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#abort.signal.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(new DOMException("Aborted", "AbortError"));
      });
    });
  }
}

/** The end of the wall: the next page is fetched before the reader comes to it, and words say how it stands. */

import { endNotice } from "./notices.js";

/** How far ahead of the reader the next page is fetched, in pixels. */
const AHEAD = 2500;

export class End {
  #element;
  #grown;
  #announce;
  #results;
  #failed = false;
  #observer = new IntersectionObserver((seen) => seen.at(-1).isIntersecting && this.load(), {
    rootMargin: `0px 0px ${AHEAD}px 0px`,
  });

  /** `grown(results)` is called when there are more images, `announce(text)` when there should have been. */
  constructor(element, { grown, announce }) {
    this.#element = element;
    this.#grown = grown;
    this.#announce = announce;
  }

  /** Another list is shown. */
  show(results) {
    this.#results = results;
    this.#failed = false;
    this.#rest();
  }

  /** Fetch the next page, unless there is none; after a failure only to `retry`. */
  async load({ retry = false } = {}) {
    const results = this.#results;
    if (results.done || (this.#failed && !retry)) return;
    this.#failed = false;
    this.#draw("loading");
    try {
      await results.more();
    } catch (error) {
      if (results !== this.#results) return;
      this.#failed = true;
      this.#draw("failed");
      this.#announce(`Could not load more. ${error.message}`);
      return;
    }
    if (results !== this.#results) return;
    this.#grown(results);
    this.#rest();
  }

  #rest() {
    this.#draw(this.#results.done ? "end" : "idle");
    // An observer tells only of changes; observing anew tells how it stands now.
    this.#observer.unobserve(this.#element);
    this.#observer.observe(this.#element);
  }

  /** What stands below the last tile; `kind` is "idle", "loading", "failed" or "end". */
  #draw(kind) {
    const { state, images } = this.#results;
    const retry = () => this.load({ retry: true });
    this.#element.className = `more is-${kind}`;
    this.#element.replaceChildren(...endNotice(kind, { state, count: images.length, retry }));
  }
}

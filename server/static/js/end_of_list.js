/** The end of the grid: loads the next page of the list before the reader reaches it, and shows its progress. */

import { endOfListContent } from "./messages.js";
import { text } from "./texts.js";

/** Distance below the viewport at which the next page is loaded, in pixels. */
const PREFETCH_DISTANCE = 2500;
/** Delays before a page is loaded again after an outage, in milliseconds; each is twice the one before. */
const MIN_RETRY_DELAY = 2000;
const MAX_RETRY_DELAY = 30000;

export class EndOfList {
  #element;
  #onLoaded;
  #announce;
  #list;
  #failed = false;
  #retryDelay = MIN_RETRY_DELAY;
  #retryTimer = 0;
  #observer = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.load(), {
    rootMargin: `0px 0px ${PREFETCH_DISTANCE}px 0px`,
  });

  /** `onLoaded(list)` is called when the list has grown, `announce(text)` when loading failed. */
  constructor(element, { onLoaded, announce }) {
    this.#element = element;
    this.#onLoaded = onLoaded;
    this.#announce = announce;
  }

  /** Follow another list. */
  show(list) {
    this.#list = list;
    this.#retryDelay = MIN_RETRY_DELAY;
    this.#failed = false;
    this.#wait();
  }

  /**
   * Load the next page, if there is one, and return whether that succeeded. After a failure it loads only with `retry`:
   * on "Try again", or by the timer after an outage.
   */
  async load({ retry = false } = {}) {
    const list = this.#list;
    if (list.done || (this.#failed && !retry)) return false;
    clearTimeout(this.#retryTimer);
    this.#failed = false;
    this.#draw("loading");
    try {
      await list.loadMore();
    } catch (error) {
      if (list !== this.#list) return false;
      this.#failed = true;
      this.#draw("failed");
      this.#announce(`${text("list.failed")} ${error.message}`);
      if (error.isOutage) this.#retryLater();
      return false;
    }
    if (list !== this.#list) return false;
    this.#retryDelay = MIN_RETRY_DELAY;
    this.#onLoaded(list);
    this.#wait();
    return true;
  }

  #retryLater() {
    const list = this.#list;
    const retry = () => list === this.#list && this.load({ retry: true });
    this.#retryTimer = setTimeout(retry, this.#retryDelay);
    this.#retryDelay = Math.min(MAX_RETRY_DELAY, this.#retryDelay * 2);
  }

  #wait() {
    this.#draw(this.#list.done ? "end" : "idle");
    // An observer reports changes only; observing again reports the current intersection.
    this.#observer.unobserve(this.#element);
    this.#observer.observe(this.#element);
  }

  #draw(phase) {
    const { state, images } = this.#list;
    const onRetry = () => this.load({ retry: true });
    this.#element.className = `end-of-list is-${phase}`;
    this.#element.replaceChildren(...endOfListContent(phase, { state, count: images.length, onRetry }));
  }
}

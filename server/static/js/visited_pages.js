/**
 * The lists of recently visited pages, so that going back and forward shows them at once, where the reader left them.
 * Each entry of the browser's session history has the key of its page, and its scroll position for a reload.
 */

const MAX_PAGES = 20;

const newKey = () => crypto.randomUUID?.() ?? String(Math.random());

export class VisitedPages {
  #pages = new Map();
  #key = history.state?.key ?? newKey();

  constructor() {
    history.scrollRestoration = "manual";
    history.replaceState({ ...history.state, key: this.#key }, "");
  }

  /** Return whether the page was reached from another one of ours, so that going back leads there. */
  get hasPrevious() {
    return Boolean(history.state?.from);
  }

  /** The scroll position stored in the history entry, if any. */
  get storedPosition() {
    return history.state?.position;
  }

  /** Store the list that the current page shows, and the selected image above it. */
  store(list, selected) {
    this.#pages.delete(this.#key);
    this.#pages.set(this.#key, { list, selected, position: { y: 0 } });
    if (this.#pages.size > MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value);
  }

  savePosition(position) {
    this.#setPosition(position);
    history.replaceState({ ...history.state, position }, "");
  }

  /** Give the current page another URL; `store` its list. */
  replace(url) {
    history.replaceState({ ...history.state, position: undefined }, "", url);
  }

  push(url) {
    const from = this.#key;
    this.#key = newKey();
    history.pushState({ key: this.#key, from }, "", url);
  }

  /**
   * Follow the browser, which went back or forward, and return the page it arrived at if that is stored. `position` is
   * the scroll position of the page it left: the window has not scrolled yet.
   */
  pop(position) {
    this.#setPosition(position);
    this.#key = history.state?.key ?? "";
    return this.#pages.get(this.#key);
  }

  #setPosition(position) {
    const page = this.#pages.get(this.#key);
    if (page) page.position = position;
  }
}

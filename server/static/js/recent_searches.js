/** The recent searches of a collection, shown below the empty search field. The browser stores them. */

import { text } from "./texts.js";

const MAX_STORED = 8;

const template = document.getElementById("recent-search-template");

export class RecentSearches {
  #key;
  #input;
  #panel;
  #onSearch;

  /** `onSearch(words)` is called with the search that the reader chooses. */
  constructor({ bucket, input, panel, onSearch }) {
    this.#key = `recent-searches ${bucket}`;
    this.#input = input;
    this.#panel = panel;
    this.#onSearch = onSearch;
    for (const type of ["focus", "input"]) input.addEventListener(type, () => this.#draw());
    // On Enter, or when the focus moves to the results.
    input.addEventListener("change", () => this.add(input.value.trim()));
    input.addEventListener("keydown", (event) => event.key === "ArrowDown" && this.#focus(0, event));
    panel.addEventListener("click", (event) => this.#onClick(event));
    panel.addEventListener("keydown", (event) => this.#onKey(event));
    for (const type of ["focusin", "pointerdown"]) {
      document.addEventListener(type, ({ target }) => {
        if (target !== input && !panel.contains(target)) panel.hidden = true;
      });
    }
  }

  /** The recent searches that begin with what is typed. */
  beginningWith(typed) {
    const wanted = typed.toLowerCase();
    return this.#stored.filter((words) => words.toLowerCase().startsWith(wanted) && words.length > typed.length);
  }

  /** Store a search as the latest one. */
  add(words) {
    if (words) this.#store([words, ...this.#stored.filter((other) => other !== words)].slice(0, MAX_STORED));
  }

  #draw() {
    const items = this.#input.value ? [] : this.#stored.map((words) => this.#item(words));
    this.#panel.replaceChildren(...items);
    this.#panel.hidden = !items.length;
  }

  #item(words) {
    const item = template.content.firstElementChild.cloneNode(true);
    item.dataset.words = words;
    item.querySelector("bdi").textContent = words;
    item.querySelector(".recent-remove").ariaLabel = text("term.remove_term", { name: words });
    return item;
  }

  #onClick({ target }) {
    const words = target.closest("li")?.dataset.words;
    if (words === undefined) return;
    if (target.closest(".recent-remove")) {
      this.#store(this.#stored.filter((other) => other !== words));
      this.#input.focus();
      this.#draw();
    } else {
      this.#panel.hidden = true;
      this.add(words);
      this.#onSearch(words);
    }
  }

  #onKey(event) {
    const index = this.#searches.indexOf(event.target);
    if (event.key === "ArrowDown") this.#focus(index + 1, event);
    else if (event.key === "ArrowUp") this.#focus(index - 1, event);
    else if (event.key === "Delete" && index >= 0) event.target.closest("li").querySelector(".recent-remove").click();
    else if (event.key === "Escape") this.#focus(-1, event);
  }

  /** Focus a recent search, or the field above the first. */
  #focus(index, event) {
    if (this.#panel.hidden) return;
    (index < 0 ? this.#input : this.#searches[index])?.focus();
    event.preventDefault();
    event.stopPropagation();
  }

  get #searches() {
    return [...this.#panel.querySelectorAll(".recent-search")];
  }

  // Storage may be disabled.

  get #stored() {
    try {
      return JSON.parse(localStorage.getItem(this.#key) ?? "[]");
    } catch {
      return [];
    }
  }

  #store(searches) {
    try {
      localStorage.setItem(this.#key, JSON.stringify(searches));
    } catch {
      // The next visit starts without them.
    }
  }
}

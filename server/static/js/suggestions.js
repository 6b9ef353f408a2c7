/** Suggestions below the search field while words are typed: a listbox of the combobox that the field is. */

import { getJson, suggestUrl } from "./api.js";
import { text } from "./texts.js";

/** Pause after which suggestions are loaded, in milliseconds. */
const TYPING_PAUSE = 120;
const MAX_RECENT = 2;
const MIN_LETTERS = 2;

const template = document.getElementById("suggestion-template");

export class Suggestions {
  #bucket;
  #input;
  #list;
  #recent;
  #onSearch;
  #timer = 0;
  #request = null;

  /** `recent` are the recent searches; `onSearch(words)` is called with the suggestion that the reader chooses. */
  constructor({ bucket, input, list, recent, onSearch }) {
    this.#bucket = bucket;
    this.#input = input;
    this.#list = list;
    this.#recent = recent;
    this.#onSearch = onSearch;
    input.addEventListener("input", (event) => this.#onInput(event));
    input.addEventListener("keydown", (event) => this.#onKey(event));
    for (const type of ["blur", "change"]) input.addEventListener(type, () => this.#close());
    // Keeps the focus in the field, which would close the list before the click.
    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", ({ target }) => this.#choose(target.closest("li")));
  }

  #onInput(event) {
    clearTimeout(this.#timer);
    this.#request?.abort();
    if (event.isComposing || this.#input.value.trim().length < MIN_LETTERS) this.#close();
    else this.#timer = setTimeout(() => this.#load(this.#input.value), TYPING_PAUSE);
  }

  async #load(typed) {
    this.#request = new AbortController();
    const { signal } = this.#request;
    // Typing works without them.
    const { suggestions } = await getJson(suggestUrl(this.#bucket, typed), { signal }).catch(() => ({ suggestions: [] }));
    if (signal.aborted || document.activeElement !== this.#input) return;
    const recent = this.#recent.beginningWith(typed).slice(0, MAX_RECENT);
    this.#draw([
      ...recent.map((words) => option(words, words, text("suggestion.recent"))),
      ...suggestions.map(({ kind, value, count, text: words }) => option(words, value, kindLabel(kind, count))),
    ]);
  }

  #draw(options) {
    for (const [index, each] of options.entries()) each.id = `suggestion-${index}`;
    this.#list.replaceChildren(...options);
    this.#list.hidden = !options.length;
    this.#input.ariaExpanded = String(options.length > 0);
    this.#input.removeAttribute("aria-activedescendant");
    document.getElementById("status").textContent = options.length
      ? text("search.suggestions_found", { count: options.length })
      : "";
  }

  #close() {
    clearTimeout(this.#timer);
    this.#request?.abort();
    if (!this.#list.hidden) this.#draw([]);
  }

  #onKey(event) {
    if (this.#list.hidden || event.isComposing) return;
    const options = [...this.#list.children];
    const active = options.findIndex((each) => each.ariaSelected === "true");
    if (event.key === "ArrowDown") this.#activate(options, (active + 1) % options.length);
    else if (event.key === "ArrowUp") this.#activate(options, active < 0 ? options.length - 1 : active - 1);
    else if (event.key === "Escape") this.#close();
    else if (event.key === "Enter" && active >= 0) this.#choose(options[active]);
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  /** Mark an option as the active one; above the first is the field itself. */
  #activate(options, index) {
    for (const [position, each] of options.entries()) each.ariaSelected = String(position === index);
    if (index < 0) return this.#input.removeAttribute("aria-activedescendant");
    this.#input.setAttribute("aria-activedescendant", options[index].id);
    options[index].scrollIntoView({ block: "nearest" });
  }

  #choose(chosen) {
    if (!chosen) return;
    const { words } = chosen.dataset;
    this.#close();
    this.#recent.add(words);
    this.#onSearch(words);
  }
}

function option(words, label, kind) {
  const element = template.content.firstElementChild.cloneNode(true);
  element.dataset.words = words;
  element.querySelector(".suggestion-text").textContent = label;
  element.querySelector(".suggestion-kind").textContent = kind;
  return element;
}

const kindLabel = (kind, count) => text(`suggestion.${kind}`, { count });

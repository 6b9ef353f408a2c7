/** The search field: words, and the other terms of the query as chips beside them. */

import { listenForImages } from "./image_input.js";
import { isSearch, pageUrl, recentState } from "./page_state.js";
import { queryChip } from "./query_chips.js";
import { QueryImageUploads } from "./query_image_upload.js";
import { flipped, parseWords, withTerm, withoutTerm } from "./query_terms.js";
import { RecentSearches } from "./recent_searches.js";
import { Suggestions } from "./suggestions.js";
import { text } from "./texts.js";

const IMAGE_URL = /^https?:\/\/\S+$/i;

/** Pause after which words count as typed, in milliseconds. */
const TYPING_PAUSE = 300;

const $ = (id) => document.getElementById(id);

export class SearchField {
  #state;
  #labels;
  #onSearch;
  #uploads;
  #input = $("q");
  #typingTimer = 0;

  /** `onSearch({q, terms}, {isTyping})` is called with the new query. */
  constructor({ state, labels, onSearch }) {
    this.#state = state;
    this.#labels = labels;
    this.#onSearch = onSearch;
    this.#uploads = new QueryImageUploads({
      bucket: state.bucket,
      maxBytes: Number($("image-file").dataset.maxBytes),
      on: {
        change: () => this.draw(this.#state),
        error: (message) => this.#showError(message),
        done: (terms) => this.#search(terms.reduce(withTerm, this.#state.terms)),
      },
    });
    this.#suggest(state.bucket);
    this.#listen();
  }

  /** Show the query of a state. */
  draw(state) {
    this.#state = state;
    // Never overwrite words that are being typed.
    if (document.activeElement !== this.#input) this.#input.value = state.q;
    const focused = this.#chipLinks.indexOf(document.activeElement);
    const chips = state.terms.map((term) => this.#chip(term));
    $("chips").replaceChildren(...chips, ...this.#uploads.chips);
    if (focused >= 0) (this.#chipLinks[Math.min(focused, this.#chipLinks.length - 1)] ?? this.#input).focus();
    if (chips.length) $("chips").scrollLeft = $("chips").scrollWidth;
    this.#drawButtons();
    this.#labels.load(state.terms).then((loaded) => loaded && state === this.#state && this.draw(state));
  }

  /** Add `term` to the words and to `terms`, and search. */
  addTerm(term, terms = this.#state.terms) {
    this.#search(withTerm(terms, term));
  }

  /** Search with files, in addition to the current query. */
  addFiles(files) {
    this.#showError("");
    this.#uploads.addFiles(files);
  }

  clear() {
    this.cancelUploads();
    this.#input.value = "";
    this.#input.focus();
    if (isSearch(this.#state)) this.#onSearch({ q: "", terms: [] });
    else this.draw(this.#state);
  }

  cancelUploads() {
    this.#uploads.cancelAll();
  }

  #suggest(bucket) {
    const onSearch = (words) => {
      this.#input.value = words;
      this.#submit();
    };
    const recent = new RecentSearches({ bucket, input: this.#input, panel: $("recent-searches"), onSearch });
    new Suggestions({ bucket, input: this.#input, list: $("suggestions"), recent, onSearch });
  }

  #listen() {
    $("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("input", (event) => {
      this.#drawButtons();
      clearTimeout(this.#typingTimer);
      // The server knows whether searches cost nothing.
      if ("live" in this.#input.dataset && !event.isComposing) {
        this.#typingTimer = setTimeout(() => this.#searchTyped(), TYPING_PAUSE);
      }
    });
    this.#input.addEventListener("keydown", (event) => this.#onInputKey(event));
    $("exclude").addEventListener("click", () => this.#startExclusion());
    $("clear").addEventListener("click", () => this.clear());
    $("chips").addEventListener("click", (event) => this.#onChipClick(event));
    $("chips").addEventListener("keydown", (event) => this.#onChipKey(event));
    $("search-error-close").addEventListener("click", () => this.#showError(""));
    listenForImages({
      button: $("choose-image"),
      fileInput: $("image-file"),
      dropTarget: $("drop-target"),
      on: {
        files: (files) => this.addFiles(files),
        tile: (id) => this.addTerm({ kind: "image", value: id, weight: 1 }),
        url: (url) => this.#uploads.addUrl(url),
      },
    });
  }

  /** Search for the words typed so far. Signs become chips at the end, with Enter. */
  #searchTyped() {
    const q = this.#input.value.trim();
    if (q === this.#state.q || IMAGE_URL.test(q) || parseWords(q).terms.length || this.#uploads.running) return;
    this.#onSearch({ q, terms: this.#state.terms }, { isTyping: true });
  }

  #submit() {
    // Moves the keyboard focus to the images, and closes the keyboard of a phone.
    this.#input.blur();
    // The end of the last upload starts the search.
    if (!this.#uploads.running) this.#search(this.#state.terms);
  }

  /** Search for `terms` and the words in the field; the URL of an image stands for the image. */
  #search(terms) {
    clearTimeout(this.#typingTimer);
    this.#showError("");
    const words = this.#input.value.trim();
    if (IMAGE_URL.test(words)) {
      this.#input.value = "";
      this.#uploads.addUrl(words);
      return;
    }
    const typed = parseWords(words);
    this.#input.value = typed.q;
    this.#onSearch({ q: typed.q, terms: typed.terms.reduce(withTerm, terms) });
  }

  /** Show a message below the field; "" hides it. */
  #showError(message) {
    $("search-error-text").textContent = message;
    $("search-error").hidden = message === "";
  }

  #drawButtons() {
    const hasChips = $("chips").children.length > 0;
    const isEmpty = this.#input.value === "" && !hasChips;
    this.#input.placeholder = text(hasChips ? "search.placeholder_with_terms" : "search.placeholder");
    $("clear").hidden = isEmpty;
    $("exclude").hidden = isEmpty;
  }

  /** Write a minus sign, so that the words typed next are excluded. */
  #startExclusion() {
    this.#input.focus();
    const end = this.#input.value.length;
    this.#input.setRangeText(`${this.#input.value && " "}−`, end, end, "end");
    this.#drawButtons();
  }

  #onInputKey(event) {
    const { value, selectionStart } = this.#input;
    if (event.isComposing || event.shiftKey || selectionStart !== value.length) return;
    let link = null;
    if (event.key === "ArrowRight") link = this.#chipLinks[0];
    else if (event.key === "Backspace" && !value) link = this.#chipLinks.at(-1);
    if (!link) return;
    event.preventDefault();
    link.focus();
  }

  // Chips

  #chip(term) {
    const { q, literal, terms, filters } = this.#state;
    const urlWith = (changed) => pageUrl({ ...recentState(this.#state), filters, q, literal, terms: changed });
    return queryChip(term, this.#labels.of(term), {
      flipUrl: urlWith(withTerm(terms, flipped(term))),
      removeUrl: urlWith(withoutTerm(terms, term)),
    });
  }

  get #chipLinks() {
    return [...$("chips").querySelectorAll("a")];
  }

  #onChipClick(event) {
    const term = this.#termOf(event.target);
    const link = event.target.closest("a");
    if (!term || !link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { terms } = this.#state;
    this.#search(link.classList.contains("chip-sign") ? withTerm(terms, flipped(term)) : withoutTerm(terms, term));
  }

  #onChipKey(event) {
    const { key } = event;
    const links = this.#chipLinks;
    const index = links.indexOf(event.target);
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "ArrowRight") links[Math.min(index + 1, links.length - 1)].focus();
    else if (key === "ArrowLeft") (links[index - 1] ?? this.#input).focus();
    else if (key === "Backspace" || key === "Delete") event.target.closest(".chip").querySelector(".chip-remove").click();
    else if (key === " ") event.target.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The term of the chip that contains `node`; chips of uploads have none. */
  #termOf(node) {
    return this.#state.terms[[...$("chips").children].indexOf(node.closest(".chip"))];
  }
}

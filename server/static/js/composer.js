/** The search field: words, and the other terms of the query as chips beside them. */

import * as address from "./address.js";
import { send } from "./api.js";
import { chip, sendingChip } from "./chips.js";
import { bytes } from "./format.js";
import { listenForPictures } from "./pictures.js";
import { rememberUploaded } from "./subjects.js";
import { adding, fromWords, turned, without } from "./terms.js";

/** How the server begins to say what is wrong with a file. */
const UNUSABLE = /^the body cannot be used: /;
const ADDRESS = /^https?:\/\/\S+$/i;

// The field's placeholders, as the server writes them too.
const ALONE = "Describe a photo: a red boat";
const BESIDE_CHIPS = "Add words";

const $ = (id) => document.getElementById(id);

export class Composer {
  #state;
  #subjects;
  #search;
  #field = $("q");
  #sending = new Set();
  #arrived = [];

  /** `search({q, terms})` is called with what is asked for. */
  constructor({ state, subjects, search }) {
    this.#state = state;
    this.#subjects = subjects;
    this.#search = search;
    const form = $("search");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("input", () => this.#drawButtons());
    this.#field.addEventListener("keydown", (event) => this.#fieldKey(event));
    $("against").addEventListener("click", () => this.#beginAgainst());
    $("clear").addEventListener("click", () => this.clear());
    $("chips").addEventListener("click", (event) => this.#chipClicked(event));
    $("chips").addEventListener("keydown", (event) => this.#chipKey(event));
    $("note-close").addEventListener("click", () => this.say(""));
    listenForPictures({
      button: $("picture"),
      chooser: $("file"),
      target: $("drop"),
      take: (files) => this.#takeAll(files),
      takeImage: (id) => this.add({ kind: "image", value: id, weight: 1 }),
      takeAddress: (url) => this.#send({ url }, url),
    });
  }

  /** Show the query of a state. */
  draw(state) {
    this.#state = state;
    // Words that are being typed are left alone.
    if (document.activeElement !== this.#field) this.#field.value = state.q;
    const focused = this.#stops.indexOf(document.activeElement);
    const chips = state.terms.map((term) => {
      const changed = (terms) => address.page({ ...address.recent(state), filters: state.filters, q: state.q, terms });
      return chip(term, this.#subjects.of(term), {
        turned: changed(adding(state.terms, turned(term))),
        removed: changed(without(state.terms, term)),
      });
    });
    $("chips").replaceChildren(...chips, ...[...this.#sending].map((picture) => picture.chip));
    if (focused >= 0) (this.#stops[Math.min(focused, this.#stops.length - 1)] ?? this.#field).focus();
    $("chips").scrollLeft = $("chips").scrollWidth;
    this.#drawButtons();
    this.#subjects.learn(state.terms).then((learnt) => learnt && state === this.#state && this.draw(state));
  }

  /** Ask for `term` too, beside the words and `terms`. */
  add(term, terms = this.#state.terms) {
    this.#ask(adding(terms, term));
  }

  /** Ask for nothing, and be ready for new words. */
  clear() {
    this.stopSending();
    this.#field.value = "";
    this.#field.focus();
    if (address.asks(this.#state)) this.#search({ q: "", terms: [] });
    else this.draw(this.#state);
  }

  /** Whoever goes elsewhere does not wait for pictures any more. */
  stopSending() {
    for (const picture of this.#sending) picture.abort.abort();
    this.#sending.clear();
    this.#arrived = [];
  }

  /** Say in place what went wrong with the query; "" takes it away. */
  say(text) {
    $("note-text").textContent = text;
    $("note").hidden = text === "";
  }

  /** All links of the chips, from left to right. */
  get #stops() {
    return [...$("chips").querySelectorAll("a")];
  }

  #submit() {
    // The keys go to the images, and a phone puts its keyboard away.
    this.#field.blur();
    // The search begins when the last picture has arrived.
    if (!this.#sending.size) this.#ask(this.#state.terms);
  }

  /** Search for `terms` and the words in the field; an address of a picture stands for the picture. */
  #ask(terms) {
    this.say("");
    const text = this.#field.value.trim();
    if (ADDRESS.test(text)) {
      this.#field.value = "";
      return this.#send({ url: text }, text);
    }
    const typed = fromWords(text);
    this.#field.value = typed.q;
    this.#search({ q: typed.q, terms: typed.terms.reduce(adding, terms) });
  }

  #drawButtons() {
    const { value } = this.#field;
    const chips = $("chips").children.length;
    const empty = value === "" && !chips;
    this.#field.placeholder = chips ? BESIDE_CHIPS : ALONE;
    $("clear").hidden = empty;
    $("against").hidden = empty;
  }

  // Words

  /** Write the sign that what is typed next counts against. */
  #beginAgainst() {
    this.#field.focus();
    const end = this.#field.value.length;
    this.#field.setRangeText(`${this.#field.value && " "}−`, end, end, "end");
    this.#drawButtons();
  }

  #fieldKey(event) {
    const { value, selectionStart } = this.#field;
    if (event.isComposing || event.shiftKey || selectionStart !== value.length) return;
    const stop = event.key === "ArrowRight" ? this.#stops[0] : event.key === "Backspace" && !value ? this.#stops.at(-1) : null;
    if (!stop) return;
    event.preventDefault();
    stop.focus();
  }

  // Chips

  #chipClicked(event) {
    const at = this.#termOf(event.target);
    const link = event.target.closest("a");
    if (at < 0 || !link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.#change(at, link.classList.contains("chip-sign") ? "turn" : "remove");
  }

  #chipKey(event) {
    const { key } = event;
    const stops = this.#stops;
    const stop = stops.indexOf(event.target);
    if (stop < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "ArrowRight") stops[Math.min(stop + 1, stops.length - 1)].focus();
    else if (key === "ArrowLeft") (stops[stop - 1] ?? this.#field).focus();
    else if (key === "Backspace" || key === "Delete") event.target.closest(".chip").querySelector(".chip-remove").click();
    else if (key === " ") event.target.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #termOf(node) {
    const chips = [...$("chips").children];
    const at = chips.indexOf(node.closest(".chip"));
    return at < this.#state.terms.length ? at : -1;
  }

  #change(at, what) {
    const { terms } = this.#state;
    this.#ask(what === "turn" ? adding(terms, turned(terms[at])) : without(terms, terms[at]));
  }

  // Pictures

  #takeAll(files) {
    this.say("");
    for (const file of files) {
      const name = file.name || "the picture";
      const problem = this.#problemOf(file);
      if (problem) this.say(`“${name}” cannot be searched for: ${problem}`);
      else this.#send(file, name);
    }
  }

  /** What the server would say of a file, without sending it; "" where that is to be seen. */
  #problemOf(file) {
    const largest = Number($("file").dataset.largest);
    if (file.type && !file.type.startsWith("image/")) return "it is no image.";
    return file.size > largest ? `it is too large: a picture may have ${bytes(largest)}.` : "";
  }

  /** Send a picture; `what` is a file, or an object with its address. */
  async #send(what, name) {
    const preview = what instanceof Blob ? URL.createObjectURL(what) : "";
    const picture = { abort: new AbortController() };
    picture.chip = sendingChip({ name, picture: preview }, () => {
      picture.abort.abort();
      this.#sent(picture);
    });
    this.#sending.add(picture);
    this.draw(this.#state);
    const progress = picture.chip.querySelector("progress");
    try {
      const { query_image: value, thumbnail } = await send(address.pictures(this.#state.bucket), what, {
        signal: picture.abort.signal,
        // When all has gone, the model has its turn, for nobody knows how long.
        progress: (share) => (share < 1 ? (progress.value = share) : progress.removeAttribute("value")),
      });
      rememberUploaded(value, thumbnail);
      this.#arrived.push({ kind: "query_image", value, weight: 1 });
      this.#sent(picture);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#sent(picture);
      this.say(`“${name}” cannot be searched for: ${error.message.replace(UNUSABLE, "")}`);
    } finally {
      URL.revokeObjectURL(preview);
    }
  }

  /** A picture is not being sent any more; after the last one the search begins. */
  #sent(picture) {
    this.#sending.delete(picture);
    if (this.#sending.size || !this.#arrived.length) return this.draw(this.#state);
    this.#ask(this.#arrived.splice(0).reduce(adding, this.#state.terms));
  }
}

/** The filters of a list: the panel that sets them, and those that are set, each with a way to be rid of it. */

import * as address from "./address.js";
import { getJson } from "./api.js";
import { number } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Filters {
  #state;
  #change;
  #form = $("filters-form");
  #choicesFor = null;

  /** `change(filters)` is called with pairs of name and value. */
  constructor({ state, change }) {
    this.#state = state;
    this.#change = change;
    $("filters").addEventListener("toggle", () => $("filters").open && this.#loadChoices());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      $("filters").open = false;
      $("filters").querySelector("summary").focus();
      this.#apply();
    });
    this.#form.addEventListener("change", () => this.#apply());
    $("filters-clear").addEventListener("click", (event) => {
      event.preventDefault();
      this.#change([]);
    });
  }

  draw(state) {
    this.#state = state;
    const set = Object.fromEntries(state.filters);
    for (const field of this.#form.elements) {
      if (!address.FILTERS.includes(field.name) || field === document.activeElement) continue;
      const value = set[field.name] ?? "";
      if (field.type === "radio" || field.type === "checkbox") field.checked = field.value === value;
      else {
        if (field.tagName === "SELECT") offer(field, value, words(field.name, value));
        field.value = value;
      }
    }
    $("filters").classList.toggle("is-set", state.filters.length > 0);
    $("filters-strict").hidden = !address.asks(state) && !state.similar;
    const hadFocus = $("active").contains(document.activeElement);
    $("active").replaceChildren(...state.filters.map((filter) => this.#active(filter)));
    if (hadFocus) ($("active").querySelector("a") ?? $("filters").querySelector("summary")).focus();
    if (state.filters.length > 1) $("active").append(this.#clearAll());
  }

  #active([name, value]) {
    const item = $("active-template").content.firstElementChild.cloneNode(true);
    const others = this.#state.filters.filter(([other]) => other !== name);
    item.querySelector("a").href = address.page({ ...this.#state, view: "", filters: others });
    item.querySelector("bdi").textContent = words(name, value);
    return item;
  }

  #clearAll() {
    const item = $("clear-all-template").content.firstElementChild.cloneNode(true);
    item.querySelector("a").href = address.page({ ...this.#state, view: "", filters: [] });
    return item;
  }

  #apply() {
    const set = new FormData(this.#form);
    const filters = address.FILTERS.map((name) => [name, String(set.get(name) ?? "").trim()]).filter(([, value]) => value);
    if (this.#form.reportValidity()) this.#change(filters);
  }

  /** Fill the choices with what there is in the collection, the first time that somebody looks. */
  async #loadChoices() {
    const { bucket } = this.#state;
    if (this.#choicesFor === bucket) return;
    const facets = await getJson(address.facets(bucket)).catch(() => null);
    if (!facets) return;
    this.#choicesFor = bucket;
    for (const select of this.#form.querySelectorAll("select[data-facet]")) {
      for (const { value, count } of facets[select.dataset.facet] ?? []) offer(select, value, `${value} (${number(count)})`);
    }
  }
}

/** Make sure that `value` can be chosen in `select`. */
function offer(select, value, label) {
  if (![...select.options].some((option) => option.value === value)) select.add(new Option(label, value));
}

/** A filter in words; the server's template writes the same ones. */
function words(name, value) {
  const pixels = () => `${value} px ${name.endsWith("width") ? "wide" : "high"}`;
  const size = () => `${Math.round(value / 1e5) / 10} MB`;
  switch (name) {
    case "taken_after":
      return `From ${value}`;
    case "taken_before":
      return `Before ${value}`;
    case "folder":
      return `In ${value}`;
    case "orientation":
      return value.charAt(0).toUpperCase() + value.slice(1);
    case "type":
      return value.replace("image/", "").toUpperCase();
    case "min_size":
      return `At least ${size()}`;
    case "max_size":
      return `At most ${size()}`;
    case "strict":
      return "Without weaker matches";
    case "camera":
      return value;
    default:
      return `${name.startsWith("min") ? "At least" : "At most"} ${pixels()}`;
  }
}

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
    $("filters").addEventListener("toggle", () => this.#loadChoices());
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
        if (field.tagName === "SELECT") allow(field, value);
        field.value = value;
      }
    }
    $("filters").classList.toggle("is-set", state.filters.length > 0);
    $("filters-strict").hidden = !address.asks(state) && !state.similar;
    const hadFocus = $("active").contains(document.activeElement);
    $("active").replaceChildren(...state.filters.map((filter) => this.#active(filter)));
    if (hadFocus) ($("active").querySelector("a") ?? $("filters").querySelector("summary")).focus();
    if (state.filters.length > 1) $("active").append(this.#clearAll());
    this.#loadChoices();
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

  /** Fill the choices with what there is in the collection: of folders, the next ones below the one that is chosen. */
  async #loadChoices() {
    const { bucket, filters } = this.#state;
    const folder = filters.find(([name]) => name === "folder")?.[1] ?? "";
    const wanted = address.facets(bucket, folder);
    if (!$("filters").open || this.#choicesFor === wanted) return;
    this.#choicesFor = wanted;
    const facets = await getJson(wanted).catch(() => null);
    if (this.#choicesFor !== wanted) return;
    if (!facets) {
      this.#choicesFor = null;
      return;
    }
    const above = folder.split("/").map((_, at, parts) => ({ folder: parts.slice(0, at + 1).join("/") }));
    this.#offer("camera", facets.cameras);
    this.#offer("type", facets.types);
    this.#offer("folder", folder ? [...above, ...facets.folders] : facets.folders);
  }

  /** Put `choices` in place of those that the field has, but for "Any"; what is chosen stays so. */
  #offer(name, choices) {
    const select = this.#form.elements[name];
    const { value } = select;
    const options = choices.map(({ [name]: choice, count }) => {
      const counted = count === undefined ? "" : ` (${number(count)})`;
      return new Option(`${name === "folder" ? choice : words(name, choice)}${counted}`, choice);
    });
    select.replaceChildren(select.options[0], ...options);
    allow(select, value);
    select.value = value;
  }
}

/** Make sure that `value` can be chosen in `select`. */
function allow(select, value) {
  if ([...select.options].some((option) => option.value === value)) return;
  select.add(new Option(words(select.name, value), value));
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

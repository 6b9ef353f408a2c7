/** The selected images, across all lists of the collection, and what can be done with them: templates/_selection.html. */

import { exportRows } from "./api.js";
import { listenForBox } from "./box_selection.js";
import { Deletion } from "./deletion.js";
import { listenForKeys } from "./keyboard.js";
import { isRanked, pageUrl } from "./page_state.js";
import { text } from "./texts.js";

/** The most images that a download takes by their ids. */
const MAX_SELECTED = 10_000;

const $ = (id) => document.getElementById(id);

export class Selection {
  #gallery;
  #form;
  #grid;
  #deletion;
  /** Images by id: of a list, or rows of an export. */
  #images = new Map();
  #anchor = -1;
  /** True while the checkboxes are shown although nothing is selected yet. */
  #started = false;

  constructor(gallery, { form, grid }) {
    this.#gallery = gallery;
    this.#form = form;
    this.#grid = grid;
    this.#deletion = new Deletion({
      bucket: gallery.bucket,
      undo: $("undo-deletion"),
      show: (text) => this.#show(text),
      onEnd: (failed) => this.#onDeleted(failed),
    });
    this.#listen();
  }

  #listen() {
    this.#grid.addEventListener("click", (event) => this.#onClick(event), { capture: true });
    this.#form.addEventListener("formdata", (event) => this.#fill(event.formData));
    $("start-selection").addEventListener("click", () => {
      this.#started = true;
      this.#show();
    });
    $("select-all").addEventListener("click", () => this.#selectAll());
    $("copy-links").addEventListener("click", () => this.#copyLinks());
    $("delete-selected")?.addEventListener("click", () => this.#delete());
    $("end-selection").addEventListener("click", () => this.#clear());
    // Tiles come and go as the page scrolls.
    new MutationObserver(() => this.#drawTiles()).observe(this.#grid, { childList: true });
    listenForBox({
      grid: this.#grid,
      onStart: () => new Map(this.#images),
      onChange: (before, ids) => {
        this.#images = new Map(before);
        for (const image of this.#gallery.list.images) if (ids.has(image.id)) this.#images.set(image.id, image);
        this.#show();
      },
    });
    listenForKeys({
      x: (event) => this.#onKey(event, false),
      X: (event) => this.#onKey(event, true),
      Escape: () => (this.#isSelecting ? this.#clear() : false),
    });
  }

  // Input

  #onClick(event) {
    const { target, shiftKey } = event;
    const index = this.#gallery.grid.indexOf(target);
    const isCheckbox = target.classList.contains("tile-check");
    // Once something is selected, a click on a picture selects it too, in place of viewing it.
    if (index < 0 || !(isCheckbox || ((shiftKey || this.#isSelecting) && target.closest(".tile-link")))) return;
    event.stopPropagation();
    if (isCheckbox) {
      this.#select(index, { selected: target.checked, range: shiftKey });
    } else {
      event.preventDefault();
      this.#toggle(index, shiftKey);
    }
  }

  #onKey(event, range) {
    const index = this.#gallery.grid.indexOf(event.target);
    if (index < 0) return false;
    this.#toggle(index, range);
    return true;
  }

  get #isSelecting() {
    return this.#images.size > 0 || this.#started;
  }

  #toggle(index, range) {
    const selected = range || !this.#images.has(this.#gallery.list.images[index].id);
    this.#select(index, { selected, range });
  }

  /** Select or deselect an image; with `range`, all images between it and the one before. */
  #select(index, { selected, range }) {
    const start = range && this.#anchor >= 0 ? this.#anchor : index;
    const images = this.#gallery.list.images.slice(Math.min(start, index), Math.max(start, index) + 1);
    for (const image of images) {
      if (selected) this.#images.set(image.id, image);
      else this.#images.delete(image.id);
    }
    this.#anchor = index;
    this.#show();
  }

  #clear() {
    this.#deletion.cancel();
    this.#images.clear();
    this.#anchor = -1;
    this.#started = false;
    this.#show();
  }

  // Actions

  /** Select all images of the list; of a search, those that match. */
  async #selectAll() {
    const { state } = this.#gallery;
    const query = new URL(pageUrl({ ...state, month: "", view: "" }), location.href).searchParams;
    if (isRanked(state)) query.set("strict", "1");
    query.set("parse", state.parse || "1");
    query.set("limit", MAX_SELECTED + 1);
    this.#show(text("selection.selecting"));
    try {
      const rows = await exportRows(query);
      for (const row of rows.slice(0, MAX_SELECTED)) this.#images.set(row.id, row);
      this.#show(rows.length > MAX_SELECTED ? text("selection.first", { number: MAX_SELECTED }) : "");
    } catch (error) {
      this.#show(error.message);
    }
  }

  /** Put the selection into the form, whose checkboxes are only those in view. */
  #fill(data) {
    const format = data.get("format");
    for (const name of [...data.keys()]) data.delete(name);
    const { q, terms, similar } = this.#gallery.state;
    const query = new URL(pageUrl({ bucket: this.#gallery.bucket, q, terms, similar, filters: [] }), location.href);
    for (const [name, value] of query.searchParams) data.append(name, value);
    data.set("ids", [...this.#images.keys()].join(","));
    if (format) data.set("format", format);
  }

  async #copyLinks() {
    const links = [...this.#images.values()].map(({ url }) => new URL(url, location.href).href);
    try {
      await navigator.clipboard.writeText(links.join("\n"));
      this.#show(text("selection.copied", { count: links.length }));
    } catch {
      this.#show(text("selection.not_copied"));
    }
  }

  #delete() {
    $("selection-actions").hidden = true;
    this.#deletion.start([...this.#images.values()]);
  }

  /** Continue with the images that could not be deleted; null if the deletion was undone. */
  #onDeleted(failed) {
    $("selection-actions").hidden = false;
    if (failed === null) return this.#show();
    this.#images = new Map(failed.map(({ image }) => [image.id, image]));
    const values = { count: failed.length, reason: failed[0]?.error.message };
    this.#show(failed.length ? text("selection.not_deleted", values) : "");
    this.#gallery.reload();
  }

  // Drawing

  /** Draw the bar and the tiles; `message` replaces the count. */
  #show(message = "") {
    const { size } = this.#images;
    const isSelecting = this.#isSelecting;
    this.#form.classList.toggle("is-open", isSelecting || message !== "");
    this.#grid.classList.toggle("is-selecting", isSelecting);
    $("selection-count").textContent = message || (isSelecting ? text("selection.count", { count: size }) : "");
    for (const button of $("selection-actions").children) button.disabled = !size && button.id !== "select-all";
    this.#drawTiles();
  }

  #drawTiles() {
    for (const tile of this.#grid.querySelectorAll(".tile")) {
      tile.querySelector(".tile-check").checked = this.#images.has(Number(tile.dataset.id));
    }
  }
}

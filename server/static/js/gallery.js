/** The page: which list it shows, how one gets from one to the next, and the address of each. */

import { getJson } from "./api.js";
import * as address from "./address.js";
import { Arrivals } from "./arrivals.js";
import { Composer } from "./composer.js";
import { detailElement, withDetails, writeFacts } from "./detail.js";
import { End } from "./end.js";
import { Filters } from "./filters.js";
import { images as countImages, number } from "./format.js";
import { Grid } from "./grid.js";
import { inWords, title } from "./heading.js";
import { closingMenus, listen } from "./keyboard.js";
import { Lightbox } from "./lightbox.js";
import { dividerNotice, emptyNotice, errorNotice } from "./notices.js";
import { Progress } from "./progress.js";
import { Results } from "./results.js";
import { Subjects } from "./subjects.js";
import { Zoom } from "./zoom.js";

/** How many lists stay in memory for going back and forward. */
const REMEMBERED = 20;
/** How far a reload goes to find the place where the reader was, in images. */
const FAR_ENOUGH = 5000;
/** How often a server that has no collection yet is asked for one, in milliseconds. */
const NEXT_LOOK = 3000;

const $ = (id) => document.getElementById(id);
const plainClick = (event) => event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

class Gallery {
  #name = document.querySelector(".collection-name")?.textContent ?? document.title;
  #pages = new Map();
  #key = "";
  #request = null;
  #chosen = null;

  constructor() {
    const main = $("gallery");
    this.bucket = main.dataset.bucket;
    this.state = address.parse(location.href, this.bucket);
    this.grid = new Grid({
      wall: $("wall"),
      list: $("grid"),
      more: $("more"),
      bar: $("bar"),
      addressOf: (image) => this.#neighboursAddress(image),
    });
    this.end = new End($("more"), {
      grown: ({ done }) => this.grid.grown({ done }),
      announce: (text) => this.#announce(text),
    });
    this.lightbox = new Lightbox($("lightbox"), {
      bucket: this.bucket,
      on: {
        step: (image) => this.#viewed(image),
        close: () => this.#closeLarge(),
        similar: (image) => this.#showNeighbours(image),
        weigh: (image, weight) => this.#weigh(image, weight),
        addressOf: (image) => this.#neighboursAddress(image),
      },
    });
    this.arrivals = new Arrivals(this, { pill: $("pill"), text: $("pill-text"), wall: $("wall") });
    this.zoom = new Zoom({ smaller: $("smaller"), larger: $("larger") }, (factor) => (this.grid.zoom = factor));
    this.subjects = new Subjects(this.bucket);
    this.composer = new Composer({
      state: this.state,
      subjects: this.subjects,
      search: (query) => this.#search(query),
    });
    this.filters = new Filters({ state: this.state, change: (filters) => this.#visit({ ...this.state, view: "", filters }) });
    this.#begin(main);
    this.#listen();
    if ($("progress")) new Progress($("progress"), (stats) => this.#stats(stats));
    if (!this.bucket && !main.dataset.error) this.#awaitCollection();
  }

  /** Nothing is open above the wall, so that tiles may move. */
  get atRest() {
    return !document.querySelector("dialog[open]") && !document.hidden;
  }

  /** Put newly arrived images at the top of the recent ones. */
  insert(images) {
    const fresh = this.results.prepend(images);
    if (!fresh.length) return;
    scrollTo({ top: 0, behavior: "instant" });
    this.#drawMessage(null);
    $("empty")?.remove();
    this.grid.grownAtTop(fresh.length);
    this.#announce(`${countImages(fresh.length)} arrived`);
  }

  /** Ask for the same list again and show it from the top. */
  reload() {
    return this.#open(this.state, { place: { y: 0 } });
  }

  // Beginning, from what the server wrote

  #begin(main) {
    history.scrollRestoration = "manual";
    this.#key = history.state?.key ?? crypto.randomUUID?.() ?? String(Math.random());
    const place = history.state?.place;
    history.replaceState({ ...history.state, key: this.#key }, "");
    const images = this.grid.adopt();
    const more = $("more").querySelector("a");
    const cursor = more && new URL(more.href).searchParams.get("cursor");
    this.results = new Results(this.state, { images, next_cursor: cursor });
    for (const known of document.querySelectorAll("#chips [data-image]")) this.subjects.know([JSON.parse(known.dataset.image)]);
    const detail = document.querySelector(".detail");
    if (detail?.dataset.image) {
      this.#chosen = JSON.parse(detail.dataset.image);
      this.#drawDetail(detail);
    }
    for (const figure of document.querySelectorAll("data.number")) figure.textContent = number(Number(figure.value));
    // Without a collection there is nothing but what the server wrote.
    if (main.dataset.error && this.bucket) this.#drawMessage({ message: main.dataset.error }, () => this.reload());
    this.#drawQuery();
    this.#drawList();
    main.classList.add("is-ready");
    this.#remember();
    if (place) this.#findPlace(place);
    if (this.state.view) this.#openLarge();
  }

  // Going from one state to another

  #listen() {
    $("lightbox").addEventListener("close", () => this.grid.resized());
    addEventListener("popstate", () => this.#popped());
    addEventListener("scroll", () => this.#notePlace(), { passive: true });
    addEventListener("pagehide", () => this.#savePlace());
    document.addEventListener("click", (event) => this.#clicked(event));
    $("help-open").addEventListener("click", () => $("help").showModal());
    $("help").addEventListener("click", (event) => event.target === $("help") && $("help").close());
    closingMenus();
    listen({
      "/": () => $("q").select(),
      "?": () => $("help").showModal(),
      "+": () => this.zoom.by(1),
      "=": () => this.zoom.by(1),
      "-": () => this.zoom.by(-1),
      m: (event) => this.#weighFocused(event, 1),
      l: (event) => this.#weighFocused(event, -1),
      " ": (event) => this.#viewFocused(event),
      Escape: (event) => this.#escape(event),
      ArrowDown: (event) => this.#enterGrid(event),
      ArrowRight: (event) => this.#enterGrid(event),
    });
  }

  #clicked(event) {
    if (!plainClick(event) || event.defaultPrevented) return;
    const { target } = event;
    const image = this.results.images[this.grid.indexOf(target)] ?? this.#chosen;
    if (target.closest(".tile-view, .detail-view, .detail-stage")) this.#viewLarge(image);
    else if (target.closest(".tile-more, .detail-more")) this.#weigh(image, 1);
    else if (target.closest(".tile-less, .detail-less")) this.#weigh(image, -1);
    else if (target.closest(".tile-link")) this.#showNeighbours(image);
    else if (target.closest(".detail-close")) this.#leaveNeighbours();
    else if (target.closest("[data-nav]")) this.#visit(address.parse(target.closest("a").href, this.bucket));
    else return;
    event.preventDefault();
  }

  #search({ q, terms }) {
    this.#visit({ ...address.recent(this.state), filters: this.state.filters, q, terms });
  }

  /** More like an image, or less like it, beside what is asked for already. */
  #weigh(image, weight) {
    const { similar, terms } = this.state;
    this.subjects.know([image, ...(this.#chosen ? [this.#chosen] : [])]);
    const asked = similar ? [{ kind: "image", value: similar, weight: 1 }] : terms;
    this.composer.add({ kind: "image", value: String(image.id), weight }, asked);
  }

  #weighFocused(event, weight) {
    const image = this.results.images[this.grid.indexOf(event.target)];
    if (!image) return false;
    this.#weigh(image, weight);
  }

  #neighboursAddress(image) {
    return address.page({ ...address.recent(this.state), filters: this.state.filters, similar: String(image.id) });
  }

  #showNeighbours(image) {
    this.#chosen = image;
    this.#visit({ ...address.recent(this.state), filters: this.state.filters, similar: String(image.id) });
  }

  /** Back to where the reader came from; a page entered by its address has only the recent images above it. */
  #leaveNeighbours() {
    if (history.state?.from) history.back();
    else this.#visit(address.recent(this.state));
  }

  #visit(state) {
    this.composer.stopSending();
    this.lightbox.close();
    this.#savePlace();
    const from = this.#key;
    this.#key = crypto.randomUUID?.() ?? String(Math.random());
    history.pushState({ key: this.#key, from }, "", address.page(state));
    return this.#open(state, { place: { y: 0 } });
  }

  #popped() {
    // The window still stands where the reader left it: only now can the place be noted.
    const page = this.#pages.get(this.#key);
    if (page) page.place = this.grid.place();
    this.#key = history.state?.key ?? "";
    const state = address.parse(location.href, this.bucket);
    if (address.sameList(state, this.state)) return this.#overlay(state);
    this.lightbox.close();
    const known = this.#pages.get(this.#key);
    if (!known) return this.#open(state, { place: history.state?.place ?? { y: 0 } });
    this.#request?.abort();
    this.state = state;
    this.results = known.results;
    this.#chosen = known.chosen;
    this.#drawMessage(null);
    this.#drawAll();
    this.grid.goTo(known.place);
    this.#refocus();
    this.arrivals.look();
  }

  /** Load a list and show it; what is shown already stays until the answer comes. */
  async #open(state, { place }) {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    this.state = state;
    this.#drawQuery();
    this.#busy(true);
    const results = new Results(state);
    try {
      if (state.similar && String(this.#chosen?.id) !== state.similar) {
        this.#chosen = await getJson(address.image(state.bucket, state.similar), { signal: request.signal });
      }
      await results.more({ signal: request.signal });
    } catch (error) {
      if (error.name === "AbortError") return;
      results.end();
      this.results = results;
      this.#drawMessage(error, () => this.#open(state, { place }));
      this.#drawAll();
      return;
    } finally {
      if (request === this.#request) this.#busy(false);
    }
    this.results = results;
    this.#drawMessage(null);
    this.#drawAll();
    this.#remember();
    await this.#findPlace(place);
    this.#refocus();
    this.#announce(this.#summary());
    if (state.view) this.#openLarge();
  }

  #refocus() {
    // Whoever uses the keys goes on from the wall; nothing is scrolled by it.
    if (document.activeElement === document.body) $("grid").focus({ preventScroll: true });
  }

  // The large view, above any list

  get #viewable() {
    const gallery = this;
    return {
      get images() {
        return gallery.state.similar && gallery.#chosen ? [gallery.#chosen, ...gallery.results.images] : gallery.results.images;
      },
      get done() {
        return gallery.results.done;
      },
      more: () => gallery.end.load(),
    };
  }

  #viewLarge(image) {
    this.#savePlace();
    this.state = { ...this.state, view: String(image.id) };
    history.pushState({ ...history.state, large: true }, "", address.page(this.state));
    this.lightbox.show(image, this.#viewable);
  }

  #viewFocused(event) {
    const image = this.results.images[this.grid.indexOf(event.target)];
    if (!image) return false;
    this.#viewLarge(image);
  }

  #viewed(image) {
    this.state = { ...this.state, view: String(image.id) };
    history.replaceState(history.state, "", address.page(this.state));
  }

  #closeLarge() {
    if (history.state?.large) history.back();
    else {
      const state = { ...this.state, view: "" };
      history.replaceState(history.state, "", address.page(state));
      this.#overlay(state);
    }
  }

  /** The list stays as it is; only the large view opens or closes. */
  #overlay(state) {
    const viewed = this.state.view;
    this.state = state;
    if (state.view) return this.#openLarge();
    this.lightbox.close();
    this.grid.focus(this.results.images.findIndex((image) => String(image.id) === viewed));
  }

  async #openLarge() {
    const { view } = this.state;
    const image =
      this.#viewable.images.find((known) => String(known.id) === view) ??
      (await getJson(address.image(this.bucket, view)).catch(() => null));
    if (image && this.state.view === view) this.lightbox.show(image, this.#viewable);
  }

  /** Show the first collection as soon as there is one. */
  async #awaitCollection() {
    const known = document.hidden ? null : await getJson("/api/collections").catch(() => null);
    if (known?.collections.length) return location.reload();
    setTimeout(() => this.#awaitCollection(), NEXT_LOOK);
  }

  // Keys

  #escape(event) {
    if (event.target.closest("input")) event.target.blur();
    else if (this.state.similar) this.#leaveNeighbours();
    else if (address.asks(this.state)) this.#visit(address.recent(this.state));
    else return false;
  }

  #enterGrid(event) {
    if (event.target !== document.body && event.target !== $("grid")) return false;
    if (this.grid.firstInView < 0) return false;
    this.grid.focus(this.grid.firstInView);
  }

  // Places

  #notePlace() {
    clearTimeout(this.placeTimer);
    this.placeTimer = setTimeout(() => this.#savePlace(), 300);
  }

  #savePlace() {
    clearTimeout(this.placeTimer);
    const place = { ...this.grid.place(), count: this.results.images.length };
    const page = this.#pages.get(this.#key);
    if (page) page.place = place;
    history.replaceState({ ...history.state, place }, "");
  }

  #remember() {
    this.#pages.delete(this.#key);
    this.#pages.set(this.#key, { results: this.results, chosen: this.#chosen, place: { y: 0 } });
    if (this.#pages.size > REMEMBERED) this.#pages.delete(this.#pages.keys().next().value);
  }

  /** Scroll to where the reader was, loading as much as was loaded then. */
  async #findPlace(place) {
    const { results } = this;
    const enough = Math.min(place.count ?? 0, FAR_ENOUGH);
    while (place.id && !results.byId.has(place.id) && results.images.length < enough && !results.done) {
      const grown = await results.more({ limit: address.LARGEST_PAGE }).catch(() => []);
      if (!grown.length || results !== this.results) break;
      this.grid.grown({ done: results.done });
    }
    if (results === this.results) this.grid.goTo(place);
  }

  // Drawing

  #drawAll() {
    this.#drawDetail();
    this.#drawQuery();
    this.#drawList();
  }

  /** The field, the chips and the filters. */
  #drawQuery() {
    this.composer.draw(this.state);
    this.filters.draw(this.state);
    $("gallery").classList.toggle("is-asking", address.asks(this.state) || this.state.similar !== "");
  }

  #drawList() {
    const { state, results } = this;
    const about = inWords(state, this.subjects, this.#chosen);
    $("title").replaceChildren(...title(state, this.subjects));
    document.title = about ? `${about} · ${this.#name}` : this.#name;
    this.grid.show(results.images, {
      done: results.done,
      divider: dividerNotice(state, { all: Boolean(results.images[0]?.weak) }),
    });
    this.end.show(results);
    this.#drawCount();
    this.#drawEmpty();
    this.arrivals.reset();
  }

  #drawDetail(element) {
    const holder = $("detail");
    if (!this.state.similar || String(this.#chosen?.id) !== this.state.similar) return holder.replaceChildren();
    const close = address.page(address.recent(this.state));
    const detail = detailElement(this.#chosen, close, element);
    if (!element) holder.replaceChildren(detail);
    this.#completeDetail(detail, this.#chosen);
  }

  async #completeDetail(detail, image) {
    await withDetails(image, this.bucket);
    writeFacts(detail.querySelector(".detail-facts"), image);
  }

  #drawCount() {
    const { state, stats } = this;
    $("count").textContent = address.browsing(state) && stats?.total ? countImages(stats.total) : "";
  }

  #drawEmpty() {
    $("empty")?.remove();
    if (this.results.images.length || !$("message").hidden) return;
    const { state, stats, bucket } = this;
    $("wall").before(emptyNotice({ state, stats, bucket, chosen: this.#chosen }));
  }

  /** Show what went wrong, in place of what it kept from coming; null takes it away. */
  #drawMessage(error, again) {
    $("message").hidden = error === null;
    if (error === null) return;
    $("empty")?.remove();
    $("message").replaceChildren(...errorNotice(error, { state: this.state, again }));
  }

  #busy(busy) {
    $("busy").hidden = !busy;
    $("wall").classList.toggle("is-busy", busy);
    $("grid").setAttribute("aria-busy", String(busy));
  }

  #stats(stats) {
    this.stats = stats;
    this.#drawCount();
    this.arrivals.stats(stats);
  }

  #summary() {
    const count = this.results.images.length;
    const { state } = this;
    const asked = address.asks(state) ? ` closest to ${inWords(state, this.subjects)}` : "";
    const what = state.similar ? " that look like this" : asked;
    return `${countImages(count)}${this.results.done ? "" : " and more"}${what}`;
  }

  #announce(text) {
    $("status").textContent = text;
  }
}

new Gallery();

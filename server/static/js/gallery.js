/** The gallery page: loads the list that its URL names, and navigates from one list to the next. */

import { MAX_PAGE_SIZE, getJson, imageUrl } from "./api.js";
import { filterCollections } from "./collection_filter.js";
import { createDividers, monthOf } from "./dividers.js";
import { EndOfList } from "./end_of_list.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { imageDetail } from "./image_detail.js";
import { ImageViewer } from "./image_viewer.js";
import { IndexingProgress } from "./indexing_progress.js";
import { listenForKeys } from "./keyboard.js";
import { listenForLongPresses } from "./long_press.js";
import { closeMenusOnLeave } from "./menus.js";
import { emptyListMessage, errorContent } from "./messages.js";
import { NewImages } from "./new_images.js";
import {
  hasTimeline,
  isByDateTaken,
  isRanked,
  isSameList,
  isSearch,
  isWhole,
  pageUrl,
  parseState,
  recentState,
} from "./page_state.js";
import { PagedList, isLoaded } from "./paged_list.js";
import { headingContent, queryText } from "./results_heading.js";
import { SearchField } from "./search_field.js";
import { Selection } from "./selection.js";
import { drawSortMenu } from "./sort_menu.js";
import { TermLabels } from "./term_labels.js";
import { text } from "./texts.js";
import { TileSize } from "./tile_size.js";
import { Timeline } from "./timeline.js";
import { drawUnderstood } from "./understood.js";
import { VisitedPages } from "./visited_pages.js";

/** Maximum number of recent images that are loaded to restore a scroll position; further down, those around it. */
const MAX_RESTORED = 600;
/** Distance from the first loaded image at which those before it are loaded, in images. */
const PREVIOUS_DISTANCE = 60;
/** Delay after the last scroll event before the position is saved, in milliseconds. */
const SAVE_DELAY = 300;
/** How often a server without collections is asked for one, in milliseconds. */
const COLLECTION_INTERVAL = 3000;

const $ = (id) => document.getElementById(id);
const isPlainClick = (event) =>
  event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

class Gallery {
  #title = document.querySelector(".collection-name")?.textContent ?? document.title;
  #visited = new VisitedPages();
  #labels;
  #searchField;
  #filters;
  #newImages;
  #tileSize;
  #timeline;
  #request = null;
  #previous = null;
  #saveTimer = 0;
  #isTyping = false;
  #stats = null;

  constructor() {
    const main = $("gallery");
    this.bucket = main.dataset.bucket;
    this.hasText = "ocr" in main.dataset;
    this.state = parseState(location.href, this.bucket);
    this.selected = null;
    this.#stats = JSON.parse($("progress")?.dataset.stats ?? "null");
    this.#createParts();
    this.#adoptServerPage(main);
    this.#listen();
    if ($("progress")) new IndexingProgress($("progress"), (stats) => this.#updateStats(stats));
    if (!this.bucket && !main.dataset.error) this.#waitForCollection();
  }

  /** Return whether tiles may move: nothing is open above the grid. */
  get canShift() {
    return !document.querySelector("dialog[open]") && !document.hidden;
  }

  /** Insert new images at the start of the recent images. */
  insert(images) {
    const added = this.list.prepend(images);
    if (!added.length) return;
    scrollTo({ top: 0, behavior: "instant" });
    this.#drawError(null);
    $("empty")?.remove();
    this.grid.onPrepend(added.length);
    this.#announce(text("count.new", { count: added.length }));
  }

  /** Fetch the current list again and show it from the start. */
  reload() {
    return this.#load(this.state);
  }

  /** The number of images of the current list; 0 if it is unknown. */
  get total() {
    if (hasTimeline(this.state)) return this.#timeline.total;
    if (this.list.done && !this.list.hasPrevious) return this.list.images.length;
    if (!this.#stats || !isWhole(this.state)) return 0;
    const { total, rejected = 0 } = this.#stats;
    return total - rejected;
  }

  /** Load the images before the first loaded one, and return them. */
  loadPrevious() {
    this.#previous ??= this.#loadPrevious().finally(() => (this.#previous = null));
    return this.#previous;
  }

  async #loadPrevious() {
    const { list } = this;
    if (!list.hasPrevious) return [];
    const added = await list.loadPrevious().catch(() => []);
    if (list === this.list && added.length) this.grid.onPrevious(added.length);
    return added;
  }

  similarUrl(image) {
    return pageUrl(this.#similarState(image));
  }

  showSimilar(image) {
    // The score is that of the list it was chosen from.
    const { score, weak, ...selected } = image;
    this.selected = selected;
    this.#visit(this.#similarState(image));
  }

  /** Search for more (`weight` 1) or less (-1) like an image, in addition to the current query. */
  addTerm(image, weight) {
    if (weight < 0 && !this.canExclude(image)) return;
    this.#labels.cache([image, ...(this.selected ? [this.selected] : [])]);
    this.#searchField.addTerm({ kind: "image", value: String(image.id), weight }, this.#currentTerms);
  }

  /** Return whether the query asks for something else than the image: an exclusion alone finds nothing useful. */
  canExclude(image) {
    const isOther = ({ kind, value, weight }) => weight > 0 && !(kind === "image" && value === String(image.id));
    return Boolean(this.state.q) || this.#currentTerms.some(isOther);
  }

  get #currentTerms() {
    const { similar, terms } = this.state;
    return similar ? [{ kind: "image", value: similar, weight: 1 }] : terms;
  }

  savePosition() {
    clearTimeout(this.#saveTimer);
    if (hasTimeline(this.state) && this.canShift) this.#followMonth();
    const { images, hasPrevious } = this.list;
    this.#visited.savePosition({ ...this.grid.position, count: hasPrevious ? Infinity : images.length });
  }

  // Setup

  #createParts() {
    this.grid = new Grid({
      container: $("results"),
      grid: $("grid"),
      end: $("end-of-list"),
      topBar: $("top-bar"),
      onRender: (first, last) => this.#onRender(first, last),
      tileUrl: (image) => pageUrl({ ...this.state, view: String(image.id) }),
    });
    this.end = new EndOfList($("end-of-list"), {
      onLoaded: (list) => this.#onLoaded(list),
      announce: (message) => this.#announce(message),
    });
    // Before the keys of the page: Escape ends a selection first.
    this.selection = new Selection(this, { form: $("selection"), grid: $("grid") });
    this.viewer = new ImageViewer(this, $("lightbox"));
    this.#newImages = new NewImages(this, { button: $("new-images"), text: $("new-images-text"), area: $("results") });
    const sizeButtons = { smaller: $("smaller"), larger: $("larger") };
    this.#tileSize = new TileSize(sizeButtons, (factor) => (this.grid.tileSize = factor));
    this.#labels = new TermLabels(this.bucket);
    this.#searchField = new SearchField({
      state: this.state,
      labels: this.#labels,
      onSearch: ({ q, terms }, options) => {
        const literal = this.state.literal.filter((phrase) => q.includes(phrase));
        this.#search({ ...this.#recentWithFilters(), q, literal, terms }, options);
      },
    });
    if ($("upload")) this.#loadUploads();
    this.#filters = new Filters({
      state: this.state,
      onChange: (filters) => this.#visit({ ...this.state, month: "", view: "", filters }),
    });
    this.#timeline = new Timeline($("timeline"), { onJump: (month) => this.#jump(month) });
  }

  /** Load the modules of uploads, which only users who may write need. */
  async #loadUploads() {
    const { UploadDialog } = await import("./upload_dialog.js");
    new UploadDialog({ bucket: this.bucket, onSearch: (files) => this.#searchField.addFiles(files) });
  }

  #adoptServerPage(main) {
    const position = this.#visited.storedPosition;
    const images = this.grid.adopt();
    const more = $("end-of-list").querySelector("a");
    const cursor = more && new URL(more.href).searchParams.get("cursor");
    const previousCursor = $("grid").dataset.previousCursor ?? null;
    const understood = { parts: JSON.parse($("understood").dataset.parts) ?? undefined };
    this.list = new PagedList(this.state, { images, next_cursor: cursor, previous_cursor: previousCursor, understood });
    for (const chip of document.querySelectorAll("#chips [data-image]")) {
      this.#labels.cache([JSON.parse(chip.dataset.image)]);
    }
    const detail = document.querySelector(".detail");
    if (detail?.dataset.image) {
      this.selected = JSON.parse(detail.dataset.image);
      this.#drawDetail(detail);
    }
    // Without a collection there is nothing to retry.
    if (main.dataset.error && this.bucket) {
      const error = { message: main.dataset.error, status: Number(main.dataset.status) };
      this.#drawError(error, () => this.reload());
    }
    this.#drawQuery();
    this.#drawList();
    main.classList.add("is-ready");
    this.#visited.store(this.list, this.selected);
    if (position) this.#restorePosition(position);
    if (this.state.view) this.viewer.openFromState();
  }

  #listen() {
    addEventListener("popstate", () => this.#onPopState());
    addEventListener("scroll", () => this.#savePositionLater(), { passive: true });
    addEventListener("pagehide", () => this.savePosition());
    document.addEventListener("click", (event) => this.#onClick(event));
    const help = $("keyboard-help");
    $("open-keyboard-help").addEventListener("click", () => help.showModal());
    help.addEventListener("click", (event) => event.target === help && help.close());
    closeMenusOnLeave();
    listenForLongPresses($("grid"));
    filterCollections();
    listenForKeys({
      "/": () => $("q").select(),
      "?": () => help.showModal(),
      "+": () => this.#tileSize.changeBy(1),
      "=": () => this.#tileSize.changeBy(1),
      "-": () => this.#tileSize.changeBy(-1),
      m: (event) => this.#withFocusedImage(event, (image) => this.addTerm(image, 1)),
      l: (event) => this.#withFocusedImage(event, (image) => this.addTerm(image, -1)),
      s: (event) => this.#withFocusedImage(event, (image) => this.showSimilar(image)),
      " ": (event) => this.#withFocusedImage(event, (image) => this.viewer.open(image)),
      Escape: (event) => this.#onEscape(event),
      ArrowDown: (event) => this.#focusGrid(event),
      ArrowRight: (event) => this.#focusGrid(event),
    });
  }

  /** Reload the page as soon as the server has a collection. */
  async #waitForCollection() {
    const answer = document.hidden ? null : await getJson("/api/collections").catch(() => null);
    if (answer?.collections.length) return location.reload();
    setTimeout(() => this.#waitForCollection(), COLLECTION_INTERVAL);
  }

  // Input

  #onClick(event) {
    if (!isPlainClick(event) || event.defaultPrevented) return;
    const { target } = event;
    const image = this.list.images[this.grid.indexOf(target)] ?? this.selected;
    if (target.closest(".tile-link, .detail-view, .detail-stage")) this.viewer.open(image);
    else if (target.closest(".tile-more")) this.addTerm(image, 1);
    else if (target.closest(".tile-less")) this.addTerm(image, -1);
    else if (target.closest(".tile-similar")) this.showSimilar(image);
    else if (target.closest(".detail-refine")) this.#refine(image);
    else if (target.closest(".detail-close")) this.#leaveSimilar();
    else if (target.closest("[data-nav]")) this.#visit(parseState(target.closest("a").href, this.bucket));
    else return;
    event.preventDefault();
  }

  /** Search with the selected image as a term, so that words can be added. */
  #refine(image) {
    this.addTerm(image, 1);
    $("q").focus();
  }

  #withFocusedImage(event, action) {
    const image = this.list.images[this.grid.indexOf(event.target)];
    if (!image) return false;
    action(image);
    return true;
  }

  #onEscape(event) {
    if (event.target.closest("input")) event.target.blur();
    else if (this.state.similar) this.#leaveSimilar();
    else if (isSearch(this.state)) this.#visit(recentState(this.state));
    else return false;
    return true;
  }

  #focusGrid(event) {
    if (event.target !== document.body && event.target !== $("grid")) return false;
    if (this.grid.firstInView < 0) return false;
    this.grid.focus(this.grid.firstInView);
    return true;
  }

  // Navigation

  #recentWithFilters() {
    return { ...recentState(this.state), filters: this.state.filters };
  }

  #similarState(image) {
    return { ...this.#recentWithFilters(), similar: String(image.id) };
  }

  /** Go back to the previous list, or to the recent images if the page was opened by its URL. */
  #leaveSimilar() {
    if (this.#visited.hasPrevious) history.back();
    else this.#visit(recentState(this.state));
  }

  /** Searches while the reader types share one entry of the history, and so does the Enter that ends them. */
  #search(state, { isTyping = false } = {}) {
    const wasTyping = this.#isTyping;
    if (!wasTyping || !isSameList(state, this.state)) this.#visit(state, { replace: wasTyping });
    this.#isTyping = isTyping;
  }

  #visit(state, { replace = false } = {}) {
    this.#isTyping = false;
    this.#searchField.cancelUploads();
    this.viewer.close();
    if (!replace) this.savePosition();
    if (replace) this.#visited.replace(pageUrl(state));
    else this.#visited.push(pageUrl(state));
    return this.#load(state);
  }

  /** Show the list by date taken from a month on. */
  #jump(month) {
    const state = { ...this.state, month, view: "" };
    this.#visited.replace(pageUrl(state));
    return this.#load(state);
  }

  /** The month of the first image in view, as in the address. */
  get #monthInView() {
    return monthOf(this.list.images[this.grid.firstInView]) || "undated";
  }

  /** Keep the month in view in the address, so that a reload need not load the months before it. */
  #followMonth() {
    if (this.#timeline.isInUse) return;
    const month = this.#monthInView;
    this.#timeline.follow(month);
    if (this.grid.firstInView < 0 || (scrollY === 0 && !this.state.month)) return;
    this.state = { ...this.state, month };
    this.#visited.replace(pageUrl(this.state));
  }

  #onPopState() {
    this.#isTyping = false;
    const page = this.#visited.pop(this.grid.position);
    const state = parseState(location.href, this.bucket);
    if (isSameList(state, this.state)) return this.viewer.follow(state);
    this.viewer.close();
    if (!page) return this.#load(state, this.#visited.storedPosition);
    this.#request?.abort();
    this.state = state;
    this.list = page.list;
    this.selected = page.selected;
    this.#drawError(null);
    this.#drawAll();
    this.grid.scrollToPosition(page.position);
    this.#moveFocus();
    this.#newImages.check();
  }

  /** Load a list and show it at a scroll position. The current list stays visible until the response arrives. */
  async #load(state, position = { y: 0 }) {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    this.state = state;
    this.#drawQuery();
    this.#showLoading(true);
    const list = new PagedList(state);
    try {
      await this.#fetch(state, list, request.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      list.end();
      this.list = list;
      this.#drawError(error, () => this.#load(state, position));
      this.#drawAll();
      return;
    } finally {
      if (request === this.#request) this.#showLoading(false);
    }
    this.list = list;
    this.#drawError(null);
    this.#drawAll();
    this.#visited.store(list, this.selected);
    await this.#restorePosition(position);
    this.#moveFocus();
    this.#announce(this.#summary());
    if (state.view) this.viewer.openFromState();
  }

  async #fetch(state, list, signal) {
    if (state.similar && String(this.selected?.id) !== state.similar) {
      this.selected = await getJson(imageUrl(state.bucket, state.similar), { signal });
    }
    await list.loadMore({ signal });
  }

  /** Let the keyboard continue from the grid, without scrolling, if nothing else has the focus. */
  #moveFocus() {
    if (document.activeElement === document.body) $("grid").focus({ preventScroll: true });
  }

  /** Keep the images around those in view, and no others: a long list would fill the memory. */
  async #onRender(first, last) {
    const { list } = this;
    if (!this.canShift) return;
    list.forget(first, last);
    if (first < PREVIOUS_DISTANCE) await this.loadPrevious();
    if (list.images.slice(first, last + 1).every(isLoaded)) return;
    await list.reload(first, last);
    if (list === this.list) this.grid.refresh();
  }


  #savePositionLater() {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = setTimeout(() => this.savePosition(), SAVE_DELAY);
  }

  /** Scroll to a saved position, after loading the images up to it, or those around it if it is far down. */
  async #restorePosition(position) {
    const ranked = isRanked(this.state);
    if (position.count > MAX_RESTORED && !ranked) await this.#loadAround(position.id);
    const { list } = this;
    const wanted = ranked ? position.count : Math.min(position.count ?? 0, MAX_RESTORED);
    while (position.id && !list.byId.has(position.id) && list.images.length < wanted && !list.done) {
      const added = await list.loadMore({ limit: MAX_PAGE_SIZE }).catch(() => []);
      if (!added.length || list !== this.list) break;
      this.grid.onAppend(list);
    }
    if (list === this.list) this.grid.scrollToPosition(position);
  }

  // Drawing

  #onLoaded(list) {
    this.grid.onAppend(list);
    this.#drawCount();
  }

  async #loadAround(id) {
    const { list, state } = this;
    const around = await PagedList.around(state, id).catch(() => null);
    if (!around || list !== this.list) return;
    this.list = around;
    this.#visited.store(around, this.selected);
    this.#drawList();
  }

  #drawAll() {
    this.#drawDetail();
    this.#drawQuery();
    this.#drawList();
  }

  #drawQuery() {
    this.#searchField.draw(this.state);
    this.#filters.draw(this.state);
    drawSortMenu($("sort-menu"), this.state);
    const hasQuery = this.state.q !== "" || this.#currentTerms.some(({ weight }) => weight > 0);
    $("gallery").classList.toggle("has-query", hasQuery);
  }

  #drawList() {
    const { state, list } = this;
    const query = queryText(state, this.#labels, this.selected);
    $("title").replaceChildren(...headingContent(state, this.#labels, list.understood));
    drawUnderstood($("understood"), state, list.understood);
    document.title = query ? `${query} · ${this.#title}` : this.#title;
    $("gallery").classList.toggle("has-timeline", hasTimeline(state));
    this.grid.show(list.images, {
      done: list.done,
      createDividers: () => createDividers(state, list.images),
      isInRows: isByDateTaken(state),
    });
    this.#drawTimeline();
    this.end.show(list);
    this.#drawCount();
    this.#drawEmptyMessage();
    this.#newImages.reset();
  }

  /** Show the selected image; `element` is the one that the server rendered. */
  #drawDetail(element) {
    const { state, selected } = this;
    if (!state.similar || String(selected?.id) !== state.similar) return $("detail").replaceChildren();
    const detail = imageDetail(selected, { bucket: this.bucket, closeUrl: pageUrl(recentState(state)), element });
    if (!element) $("detail").replaceChildren(detail);
  }

  async #drawTimeline() {
    const { state, list } = this;
    await this.#timeline.show(hasTimeline(state) ? state : null);
    if (list !== this.list || !hasTimeline(state)) return;
    if (!this.#timeline.isInUse) this.#timeline.follow(this.#monthInView);
    this.#drawCount();
  }

  #drawCount() {
    // A new element: beside a title of another length the old one would shift.
    const count = $("count").cloneNode();
    count.textContent = this.#countText();
    $("count").replaceWith(count);
  }

  /** The number of images, or of strong matches: weak ones come last, so the index of the first is the number. */
  #countText() {
    const { images } = this.list;
    const strong = images.findIndex(({ weak }) => weak);
    if (strong >= 0) return strong ? text("count.strong", { count: strong }) : "";
    const count = this.total || images.length;
    const shown = count ? text("count.images", { count }) : "";
    return shown && !this.total ? text("count.more_than", { images: shown }) : shown;
  }

  #drawEmptyMessage() {
    $("empty")?.remove();
    if (this.list.images.length || !$("message").hidden) return;
    const { state, selected, list } = this;
    const isFiltered = list.understood?.some(({ kind }) => kind !== "words");
    $("results").before(emptyListMessage({ state, stats: this.#stats, selected, isFiltered }));
  }

  /** Show an error in place of the images; null hides it. */
  #drawError(error, onRetry) {
    $("message").hidden = error === null;
    if (error === null) return;
    $("empty")?.remove();
    $("message").replaceChildren(...errorContent(error, { state: this.state, onRetry }));
  }

  #showLoading(loading) {
    $("loading-bar").hidden = !loading;
    $("results").classList.toggle("is-loading", loading);
    $("grid").setAttribute("aria-busy", String(loading));
  }

  #updateStats(stats) {
    this.#stats = stats;
    this.#drawCount();
    if ($("empty")) this.#drawEmptyMessage();
    this.#newImages.update(stats);
  }

  /** The loaded list as text, for screen readers. */
  #summary() {
    const { state, list } = this;
    if (!list.images.length) return text("count.images", { count: 0 });
    const images = this.#countText() || text("list.no_strong_matches");
    if (state.similar) return text("count.similar", { images });
    return isSearch(state) ? text("count.results", { images, query: queryText(state, this.#labels) }) : images;
  }

  #announce(message) {
    $("status").textContent = message;
  }
}

new Gallery();

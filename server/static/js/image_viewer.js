/** The lightbox above the gallery, and the parameter `view` in the page's URL. */

import { MAX_PAGE_SIZE, getJson, imageUrl } from "./api.js";
import { Lightbox } from "./lightbox.js";
import { isRanked, pageUrl } from "./page_state.js";
import { PagedList, isLoaded } from "./paged_list.js";
import { matchingWords } from "./understood.js";

/** Number of images before and after the enlarged one that are loaded again if a long list has dropped them. */
const PREPARED = 20;

export class ImageViewer {
  #gallery;
  #lightbox;

  /** `gallery` has `hasText`, `state`, `list`, `selected`, `grid`, `end`, `savePosition()`, `showSimilar()`, `similarUrl()`, `addTerm()`, `canExclude()`. */
  constructor(gallery, dialog) {
    this.#gallery = gallery;
    this.#lightbox = new Lightbox(dialog, {
      bucket: gallery.bucket,
      hasText: gallery.hasText,
      on: {
        words: () => matchingWords(gallery.state, gallery.list.understood),
        step: (image) => this.#replaceView(image),
        close: () => this.#leave(),
        similar: (image) => gallery.showSimilar(image),
        addTerm: (image, weight) => gallery.addTerm(image, weight),
        canExclude: (image) => gallery.canExclude(image),
        similarUrl: (image) => gallery.similarUrl(image),
      },
    });
    // While a dialog is open, the grid ignores changes of its width.
    dialog.addEventListener("close", () => gallery.grid.onResize());
  }

  /** Enlarge an image, as a new entry of the browser's history. */
  open(image) {
    this.#gallery.savePosition();
    this.#gallery.state = { ...this.#gallery.state, view: String(image.id) };
    history.pushState({ ...history.state, enlarged: true }, "", pageUrl(this.#gallery.state));
    this.#lightbox.show(image, this.#list);
  }

  close() {
    this.#lightbox.close();
  }

  /** Follow the gallery to a state with the same list: open or close the lightbox. */
  follow(state) {
    const { view } = this.#gallery.state;
    this.#gallery.state = state;
    if (state.view) return this.openFromState();
    this.close();
    this.#gallery.grid.focus(this.#gallery.list.images.findIndex((image) => String(image.id) === view));
  }

  /** Enlarge the image that the state names, among its neighbours in the list, however far down it is. */
  async openFromState() {
    const { state, list } = this.#gallery;
    const isCurrent = () => this.#gallery.state.view === state.view && this.#gallery.list === list;
    const find = () => this.#list.images.find((image) => String(image.id) === state.view && isLoaded(image));
    if (find()) return this.#lightbox.show(find(), this.#list);
    if (!isRanked(state)) return this.#openAround(state, isCurrent);
    const image = await getJson(imageUrl(state.bucket, state.view)).catch(() => null);
    if (!image || !isCurrent()) return;
    this.#lightbox.show(image, { images: [image], first: null, done: true });
    while (!find() && !list.done && isCurrent()) {
      if (!(await this.#gallery.end.load())) return;
    }
    if (find() && isCurrent()) this.#lightbox.show(find(), this.#list);
  }

  async #openAround(state, isCurrent) {
    const list = await PagedList.around(state, state.view).catch(() => null);
    if (!list || !isCurrent()) return;
    this.#lightbox.show(list.byId.get(Number(state.view)), {
      get images() {
        return list.images;
      },
      get first() {
        return list.hasPrevious ? null : 1;
      },
      get done() {
        return list.done;
      },
      total: this.#gallery.total,
      loadMore: () => list.loadMore({ limit: MAX_PAGE_SIZE }).catch(() => []),
      loadPrevious: () => list.loadPrevious().catch(() => []),
    });
  }

  /** The images to step through: those of the gallery, after the selected image. */
  get #list() {
    const gallery = this.#gallery;
    return {
      get images() {
        const { images } = gallery.list;
        return gallery.state.similar && gallery.selected ? [gallery.selected, ...images] : images;
      },
      get done() {
        return gallery.list.done;
      },
      get total() {
        return gallery.total;
      },
      get first() {
        return gallery.list.hasPrevious ? null : 1;
      },
      loadMore: () => gallery.end.load(),
      loadPrevious: () => gallery.loadPrevious(),
      prepare: (index) => gallery.list.reload(index - PREPARED, index + PREPARED),
    };
  }

  #replaceView(image) {
    this.#gallery.state = { ...this.#gallery.state, view: String(image.id) };
    history.replaceState(history.state, "", pageUrl(this.#gallery.state));
  }

  #leave() {
    if (history.state?.enlarged) return history.back();
    const state = { ...this.#gallery.state, view: "" };
    history.replaceState(history.state, "", pageUrl(state));
    this.follow(state);
  }
}

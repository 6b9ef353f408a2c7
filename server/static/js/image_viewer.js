/** The lightbox above the gallery, and the parameter `view` in the page's URL. */

import { getJson, imageUrl } from "./api.js";
import { Lightbox } from "./lightbox.js";
import { pageUrl } from "./page_state.js";

export class ImageViewer {
  #gallery;
  #lightbox;

  /** `gallery` has `state`, `list`, `selected`, `grid`, `end`, `savePosition()`, `showSimilar()`, `similarUrl()`, `addTerm()`. */
  constructor(gallery, dialog) {
    this.#gallery = gallery;
    this.#lightbox = new Lightbox(dialog, {
      bucket: gallery.bucket,
      on: {
        step: (image) => this.#replaceView(image),
        close: () => this.#leave(),
        similar: (image) => gallery.showSimilar(image),
        addTerm: (image, weight) => gallery.addTerm(image, weight),
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

  /** Enlarge the image that the state names. */
  async openFromState() {
    const { view } = this.#gallery.state;
    const image =
      this.#list.images.find((loaded) => String(loaded.id) === view) ??
      (await getJson(imageUrl(this.#gallery.bucket, view)).catch(() => null));
    if (image && this.#gallery.state.view === view) this.#lightbox.show(image, this.#list);
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
      loadMore: () => gallery.end.load(),
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

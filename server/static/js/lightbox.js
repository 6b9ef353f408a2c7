/** The image viewer that fills the window, and steps through the list of its image. */

import { fileName } from "./format.js";
import { loadDetails, showFacts } from "./image_facts.js";
import { PhotoStage } from "./photo_stage.js";
import { markWords, textLayer } from "./text_layer.js";
import { number, text } from "./texts.js";

/** Distance from the end of the loaded images at which more are loaded. */
const PREFETCH_COUNT = 3;
const COPIED_TIME = 2000;

export class Lightbox {
  #dialog;
  #on;
  #bucket;
  #hasText;
  #stage;
  #list = null;
  #index = -1;
  #image = null;

  /** `hasText` says that the collection has OCR. `on` has `words()` (of the query), `step(image)`, `close()`, `similar(image)`, `addTerm(image, weight)`, `canExclude(image)`, `similarUrl(image)`. */
  constructor(dialog, { bucket, hasText, on }) {
    this.#dialog = dialog;
    this.#bucket = bucket;
    this.#hasText = hasText;
    this.#on = on;
    this.#stage = new PhotoStage(this.#part("stage"), {
      change: (index) => this.#onStep(index),
      close: () => on.close(),
      tap: () => dialog.classList.toggle("is-bare"),
    });
    this.#listenToButtons();
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      on.close();
    });
    dialog.addEventListener("keydown", (event) => this.#onKey(event));
  }

  get open() {
    return this.#dialog.open;
  }

  /**
   * Show an image of `list`, opening the dialog if it is closed. The list is `{images, first, total, done, loadMore(),
   * loadPrevious(), prepare(index)}`: `first` is the position of its first image and `total` the number of all images,
   * if known.
   */
  show(image, list) {
    this.#list = list;
    this.#index = list.images.findIndex((other) => other.id === image.id);
    this.#image = image;
    this.#draw();
    if (!this.#dialog.open) {
      document.documentElement.classList.add("has-lightbox");
      this.#dialog.showModal();
      this.#dialog.focus();
    }
    this.#stage.open(list, this.#index);
  }

  close() {
    document.documentElement.classList.remove("has-lightbox");
    this.#stage.close();
    if (this.#dialog.open) this.#dialog.close();
  }

  /** Show the next image (`by` 1) or the previous one (-1). At the end of the loaded images, load more first. */
  async step(by) {
    if (this.#index + by < 0) await this.#loadPrevious();
    const target = this.#index + by;
    if (target >= this.#list.images.length) await this.#loadMore();
    if (this.open && this.#list.images[target]) this.#stage.goTo(target);
  }

  #part(name) {
    return this.#dialog.querySelector(`.lightbox-${name}`);
  }

  #listenToButtons() {
    const onClick = (name, action) => this.#part(name).addEventListener("click", action);
    onClick("close", () => this.#on.close());
    onClick("previous", () => this.step(-1));
    onClick("next", () => this.step(1));
    onClick("info", () => this.#toggleDetails());
    onClick("copy", () => this.#copyLink());
    onClick("more", () => this.#on.addTerm(this.#image, 1));
    onClick("less", () => this.#on.addTerm(this.#image, -1));
    onClick("similar", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#on.similar(this.#image);
    });
  }

  async #onStep(index) {
    if (index !== this.#index) {
      this.#index = index;
      this.#image = this.#list.images[index];
      this.#draw();
      this.#on.step(this.#image);
    }
    this.#showText(index);
    await this.#list.prepare?.(index);
    if (index === 0) await this.#loadPrevious();
    if (index >= this.#list.images.length - PREFETCH_COUNT) await this.#loadMore();
  }

  /** Lay the text that was read in the picture over it. */
  async #showText(index) {
    const image = this.#list.images[index];
    if (!this.#hasText || !image.width) return;
    await loadDetails(image, this.#bucket);
    if (!image.texts?.length || image !== this.#image) return;
    const layer = textLayer(image);
    if (this.#stage.cover(index, layer)) markWords(layer, this.#on.words());
  }

  async #loadMore() {
    const list = this.#list;
    if (list.done) return;
    const end = list.images.length;
    await list.loadMore();
    if (!this.open || list !== this.#list || list.images.length === end) return;
    this.#stage.onAppend(end);
    this.#draw();
  }

  async #loadPrevious() {
    const list = this.#list;
    const added = (await list.loadPrevious?.()) ?? [];
    if (this.open && list === this.#list && added.length) this.show(this.#image, list);
  }

  #draw() {
    const image = this.#image;
    const { images, done } = this.#list;
    const name = fileName(image.key);
    this.#part("name").textContent = name;
    this.#part("position").textContent = this.#position();
    this.#part("download").href = image.url;
    this.#part("download").download = name;
    this.#part("original").href = image.url;
    this.#part("similar").href = this.#on.similarUrl(image);
    this.#dialog.classList.toggle("is-not-indexed", image.status !== "embedded");
    this.#part("less").hidden = !this.#on.canExclude(image);
    this.#part("previous").disabled = this.#index === 0;
    this.#part("next").disabled = this.#index === images.length - 1 && done;
    this.#drawDetails();
  }

  #position() {
    const { images, first, total, done } = this.#list;
    if (first === null) return total ? text("count.images", { count: total }) : "";
    const count = done ? images.length : total;
    return text("image.position", { position: this.#index + 1, total: count || `${number(images.length)}+` });
  }

  #toggleDetails() {
    const details = this.#part("details");
    details.hidden = !details.hidden;
    this.#part("info").setAttribute("aria-pressed", String(!details.hidden));
    this.#drawDetails();
    this.#stage.resize();
  }

  #drawDetails() {
    const details = this.#part("details");
    if (!details.hidden) showFacts(details.querySelector("dl"), this.#image, this.#bucket);
  }

  async #copyLink() {
    if (!(await copyText(location.href, this.#dialog))) return;
    this.#part("copied").hidden = false;
    setTimeout(() => (this.#part("copied").hidden = true), COPIED_TIME);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onControl = event.target.closest("button, a");
    // PhotoSwipe pans with the arrows.
    if (this.#stage.isZoomed && event.key.startsWith("Arrow")) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "+" || event.key === "=") this.#stage.zoomBy(1);
    else if (event.key === "-") this.#stage.zoomBy(-1);
    else if (event.key === "0") this.#stage.zoomBy(0);
    else if (event.key === "i") this.#toggleDetails();
    else if (event.key === "m") this.#on.addTerm(this.#image, 1);
    else if (event.key === "l") this.#on.addTerm(this.#image, -1);
    else if (event.key === " " && !onControl) this.#on.close();
    else if (event.key === "s" || (event.key === "Enter" && !onControl)) this.#on.similar(this.#image);
    else return;
    event.preventDefault();
  }
}

/** Copy text to the clipboard and return whether that succeeded. */
async function copyText(content, parent) {
  if (navigator.clipboard) return navigator.clipboard.writeText(content).then(() => true, () => false);
  // Browsers offer the clipboard on HTTPS and localhost only.
  const field = Object.assign(document.createElement("textarea"), { value: content, className: "visually-hidden" });
  parent.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  parent.focus();
  return copied;
}

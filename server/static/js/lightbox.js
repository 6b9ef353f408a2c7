/** The image viewer that fills the window, and steps through the list of its image. */

import { fileName, number } from "./format.js";
import { reserveSpace } from "./image_detail.js";
import { showFacts } from "./image_facts.js";

/** Minimum distance of a swipe, in pixels. */
const MIN_SWIPE = 48;

export class Lightbox {
  #dialog;
  #on;
  #bucket;
  #list = null;
  #index = -1;
  #image = null;
  #touchStart = null;

  /** `on` has `step(image)`, `close()`, `similar(image)`, `addTerm(image, weight)`, and `similarUrl(image)`. */
  constructor(dialog, { bucket, on }) {
    this.#dialog = dialog;
    this.#bucket = bucket;
    this.#on = on;
    this.#listenToButtons();
    this.#listenToStage();
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      on.close();
    });
    dialog.addEventListener("keydown", (event) => this.#onKey(event));
    this.#part("image").addEventListener("load", (event) => (event.target.style.backgroundImage = ""));
    this.#part("image").addEventListener("error", () => (this.#part("error").hidden = false));
  }

  get open() {
    return this.#dialog.open;
  }

  /** Show an image of `list` (`{images, done, loadMore()}`), opening the dialog if it is closed. */
  show(image, list) {
    this.#list = list;
    this.#index = list.images.findIndex((other) => other.id === image.id);
    this.#image = image;
    this.#draw();
    if (this.#dialog.open) return;
    document.documentElement.classList.add("has-lightbox");
    this.#dialog.showModal();
    this.#dialog.focus();
  }

  close() {
    document.documentElement.classList.remove("has-lightbox");
    if (this.#dialog.open) this.#dialog.close();
    this.#part("image").removeAttribute("src");
  }

  /** Show the next image (`by` 1) or the previous one (-1). At the end of the loaded images, load more first. */
  async step(by) {
    if (this.#index < 0) return;
    const target = this.#index + by;
    if (target >= this.#list.images.length) await this.#list.loadMore().catch(() => {});
    if (!this.open || !this.#list.images[target]) return;
    this.show(this.#list.images[target], this.#list);
    this.#on.step(this.#image);
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
    onClick("more", () => this.#on.addTerm(this.#image, 1));
    onClick("less", () => this.#on.addTerm(this.#image, -1));
    onClick("similar", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#on.similar(this.#image);
    });
  }

  #listenToStage() {
    const stage = this.#part("stage");
    stage.addEventListener("click", (event) => {
      if (event.target === event.currentTarget) this.#on.close();
    });
    stage.addEventListener("pointerdown", (event) => {
      this.#touchStart = event.pointerType === "mouse" ? null : { x: event.clientX, y: event.clientY };
    });
    stage.addEventListener("pointerup", (event) => this.#onSwipe(event));
  }

  #draw() {
    const image = this.#image;
    const picture = this.#part("image");
    const { images, done } = this.#list;
    this.#part("error").hidden = true;
    this.#part("name").textContent = fileName(image.key);
    this.#part("position").textContent =
      this.#index < 0 ? "" : `${number(this.#index + 1)} of ${number(images.length)}${done ? "" : "+"}`;
    this.#part("original").href = image.url;
    this.#part("similar").href = this.#on.similarUrl(image);
    this.#part("previous").disabled = this.#index <= 0;
    this.#part("next").disabled = this.#index < 0 || (this.#index === images.length - 1 && done);
    picture.removeAttribute("src");
    picture.alt = fileName(image.key);
    reserveSpace(picture, image);
    picture.style.backgroundImage = `url(${JSON.stringify(image.thumbnail_url)})`;
    picture.src = image.preview_url || image.url;
    this.#drawDetails();
    this.#preloadNeighbours();
  }

  #preloadNeighbours() {
    if (this.#index < 0) return;
    const { images } = this.#list;
    for (const neighbour of [images[this.#index + 1], images[this.#index - 1]]) {
      if (neighbour) new Image().src = neighbour.preview_url || neighbour.url;
    }
  }

  #toggleDetails() {
    const details = this.#part("details");
    details.hidden = !details.hidden;
    this.#part("info").setAttribute("aria-pressed", String(!details.hidden));
    this.#drawDetails();
  }

  #drawDetails() {
    const details = this.#part("details");
    if (!details.hidden) showFacts(details.querySelector("dl"), this.#image, this.#bucket);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onControl = event.target.closest("button, a");
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "i") this.#toggleDetails();
    else if (event.key === "m") this.#on.addTerm(this.#image, 1);
    else if (event.key === "l") this.#on.addTerm(this.#image, -1);
    else if (event.key === " " && !onControl) this.#on.close();
    else if (event.key === "Enter" && !onControl) this.#on.similar(this.#image);
    else return;
    event.preventDefault();
  }

  /** Swipe sideways to step, down to close. */
  #onSwipe(event) {
    if (!this.#touchStart) return;
    const across = event.clientX - this.#touchStart.x;
    const down = event.clientY - this.#touchStart.y;
    this.#touchStart = null;
    if (Math.abs(across) > MIN_SWIPE && Math.abs(across) > Math.abs(down)) this.step(across < 0 ? 1 : -1);
    else if (down > 2 * MIN_SWIPE) this.#on.close();
  }
}

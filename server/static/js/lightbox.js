/** One image as large as the window, stepping through the list that it belongs to. */

import { fit, withDetails, writeFacts } from "./detail.js";
import { fileName, number } from "./format.js";

const SWIPE = 48;

export class Lightbox {
  #dialog;
  #on;
  #bucket;
  #list = null;
  #index = -1;
  #image = null;
  #touch = null;

  /** `on` has `step(image)`, `close()`, `similar(image)`, `weigh(image, weight)`, and `addressOf(image)`. */
  constructor(dialog, { bucket, on }) {
    this.#dialog = dialog;
    this.#bucket = bucket;
    this.#on = on;
    const click = (name, action) => this.#part(name).addEventListener("click", action);
    click("close", () => on.close());
    click("prev", () => this.step(-1));
    click("next", () => this.step(1));
    click("info", () => this.#toggleInfo());
    click("more", () => on.weigh(this.#image, 1));
    click("less", () => on.weigh(this.#image, -1));
    click("similar", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      on.similar(this.#image);
    });
    click("stage", (event) => {
      if (event.target === event.currentTarget) on.close();
    });
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      on.close();
    });
    dialog.addEventListener("keydown", (event) => this.#key(event));
    const stage = this.#part("stage");
    stage.addEventListener("pointerdown", (event) => {
      this.#touch = event.pointerType === "mouse" ? null : { x: event.clientX, y: event.clientY };
    });
    stage.addEventListener("pointerup", (event) => this.#swiped(event));
    this.#part("image").addEventListener("load", (event) => (event.target.style.backgroundImage = ""));
    this.#part("image").addEventListener("error", () => (this.#part("error").hidden = false));
  }

  get open() {
    return this.#dialog.open;
  }

  /** Show an image of `list` (`{images, total?, more()}`), opening the dialog if need be. */
  show(image, list) {
    this.#list = list;
    this.#index = list.images.findIndex((other) => other.id === image.id);
    this.#image = image;
    this.#render();
    if (this.#dialog.open) return;
    document.documentElement.classList.add("is-viewing-large");
    this.#dialog.showModal();
    this.#dialog.focus();
  }

  close() {
    document.documentElement.classList.remove("is-viewing-large");
    if (this.#dialog.open) this.#dialog.close();
    this.#part("image").removeAttribute("src");
  }

  /** Go on by one image; at the end of what is loaded, load more first. */
  async step(by) {
    if (this.#index < 0) return;
    const target = this.#index + by;
    if (target >= this.#list.images.length) await this.#list.more().catch(() => {});
    if (!this.open || !this.#list.images[target]) return;
    this.show(this.#list.images[target], this.#list);
    this.#on.step(this.#image);
  }

  #part(name) {
    return this.#dialog.querySelector(`.lightbox-${name}`);
  }

  #render() {
    const image = this.#image;
    const picture = this.#part("image");
    const { images, done } = this.#list;
    this.#part("error").hidden = true;
    this.#part("name").textContent = fileName(image.key);
    this.#part("place").textContent =
      this.#index < 0 ? "" : `${number(this.#index + 1)} of ${number(images.length)}${done ? "" : "+"}`;
    this.#part("original").href = image.url;
    this.#part("similar").href = this.#on.addressOf(image);
    this.#part("prev").disabled = this.#index <= 0;
    this.#part("next").disabled = this.#index < 0 || (this.#index === images.length - 1 && done);
    picture.removeAttribute("src");
    picture.alt = fileName(image.key);
    fit(picture, image);
    picture.style.backgroundImage = `url(${JSON.stringify(image.thumbnail_url)})`;
    picture.src = image.preview_url || image.url;
    this.#writeSide();
    for (const next of [images[this.#index + 1], images[this.#index - 1]]) {
      if (this.#index >= 0 && next) new Image().src = next.preview_url || next.url;
    }
  }

  #toggleInfo() {
    const side = this.#part("side");
    side.hidden = !side.hidden;
    this.#part("info").setAttribute("aria-pressed", String(!side.hidden));
    this.#writeSide();
  }

  async #writeSide() {
    const side = this.#part("side");
    if (side.hidden) return;
    const image = this.#image;
    writeFacts(side.querySelector("dl"), image);
    await withDetails(image, this.#bucket);
    if (image === this.#image) writeFacts(side.querySelector("dl"), image);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "i") this.#toggleInfo();
    else if (event.key === "m") this.#on.weigh(this.#image, 1);
    else if (event.key === "l") this.#on.weigh(this.#image, -1);
    else if (event.key === " " && !event.target.closest("button, a")) this.#on.close();
    else if (event.key === "Enter" && !event.target.closest("button, a")) this.#on.similar(this.#image);
    else return;
    event.preventDefault();
  }

  #swiped(event) {
    if (!this.#touch) return;
    const across = event.clientX - this.#touch.x;
    const down = event.clientY - this.#touch.y;
    this.#touch = null;
    if (Math.abs(across) > SWIPE && Math.abs(across) > Math.abs(down)) this.step(across < 0 ? 1 : -1);
    else if (down > 2 * SWIPE) this.#on.close();
  }
}

/** The zoomable pictures of the lightbox. Gestures, zoom and pan are PhotoSwipe's, which is loaded when first needed. */

import { fileName } from "./format.js";
import { text } from "./texts.js";

const VENDOR = new URL("../vendor/photoswipe/", import.meta.url);
/** The longer side of a preview, in pixels; as in shared/images/thumbnails.py. */
const PREVIEW_SIZE = 1600;
/** Originals that browsers display. */
const DISPLAYABLE = new Set(["image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/bmp"]);
/** Maximum time between the two clicks of a double click, in milliseconds. */
const DOUBLE_CLICK = 400;
const ZOOM_STEP = 1.5;

export class PhotoStage {
  #element;
  #on;
  #list = null;
  #viewer = null;
  #opening = null;
  #lastClick = -Infinity;

  /** `on` has `change(index)`, `close()` and `tap()`. */
  constructor(element, on) {
    this.#element = element;
    this.#on = on;
  }

  /** Return whether the picture is larger than its place, so that it can be panned. */
  get isZoomed() {
    const slide = this.#viewer?.currSlide;
    return Boolean(slide) && slide.currZoomLevel > slide.zoomLevels.fit;
  }

  /** Show the picture at `index` of `list`, whose `images` may grow. */
  async open(list, index) {
    this.close();
    this.#list = list;
    const opening = (this.#opening = Symbol("opening"));
    const PhotoSwipe = await loadPhotoSwipe();
    if (this.#opening !== opening) return;
    this.#viewer = new PhotoSwipe(this.#options(index));
    this.#listen(this.#viewer);
    this.#viewer.init();
    // The dialog around it has the role and the name.
    this.#viewer.element.removeAttribute("role");
    this.#viewer.scrollWrap.removeAttribute("aria-roledescription");
  }

  close() {
    this.#opening = null;
    const viewer = this.#viewer;
    this.#viewer = null;
    viewer?.destroy();
  }

  /** Replace the layer over the picture at `index`. Return false if another picture is shown. */
  cover(index, layer) {
    const slide = this.#viewer?.currSlide;
    if (slide?.index !== index) return false;
    slide.container.querySelector(".text-layer")?.remove();
    slide.container.append(layer);
    const { displayedImageWidth, displayedImageHeight } = slide.content;
    fitLayer(slide, displayedImageWidth, displayedImageHeight);
    return true;
  }

  goTo(index) {
    this.#viewer?.goTo(index);
  }

  /** Show the neighbour that has been appended at `index`. */
  onAppend(index) {
    this.#viewer?.refreshSlideContent(index);
  }

  /** Zoom in (`steps` 1) or out (-1), or fit the picture to its place (0). */
  zoomBy(steps) {
    const slide = this.#viewer?.currSlide;
    if (!slide?.isZoomable()) return;
    const { fit, max } = slide.zoomLevels;
    const level = steps ? slide.currZoomLevel * ZOOM_STEP ** steps : fit;
    this.#viewer.zoomTo(Math.min(max, Math.max(fit, level)), undefined, this.#viewer.options.zoomAnimationDuration);
  }

  /** Adapt to another size of the element. */
  resize() {
    this.#viewer?.updateSize(true);
  }

  #options(index) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    return {
      index,
      appendToEl: this.#element,
      getViewportSizeFn: () => ({ x: this.#element.clientWidth, y: this.#element.clientHeight }),
      paddingFn: ({ x }) => ({ top: 56, bottom: 16, left: x > 640 ? 72 : 0, right: x > 640 ? 72 : 0 }),
      bgOpacity: 1,
      loop: false,
      spacing: 0.05,
      showHideAnimationType: "none",
      zoomAnimationDuration: calm ? 0 : 240,
      secondaryZoomLevel: ({ fit }) => Math.max(2.5 * fit, 1 / devicePixelRatio),
      maxZoomLevel: ({ fit }) => Math.max(8 * fit, 4 / devicePixelRatio),
      wheelToZoom: true,
      imageClickAction: (point) => this.#onClick(point),
      tapAction: () => this.#on.tap(),
      errorMsg: text("image.load_failed"),
      // The dialog has its own buttons and keys, and holds the focus.
      arrowKeys: false,
      escKey: false,
      trapFocus: false,
      returnFocus: false,
      arrowPrev: false,
      arrowNext: false,
      zoom: false,
      close: false,
      counter: false,
    };
  }

  #listen(viewer) {
    viewer.addFilter("numItems", () => this.#list.images.length);
    viewer.addFilter("itemData", (_, index) => slideData(this.#list.images[index]));
    // By default only the first slide has its thumbnail as a placeholder.
    viewer.addFilter("placeholderSrc", (_, { data }) => data.msrc);
    viewer.on("change", () => this.#on.change(viewer.currIndex));
    viewer.on("imageSizeChange", ({ slide, width, height }) => fitLayer(slide, width, height));
    // With a mouse, text is selected instead of dragging the picture.
    viewer.on("pointerDown", (event) => {
      const { pointerType, target } = event.originalEvent;
      if (pointerType === "mouse" && target.closest(".text-layer text")) event.preventDefault();
    });
    viewer.on("close", () => this.#viewer === viewer && this.#on.close());
  }

  /** Zoom on a double click; a tap on a touch screen does not arrive here. */
  #onClick(point) {
    const now = performance.now();
    const isDouble = now - this.#lastClick < DOUBLE_CLICK;
    this.#lastClick = isDouble ? -Infinity : now;
    if (isDouble) this.#viewer.currSlide.toggleZoom(point);
  }
}

function fitLayer(slide, width, height) {
  const layer = slide.container.querySelector(".text-layer");
  if (layer && width) Object.assign(layer.style, { width: `${width}px`, height: `${height}px` });
}

/** The picture of a slide: the browser chooses the preview or the original by the size at which it is displayed. */
function slideData(image) {
  const { url, preview_url: preview, thumbnail_url: thumbnail, key } = image;
  const [width, height] = image.width && image.height ? [image.width, image.height] : [PREVIEW_SIZE, PREVIEW_SIZE];
  const shrinking = PREVIEW_SIZE / Math.max(width, height);
  const data = { src: preview || url, msrc: thumbnail, width, height, alt: fileName(key ?? "") };
  if (shrinking >= 1 || !preview || preview === url || !DISPLAYABLE.has(image.content_type)) return data;
  return { ...data, srcset: `${preview} ${Math.round(width * shrinking)}w, ${url} ${width}w` };
}

async function loadPhotoSwipe() {
  const [{ default: PhotoSwipe }] = await Promise.all([import(`${VENDOR}photoswipe.esm.min.js`), loadStyles()]);
  return PhotoSwipe;
}

function loadStyles() {
  const href = `${VENDOR}photoswipe.css`;
  if (document.querySelector(`link[href="${href}"]`)) return null;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
  document.head.append(link);
  return new Promise((resolve) => link.addEventListener("load", resolve, { once: true }));
}

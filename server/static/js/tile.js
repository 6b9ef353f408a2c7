/** One image of the grid: the elements of templates/_tile.html. */

import { fileName, score } from "./format.js";
import { text } from "./texts.js";

/** Delay before a thumbnail is loaded again, in milliseconds; each is twice the one before. */
const RETRY_DELAY = 2000;
const MAX_RETRIES = 5;

/**
 * The widest tile that shows a thumbnail, in pixels of the screen: a thumbnail has 512, and a quarter more is not
 * visibly softer.
 */
const MAX_THUMBNAIL_WIDTH = 640;

const template = document.getElementById("tile-template");

/** Create the tile of an image; `url` is the target of its link. */
export function createTile(image, url) {
  const tile = template.content.firstElementChild.cloneNode(true);
  const picture = tile.querySelector(".tile-image");
  const name = fileName(image.key);
  tile.dataset.id = image.id;
  tile.querySelector(".tile-name").textContent = name;
  const check = tile.querySelector(".tile-check");
  check.value = image.id;
  check.ariaLabel = text("selection.select", { name });
  picture.alt = name;
  if (image.width && image.height) {
    picture.width = image.width;
    picture.height = image.height;
  }
  prepareTile(tile, image, url);
  return tile;
}

/** Take over a tile that the server rendered. */
export function adoptTile(tile, image, url) {
  tile.removeAttribute("data-image");
  prepareTile(tile, image, url);
  const picture = tile.querySelector(".tile-image");
  // It may have loaded or failed before this script ran.
  if (picture.complete && picture.currentSrc) {
    picture.dispatchEvent(new Event(picture.naturalWidth ? "load" : "error"));
  }
}

/** Show an image in a tile of a width: its thumbnail, or its preview where that would be blurred. */
export function showPicture(tile, image, width) {
  const picture = tile.querySelector(".tile-image");
  const isWide = width * devicePixelRatio > MAX_THUMBNAIL_WIDTH;
  const url = isWide ? image.preview_url : image.thumbnail_url;
  if (picture.getAttribute("src") !== url) picture.src = url;
}

/** Show the status and score of an image, which may change. */
export function updateTile(tile, image) {
  tile.classList.toggle("is-pending", image.status === "pending");
  tile.classList.toggle("is-failed", image.status === "failed");
  tile.querySelector(".tile-status").title = text(image.status === "failed" ? "image.failed" : "image.pending");
  tile.querySelector(".tile-score").textContent = typeof image.score === "number" ? score(image.score) : "";
}

/** Load a thumbnail again after an outage. Meanwhile, and if it is missing, the tile shows placeholder and name. */
function loadAgainAfterErrors(tile, picture) {
  let failures = 0;
  picture.addEventListener("load", () => tile.classList.remove("is-broken"));
  picture.addEventListener("error", () => {
    tile.classList.add("is-broken");
    if (failures === MAX_RETRIES) return;
    const url = picture.src;
    setTimeout(() => tile.isConnected && (picture.src = url), RETRY_DELAY * 2 ** failures);
    failures += 1;
  });
}

/** Show the placeholder until the image is loaded, and then remove it: it would show through transparent images. */
function prepareTile(tile, image, url) {
  const link = tile.querySelector(".tile-link");
  link.href = url;
  const picture = tile.querySelector(".tile-image");
  // The grid is one tab stop; its keys select too.
  tile.querySelector(".tile-check").tabIndex = -1;
  if (image.placeholder) link.style.backgroundImage = `url(${JSON.stringify(image.placeholder)})`;
  picture.addEventListener("load", async () => {
    // The image is not painted until it is decoded.
    await picture.decode().catch(() => {});
    link.style.backgroundImage = "";
  });
  loadAgainAfterErrors(tile, picture);
  updateTile(tile, image);
}

/** One tile of the grid: the same elements that the server's `tile` macro writes. */

import { fileName, score } from "./format.js";

const template = document.getElementById("tile-template");

/** A new tile for `image`, leading to `address`. */
export function createTile(image, address) {
  const element = template.content.firstElementChild.cloneNode(true);
  const picture = element.querySelector(".tile-image");
  const name = fileName(image.key);
  element.querySelector(".tile-link").href = address;
  element.querySelector(".tile-name").textContent = name;
  picture.alt = name;
  if (image.width && image.height) {
    picture.width = image.width;
    picture.height = image.height;
  }
  // Before the address: a picture out of the cache is loaded in the same breath.
  dressTile(element, image);
  picture.src = image.thumbnail_url;
  return element;
}

/** Make a tile that the server wrote one of ours. */
export function adoptTile(element, image) {
  element.removeAttribute("data-image");
  dressTile(element, image);
  const picture = element.querySelector(".tile-image");
  if (picture.complete && picture.naturalWidth) picture.dispatchEvent(new Event("load"));
}

/** Show what may change in the life of a tile: whether it is searchable, and its score. */
export function updateTile(element, image) {
  element.classList.toggle("is-pending", image.status === "pending");
  element.classList.toggle("is-failed", image.status === "failed");
  element.querySelector(".tile-mark").title =
    image.status === "failed" ? "Could not be made searchable" : "Not searchable yet";
  element.querySelector(".tile-score").textContent = typeof image.score === "number" ? score(image.score) : "";
}

/** Put the placeholder behind the picture until that has loaded; with transparency it would show through for ever. */
function dressTile(element, image) {
  const link = element.querySelector(".tile-link");
  const picture = element.querySelector(".tile-image");
  if (image.placeholder) link.style.backgroundImage = `url(${JSON.stringify(image.placeholder)})`;
  picture.addEventListener("load", async () => {
    // A picture that is not decoded yet is not painted.
    await picture.decode().catch(() => {});
    link.style.backgroundImage = "";
  });
  picture.addEventListener("error", () => element.classList.add("is-broken"));
  updateTile(element, image);
}

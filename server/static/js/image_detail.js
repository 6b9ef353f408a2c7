/** The selected image above the images similar to it: the elements of templates/_image_detail.html. */

import { fileName } from "./format.js";
import { showFacts } from "./image_facts.js";
import { reserveSpace } from "./reserved_space.js";

const template = document.getElementById("detail-template");

/** Fill the elements of the selected image; `element` is the one that the server rendered, if any. */
export function imageDetail(image, { bucket, closeUrl, element = template.content.firstElementChild.cloneNode(true) }) {
  const picture = element.querySelector(".detail-image");
  const name = fileName(image.key);
  const url = image.preview_url || image.url;
  element.dataset.id = image.id;
  reserveSpace(picture, image);
  reserveSpace(element.querySelector(".detail-stage"), image);
  picture.alt = name;
  // The thumbnail is usually in the cache: the reader has just clicked it.
  picture.style.backgroundImage = `url(${JSON.stringify(image.thumbnail_url)})`;
  picture.addEventListener("load", () => (picture.style.backgroundImage = ""), { once: true });
  if (picture.getAttribute("src") !== url) picture.src = url;
  else if (picture.complete) picture.style.backgroundImage = "";
  element.querySelector(".detail-stage").href = url;
  element.querySelector(".detail-name bdi").textContent = name;
  element.querySelector(".detail-close").href = closeUrl;
  element.querySelector(".detail-original").href = image.url;
  showFacts(element.querySelector(".detail-facts"), image, bucket);
  return element;
}

/** The page of all collections. */

import { filterCollections } from "./collection_filter.js";

const isBroken = (cover) => cover.complete && !cover.naturalWidth;

/** Remove covers that cannot be loaded. */
function hideBrokenCovers(list) {
  list.addEventListener("error", (event) => event.target.remove(), { capture: true });
  for (const cover of list.querySelectorAll("img")) if (isBroken(cover)) cover.remove();
}

filterCollections();
hideBrokenCovers(document.getElementById("collection-cards"));

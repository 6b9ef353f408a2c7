/** Search fields that filter a list of collections by their names: the field names the list in `data-filters`. */

export function filterCollections() {
  for (const field of document.querySelectorAll("[data-filters]")) {
    const items = [...document.getElementById(field.dataset.filters).children];
    field.addEventListener("input", () => {
      const words = field.value.toLocaleLowerCase().split(/\s+/);
      for (const item of items) {
        const name = item.querySelector(".collection-title").textContent.toLocaleLowerCase();
        item.hidden = !words.every((word) => name.includes(word));
      }
    });
  }
}

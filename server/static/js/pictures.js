/** The ways by which pictures come into the page: chosen, dropped anywhere, pasted. */

/** What a tile carries when it is dragged. */
const OWN = "application/x-image-id";

/**
 * `take(files)` gets pictures from outside, `takeImage(id)` a tile that was dropped, `takeAddress(url)` a picture dragged
 * out of another page. `target` is what shows that one may let go.
 */
export function listenForPictures({ button, chooser, target, take, takeImage, takeAddress }) {
  button.addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    take([...chooser.files]);
    // The same file may be chosen again.
    chooser.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
  document.addEventListener("dragstart", (event) => {
    const id = event.target.closest?.(".tile, .detail")?.dataset.id;
    if (id) event.dataTransfer.setData(OWN, id);
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!["Files", "text/uri-list", OWN].some((type) => event.dataTransfer.types.includes(type))) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
      target.hidden = false;
    });
  }
  document.addEventListener("dragleave", (event) => {
    // Otherwise the pointer has only come to another element.
    if (!event.relatedTarget) target.hidden = true;
  });
  document.addEventListener("dragend", () => (target.hidden = true));
  document.addEventListener("drop", (event) => {
    target.hidden = true;
    const { files } = event.dataTransfer;
    const id = event.dataTransfer.getData(OWN);
    const address = event.dataTransfer.getData("text/uri-list").split("\n")[0];
    if (!id && !files.length && !address) return;
    event.preventDefault();
    if (id) takeImage(id);
    else if (files.length) take([...files]);
    else takeAddress(address.trim());
  });
}

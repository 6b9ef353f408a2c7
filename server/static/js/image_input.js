/** Images that enter the page: chosen as files, dropped anywhere, or pasted. */

/** The data type of a tile that is being dragged. */
const TILE_ID = "application/x-image-id";

/**
 * Listen for images. `on` has `files(files)`, `tile(id)` for a dropped tile, and `url(url)` for an image dragged from
 * another page. `dropTarget` is shown while something can be dropped.
 */
export function listenForImages({ button, fileInput, dropTarget, on }) {
  button.addEventListener("click", () => fileInput.click());
  fileInput.addEventListener("change", () => {
    on.files([...fileInput.files]);
    // Otherwise choosing the same file again would not be a change.
    fileInput.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    on.files(files);
  });
  listenForDrops(dropTarget, on);
}

function listenForDrops(dropTarget, on) {
  document.addEventListener("dragstart", (event) => {
    const id = event.target.closest?.(".tile, .detail")?.dataset.id;
    if (id) event.dataTransfer.setData(TILE_ID, id);
  });
  for (const type of ["dragenter", "dragover"]) {
    document.addEventListener(type, (event) => {
      if (!["Files", "text/uri-list", TILE_ID].some((kind) => event.dataTransfer.types.includes(kind))) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
      dropTarget.hidden = false;
    });
  }
  document.addEventListener("dragleave", (event) => {
    // With a related target the pointer has only entered another element.
    if (!event.relatedTarget) dropTarget.hidden = true;
  });
  document.addEventListener("dragend", () => (dropTarget.hidden = true));
  document.addEventListener("drop", (event) => {
    dropTarget.hidden = true;
    const { files } = event.dataTransfer;
    const id = event.dataTransfer.getData(TILE_ID);
    const url = event.dataTransfer.getData("text/uri-list").split("\n")[0];
    if (!id && !files.length && !url) return;
    event.preventDefault();
    if (id) on.tile(id);
    else if (files.length) on.files([...files]);
    else on.url(url.trim());
  });
}

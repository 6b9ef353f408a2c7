/** The dialog that adds images to the collection: templates/_upload.html, only for users who may write. */

import { chosenFiles, droppedFiles } from "./dropped_files.js";
import { ImageUpload } from "./image_upload.js";
import { parts, text } from "./texts.js";

/** The most files that are offered as terms of a search. */
const MAX_TERMS = 4;

const $ = (id) => document.getElementById(id);

export class UploadDialog {
  #bucket;
  #onSearch;
  #files = [];
  #upload = null;

  /** `onSearch(files)` searches with the files instead. */
  constructor({ bucket, onSearch }) {
    this.#bucket = bucket;
    this.#onSearch = onSearch;
    $("open-upload").addEventListener("click", () => this.#open([]));
    $("open-upload").disabled = false;
    for (const kind of ["file", "folder"]) {
      const input = $(`upload-${kind}-input`);
      $(kind === "file" ? "upload-files" : "upload-folder").addEventListener("click", () => input.click());
      input.addEventListener("change", () => {
        this.#files = chosenFiles(input);
        input.value = "";
        this.#add();
      });
    }
    $("upload-add").addEventListener("click", () => this.#add());
    $("upload-search").addEventListener("click", () => {
      $("upload").close();
      this.#onSearch(this.#files.map(({ file }) => file));
    });
    $("upload").addEventListener("close", () => this.#upload?.cancel());
    addEventListener("beforeunload", (event) => this.#upload && event.preventDefault());
    // Before the listeners that search with a dropped image.
    document.addEventListener("drop", (event) => this.#onDrop(event), { capture: true });
  }

  async #onDrop(event) {
    if (!event.dataTransfer.files.length || this.#upload) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    $("drop-target").hidden = true;
    this.#open(await droppedFiles(event.dataTransfer));
  }

  /** Open the dialog to choose files, or with dropped `files` to choose what to do with them. */
  #open(files) {
    this.#files = files;
    $("upload-sources").hidden = files.length > 0;
    $("upload-choice").hidden = !files.length;
    $("upload-search").hidden = files.length > MAX_TERMS;
    $("upload-errors").hidden = true;
    $("upload-progress").hidden = true;
    $("upload-status").textContent = files.length ? text("upload.dropped", { count: files.length }) : text("upload.hint");
    if (!$("upload").open) $("upload").showModal();
  }

  async #add() {
    if (!this.#files.length) return;
    $("upload-errors").replaceChildren();
    $("upload-sources").hidden = true;
    $("upload-choice").hidden = true;
    $("upload-progress").hidden = false;
    this.#upload = new ImageUpload(this.#bucket, this.#files, () => this.#draw());
    this.#draw();
    const upload = this.#upload;
    await upload.run();
    this.#upload = null;
    this.#drawEnd(upload);
  }

  #draw() {
    const { added, total, share } = this.#upload;
    $("upload-progress").value = share;
    $("upload-status").textContent = text("upload.running", { added, count: total });
    this.#drawErrors(this.#upload.failed);
  }

  #drawEnd({ added, failed }) {
    $("upload-progress").hidden = true;
    $("upload-sources").hidden = false;
    $("upload-status").textContent = text(failed.length ? "upload.done_in_part" : "upload.done", { count: added, failed: failed.length });
    this.#drawErrors(failed);
  }

  #drawErrors(failed) {
    $("upload-errors").hidden = !failed.length;
    for (const { name, error } of failed.slice($("upload-errors").children.length)) {
      const item = document.createElement("li");
      const shown = document.createElement("bdi");
      shown.textContent = name;
      item.append(...parts("upload.failure", { name: shown, reason: error.message }));
      $("upload-errors").append(item);
    }
  }
}

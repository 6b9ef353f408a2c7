/** The files of a drop, those in folders included. */

/** Return `{file, path}` for each file; `path` is "" for one that was not in a folder. Hidden files are left out. */
export async function droppedFiles(dataTransfer) {
  // The items are gone after the first await.
  const items = [...dataTransfer.items].filter(({ kind }) => kind === "file");
  // A file without an entry was not dragged from a disk.
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  return (await Promise.all(entries.map(filesOf))).flat();
}

/** Return the same for the files of an `<input>`. */
export const chosenFiles = (input) =>
  [...input.files].map((file) => ({ file, path: file.webkitRelativePath })).filter(({ file }) => !isHidden(file.name));

const isHidden = (name) => name.startsWith(".");

async function filesOf(entry) {
  if (isHidden(entry.name)) return [];
  if (entry instanceof File) return [{ file: entry, path: "" }];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    const path = entry.fullPath.replace(/^\//, "");
    return [{ file, path: path.includes("/") ? path : "" }];
  }
  const children = [];
  const reader = entry.createReader();
  // Each call returns some entries, and none at the end.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    children.push(...some);
  }
  return (await Promise.all(children.map(filesOf))).flat();
}

"""Comparison of the metadata that we read with what exiftool reads, over made files.

    python -m bench.metadata_reading

exiftool (Debian: libimage-exiftool-perl) writes single tags into files of several formats and XMP sidecars; dates are
written in many spellings. Prints every difference and their number; docs/formats.md lists them with reasons.
"""

import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pillow_heif
from PIL import Image

from shared.images import Metadata, examine

FORMATS = ("jpg", "png", "tif", "webp", "heic", "avif", "xmp")
TEXTS = {
    "title": ("XMP-dc:Title", "XMP-photoshop:Headline", "IPTC:ObjectName", "IFD0:XPTitle", "PNG:Title"),
    "caption": ("XMP-dc:Description", "IPTC:Caption-Abstract", "IFD0:ImageDescription", "IFD0:XPSubject"),
    "comment": ("XMP-exif:UserComment", "ExifIFD:UserComment", "IFD0:XPComment", "File:Comment", "PNG:Comment"),
    "artist": ("XMP-dc:Creator", "IPTC:By-line", "IFD0:Artist", "IFD0:XPAuthor", "PNG:Author"),
    "copyright": ("XMP-dc:Rights", "IPTC:CopyrightNotice", "IFD0:Copyright", "PNG:Copyright"),
    "city": ("XMP-photoshop:City", "IPTC:City", "XMP-iptcExt:LocationCreatedCity"),
    "country": ("XMP-photoshop:Country", "IPTC:Country-PrimaryLocationName"),
    "location": ("XMP-iptcCore:Location", "IPTC:Sub-location"),
}
KEYWORDS = (
    "XMP-dc:Subject",
    "IPTC:Keywords",
    "IFD0:XPKeywords",
    "XMP-lr:HierarchicalSubject",
    "XMP-digiKam:TagsList",
    "XMP-microsoft:LastKeywordXMP",
    "XMP-iptcExt:PersonInImage",
    "XMP-mwg-rs:RegionName",
    "XMP-mwg-kw:HierarchicalKeywords1",
)
TIMES = (
    "ExifIFD:DateTimeOriginal",
    "ExifIFD:CreateDate",
    "IFD0:ModifyDate",
    "XMP-exif:DateTimeOriginal",
    "XMP-photoshop:DateCreated",
    "XMP-xmp:CreateDate",
    "PNG:CreationTime",
)
SPELLINGS = (
    "2024:05:31 10:20:30",
    "2024-05-31T10:20:30",
    "2024-05-31 10:20:30.25",
    "2024:05:31 10:20:30+02:00",
    "2024:05:31 10:20:30Z",
    "2024:05:31 10:20",
    "2024: 5: 1  9: 2: 3",
    "2024/05/31 10:20:30",
    "20240531 102030",
    "2015:08:22 24:08:19",
    "2024:05:31 10:20:30 PM",
    "2024:05:31",
    "0000:00:00 00:00:00",
    "2024:13:31 10:20:30",
    "    :  :     :  :  ",
    "2024:05",
)


@dataclass(frozen=True)
class Case:
    """A file with one value; *field* names ours."""

    file: str
    field: str
    tag: str
    value: str

    @property
    def arguments(self) -> list[str]:
        return [f"-{self.tag}={self.value}"] + (["-n", "-ee"] if self.field == "taken" else [])


def cases() -> Iterator[Case]:
    """Yield every tag in every format, every spelling of a date in EXIF, ratings and positions."""
    for suffix in FORMATS:
        singles = [(field, tag, "Zürich: Reiher") for field, tags in TEXTS.items() for tag in tags]
        singles += [("keywords", tag, "Reiher") for tag in KEYWORDS]
        singles += [("taken", tag, "2024:05:31 10:20:30") for tag in TIMES]
        singles += [("rating", tag, "4") for tag in ("XMP-xmp:Rating", "IFD0:Rating")]
        for number, (field, tag, value) in enumerate(singles):
            yield Case(f"{suffix}{number:02}.{suffix}", field, tag, value)
    for number, spelling in enumerate(SPELLINGS):
        yield Case(f"date{number:02}.jpg", "taken", "ExifIFD:DateTimeOriginal", spelling)


def make_files(folder: Path) -> list[Case]:
    """Write the files; return the cases whose tag exiftool can write into their format."""
    picture = Image.new("RGB", (32, 24), "teal")
    made = []
    commands: list[str] = []
    for case in cases():
        file = folder / case.file
        if file.suffix == ".heic":
            pillow_heif.from_pillow(picture).save(file)
        elif file.suffix != ".xmp":
            picture.save(file)
        commands += [*case.arguments, "-charset", "iptc=UTF8", "-n", "-overwrite_original", str(file), "-execute"]
        made.append(case)
    arguments = folder / "arguments"
    arguments.write_text("\n".join(commands))
    subprocess.run(["exiftool", "-q", "-q", "-@", str(arguments)], capture_output=True, check=False)
    return made


def read_with_exiftool(folder: Path, made: list[Case]) -> dict[str, Any]:
    """Return exiftool's value of each case's tag by file; files without it are left out."""
    command = [
        "exiftool",
        "-j",
        "-G1",
        "-a",
        "-struct",
        "-d",
        "%Y-%m-%dT%H:%M:%S",
        "-charset",
        "iptc=UTF8",
        "-r",
        str(folder),
    ]
    rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    by_file = {Path(row["SourceFile"]).name: row for row in rows}
    found = {}
    for case in made:
        row, name = by_file.get(case.file, {}), case.tag.rpartition(":")[2]
        values = [value for tag, value in row.items() if tag.rpartition(":")[2] == name and "ExifTool" not in tag]
        if values:
            found[case.file] = values[0]
    return found


def read_ours(folder: Path, case: Case) -> Metadata:
    """Return our reading of the file, or of a picture with the file as its sidecar."""
    file = folder / case.file
    if file.suffix != ".xmp":
        return examine(file, derivatives=False).metadata
    return examine(folder / "jpg00.jpg", derivatives=False, sidecar=file).metadata


def ours(found: Metadata, field: str) -> Any:
    if field == "taken":
        if found.taken_local is None:
            return None
        zone = None if found.taken_offset is None else timezone(timedelta(minutes=found.taken_offset))
        return found.taken_local.replace(tzinfo=zone).isoformat()
    return getattr(found, field, None) or found.exif.get(field)


def same(field: str, theirs: Any, value: Any) -> bool:
    if field == "keywords":
        return bool(value) and value[-1] == "Reiher"
    if field == "taken":
        return value is not None and str(theirs) == value[:19]  # exiftool formats a date without its offset
    return str(theirs[0] if isinstance(theirs, list) else theirs) == str(value)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_files(folder)
        theirs = read_with_exiftool(folder, made)
        counts = Counter[str]()
        for case in made:
            if case.file not in theirs:
                counts["not written"] += 1
                continue
            value = ours(read_ours(folder, case), case.field)
            equal = same(case.field, theirs[case.file], value)
            counts["equal" if equal else "different"] += 1
            if not equal:
                tag = f"{case.file:<12}{case.tag:<34}"
                print(f"{tag}{case.value!r:<30} exiftool {theirs[case.file]!r}, ours {value!r}")
        print(", ".join(f"{number} {kind}" for kind, number in counts.items()))


if __name__ == "__main__":
    main()

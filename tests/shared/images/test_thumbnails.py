import base64

from PIL import Image

from shared import colours
from shared.images import examine
from tests.helpers import corpus
from tests.helpers.corpus import RED, assert_upright, read
from tests.helpers.pictures import encode


def test_thumbnail_and_preview_keep_the_shape_and_are_never_enlarged() -> None:
    sizes = {
        (2400, 1600): ((512, 341), (1600, 1067)),
        (1000, 4000): ((256, 1024), (400, 1600)),
        (300, 200): ((300, 200), (300, 200)),
        (20_000, 3): ((1600, 1), (1600, 1)),
        (6000, 1000): ((1227, 205), (1600, 267)),
    }
    for size, (thumbnail, preview) in sizes.items():
        image = examine(encode(Image.new("RGB", size, RED), "JPEG"))
        assert image.thumbnail is not None
        assert image.preview is not None
        assert (read(image.thumbnail).size, read(image.preview).size) == (thumbnail, preview)


def test_properties_do_not_depend_on_derivatives() -> None:
    data = corpus.jpeg(1200, 900, exif=corpus.exif_bytes({271: "Canon"}))
    full, bare = examine(data), examine(data, derivatives=False)
    assert (bare.thumbnail, bare.preview) == (None, None)
    assert colours.names(full.colours) == colours.names(bare.colours)
    differing = {"derivatives": False, "placeholder": "", "colours": ()}  # the palette is read from another size
    assert full.columns() | differing == bare.columns() | differing


def test_the_placeholder_shows_the_picture_in_a_few_bytes() -> None:
    image = examine(encode(corpus.marked(), "PNG"))
    head, _, payload = image.placeholder.partition(",")
    assert head == "data:image/webp;base64"
    assert len(image.placeholder) < 400
    assert_upright(read(base64.b64decode(payload)), tolerance=60)

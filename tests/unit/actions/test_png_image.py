"""The action predict with an image in a PNG file."""

import base64
import dataclasses
import io
import random
import struct
import zlib

import ops
import pytest
from PIL import Image

from tests.fakes.kserve import SERVICE


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def without_serving(state):
    return dataclasses.replace(state, config={**state.config, "serving": "none"})


NOT_READY = {"type": "Ready", "status": "False"}


def random_image(mode="RGB", size=(28, 28)):
    """Return an image of random pixels, in which all channels and rows differ."""
    image = Image.frombytes("RGB", size, random.Random(7).randbytes(3 * size[0] * size[1]))
    return image.convert(mode)


def png(image, **options):
    """Return an image as the action's base64 parameter."""
    content = io.BytesIO()
    image.save(content, "png", **options)
    return base64.b64encode(content.getvalue()).decode()


def chunk(kind, image_data):
    return (
        struct.pack("!I", len(image_data))
        + kind
        + image_data
        + struct.pack("!I", zlib.crc32(kind + image_data))
    )


def png_of_chunks(*chunks):
    """Return a PNG file of these chunks as the action's base64 parameter."""
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def image_header(bits=8, kind=0, interlaced=0):
    return chunk(b"IHDR", struct.pack("!2I5B", 28, 28, bits, kind, 0, 0, interlaced))


def image_data(raw):
    return chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_predict_sends_the_image_to_the_served_model(run_action, serving, served, httpserver, mode):
    served()
    image = random_image(mode)
    assert run_action("predict", state=serving, image=png(image)) == {
        "version": "3",
        "served-by": "kserve",
        "prediction": "Bag",
        "confidence": "0.7500",
    }
    # It received the grey levels that Pillow computes.
    (predict_request,) = [request for request, _ in httpserver.log if ":predict" in request.path]
    (rows,) = predict_request.get_json()["instances"]
    assert [len(row) for row in rows] == [28] * 28
    assert bytes(level for row in rows for level in row) == image.convert("L").tobytes()


def test_base64_may_contain_line_breaks(run_action, serving, served):
    served()
    text = png(random_image())
    lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    assert run_action("predict", state=serving, image=lines)["prediction"] == "Bag"


WHOLE = png(random_image())
WITH_TRANSPARENT_GREY = png_of_chunks(
    image_header(), chunk(b"tRNS", b"\0\7"), image_data(bytes(29 * 28))
)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image": "boot.png"}, "image must be base64 of a PNG file, not 'boot.png'"),
        ({"image": "\u00e9"}, "image must be base64 of a PNG file, not"),
        ({"image": ""}, "image must be base64 of a valid PNG file (EOFError"),
        ({"image": encoded("GIF89a, a picture")}, "image must be base64 of a valid PNG file"),
        ({"image": WHOLE[: len(WHOLE) // 8 * 4]}, "image must be base64 of a valid PNG file"),
        (
            {"image": png_of_chunks(image_data(bytes(29 * 28)))},
            "image must be base64 of a valid PNG file",
        ),
        (
            {
                "image": png_of_chunks(
                    image_header(), chunk(b"IDAT", b"not packed"), chunk(b"IEND", b"")
                )
            },
            "image must be base64 of a valid PNG file",
        ),
        (
            {
                "image": png_of_chunks(
                    image_header(kind=3),
                    chunk(b"PLTE", bytes(3)),
                    image_data(bytes([0, 9] * 14 * 29)),
                )
            },
            "image must be base64 of a valid PNG file",
        ),
        (
            {"image": png_of_chunks(image_header(interlaced=1), image_data(bytes(7)))},
            "image must be base64 of a valid PNG file",
        ),
        (
            {"image": png_of_chunks(image_header(), image_data(bytes(29)))},
            "image must be 784 pixels, not '28 pixels'",
        ),
        (
            {"image": png_of_chunks(image_header(), image_data(bytes(29 * 700_000)))},
            "must be 784 pixels, not '812 pixels'",
        ),
        ({"image": "A" * 40_000}, "image must be at most 32768 characters, not '40000 characters'"),
        (
            {"image": png(random_image(size=(32, 28)))},
            "image must be a PNG file of 28 x 28 pixels, not '32 x 28'",
        ),
        ({"image": png(random_image("I;16"))}, "image must be a PNG file with 8 bits per channel"),
        ({"image": png(random_image("RGBA"))}, "image must be a PNG file without transparency"),
        ({"image": png(random_image("LA"))}, "image must be a PNG file without transparency"),
        ({"image": WITH_TRANSPARENT_GREY}, "image must be a PNG file without transparency"),
        ({"image": WHOLE, "image_number": 0}, "image-number must be unset if image is set"),
        ({"image": WHOLE, "version": 2}, "version must be unset if image is set"),
    ],
)
def test_predict_rejects_an_invalid_image(run_action, serving, served, httpserver, params, message):
    served()
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=serving, **params)
    assert message in failed.value.message
    assert failed.value.message.endswith("; nothing was done; correct it and run the action again")
    assert len(failed.value.message) < 400
    assert not [request for request, _ in httpserver.log if ":predict" in request.path]


def test_predict_with_an_image_requires_serving(run_action, serving, three_versions):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=without_serving(serving), image=WHOLE)
    assert failed.value.message == (
        "predicting an image needs a served model; enable serving with: "
        "juju config trainer serving=kserve"
    )


@pytest.mark.parametrize(
    ("is_removed", "message"),
    [
        (False, "KServe does not serve v3 yet: RevisionMissing"),
        (True, "KServe serves no model yet"),
    ],
)
def test_predict_with_an_image_requires_a_ready_model(
    run_action, kubernetes, serving, served, is_removed, message
):
    served(conditions=[{**NOT_READY, "reason": "RevisionMissing"}])
    if is_removed:
        del kubernetes.objects[SERVICE]
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=serving, image=WHOLE)
    assert failed.value.message == f"{message}; wait until it is ready: juju status trainer"


def test_predict_rejects_a_model_without_class_names(run_action, serving, served, registry):
    served()
    registry.put("3/predictions.json", {"classes": 1, "label": [0]})
    with pytest.raises(ops.testing.ActionFailed, match=r"malformed predictions"):
        run_action("predict", state=serving, image=WHOLE)

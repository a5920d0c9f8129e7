"""Draws with OpenAI's client; fails by an exception: openai_client.py BASE_URL TOKEN OPENAPI_URL"""

import base64
import json
import struct
import sys
import urllib.request

import openai

base_url, token, document = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=token, max_retries=0, timeout=120)
small = {"size": "64x64", "extra_body": {"steps": 4, "seed": 7}}


def sides(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n", png[:8]
    return struct.unpack(">II", png[16:24])


def refused(kind, ask):
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


models = [model.id for model in client.models.list()]
assert models == ["flux-mini", "Impressionist"], models
assert client.models.retrieve("flux-mini").owned_by == "atelier"

drawn = client.images.generate(model="flux-mini", prompt="a lake", n=2, response_format="b64_json", **small)
first, second = (base64.b64decode(picture.b64_json) for picture in drawn.data)
assert sides(first) == (64, 64) and first != second
assert drawn.output_format == "png" and drawn.usage.total_tokens == drawn.usage.input_tokens + drawn.usage.output_tokens

linked = client.images.generate(prompt="a lake", response_format="url", **small)
assert linked.data[0].b64_json is None
with urllib.request.urlopen(linked.data[0].url) as answer:
    assert sides(answer.read()) == (64, 64)

adapted = client.images.generate(model="Impressionist", prompt="a lake", **small)
assert adapted.data[0].revised_prompt == "a lake, impressionist painting"
assert base64.b64decode(adapted.data[0].b64_json) != first

looks = []
for event in client.images.generate(model="flux-mini", prompt="a lake", stream=True, partial_images=2, **small):
    if event.type == "image_generation.partial_image":
        assert base64.b64decode(event.b64_json)[:2] == b"\xff\xd8", "a JPEG"
        looks.append(event.partial_image_index)
    else:
        assert event.type == "image_generation.completed", event.type
        last = event
assert looks == [0, 1], looks
assert sides(base64.b64decode(last.b64_json)) == (64, 64) and last.usage.output_tokens == 16

error = refused(openai.NotFoundError, lambda: client.images.generate(model="dall-e-3", prompt="a lake"))
assert error.code == "model_not_found" and error.param == "model", error
error = refused(openai.BadRequestError, lambda: client.images.generate(prompt="a lake", n=9))
assert error.param == "n" and "1 to 4" in error.message, error
refused(openai.BadRequestError, lambda: client.images.generate(prompt="a lake", size="65x64"))
stranger = openai.OpenAI(base_url=base_url, api_key="not-a-token-of-this-server", max_retries=0)
assert refused(openai.AuthenticationError, stranger.models.list).code == "invalid_api_key"

try:
    from openapi_spec_validator import validate
except ImportError:
    print("openapi_spec_validator is not there, so the document was not checked with it")
else:
    with urllib.request.urlopen(document) as answer:
        validate(json.load(answer))
    print("the OpenAPI document is valid")
print("openai", openai.__version__)

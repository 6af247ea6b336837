"""The page at `/`: complete, from this service alone, under a policy that it keeps to."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from PIL import Image

from service.page import page
from service.page.page import CONTENT_SECURITY_POLICY, page_files

FILES = page_files()
CODE = sorted(name for name in FILES if name.endswith((".html", ".css", ".js", ".svg")))
LARGEST_PAGE = 150_000
LARGEST_SAMPLES = 350_000
VOID = {"input", "img", "meta", "link", "rect"}


class Markup(HTMLParser):
    """Every element of a page, in order, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.text_in: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text_in[self.inside[-1]] = self.text_in.get(self.inside[-1], "") + data

    def named(self, attribute: str) -> Iterator[str]:
        """Yield every value of an attribute."""
        yield from (attrs[attribute] or "" for _, attrs in self.elements if attribute in attrs)


MARKUP = Markup(FILES["index.html"].body.decode())


BROWSER = {"accept": "text/html,application/xhtml+xml"}


async def test_a_client_that_is_no_browser_gets_json(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert response.headers["vary"] == "accept"


async def test_the_page_is_html_under_a_strict_policy(client: httpx.AsyncClient) -> None:
    response = await client.get("/", headers=BROWSER)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", sorted(FILES))
async def test_every_file_is_served_as_what_it_is(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/page/{name}")
    assert response.status_code == 200
    assert response.content == FILES[name].body
    assert response.headers["content-type"].encode() == FILES[name].content_type
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    "name",
    ["", "missing.js", "../page.py", "..%2Fpage.py", "samples/README.md", "/etc/passwd", "samples"],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/page/{name}")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


async def test_who_has_the_file_is_not_sent_it_again(client: httpx.AsyncClient) -> None:
    tag = (await client.get("/", headers=BROWSER)).headers["etag"].removeprefix("W/")
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = await client.get("/", headers={**BROWSER, "if-none-match": known})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == tag
        assert "content-length" not in response.headers
    for other in ('"other"', "", tag.strip('"')):
        assert (
            await client.get("/", headers={**BROWSER, "if-none-match": other})
        ).status_code == 200


def test_files_that_differ_have_different_tags() -> None:
    bodies = {found.body for found in FILES.values()}
    assert len({found.entity_tag for found in FILES.values()}) == len(bodies)


async def test_code_is_asked_for_again_and_samples_are_kept_a_while(
    client: httpx.AsyncClient,
) -> None:
    for path, policy in (
        ("/", "no-cache"),
        ("/page/page.js", "no-cache"),
        ("/page/samples/cards.jpg", "max-age=3600"),
    ):
        assert (await client.get(path, headers=BROWSER)).headers["cache-control"] == policy


async def test_the_head_of_the_page_can_be_asked_for(client: httpx.AsyncClient) -> None:
    whole, head = await client.get("/", headers=BROWSER), await client.head("/", headers=BROWSER)
    assert head.status_code == 200
    assert head.headers["etag"] == whole.headers["etag"]


async def test_other_methods_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/", json={})).status_code == 405


def test_the_page_is_small() -> None:
    samples = [found for name, found in FILES.items() if name.startswith("samples/")]
    others = [found for name, found in FILES.items() if not name.startswith("samples/")]
    assert sum(len(found.body) for found in others) < LARGEST_PAGE
    assert sum(len(found.body) for found in samples) < LARGEST_SAMPLES


def test_the_accuracy_of_given_labels_is_that_of_the_card() -> None:
    card = (Path(__file__).parents[3] / "models/repository/emoji/1/README.md").read_text()
    measured = re.findall(r"^\| zero-shot, .* (?:en|zh): accuracy \| (0\.\d+)", card, re.M)
    said = re.search(r"in (\d+)&nbsp;% \(English\) and (\d+)", FILES["index.html"].body.decode())
    assert said is not None
    assert [int(percent) for percent in said.groups()] == [round(100 * float(m)) for m in measured]


@pytest.mark.parametrize("name", CODE)
def test_no_file_of_the_page_names_another_origin(name: str) -> None:
    text = FILES[name].body.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text)


@pytest.mark.parametrize("name", [name for name in CODE if name.endswith(".js")])
def test_every_import_of_a_script_is_there(name: str) -> None:
    text = FILES[name].body.decode()
    for imported in re.findall(r'^import .* from "\./(.+)";$', text, re.M):
        assert imported in FILES


def test_all_that_the_markup_names_is_there() -> None:
    links = [*MARKUP.named("href"), *MARKUP.named("src")]
    names = [link.removeprefix("page/") for link in links if link.startswith("page/")]
    names += [
        f"samples/{each.split('|')[0]}"
        for samples in MARKUP.named("data-samples")
        for kind in samples.split(";")
        for each in kind.partition(":")[2].split(",")
    ]
    assert len(names) > 8
    assert set(names) <= set(FILES)


def test_links_are_relative_so_that_the_page_may_stand_behind_a_prefix() -> None:
    for link in [*MARKUP.named("href"), *MARKUP.named("src")]:
        assert urljoin("http://host/prefix/", link).startswith("http://host/prefix/"), link


def test_nothing_in_the_markup_breaks_the_policy() -> None:
    assert not list(MARKUP.named("style"))
    assert not [a for _, attrs in MARKUP.elements for a in attrs if a.startswith("on")]
    assert "style" not in MARKUP.text_in
    assert not MARKUP.text_in.get("script", "").strip()


def test_every_field_has_a_label_and_every_reference_its_element() -> None:
    ids = list(MARKUP.named("id"))
    assert len(set(ids)) == len(ids)
    for attribute in ("for", "aria-controls", "aria-labelledby"):
        assert set(MARKUP.named(attribute)) <= set(ids)
    labelled = set(MARKUP.named("for"))
    for tag, attrs in MARKUP.elements:
        if tag in ("textarea", "input") and attrs.get("type") != "radio":
            assert attrs.get("id") in labelled, (tag, attrs)


def test_every_drawing_is_listed_once_with_names_in_both_languages() -> None:
    listed = json.loads(FILES["samples/emoji/emoji.json"].body)
    names = [f"samples/emoji/{each['file']}" for each in listed]
    drawn = {name for name in FILES if name.startswith("samples/emoji/") and name.endswith(".png")}
    assert len(set(names)) == len(names) == len(drawn)
    assert set(names) == drawn
    for each in listed:
        assert each["en"].isascii()
        assert not each["zh"].isascii()
        with Image.open(BytesIO(FILES[f"samples/emoji/{each['file']}"].body)) as image:
            assert image.size == (64, 64)


def test_every_folder_of_samples_tells_its_licence() -> None:
    folder = Path(page.__file__).parent / "samples"
    told = (folder / "README.md").read_text(encoding="utf-8")
    for entry in folder.iterdir():
        assert entry.name == "README.md" or f"`{entry.name}" in told
    assert "MIT License" in FILES["samples/emoji/LICENSE.txt"].body.decode()


async def test_the_documentation_keeps_its_own_page(client: httpx.AsyncClient) -> None:
    docs = await client.get("/docs")
    assert docs.status_code == 200
    assert "content-security-policy" not in docs.headers

"""The page: whole without a network, hostile text shown as text, everything in it reachable and named."""

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from tests.report import browser, sample
from toolkit.report import html, tables
from toolkit.report.page import Page, Section, Table

PAGE = sample.page()
TEXT = html.render(PAGE)


class Tree(HTMLParser):
    """Elements with their attributes, and that all that was opened was closed."""

    VOID = {"meta", "link", "br", "img"}

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def having(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


TREE = Tree(TEXT)


def test_nothing_comes_from_elsewhere():
    """No address but a place in the page, data in it, and the name of SVG's namespace."""
    for _, attributes in TREE.elements:
        for key in ("href", "src", "xlink:href", "action", "srcset", "poster", "data"):
            assert re.match(r"#|data:", attributes.get(key) or "#"), attributes
    style = re.search(r"<style>(.*?)</style>", TEXT, re.DOTALL).group(1)
    assert "url(" not in style and "@import" not in style and "@font-face" not in style
    assert len(TREE.having("script")) == 1


def test_only_its_own_script_and_style_may_run():
    policy = next(a["content"] for a in TREE.having("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("script", "style"):
        own = re.search(rf"<{tag}>(.*?)</{tag}>", TEXT, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in attributes for _, attributes in TREE.elements), "the policy refuses styles in elements"
    assert not any(key.startswith("on") for _, attributes in TREE.elements for key in attributes)


def test_hostile_text_is_text():
    assert sample.SCRIPT not in TEXT
    assert TEXT.count("<script>") == 1 and TEXT.count("</details>") == len(TREE.having("details"))
    words = "".join(TREE.words)
    assert sample.SCRIPT in words, "shown, as it is"
    hidden = {letter for letter in TEXT if not letter.isprintable() and letter not in "\n\t"}
    assert not hidden, f"{hidden!r}"
    for sign in ("␇", "␈", "␛", "␀", "␡", "⟨U+202E⟩", "⟨U+2066⟩", "⟨U+200B⟩", "⟨U+FEFF⟩", "⟨U+D800⟩"):
        assert sign in words
    assert TEXT.encode("utf-8")


def test_landmarks_headers_and_names():
    for landmark in ("header", "nav", "main", "footer"):
        assert TREE.having(landmark)
    assert all("scope" in attributes for attributes in TREE.having("th"))
    for svg in TREE.having("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"
    ids = [attributes["id"] for _, attributes in TREE.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in TREE.having("a"):
        if attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids
    for _, attributes in TREE.elements:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_every_part_is_there():
    words = " ".join("".join(TREE.words).split())
    for section in PAGE.sections[:3]:
        assert section.title in words
    for word in ("What the columns say", "Nothing to show here.", "Warning", "no difference shown", "faster", "∞"):
        assert word in words
    n = sum(isinstance(part, Table) for section in PAGE.sections for part in section.parts)
    assert len(TREE.having("table")) == n - 1, "one of them is empty"
    assert len([a for a in TREE.having("svg") if a.get("role") == "img"]) == 2 * 5


def test_an_interval_can_be_read_and_the_best_is_marked():
    headline = PAGE.sections[0].parts[1]
    best = max(row[2].value for row in headline.rows if row[2])
    low, high = best * 0.92, best * 1.08
    assert f'</span>{best:.2f}×</strong> <span class="bounds">[{low:.2f}, {high:.2f}]</span>' in TEXT
    assert "0.0, ∞]" in TEXT, "an upper bound without end"
    assert '1.20× <span class="bounds">[–, –]</span>' in TEXT, "bounds that are not known"
    assert TEXT.count('class="best"') == 5, "one in each column that says which end is wanted"


def test_the_tables_travel_with_the_page():
    links = [a for a in TREE.having("a") if "download" in a]
    assert [a["download"] for a in links] == ["headline.csv", "harm.csv", "empty.csv"]
    headline = PAGE.sections[0].parts[1]
    assert unquote(links[0]["href"].partition(",")[2]) == tables.to_csv(headline).encode("utf-8", "replace").decode()


def test_a_long_prompt_is_folded_and_says_how_its_question_begins():
    folds = [a for a in TREE.having("details") if a.get("class") == "prompt"]
    assert ["open" in a for a in folds] == [True, True, False, True], "three examples, and the harmful one"
    begins = re.findall(r'<span class="begins">: (How many.*?)</span>', TEXT)
    assert [len(one) <= 92 and one.endswith("…") for one in begins] == [False, True, True]


def test_the_same_page_is_the_same_file():
    assert html.render(sample.page()) == TEXT


def test_a_page_of_nothing():
    Tree(html.render(Page("Empty", "", [])))
    Tree(html.render(Page("Empty", "", [Section("a", "A", "", [])])))


PROBE = """
<script>
addEventListener("load", () => {
  const wide = document.documentElement.scrollWidth, room = document.documentElement.clientWidth;
  const button = document.querySelectorAll("#table-headline thead th button")[3];
  const rows = () => [...document.querySelectorAll("#table-headline tbody tr")];
  const column = () => rows().map((row) => row.cells[3].dataset.order);
  button.click();
  const falling = column();
  button.click();
  const rising = column();
  document.querySelector(".theme").click();
  document.querySelector(".theme").click();
  const paper = getComputedStyle(document.body).backgroundColor;
  parent.postMessage(JSON.stringify({ wide, room, falling, rising, paper }), "*");
});
</script>
"""


# a window has a least width, a frame in it has not
FRAME = """<!doctype html><title></title>
<script>addEventListener("message", (said) => { document.title = said.data; });</script>
<iframe src="report.html" style="width:%dpx; height:800px; border:0"></iframe>
"""


@pytest.fixture
def opened(tmp_path):
    """Opens the page at a width, with a script of ours in it that says what it found in the title."""
    if browser.found() is None:
        pytest.skip(browser.REASON)

    def opened(width, probe=PROBE):
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", TEXT) if probe else TEXT
        (tmp_path / "report.html").write_text(text.replace("</body>", f"{probe}</body>"), encoding="utf-8")
        (tmp_path / "frame.html").write_text(FRAME % width)
        return browser.dump(tmp_path / ("frame.html" if probe else "report.html"))

    return opened


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_no_console_error_and_the_page_keeps_within_its_width(opened, width):
    document, said = opened(width)
    assert not said
    found = json.loads(unescape(re.search(r"<title>(.*?)</title>", document).group(1)))
    assert found["wide"] <= found["room"] == width
    known = [row[3].value for row in PAGE.sections[0].parts[1].rows if row[3]]
    assert [float(order) for order in found["falling"] if order] == sorted(known, reverse=True)
    assert [float(order) for order in found["rising"] if order] == sorted(known)
    assert found["falling"][-1] == found["rising"][-1] == "", "what is not known stays last"
    assert found["paper"] == "rgb(22, 24, 28)", "the dark theme"


def test_in_a_browser_its_policy_lets_its_own_script_run(opened):
    document, said = opened(1280, probe="")
    assert not said
    assert 'class="theme"' in document and "<button" in document
    assert "taken" not in re.search(r"<title>(.*?)</title>", document).group(1)

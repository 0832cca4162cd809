"""The page of a report, as text: figures, notes, escaping, and nothing from elsewhere."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
from report_runs import layer, measured, run

from zeroskip.errors import InputError, MissingToolError
from zeroskip.report import charts, page
from zeroskip.report.runs import Layer, ModelFile, Run, figures

VOID = {"meta", "br", "input", "link", "img", "hr"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e{{7*7}}"


class Page(HTMLParser):
    """Elements, text and scripts of a page; fails where tags do not nest."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._open and self._open[-1] != "style":
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    @property
    def ids(self) -> list[str]:
        return [i for _, attributes in self.tags if (i := attributes.get("id")) is not None]

    @property
    def charts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.scripts[0])
        return found


def made(*runs: Run) -> Page:
    return Page(page.to_html(runs))


def test_the_page_has_the_figures() -> None:
    text = made(run(), measured()).words
    for figure in (
        "2.2 ms", "132 µJ", "(119 to 185)", "at 100 MHz, 3 V, class B: datasheet",
        "10,000", "10.0 % of 100,000", "30.4 % of 10,000", "scratch 100", "900 used",
        "2.5 ms", "150 µJ", "-12.0 %", "SHA-256 " + "ab" * 32, "gap+huffman", "dense+raw",
        "1 estimated without hardware, 1 measured",
    ):  # fmt: skip
        assert figure in text, figure


def test_every_figure_has_its_note() -> None:
    """All sources of both runs are notes, each mention leads to one, and each is mentioned."""
    found = made(run(), measured())
    mentioned = [
        a["href"] for tag, a in found.tags if tag == "a" and (a["href"] or "").startswith("#note-")
    ]
    notes = [i for i in found.ids if i.startswith("note-")]
    assert {f"#{i}" for i in notes} == set(mentioned)
    for record in (run(), measured()):
        for name, present in figures(record).items():
            if present:
                assert record.sources[name] in found.text, name
    with pytest.raises(ValueError, match="without provenance"):
        page.Notes().number(" ")


def test_links_stay_on_the_page_and_lead_somewhere() -> None:
    found = made(run(), measured(), run(board="board-b", energy=None))
    assert len(set(found.ids)) == len(found.ids)
    for tag, attributes in found.tags:
        assert not attributes.keys() & {"src", "srcset", "onclick", "onload", "action"}, tag
        if (href := attributes.get("href")) is not None:
            assert href[0] == "#" and href[1:] in found.ids
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) is None or attributes[name] in found.ids
    assert "@import" not in page._text("page.css") and "url(" not in page._text("page.css")


def test_the_policy_allows_the_two_scripts_only() -> None:
    found = made(run())
    (policy,) = [
        a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None and policy.startswith("default-src 'none'")
    assert len(found.scripts) == 3  # the data, and these
    for script in found.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_text_of_models_stays_text() -> None:
    record = run(
        model=ModelFile(name=HOSTILE, sha256="<b>", bytes=1100),
        board=HOSTILE, board_title=HOSTILE, core=HOSTILE, compiler=HOSTILE, emulator=HOSTILE,
        layers=(layer(HOSTILE, 10, op=HOSTILE, codec=HOSTILE),),
        sources={name: HOSTILE for name in run().sources},
    )  # fmt: skip
    content = page.to_html([record])
    found = Page(content)
    assert len(found.scripts) == 3 and not [t for t, _ in found.tags if t in ("img", "b")]
    assert b"<script>alert" not in content
    assert "\u202e" not in content.decode() and "{{7*7}}" in found.text
    assert HOSTILE.replace("\u202e", "\ufffd") in found.charts[0]["rows"][0]


def test_numbers_at_the_limits() -> None:
    huge = run(
        cycles=1 << 53, wait_cycles=1 << 53, latency_ms=float(1 << 53),
        layers=(layer("x", 1 << 53, wait_cycles=1 << 53), layer("y", 0, weights=0, zeros=0)),
    )  # fmt: skip
    assert "9,007,199,254,740,992" in made(huge).text
    nothing = run(
        latency_ms=0.0, cycles=0, wait_cycles=0, layers=(), model=ModelFile(
            name="", sha256="", bytes=0),
    )  # fmt: skip
    assert "0 ms" in made(nothing).words.replace("\xa0", " ")


def test_a_run_with_little_known() -> None:
    bare = Run(
        schema=1, provenance="measured", model=run().model, board="b", board_title="B", core="c",
        clock_hz=1, samples=1, limits=run().limits, layers=(),
        sources={"bytes": "x", "limits": "y"},
    )  # fmt: skip
    text = made(bare).words
    assert "latency not known" in text and "energy not known" in text


def test_charts_hold_the_values_and_bounds() -> None:
    by_title = {c["title"]: c for c in made(run(), measured()).charts}
    latency = by_title["latency per layer"]
    assert latency["series"] == ["board-a, estimated", "board-a, measured"]
    assert latency["values"] == [[1.65, 0.55], [2.0625, 0.6875]]
    energy = by_title["energy per layer"]
    assert energy["series"] == [
        "board-a, estimated, 100 MHz, 3 V, class B", "board-a, measured, 100 MHz, 3 V, measured",
    ]  # fmt: skip
    assert energy["values"][0] == [99.0, 33.0] and energy["bounds"][0][0] == [89.1, 138.6]
    assert energy["bounds"][1] == [None, None]
    work = by_title["zeros and skipped work"]
    assert work["values"] == [[90.0, 0.0], [92.5, 92.5]] and work["domain"] == [0, 100]
    codecs = by_title["bytes of the container"]
    assert dict(zip(codecs["rows"], codecs["values"][0], strict=True)) == {
        "dense+raw": 500, "gap+huffman": 500, "header, tensors and names": 100,
    }  # fmt: skip
    assert "most in 0 first, 1.65 ms" in latency["summary"]


def test_work_that_differs_is_shown_by_run() -> None:
    other = run(board="b", layers=tuple(
        layer(a.name, 1, op=a.op, codec=a.codec, zeros=a.zeros, macs_executed=500)
        for a in run().layers))  # fmt: skip
    found = made(run(), other)
    (work,) = [c for c in found.charts if c["title"] == "zeros and skipped work"]
    assert work["series"][1:] == ["MACs skipped, board-a", "MACs skipped, b"]
    assert not charts.same_work([run(), other]) and charts.same_work([run(), measured()])


def test_many_layers_are_folded_in_charts_and_whole_in_tables() -> None:
    layers: tuple[Layer, ...] = tuple(layer(f"layer{i}", 1000 * i) for i in range(100))
    found = made(run(layers=layers))
    latency = found.charts[0]
    assert len(latency["rows"]) == charts.MAX_ROWS and latency["rows"][-1] == "61 others"
    assert latency["rows"][0] == "61 layer61"
    assert latency["values"][0][-1] == pytest.approx(sum(range(61)) * 1.1e-2, rel=1e-4)
    assert all(f"{i} layer{i}" in found.text for i in range(100))


def test_two_models_of_one_name_are_told_apart() -> None:
    text = made(run(), run(model=ModelFile(name="net.zsk", sha256="cd" * 32, bytes=1))).words
    assert "net.zsk (abababab)" in text and "net.zsk (cdcdcdcd)" in text


def test_a_measured_energy_has_no_bounds_but_its_voltage() -> None:
    text = made(measured()).words.replace("\xa0", " ")
    assert re.search(r"150 µJ ?\d+ at 100 MHz, 3 V, measured", text)
    assert "(None" not in text and "150 to" not in text


def test_same_runs_give_the_same_page() -> None:
    assert page.to_html([run(), measured()]) == page.to_html([run(), measured(), run()])


def test_a_page_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(page.to_html([run(), measured()])) < page.MAX_BYTES // 4
    monkeypatch.setattr(page, "MAX_BYTES", 100_000)
    with pytest.raises(InputError, match="report on fewer runs"):
        page.to_html([run()])
    with pytest.raises(InputError, match="no runs"):
        page.to_html([])


def test_without_jinja_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingToolError, match=r"pip install 'zeroskip\[report\]'"):
        page.to_html([run()])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (0.0, "0"), (1234, "1,234"), (99.96, "100"), (0.01234, "0.0123"),
     (123.4, "123"), (1e-7, "1e-07")],
)  # fmt: skip
def test_figures_for_people(value: float | None, text: str) -> None:
    assert page.figure(value) == text

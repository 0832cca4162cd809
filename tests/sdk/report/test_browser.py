"""The page in headless Chromium: scripts run without errors, charts are drawn, phones do not scroll
sideways, dark and print have their colours."""

import html
import json
import re
import subprocess
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from report_runs import layer, measured, run

from zeroskip.report import page
from zeroskip.report.runs import ModelFile

pytestmark = [pytest.mark.tool("chromium"), pytest.mark.slow]

DARK = "--blink-settings=preferredColorScheme=0"
NAME = "block/</script><script>top.broken = 1</script>/" + "long_" * 30

# Looks into the page from outside: the page's own policy lets no other script run.
PROBE = """<!doctype html><iframe style="width:{width}px;height:900px;border:0" src="report.html">
</iframe><pre></pre><script>
addEventListener("load", () => setTimeout(async () => {{
  const view = frames[0], page = view.document, all = (q, n = page) => [...n.querySelectorAll(q)];
  const figures = all("figure[data-chart]");
  const drawn = '.plot [aria-label="dot"] path, .plot [aria-label="bar"] rect';
  const marks = (f) => all(drawn, f).length;
  const open = () => all("details.data").filter((d) => d.open).length;
  const found = {{
    scroll: page.documentElement.scrollWidth, client: page.documentElement.clientWidth,
    figures: figures.length, hidden: figures.filter((f) => f.hidden).length,
    marks: figures.map(marks), labelled: all('.plot[role="img"][aria-label]').length,
    back: view.getComputedStyle(page.body).backgroundColor,
    axis: view.getComputedStyle(all(".plot svg text")[0]).fill,
    broken: "broken" in window || "broken" in view, open: open(),
  }};
  view.dispatchEvent(new Event("beforeprint")); found.open_on_paper = open();
  view.dispatchEvent(new Event("afterprint")); found.open_after = open();
  const box = all(".legend input")[0];
  box.click(); found.marks_of_fewer = marks(figures[0]); box.click();
  const labels = '.plot [aria-label="y-axis tick label"] text';
  const rows = () => all(labels, figures[4]).map((t) => t.textContent.split(" ")[0]);
  found.rows = rows(); all(".order input", figures[4])[0].click(); found.sorted = rows();
  frames[0].frameElement.style.width = "700px";
  for (let i = 0; i < 50; i++) {{  // a loaded machine draws late
    await new Promise((done) => setTimeout(done, 100));
    const plot = figures[0].querySelector(".plot");
    found.redrawn = [Number(plot.firstChild.getAttribute("width")), plot.clientWidth];
    if (found.redrawn[0] === found.redrawn[1] && found.redrawn[0] > 600) break;
  }}
  document.querySelector("pre").textContent = JSON.stringify(found);
}}, 300));
</script>"""


def _chromium(folder: Path, *arguments: str) -> str:
    """Run Chromium without a sandbox, which root cannot have; what it prints, errors included."""
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}",
        "--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=10000",
        *arguments,
    ]  # fmt: skip
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout
    assert "CONSOLE" not in done.stdout, done.stdout
    return done.stdout


def _probe(folder: Path, width: int, *arguments: str) -> dict[str, Any]:
    (folder / "probe.html").write_text(PROBE.format(width=width))
    shown = _chromium(folder, *arguments, "--dump-dom", (folder / "probe.html").as_uri())
    (result,) = re.findall(r"<pre>(.+?)</pre>", shown)
    found: dict[str, Any] = json.loads(html.unescape(result))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds a report of two models on three boards, one with a hostile name and many layers."""
    many = run(
        model=ModelFile(name=NAME, sha256="cd" * 32, bytes=9000),
        layers=tuple(layer(f"{NAME} {i}", 10_000 + i) for i in range(12)),
    )
    runs = [run(), measured(), run(board="board-b", energy=None), run(board=NAME), many]
    (tmp_path / "report.html").write_bytes(page.to_html(runs))
    return tmp_path


@pytest.mark.parametrize("width", [390, 1280])
def test_charts_are_drawn_and_nothing_scrolls_sideways(folder: Path, width: int) -> None:
    found = _probe(folder, width)
    assert found["scroll"] <= found["client"] == width
    assert found["figures"] == found["labelled"] == 8 and found["hidden"] == 0
    # Latency: two layers of four runs, energy: of three; zeros and work; codecs; then the other.
    assert found["marks"] == [8, 6, 4, 3, 12, 12, 24, 2]
    assert found["marks_of_fewer"] == 6
    assert found["rows"] == [str(i) for i in range(12)] == found["sorted"][::-1]
    assert not found["broken"]
    assert (found["open"], found["open_on_paper"], found["open_after"]) == (0, 5, 0)
    assert found["redrawn"][0] == found["redrawn"][1] and 600 < found["redrawn"][0] < 700


@pytest.mark.parametrize(
    ("arguments", "back", "text"),
    [((), "rgb(255, 255, 255)", "rgb(26, 28, 31)"),
     ((DARK,), "rgb(21, 23, 26)", "rgb(230, 232, 235)")],
    ids=["light", "dark"],
)  # fmt: skip
def test_colours_follow_the_reader(
    folder: Path, arguments: tuple[str, ...], back: str, text: str
) -> None:
    found = _probe(folder, 800, *arguments)
    assert (found["back"], found["axis"]) == (back, text)


def test_paper_is_light_even_for_readers_in_the_dark(folder: Path) -> None:
    paper = folder / "report.pdf"
    page_uri = (folder / "report.html").as_uri()
    _chromium(folder, DARK, f"--print-to-pdf={paper}", page_uri)
    colours: Counter[bytes] = Counter()
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", paper.read_bytes(), flags=re.DOTALL):
        try:
            drawn = zlib.decompressobj().decompress(stream)
        except zlib.error:
            continue
        colours.update(re.findall(rb"(?:[\d.]+ ){3}rg", drawn))
    assert colours.most_common(1)[0][0] == b".102 .1098 .1216 rg"  # the text's
    assert not [c for c in colours if c.startswith(b".0824 .0902 .102")]  # the dark background


def test_without_scripts_the_tables_are_open_and_charts_absent(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert text.count('<details class="data" open>') == 5
    assert len(re.findall(r"<figure data-chart=\"\d+\" hidden>", text)) == 8

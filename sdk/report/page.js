// Draws the charts of a report with Observable Plot, from the data in #charts. Without this script
// the tables say the same. Names are only ever set as text.
(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const SYMBOLS = ["circle", "diamond", "square", "triangle", "star", "wye", "cross"];
  const color = (i) => `var(--s${i % 8})`;
  const number = (v) =>
    v === 0 ? "0" : Math.abs(v) >= 100 ? Math.round(v).toLocaleString("en-US") : String(Number(v.toPrecision(3)));
  const shorten = (name, most) => {
    if (name.length <= most) return name;
    const tail = Math.floor((most - 1) / 3);
    return name.slice(0, most - 1 - tail) + "\u2026" + name.slice(name.length - tail);
  };
  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const swatch = (index) =>
    Plot.plot({
      width: 14, height: 14, margin: 0, axis: null, symbol: { domain: SYMBOLS, range: SYMBOLS },
      x: { domain: [0, 2] }, y: { domain: [0, 2] },
      marks: [Plot.dot([0], { x: () => 1, y: () => 1, r: 4.5, symbol: SYMBOLS[index % SYMBOLS.length], fill: color(index) })],
    });

  const draw = (figure, chart) => {
    const place = figure.querySelector(".plot");
    const shown = chart.series.map(() => true);
    let largestFirst = false;

    const render = () => {
      const width = Math.max(280, Math.floor(place.clientWidth));
      const most = Math.max(10, Math.min(36, Math.floor((width * 0.36) / 6.6)));
      const rows = chart.rows.map((name, i) => ({ name, i, values: chart.values.map((s) => s[i]) }));
      if (largestFirst) {
        const top = (row) => Math.max(-1, ...row.values.filter((v, s) => v !== null && shown[s]));
        rows.sort((a, b) => top(b) - top(a));
      }
      const label = new Map(rows.map((row) => [row.i, shorten(row.name, most)]));
      const points = rows.flatMap((row) =>
        row.values.map((value, s) => ({ row: row.i, name: row.name, series: s, value, bounds: chart.bounds?.[s]?.[row.i] })),
      ).filter((p) => p.value !== null && shown[p.series]);
      const span = rows
        .map((row) => ({ row: row.i, high: Math.max(0, ...points.filter((p) => p.row === row.i).map((p) => p.value)) }));
      const title = (p) =>
        `${p.name}\n${chart.series[p.series]}: ${number(p.value)} ${chart.unit}` +
        (p.bounds ? `\n${number(p.bounds[0])} to ${number(p.bounds[1])} ${chart.unit}` : "");
      const single = chart.series.length === 1;
      const bounded = points.filter((p) => p.bounds);
      const value = { x: "value", y: "row" };
      const marks = [Plot.gridX({ stroke: "var(--line)", strokeOpacity: 1 })];
      if (single) marks.push(Plot.barX(points, { ...value, fill: color(chart.styles[0]), insetTop: 2, insetBottom: 2 }));
      else marks.push(Plot.ruleY(span, { y: "row", x1: 0, x2: "high", stroke: "var(--line)" }));
      marks.push(
        Plot.ruleY(bounded, {
          y: "row", x1: (p) => p.bounds[0], x2: (p) => p.bounds[1], strokeWidth: 1.5,
          stroke: (p) => (single ? "var(--text)" : color(chart.styles[p.series])),
        }),
      );
      if (!single)
        marks.push(Plot.dot(points, {
          ...value, r: 4.5, symbol: (p) => SYMBOLS[chart.styles[p.series] % SYMBOLS.length], fill: (p) => color(chart.styles[p.series]),
        }));
      marks.push(
        Plot.ruleX([0], { stroke: "var(--quiet)" }),
        Plot.tip(points, Plot.pointerY({ ...value, title, fontSize: 12, lineWidth: Math.max(14, Math.min(30, width / 16)) })),
      );
      const svg = Plot.plot({
        width, marginLeft: Math.ceil(Math.max(...[...label.values()].map((t) => t.length)) * 6.6) + 14,
        marginRight: 24, marginTop: 24, marginBottom: 8, height: 32 + rows.length * 19,
        style: { background: "var(--back)", color: "var(--text)", fontFamily: "inherit", overflow: "hidden" },
        x: { axis: "top", label: null, nice: true, tickFormat: number, ticks: Math.max(3, width / 110), domain: chart.domain ?? undefined },
        y: { type: "band", domain: rows.map((row) => row.i), label: null, tickSize: 0, tickFormat: (i) => label.get(i), padding: 0 },
        color: { type: "identity" }, symbol: { domain: SYMBOLS, range: SYMBOLS },
        marks,
      });
      svg.setAttribute("aria-hidden", "true");
      place.replaceChildren(svg);
    };

    const controls = element("fieldset", { className: "legend" });
    controls.setAttribute("aria-label", "Series of the chart");
    if (chart.series.length > 1)
      chart.series.forEach((name, s) => {
        const box = element("input", { type: "checkbox", checked: true });
        box.addEventListener("change", () => { shown[s] = box.checked; render(); });
        const picture = swatch(chart.styles[s]);
        picture.setAttribute("aria-hidden", "true");
        controls.append(element("label", {}, box, picture, name));
      });
    else if (chart.named) controls.append(chart.series[0]);
    if (chart.rows.length > 2) {
      const box = element("input", { type: "checkbox" });
      box.addEventListener("change", () => { largestFirst = box.checked; render(); });
      controls.append(element("label", { className: "order" }, box, "largest first"));
    }
    place.before(controls);
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", chart.summary);
    render();
    let last = place.clientWidth;
    let waiting = 0;
    new ResizeObserver(() => {
      if (place.clientWidth === last || place.clientWidth === 0) return;
      last = place.clientWidth;
      clearTimeout(waiting);
      waiting = setTimeout(render, 50);
    }).observe(place);
  };

  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    figure.hidden = false;
    draw(figure, charts[Number(figure.dataset.chart)]);
  }
  // The tables under charts are open for readers without the script, and on paper.
  const tables = [...document.querySelectorAll("details.data")];
  for (const table of tables) table.open = false;
  let open = [];
  addEventListener("beforeprint", () => {
    open = tables.filter((table) => table.open);
    for (const table of tables) table.open = true;
  });
  addEventListener("afterprint", () => { for (const table of tables) table.open = open.includes(table); });
})();

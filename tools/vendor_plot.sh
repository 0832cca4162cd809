#!/usr/bin/env bash
# Makes sdk/report/plot.js, the charts of `zeroskip report`, and its licences again: the parts of
# Observable Plot that page.js uses, bundled by esbuild from npm. Needs Node.js.
set -euo pipefail
target="$(cd "$(dirname "$0")/.." && pwd)/sdk/report"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund @observablehq/plot@0.6.17 d3@7.9.0 esbuild@0.25.0
echo 'export { plot, barX, ruleX, ruleY, link, dot, text, tip, pointer, pointerY, axisX, axisY, gridX } from "@observablehq/plot";' > entry.js
node_modules/.bin/esbuild entry.js --bundle --minify --format=iife --global-name=Plot \
    --charset=ascii --legal-comments=none --metafile=meta.json --outfile=bundle.js --log-level=error

# The packages that are in the bundle, with their versions and licences.
node - "$target" <<'JS'
const fs = require("fs");
const target = process.argv[2];
const parts = JSON.parse(fs.readFileSync("meta.json")).outputs["bundle.js"].inputs;
const inputs = Object.keys(parts).filter((path) => parts[path].bytesInOutput > 0);
const names = [...new Set(inputs.map((p) => p.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]))]
  .filter(Boolean)
  .sort();
const lines = names.map((name) => {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(fs.readFileSync(`${folder}/package.json`));
  const file = fs.readdirSync(folder).find((f) => /^(un)?licen[cs]e/i.test(f));
  if (!file) throw new Error(`${name} has no licence file`);
  return [`${name} ${version} (${license})`, fs.readFileSync(`${folder}/${file}`, "utf8").trim()];
});
const code = fs.readFileSync("bundle.js", "utf8").trim();
if (/<\/script|<!--/i.test(code)) throw new Error("the bundle cannot stand in a script element");
const head = `/* Observable Plot and what it uses, bundled: ${lines.map((l) => l[0]).join(", ")} */\n`;
fs.writeFileSync(`${target}/plot.js`, `${head}${code}\n`);
const rule = "\n\n" + "-".repeat(72) + "\n\n";
fs.writeFileSync(`${target}/plot.licences.txt`, lines.map((l) => l.join("\n\n")).join(rule) + "\n");
JS
ls -l "$target"/plot.*

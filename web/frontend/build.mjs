// Bundles every file of src/entries into ../static, under names that hold a hash of what is in them, and writes beside them
// which name is which (manifest.json) and what the bundled packages are licensed under (licences.txt).
import { build } from "esbuild";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "static");
const sources = join(here, "src", "entries");

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
const { metafile } = await build({
  entryPoints: readdirSync(sources).map((name) => join(sources, name)),
  outdir: target,
  absWorkingDir: here,
  entryNames: "[name]-[hash]",
  chunkNames: "shared-[hash]",
  splitting: true,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome123", "firefox120", "safari17.5"],
  loader: { ".svg": "copy" },
  metafile: true,
  logLevel: "warning",
});

const entries = Object.fromEntries(
  Object.entries(metafile.outputs)
    .filter(([, output]) => output.entryPoint)
    .map(([path, output]) => [basename(output.entryPoint).replace(/\.ts$/, ".js"), basename(path)]),
);
writeFileSync(join(target, "licences.txt"), licences(Object.keys(metafile.inputs)));
// Last: who finds it finds all the others.
writeFileSync(join(target, "manifest.json"), JSON.stringify(entries, null, 2) + "\n");

/** Name, version and licence text of every package that a bundle holds. */
function licences(inputs) {
  const packages = new Set(inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
  const texts = [...packages].sort().map((name) => {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
    return `${name} ${version}: ${license}\n\n${file ? readFileSync(join(folder, file), "utf8").trim() : "(no licence text in the package)"}\n`;
  });
  return `What the page's scripts hold beside our own code.\n\n${texts.join("\n")}`;
}

// Holds dashboards against the types of several versions of Grafana: prints a line for each thing that they do not know.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import ts from "typescript";

const [folder] = process.argv.slice(2);
// what Grafana writes itself and has no types for: a variable's definition, and what Prometheus says of annotations
const UNTYPED = { templating: ["definition"], annotations: ["expr", "titleFormat", "textFormat", "step"] };
const PANELS = ["timeseries", "stat", "table", "bargauge"];

const versions = readdirSync("node_modules").filter((name) => /^grafana\d+$/.test(name));
for (const version of versions.sort()) {
  for (const problem of check(resolve("node_modules", version))) console.log(`${version}: ${problem}`);
}

function check(root) {
  const raw = ["dist/types/raw", "dist/esm/raw"].map((path) => join(root, path)).find(existsSync);
  const lines = [`import type { Dashboard, Panel, RowPanel } from "${types(join(raw, "dashboard/x"))}";`];
  for (const kind of PANELS) {
    lines.push(`import type * as ${kind} from "${types(join(raw, "composable", kind, "panelcfg/x"))}";`);
  }
  for (const file of readdirSync(folder)) {
    const board = JSON.parse(readFileSync(join(folder, file), "utf-8"));
    for (const [type, value, title] of parts(board)) {
      const name = `v${lines.length}`;
      lines.push(`/* ${file} ${title} */ export const ${name}: ${type} = ${JSON.stringify(value)};`);
    }
  }
  return mistakes(root, lines);
}

// A dashboard has no types for what its panels' options are: each part is held against its own.
function* parts(board) {
  for (const [place, names] of Object.entries(UNTYPED)) {
    for (const entry of board[place].list) for (const name of names) delete entry[name];
  }
  yield ["Dashboard", { ...board, panels: [] }, ""];
  for (const panel of board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])])) {
    if (panel.type === "row") {
      yield ["RowPanel", { ...panel, panels: [] }, panel.title];
      continue;
    }
    yield ["Panel", panel, panel.title];
    yield [`Partial<${panel.type}.Options>`, panel.options, panel.title];
    const { custom } = panel.fieldConfig.defaults;
    if (custom) yield [`${panel.type}.FieldConfig`, custom, panel.title];
  }
}

function mistakes(root, lines) {
  const source = resolve("boards.ts");
  const entry = ["dist/types/index.d.ts", "dist/index.d.ts"].map((path) => join(root, path)).find(existsSync);
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    lib: ["lib.es2022.d.ts"],
    module: ts.ModuleKind.ES2022,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    paths: { "@grafana/schema": [entry] },
  };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (file) => (file === source ? lines.join("\n") : withoutEnums(readFile(file)));
  host.fileExists = (file) => file === source || fileExists(file);
  host.getSourceFile = (file, language) => {
    const text = host.readFile(file);
    return text === undefined ? undefined : ts.createSourceFile(file, text, language);
  };
  return ts.getPreEmitDiagnostics(ts.createProgram([source], options, host)).map((mistake) => {
    const line = mistake.file ? mistake.file.getLineAndCharacterOfPosition(mistake.start).line : 0;
    const where = /^\/\* (.*?) \*\//.exec(lines[line])?.[1] ?? "";
    return `${where}: ${ts.flattenDiagnosticMessageText(mistake.messageText, " ")}`;
  });
}

// The module of generated types in a folder, whose name differs from version to version.
function types(at) {
  const file = readdirSync(at).find((name) => name.endsWith(".gen.d.ts"));
  return join(at, file).replace(/\.d\.ts$/, "");
}

// JSON has no enums: each is one of the values of its members.
function withoutEnums(text) {
  return text?.replace(/declare enum (\w+) \{([^}]*)\}/g, (_, name, body) => {
    const values = [...body.matchAll(/=\s*("[^"]*"|-?\d+)/g)].map((match) => match[1]);
    return `type ${name} = ${values.join(" | ")};`;
  });
}

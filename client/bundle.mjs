// Makes one script of the parts in src: they stand one behind the other in a function, without
// their imports and exports. So no two parts may have different things of one name.

import { readFileSync } from "node:fs";

// Of all orders the one that compresses well. What the page calls is last, so all is there then.
const PARTS = ["helpers", "tab", "hub", "link", "member", "transports", "push"];
const IMPORT = /^import \{[^}]*\} from "\.\/[a-z]+\.js";\n/gm;
const EXPORT = /^export (?=(async function|function|class|const) )/gm;

export function bundle() {
  const parts = PARTS.map((name) => {
    const text = readFileSync(new URL(`src/${name}.js`, import.meta.url), "utf8");
    return text.replace(IMPORT, "").replace(EXPORT, "");
  });
  const inside = ['"use strict";', ...parts, "return { connect, version: VERSION };"].join("\n");
  return `var Push = (function () {\n${inside}\n}());\n`;
}

// Makes what is served and what is published of the source, which is in src:
//
//   ../twisted_push/static/push.js, push.mjs   small, for the server; they are in the repository,
//                                              so that Python's package is built without Node.js
//   push.js, push.mjs, LICENSE                 for the npm package; push.mjs can be read
//
//   node build.mjs            writes them
//   node build.mjs --check    says whether those for the server are what would be written

import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { minify } from "terser";

import { bundle } from "./bundle.mjs";

const here = (path) => new URL(path, import.meta.url);
const EXPORTS = "export const { connect, version } = Push;\nexport default Push;\n";

// Those that are frequent in the script come first: such text compresses well.
const LETTERS = "tsienhorabcdlfupwgkmvySjMTODCPNJAxEIUGLRBHFWqzQVXYK";
// Names by which the parts know each other. They are in no message, to the server or to other tabs.
const INTERNAL = new RegExp(`^(${["auth", "beat", "begin", "begun", "check", "closed", "drop",
  "end", "failed", "fetch", "hear", "joined", "link", "live", "others", "pings", "polls", "present",
  "presented", "retry", "say", "sent", "stop", "tabs", "take", "tell", "waiting", "wake", "watch",
  "wire"].join("|")})$`);

/** A private name is known in its class alone, so each class has the short ones anew. */
function shorten(code) {
  const [before, ...classes] = code.split(/(?=\bclass \w+\{)/);
  return before + classes.map((body) => {
    const names = [...new Set(body.match(/#[\w$]+/g))];
    if (names.length > LETTERS.length) throw new Error("more private names than letters");
    return body.replace(/#[\w$]+/g, (name) => `#${LETTERS[names.indexOf(name)]}`);
  }).join("");
}

const source = bundle();
const { version } = JSON.parse(readFileSync(here("package.json"), "utf8"));
if (!source.includes(`const VERSION = "${version}";`)) {
  throw new Error(`src/helpers.js is not of version ${version}`);
}
const banner = `/*! twisted_push ${version}, MIT license */`;
const minified = await minify(source, {
  ecma: 2020,
  // What is smaller when it is compressed, and not what is shorter: hence no sequences. What is
  // unsafe is so only where somebody changes the language itself.
  compress: { passes: 3, sequences: false, pure_getters: true, unsafe: true, unsafe_arrows: true },
  // Some of the names are names of browsers, too, of things that are not used here.
  mangle: { properties: { regex: INTERNAL, builtins: true } },
  format: { comments: false, preamble: banner, ascii_only: true },
});
const code = shorten(minified.code);
const served = { "push.js": `${code}\n`, "push.mjs": `${code}\n${EXPORTS}` };

for (const [name, text] of Object.entries(served)) {
  const path = here(`../twisted_push/static/${name}`);
  if (!process.argv.includes("--check")) writeFileSync(path, text);
  else if (readFileSync(path, "utf8") !== text) {
    process.stderr.write(`static/${name} is not what client/build.mjs makes: run it\n`);
    process.exitCode = 1;
  }
}
if (!process.argv.includes("--check")) {
  writeFileSync(here("push.js"), served["push.js"]);
  writeFileSync(here("push.mjs"), `${source}\n${EXPORTS}`);
  copyFileSync(here("../LICENSE"), here("LICENSE"));
}

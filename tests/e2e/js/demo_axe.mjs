// What axe-core finds on the pages of the demo, in both color schemes, on the smallest phone and wide.
//
//   node demo_axe.mjs DEMO-URL PATH-OF-CHROMIUM
//
// Prints one JSON object: by page, what is wrong there, and how many checks were passed.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { says, step, withPeople } from "./demo_people.mjs";

const [demo, executablePath] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const LOOKS = [
  { colorScheme: "light", viewport: { width: 1440, height: 900 } },
  { colorScheme: "dark", viewport: { width: 320, height: 640 } },
  { colorScheme: "light", viewport: { width: 320, height: 640 } },
  { colorScheme: "dark", viewport: { width: 1440, height: 900 } },
];

async function check(page) {
  // What is still moving has no colors to be measured.
  await page.evaluate(() => document.getAnimations().forEach((each) => {
    try { each.finish(); } catch { each.cancel(); } // One without an end.
  }));
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  const wrong = violations.map(({ id, impact, help, nodes }) =>
    ({ id, impact, help, where: nodes.map(({ html, failureSummary }) => `${html}: ${failureSummary}`) }));
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (overflow > 0) wrong.push({ id: "overflow", help: `the page is ${overflow} pixels too wide` });
  return { wrong, passed: passes.length };
}

await withPeople(executablePath, demo, async ({ visit, logIn }) => {
  const found = {};
  for (const look of LOOKS) {
    const seen = (what) => `${what}, ${look.colorScheme}, ${look.viewport.width}`;
    const page = await visit("alice", look);
    found[seen("login")] = await check(page);
    await logIn(page, "alice");
    await page.click("#editor-card summary");
    await page.fill("#chat-text", "Hello");
    await page.press("#chat-text", "Enter");
    await says(page, ".line-text", "Hello");
    await page.fill("#message-text", "A notice");
    await page.press("#message-text", "Enter");
    await step("a toast appears", () => page.waitForSelector(".toast"));
    await step("bob is listed", () => page.waitForSelector("#people-list [data-person=bob]"));
    found[seen("article")] = await check(page);
    await page.click("#panel-toggle");
    await page.waitForSelector("body[data-live=closed]");
    found[seen("disconnected")] = await check(page);
    for (const path of ["people", "log"]) {
      await page.goto(`${demo}/${path}`);
      await page.waitForSelector("body[data-live=connected]");
      found[seen(path)] = await check(page);
    }
    await page.goto(`${demo}/nowhere`);
    found[seen("error")] = await check(page);
    await page.goto(`${demo}/people`);
    await page.click("[data-person=alice] button:not([disabled])");
    await page.waitForSelector("#banner:not([hidden])");
    found[seen("kicked")] = await check(page);
    await page.context().close();
  }
  return found;
});

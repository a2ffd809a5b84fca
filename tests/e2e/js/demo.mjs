// Two people use the demo, each in a browser of their own (a browser context has its own cookies).
//
//   node demo.mjs DEMO-URL PATH-OF-CHROMIUM
//
// Prints one JSON object: what each of them saw. A step that does not happen ends the script with
// an error that says which.

import { chromium } from "playwright-core";

const [demo, executablePath] = process.argv.slice(2);
const PATIENCE = 15000;
const TITLE = "News <b>of</b> today & tomorrow";

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

const complaints = [];

async function open(name) {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`${name}: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(`${name}: ${message.text()}`);
  });
  await page.goto(demo);
  await page.click(`form:has(input[name=user][value=${name}]) button[type=submit]`);
  await page.waitForSelector("body[data-live=connected]");
  // A reload would take this mark away.
  await page.evaluate(() => { window.openedOnce = true; });
  return page;
}

async function step(what, doing) {
  try {
    return await doing();
  } catch (error) {
    throw new Error(`${what}: ${error.message}`);
  }
}

const text = (page, selector) => page.textContent(selector);
const found = {};

try {
  const alice = await step("alice logs in", () => open("alice"));
  const bob = await step("bob logs in", () => open("bob"));
  found.channels = await bob.$$eval("#fact-channels .chip", (chips) => chips.map((c) => c.textContent));
  found.titleBefore = await text(bob, "#article-title");
  found.bobMayEdit = (await bob.$("#editor")) !== null;

  await step("alice saves the article", async () => {
    await alice.fill("#edit-title", TITLE);
    await alice.fill("#edit-body", "A first paragraph.\n\nA second one.");
    await alice.click("#editor button[type=submit]");
    await alice.waitForSelector("#editor .form-note.good");
  });
  await step("bob's page changes", () => bob.waitForFunction(
    (title) => document.querySelector("#article-title").textContent === title, TITLE));
  found.titleAfter = await text(bob, "#article-title");
  found.documentTitle = await bob.title();
  found.paragraphs = await bob.$$eval("#article-body p", (list) => list.map((p) => p.textContent));
  found.announcement = await text(bob, "#announcement");
  found.reloaded = !(await bob.evaluate(() => window.openedOnce === true));

  await step("alice writes to everybody", async () => {
    await alice.fill("#message-text", "Lunch is <ready>");
    await alice.click("form[action='/message'] button[type=submit]");
  });
  const toast = ".toast .toast-text p";
  for (const page of [alice, bob]) {
    await step("a toast appears", () => page.waitForSelector(toast));
  }
  found.toasts = [await text(alice, toast), await text(bob, toast)];

  await step("bob writes to alice only", async () => {
    await bob.selectOption("#message-to", "alice");
    await bob.fill("#message-text", "psst");
    await bob.click("form[action='/message'] button[type=submit]");
    await alice.waitForFunction(
      () => [...document.querySelectorAll(".toast p")].some((p) => p.textContent === "psst"));
  });
  found.privateToBob = await bob.$$eval(".toast p",
    (list) => list.some((p) => p.textContent === "psst"));

  await step("alice kicks bob", async () => {
    const kick = "[data-person=bob] button:not([disabled])";
    await alice.waitForSelector(`#people-list ${kick}`);
    await alice.click(`#people-list ${kick}`);
  });
  await step("bob's page says so", () => bob.waitForSelector("body[data-live=disconnected]"));
  await bob.waitForSelector("#banner:not([hidden])");
  found.banner = await text(bob, "#banner strong");
  found.status = await text(bob, "#status-text");
  await bob.waitForTimeout(1500);
  found.stateLater = await bob.evaluate(() => document.body.dataset.live);
  found.aliceIsStill = await alice.evaluate(() => document.body.dataset.live);

  await step("bob connects again by himself", async () => {
    await bob.click("#banner button");
    await bob.waitForSelector("body[data-live=connected]");
  });
  found.complaints = complaints;
  process.stdout.write(`${JSON.stringify(found)}\n`);
} catch (error) {
  process.stderr.write(`${error.stack}\n${complaints.join("\n")}\n`);
  process.exitCode = 1;
} finally {
  await browser.close();
}

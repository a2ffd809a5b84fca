// People who use the demo, each in a browser of their own (a browser context has its own cookies).

import { chromium } from "playwright-core";

const PATIENCE = 15000;

export async function withPeople(executablePath, demo, act) {
  const browser = await chromium.launch({
    executablePath,
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const complaints = [];
  /** A page of nobody yet. */
  const visit = async (name, options = {}) => {
    const context = await browser.newContext(options);
    context.setDefaultTimeout(PATIENCE);
    context.on("page", (page) => {
      page.on("pageerror", (error) => complaints.push(`${name}: ${error}`));
      page.on("console", (message) => {
        if (message.type() === "error") complaints.push(`${name}: ${message.text()}`);
      });
    });
    const page = await context.newPage();
    await page.goto(demo);
    return page;
  };
  const logIn = async (page, name) => {
    await page.click(`form:has(input[name=user][value=${name}]) button[type=submit]`);
    await page.waitForSelector("body[data-live=connected]");
    // A reload would take this mark away.
    await page.evaluate(() => { window.openedOnce = true; });
  };
  const open = async (name, options) => {
    const page = await visit(name, options);
    await logIn(page, name);
    return page;
  };
  try {
    const found = await act({ visit, logIn, open, complaints });
    process.stdout.write(`${JSON.stringify(found)}\n`);
  } catch (error) {
    process.stderr.write(`${error.stack}\n${complaints.join("\n")}\n`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

export async function step(what, doing) {
  try {
    return await doing();
  } catch (error) {
    throw new Error(`${what}: ${error.message}`);
  }
}

/** Wait until an element says this, and nothing else. */
export function says(page, selector, text) {
  return step(`${selector} says ${JSON.stringify(text)}`, () => page.waitForFunction(
    ([where, words]) => [...document.querySelectorAll(where)].some((e) => e.textContent === words),
    [selector, text]));
}

export const text = (page, selector) => page.textContent(selector);
export const texts = (page, selector) => page.$$eval(selector, (list) => list.map((e) => e.textContent));

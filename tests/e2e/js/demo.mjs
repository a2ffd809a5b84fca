// Two people use the demo.
//
//   node demo.mjs DEMO-URL PATH-OF-CHROMIUM
//
// Prints one JSON object: what each of them saw. A step that does not happen ends the script with
// an error that says which.

import { says, step, text, texts, withPeople } from "./demo_people.mjs";

const [demo, executablePath] = process.argv.slice(2);
const TITLE = "News <b>of</b> today & tomorrow";

async function readTheArticle(alice, bob, found) {
  found.channels = await texts(bob, "#fact-channels .chip");
  found.titleBefore = await text(bob, "#article-title");
  found.bobMayEdit = (await bob.$("#editor")) !== null;

  await step("alice saves the article", async () => {
    await alice.click("#editor-card summary");
    await alice.fill("#edit-title", TITLE);
    await alice.fill("#edit-body", "A first paragraph.\n\nA second one.");
    await alice.click("#editor button[type=submit]");
    await alice.waitForSelector("#editor .form-note.good");
  });
  await says(bob, "#article-title", TITLE);
  found.titleAfter = await text(bob, "#article-title");
  found.documentTitle = await bob.title();
  found.paragraphs = await texts(bob, "#article-body p");
  found.announcement = await text(bob, "#announcement");
  found.reloaded = !(await bob.evaluate(() => window.openedOnce === true));
}

async function sendNotices(alice, bob, found) {
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
  });
  await says(alice, ".toast p", "psst");
  found.privateToBob = (await texts(bob, ".toast p")).includes("psst");
}

async function chat(alice, bob, found) {
  for (const [page, other] of [[alice, "bob"], [bob, "alice"]]) {
    await step(`${other} is online`, () => page.waitForSelector(`[data-member=${other}][data-state=online]`));
  }
  await step("bob types, and alice sees it", async () => {
    await bob.locator("#chat-text").pressSequentially("Is <anybody> here?");
    await says(alice, "#typing", "Bob is typing");
  });
  found.bobIsTypingAtBob = await text(bob, "#typing");
  await step("bob says it with the Enter key", () => bob.press("#chat-text", "Enter"));
  await says(alice, ".line-text", "Is <anybody> here?");
  await says(alice, "#typing", "");
  found.inputAfterwards = await bob.inputValue("#chat-text");

  await step("alice answers", async () => {
    await alice.locator("#chat-text").pressSequentially("Yes");
    await says(bob, "#typing", "Alice is typing");
    await alice.click("#chat button[type=submit]");
  });
  for (const page of [alice, bob]) await says(page, ".line-text", "Yes");
  const lines = (page) => page.$$eval(".line", (list) => list.map((line) => [
    line.dataset.whose, line.querySelector("b").textContent, line.querySelector(".line-text").textContent]));
  found.chat = [await lines(alice), await lines(bob)];
  await step("the page is loaded anew", async () => {
    await bob.reload();
    await bob.waitForSelector("body[data-live=connected]");
  });
  // Rendered by the CMS, and from its position on: each line once.
  found.chatAfterReload = await lines(bob);
  await bob.evaluate(() => { window.openedOnce = true; });
}

async function byKeyboard(alice, found) {
  await step("the skip link leads to the content", async () => {
    await alice.reload();
    await alice.waitForSelector("body[data-live=connected]");
    await alice.keyboard.press("Tab");
    found.skip = await alice.evaluate(() => document.activeElement.textContent);
    await alice.keyboard.press("Enter");
    await alice.waitForFunction(() => document.activeElement.id === "main");
  });
  await step("a notice is sent and dismissed by keys", async () => {
    await alice.focus("#message-text");
    await alice.keyboard.type("By keys");
    await alice.keyboard.press("Enter");
    await says(alice, ".toast p", "By keys");
    await alice.keyboard.press("Escape");
    found.toastsAfterEscape = (await texts(alice, ".toast p")).includes("By keys");
  });
  await step("the focus stays where a list is refreshed", async () => {
    const button = "#people-list [data-person=bob] button";
    await alice.focus(`${button}:not([disabled])`);
    await alice.waitForResponse((response) => response.url().endsWith("/people.json"));
    await alice.waitForFunction((selector) => document.activeElement.matches(selector), button);
  });
}

async function inTheBackground(bob, alice, found) {
  const see = (hidden) => bob.evaluate((is) => {
    Object.defineProperty(document, "hidden", { configurable: true, value: is });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await see(true);
  // The second one does not wait until the CMS has answered the first.
  for (const words of ["One", "Two"]) {
    await alice.fill("#chat-text", words);
    await alice.press("#chat-text", "Enter");
  }
  await says(bob, ".line-text", "Two");
  found.inOrder = (await texts(bob, ".line-text")).slice(-2);
  found.titles = [await bob.title()];
  await see(false);
  found.titles.push(await bob.title());
}

async function inNobodysWay(bob, alice, found) {
  const size = bob.viewportSize();
  const say = async (page, words) => {
    await page.fill("#chat-text", words);
    await page.press("#chat-text", "Enter");
    await says(bob, ".line-text", words);
  };
  const place = () => bob.$eval("#lines-box", (box) => [
    box.scrollTop, box.scrollHeight - box.clientHeight - box.scrollTop].map(Math.round));
  await step("bob reads what was said before, while alice goes on", async () => {
    await bob.$eval("#lines-box", (box) => {
      box.style.height = "6rem";
      box.scrollTop = 0;
    });
    await say(alice, "Three");
    found.reading = (await place())[0];
    await say(bob, "Four");
    found.saying = (await place())[1];
    await say(alice, "Five");
    found.following = (await place())[1];
  });
  await step("a notice comes while bob writes, on a phone and on a tablet", async () => {
    found.covered = [];
    for (const width of [375, 800]) {
      await bob.setViewportSize({ width, height: 700 });
      await bob.$eval("#chat", (form) => form.scrollIntoView({ block: "end" }));
      await alice.fill("#message-text", `Lunch at ${width}`);
      await alice.click("form[action='/message'] button[type=submit]");
      await says(bob, ".toast p", `Lunch at ${width}`);
      for (const part of ["#chat-text", "#chat button[type=submit]"]) {
        found.covered.push(await bob.$eval(part, (it) => {
          const { left, top, width: wide, height } = it.getBoundingClientRect();
          return !it.contains(document.elementFromPoint(left + wide / 2, top + height / 2));
        }));
      }
    }
    await bob.setViewportSize(size);
  });
}

async function comeBack(alice, bob, found) {
  await step("bob disconnects", async () => {
    await bob.click("#panel-toggle");
    await bob.waitForSelector("body[data-live=closed]");
  });
  await step("alice sees that he is gone", () => alice.waitForSelector("[data-member=bob][data-state=offline]"));
  await alice.fill("#chat-text", "While you were away");
  await alice.click("#chat button[type=submit]");
  await says(alice, ".line-text", "While you were away");
  found.whileAway = (await texts(bob, ".line-text")).includes("While you were away");
  await step("bob connects", async () => {
    await bob.click("#panel-toggle");
    await bob.waitForSelector("body[data-live=connected]");
  });
  await says(bob, ".line-text", "While you were away");
  await step("alice sees him", () => alice.waitForSelector("[data-member=bob][data-state=online]"));
}

async function carry(alice, bob, found) {
  found.carried = [await text(bob, "#fact-transport")];
  for (const way of ["poll", "websocket", ""]) {
    await step(`bob switches to "${way}"`, async () => {
      await bob.evaluate(() => { delete document.body.dataset.live; });
      await bob.selectOption("#panel-transport", way);
      await bob.waitForSelector("body[data-live=connected]");
    });
    found.carried.push(await text(bob, "#fact-transport"));
    await alice.fill("#chat-text", `By ${way || "itself"}`);
    await alice.click("#chat button[type=submit]");
    await says(bob, ".line-text", `By ${way || "itself"}`);
  }
  await bob.evaluate(() => { window.openedOnce = true; });
}

async function watch(log, bob, found) {
  await says(log, ".entry:first-child [data-field=text]", "said something in the chat.");
  found.logHas = (await texts(log, "[data-field=text]")).filter((line) => line.startsWith("saved"));
  await step("the log is paused", async () => {
    await log.click("#log-pause");
    await bob.fill("#chat-text", "Paused?");
    await bob.click("#chat button[type=submit]");
    await says(log, "#log-pause", "Go on (1 new)");
  });
  const count = () => log.$$eval(".entry", (list) => list.length);
  const before = await count();
  await log.click("#log-pause");
  found.pausedLines = await count() - before;
  await log.selectOption("#log-level", "notice");
  found.notices = await log.$$eval(".entry:not([hidden])", (list) => list.length);
}

async function kick(alice, log, bob, found) {
  await step("alice kicks bob", async () => {
    const button = "[data-person=bob] button:not([disabled])";
    await alice.waitForSelector(`#people-list ${button}`);
    await alice.click(`#people-list ${button}`);
  });
  await step("bob's page says so", () => bob.waitForSelector("body[data-live=denied]"));
  await bob.waitForSelector("#banner:not([hidden])");
  found.banner = await text(bob, "#banner strong");
  found.status = await text(bob, "#status-text");
  await says(log, ".entry:not([hidden]) [data-field=text]", "kicked Bob.");
  await step("alice sees that he is gone", () => alice.waitForSelector("[data-member=bob][data-state=offline]"));
  await bob.waitForTimeout(1500);
  found.stateLater = await bob.evaluate(() => document.body.dataset.live);
  found.aliceIsStill = await alice.evaluate(() => document.body.dataset.live);

  await step("bob connects again by himself", async () => {
    await bob.click("#banner button");
    await bob.waitForSelector("body[data-live=connected]");
  });
}

async function logOut(bob, found) {
  const other = await bob.context().newPage();
  await other.goto(demo);
  await step("the other tab of bob connects", () => other.waitForSelector("body[data-live=connected]"));
  // Both tabs have one connection.
  found.clients = [await text(bob, "#fact-client"), await text(other, "#fact-client")];
  await other.click("form[action='/logout'] button");
  await step("bob's first tab is told of the logout", () => bob.waitForSelector("body[data-live=denied]"));
  await says(bob, "#banner strong", "You are logged out.");
  found.reloadedAtTheEnd = !(await bob.evaluate(() => window.openedOnce === true));
}

async function withoutAPushServer(alice, found) {
  await alice.route("**/push.js", (route) => route.abort());
  await alice.reload();
  await says(alice, "#banner strong", "There is no push server.");
  await step("alice saves all the same", async () => {
    await alice.click("#editor-card summary");
    await alice.fill("#edit-title", "Without");
    await alice.click("#editor button[type=submit]");
    await says(alice, "#article-title", "Without");
  });
  await step("what the CMS did not take is not lost", async () => {
    await alice.route("**/chat", (route) => route.abort());
    await alice.fill("#chat-text", "Hello?");
    await alice.press("#chat-text", "Enter");
    await says(alice, "#chat .form-note", "The CMS did not answer.");
    found.notTaken = await alice.inputValue("#chat-text");
  });
  await alice.unroute("**/push.js");
  await alice.click("#banner button");
  await step("alice is connected again", () => alice.waitForSelector("body[data-live=connected]"));
}

await withPeople(executablePath, demo, async ({ open, complaints }) => {
  const found = {};
  const alice = await step("alice logs in", () => open("alice"));
  const bob = await step("bob logs in", () => open("bob"));
  const log = await alice.context().newPage();
  await log.goto(`${demo}/log`);
  await step("the log is live", () => log.waitForSelector("body[data-live=connected]"));
  await readTheArticle(alice, bob, found);
  await sendNotices(alice, bob, found);
  await chat(alice, bob, found);
  await byKeyboard(alice, found);
  await inTheBackground(bob, alice, found);
  await inNobodysWay(bob, alice, found);
  await comeBack(alice, bob, found);
  await carry(alice, bob, found);
  await watch(log, bob, found);
  await kick(alice, log, bob, found);
  await logOut(bob, found);
  found.complaints = complaints.splice(0);
  await withoutAPushServer(alice, found);
  return found;
});

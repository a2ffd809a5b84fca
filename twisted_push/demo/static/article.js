// The article: a new version appears where it is open, and in the editor if that is untouched.

import {
  announce, ask, byId, countUnseen, element, hasShape, highlight, note, setTitle, showAvatar, showTime,
} from "./page.js";
import { onGap, push } from "./live.js";

const CHANNEL = "article:1";
const SHAPE = { title: "string", body: "string", author: "string", saved_at: "number" };

let savedAt = Number(byId("article-time")?.dataset.since || 0);
let touched = false; // whether the editor holds something that was not saved

function showArticle(data) {
  if (!hasShape(data, SHAPE) || data.saved_at <= savedAt) return;
  savedAt = data.saved_at;
  const changed = [];
  const title = byId("article-title");
  if (title.textContent !== data.title) changed.push(title);
  title.textContent = data.title;
  setTitle(`${data.title} · twisted_push demo`);
  countUnseen();
  byId("article-author").textContent = data.author;
  showAvatar(byId("article-initial"), data.author);
  showTime(byId("article-time"), data.saved_at);
  changed.push(...showParagraphs(byId("article-body"), data.body));
  for (const part of changed) highlight(part);
  announce(`${data.author} saved a new version.`);
  showInEditor(data);
}

/** Replace the paragraphs; return those that are new. */
function showParagraphs(box, text) {
  const before = new Set(Array.from(box.children, (child) => child.textContent));
  const parts = text.split("\n\n").map((part) => part.trim()).filter(Boolean);
  const paragraphs = parts.map((part) => element("p", "", part));
  box.replaceChildren(...paragraphs);
  return paragraphs.filter((paragraph) => !before.has(paragraph.textContent));
}

function showInEditor(data) {
  const editor = byId("editor");
  if (!editor) return;
  if (touched) {
    note(editor, "warning", "A newer version was saved while you are writing. Saving replaces it.");
    return;
  }
  editor.elements.title.value = data.title;
  editor.elements.body.value = data.body;
}

async function catchUp() {
  const { ok, body } = await ask("/article.json");
  if (ok) showArticle(body);
}

export function setUpArticle() {
  if (!byId("article")) return;
  push?.on(CHANNEL, showArticle);
  onGap(CHANNEL, catchUp);
  byId("editor")?.addEventListener("input", () => { touched = true; });
  byId("editor")?.addEventListener("sent", () => {
    touched = false;
    catchUp();
  });
}

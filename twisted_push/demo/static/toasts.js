// Notices pop up, and go by themselves.

import { byId, countUnseen, element, hasShape, page, showAvatar } from "./page.js";
import { push } from "./live.js";

const SECONDS = 9;
const MOST = 4;

function toast(author, text, isPrivate) {
  const box = element("div", "toast");
  const words = element("div", "toast-text");
  words.append(element("strong", "", isPrivate ? `${author} to you only` : author), element("p", "", text));
  const close = element("button", "toast-close", "×");
  close.type = "button";
  close.setAttribute("aria-label", "Dismiss the notice");
  close.addEventListener("click", () => box.remove());
  const avatar = element("span");
  avatar.setAttribute("aria-hidden", "true");
  showAvatar(avatar, author);
  box.append(avatar, words, close);
  byId("toasts").append(box);
  countUnseen();
  while (byId("toasts").children.length > MOST) byId("toasts").firstElementChild.remove();
  dismissLater(box);
}

/** Remove a toast after a while, but not under the pointer or the focus. */
function dismissLater(box) {
  let timer;
  const stop = () => clearTimeout(timer);
  const start = () => {
    stop();
    timer = setTimeout(() => box.remove(), SECONDS * 1000);
  };
  box.addEventListener("pointerenter", stop);
  box.addEventListener("pointerleave", start);
  box.addEventListener("focusin", stop);
  box.addEventListener("focusout", start);
  start();
}

export function setUpToasts() {
  if (!byId("toasts")) return;
  const listen = (channel, isPrivate) => push?.on(channel, (data) => {
    if (hasShape(data, { text: "string", author: "string" })) toast(data.author, data.text, isPrivate);
  });
  listen("broadcast", false);
  listen(`user:${page.user}`, true);
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") byId("toasts").lastElementChild?.remove();
  });
}
